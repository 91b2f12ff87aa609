//! Asking the servers of a list: install, start in a cell, ask, grade, write.
//!
//! Who speaks MCP is the caller's to say: this module knows how a server is started, and gets back what it said. What does not
//! start is in the catalog too, with the reason; what answered before is not asked again.

use crate::capture::{Capture, CaptureError};
use crate::cell::{Cell, HOME, Way, unshare};
use crate::error::CollectionError;
use crate::facts::{Facts, Isolation, Registry};
use crate::graded::Graded;
use crate::install::{Installed, install};
use crate::list::{Entry, List, Origin};
use crate::write::{SourceDigest, Writer};
use jiff::Timestamp;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// A directory for packages and cells that nobody has named: of a name that cannot be guessed, made for this user alone.
///
/// # Errors
/// When it cannot be made, or somebody has made it.
pub fn throw_away() -> Result<PathBuf, CollectError> {
    let parent = std::env::temp_dir();
    let failed = |error| CollectError::Work(parent.clone(), error);
    let mut bytes = [0u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| failed(std::io::Error::other("there is no randomness")))?;
    let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let place = parent.join(format!("callgate-catalog-{name}"));
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    // Not with what is above it: what is there already is not ours.
    builder.create(&place).map_err(failed)?;
    Ok(place)
}

/// How servers are asked.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Where packages are installed, and cells are built.
    pub work: PathBuf,
    /// How many servers are asked at a time.
    pub jobs: usize,
    /// Whether they are started without a cell.
    pub unisolated: bool,
    /// Whether those are asked that have answered before.
    pub again: bool,
    /// This program, with the words that make it call [`Cell::enter`].
    pub program: Vec<String>,
}

/// How one server is reached.
#[derive(Clone, Debug)]
pub enum Reach<'e> {
    /// It is a child: the words that start it, and its whole environment.
    Child(Vec<String>, BTreeMap<String, String>),
    /// It is elsewhere: its address, and headers that may hold references.
    Url(&'e str, &'e [String]),
}

/// What a server has said.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The name that it gives itself.
    pub name: Option<String>,
    /// The revision that was spoken.
    pub revision: String,
    /// What it tells the model to begin with.
    pub instructions: Option<String>,
    /// The definitions of its tools, each as JSON text.
    pub tools: Vec<String>,
    /// The definitions of its prompts, likewise.
    pub prompts: Vec<String>,
}

/// Who speaks MCP with the servers, and knows whether anybody still wants to hear what they say.
pub trait Asker: Sync {
    /// Asks a server what it has, within a time. A failure is told in one sentence.
    fn ask(&self, reach: &Reach<'_>, timeout: Duration) -> Result<Said, String>;

    /// Whether all is to end at once. What is under way then is given up and counts as not asked; `ask` returns soon, too, and
    /// leaves no server running.
    fn is_stopped(&self) -> bool;
}

/// What has become of one server of a list.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What it is called.
    pub name: String,
    /// How it is kept from the rest of the machine.
    pub isolation: Isolation,
    /// How many tools it lists, or why it could not be asked. `None`: it had answered before.
    pub outcome: Option<Result<usize, String>>,
    /// How long that took.
    pub took: Duration,
}

/// Why servers cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// There are no cells here.
    #[error(
        "servers cannot be isolated here: {0}; with `--unisolated` they are started all the same, and can do whatever you can"
    )]
    NoCell(String),
    /// The working directory cannot be made or held.
    #[error("cannot use `{}`", .0.display())]
    Work(PathBuf, #[source] std::io::Error),
    /// Another process works in the working directory.
    #[error(
        "`{}` is in use by process {}, which installs and asks servers there too; wait for its end, or name another directory \
         with `--work`",
        .0.display(),
        .1
    )]
    Held(PathBuf, String),
    /// The catalog says no.
    #[error(transparent)]
    Collection(#[from] CollectionError),
}

/// Asks every server of `list`, and puts what they say into the catalog at `path`; whatever ends it, what was asked until then
/// stays. Gives what has become of each, of those that were come to before `asker` was stopped.
///
/// # Errors
/// When the catalog cannot be written, another process works in the same directory, or servers cannot be isolated and nobody
/// has waived it. That a server does not answer is no error.
pub fn collect(
    path: &Path,
    list: &List,
    conditions: &Conditions,
    asker: &dyn Asker,
    progress: &mut dyn FnMut(&Asked),
) -> Result<Vec<Asked>, CollectError> {
    let made = |directory: PathBuf| match std::fs::create_dir_all(&directory) {
        Ok(()) => std::path::absolute(&directory).map_err(|error| CollectError::Work(directory, error)),
        Err(error) => Err(CollectError::Work(directory, error)),
    };
    let work = &made(conditions.work.clone())?;
    let _held = hold(work)?;
    let mut writer = Writer::open(path)?;
    let root = &made(work.join("root"))?;
    let room = Room { work, root, way: Way::Nothing, unshare: String::new(), conditions, asker };
    let needs_cell = list.servers.iter().any(|entry| !matches!(entry.origin, Origin::Url { .. }));
    let room = match conditions.unisolated || !needs_cell {
        true => room,
        false => {
            let unshare = unshare(room.work).map_err(CollectError::NoCell)?;
            let way = Way::find(&unshare, &conditions.program, room.root).map_err(CollectError::NoCell)?;
            Room { way, unshare, ..room }
        }
    };
    let known = if conditions.again { HashSet::new() } else { writer.sources()? };
    let next = AtomicUsize::new(0);
    let mut all = Vec::new();
    thread::scope(|scope| -> Result<(), CollectionError> {
        let (done, results) = sync_channel(conditions.jobs);
        for place in 0..conditions.jobs.clamp(1, list.servers.len().max(1)) {
            let (done, room, known, next) = (done.clone(), &room, &known, &next);
            scope.spawn(move || room.work_off(&list.servers, place, next, known, &done));
        }
        drop(done);
        for (asked, graded, source) in results {
            if let Some(graded) = graded {
                // One that has failed is asked again the next time.
                let answered = matches!(asked.outcome, Some(Ok(_)));
                writer.take(&graded, answered.then_some(&source))?;
                // Asking takes far longer than keeping the answer; and others may wait to write to the same catalog.
                writer.commit()?;
            }
            progress(&asked);
            all.push(asked);
        }
        Ok(())
    })?;
    writer.finish()?;
    Ok(all)
}

/// Keeps other processes out of a working directory for as long as the file is open: two would install over each other. The
/// system lets go of it whichever way we end.
fn hold(work: &Path) -> Result<File, CollectError> {
    let place = work.join("holder");
    let failed = |error| CollectError::Work(place.clone(), error);
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&place).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(failed)?;
            return Err(CollectError::Held(work.to_owned(), holder));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

/// Where servers are asked.
struct Room<'c> {
    work: &'c Path,
    root: &'c Path,
    way: Way,
    /// What makes namespaces, where it is needed.
    unshare: String,
    conditions: &'c Conditions,
    asker: &'c dyn Asker,
}

type Outcome = (Asked, Option<Box<Graded>>, SourceDigest);

impl Room<'_> {
    fn work_off(
        &self,
        servers: &[Entry],
        place: usize,
        next: &AtomicUsize,
        known: &HashSet<SourceDigest>,
        done: &SyncSender<Outcome>,
    ) {
        let is_stopped = || self.asker.is_stopped();
        while let Some(entry) = servers.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !is_stopped()) {
            let (began, source) = (Instant::now(), source_of(entry));
            let (name, isolation) = (entry.name.clone(), self.isolation(entry));
            let outcome = match known.contains(&source) {
                true => (Asked { name, isolation, outcome: None, took: Duration::ZERO }, None, source),
                false => {
                    let capture = self.capture(entry, place);
                    let outcome = match &capture.facts.problem {
                        None => Ok(capture.tools().len()),
                        // It may be ours.
                        Some(_) if is_stopped() => return,
                        Some(problem) => Err(problem.clone()),
                    };
                    let graded = Some(Box::new(Graded::of(&capture)));
                    (Asked { name, isolation, outcome: Some(outcome), took: began.elapsed() }, graded, source)
                }
            };
            if done.send(outcome).is_err() {
                return;
            }
        }
    }

    fn isolation(&self, entry: &Entry) -> Isolation {
        match (&entry.origin, self.way) {
            (Origin::Url { .. }, _) => Isolation::Remote,
            (_, Way::Nothing) => Isolation::Unisolated,
            _ if entry.network => Isolation::Networked,
            _ => Isolation::Isolated,
        }
    }

    fn capture(&self, entry: &Entry, place: usize) -> Capture {
        let mut facts = Facts { isolation: self.isolation(entry), ..facts_of(entry) };
        let said = self.said(entry, place).and_then(|said| {
            facts.reported_name.clone_from(&said.name);
            facts.revision = Some(said.revision.clone());
            facts.instructions.clone_from(&said.instructions);
            Capture::of(facts.clone(), &said.tools, &said.prompts).map_err(|error: CaptureError| error.to_string())
        });
        said.unwrap_or_else(|problem| Capture::failed(facts, shortened(&problem)))
    }

    fn said(&self, entry: &Entry, place: usize) -> Result<Said, String> {
        let installed = install(entry, self.work, &|| self.asker.is_stopped())?;
        let reach = match (&entry.origin, &installed) {
            (Origin::Url { url, headers }, _) => Reach::Url(url, headers),
            (_, Some(installed)) => self.child(entry, installed, place)?,
            (_, None) => return Err("it was not installed".to_owned()),
        };
        self.asker.ask(&reach, entry.timeout)
    }

    fn child(&self, entry: &Entry, installed: &Installed, place: usize) -> Result<Reach<'static>, String> {
        let way = self.way.at(place);
        let home = match way {
            Way::Nothing => self.throw_away_home(place)?,
            _ => HOME.to_owned(),
        };
        let cell = Cell { root: self.root.to_owned(), reads: installed.reads.clone(), way, network: entry.network };
        let program = installed.program.display().to_string();
        let words: Vec<String> = std::iter::once(program).chain(entry.arguments.iter().cloned()).collect();
        let mut path = String::new();
        for directory in &installed.path {
            let _ = write!(path, "{}:", directory.display());
        }
        path.push_str("/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        let mut environment = BTreeMap::from([
            ("PATH".to_owned(), path),
            ("HOME".to_owned(), home),
            ("TMPDIR".to_owned(), "/tmp".to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()),
        ]);
        environment.extend(entry.environment.clone());
        Ok(Reach::Child(cell.words(&self.unshare, &self.conditions.program, &words), environment))
    }

    fn throw_away_home(&self, place: usize) -> Result<String, String> {
        let home = self.work.join(format!("home-{place}"));
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home).map_err(|error| format!("cannot make {}: {error}", home.display()))?;
        Ok(home.display().to_string())
    }
}

fn facts_of(entry: &Entry) -> Facts {
    let (registry, package, version) = match &entry.origin {
        Origin::Npm(package) => (Registry::Npm, package.name.clone(), package.version.clone()),
        Origin::Pypi(package) => (Registry::Pypi, package.name.clone(), package.version.clone()),
        Origin::Command { .. } => (Registry::Command, entry.name.clone(), String::new()),
        Origin::Url { url, .. } => (Registry::Url, url.clone(), String::new()),
    };
    Facts {
        name: entry.name.clone(),
        package,
        version,
        registry,
        flags: entry.arguments.clone(),
        environment: entry.environment.keys().cloned().collect(),
        reported_name: None,
        revision: None,
        instructions: None,
        isolation: Isolation::Captured,
        problem: None,
        captured_at: Timestamp::now(),
    }
}

/// By which an entry is known that has been asked.
fn source_of(entry: &Entry) -> SourceDigest {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("list {entry:?}").as_bytes());
    let mut source = SourceDigest::default();
    source.copy_from_slice(digest.as_ref());
    source
}

/// A reason as it is recorded: one line, not a page of a traceback.
fn shortened(problem: &str) -> String {
    let line = problem.split_whitespace().collect::<Vec<_>>().join(" ");
    line.char_indices().nth(LONGEST_PROBLEM).map_or(line.clone(), |(end, _)| format!("{}…", &line[..end]))
}

const LONGEST_PROBLEM: usize = 400;
