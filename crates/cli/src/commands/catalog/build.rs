//! `catalog build`: from captures, and from the servers of a list.

use crate::arguments::{Build, CellArguments};
use crate::failure::{Failure, GENERAL, OK};
use crate::headers;
use crate::signals;
use crate::terminal::{Paint, counted, shortened, tell, visible};
use collection::{
    Asked, Asker, Cell, CollectError, Conditions, Imported, List, Progress, Reach, Said, Way, collect, import, throw_away,
};
use gateway::{ChildCommand, HttpTarget, Upstream, UpstreamTls, Vitals, list_tools};
use jiff::Timestamp;
use policy::Source;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

pub fn build(arguments: &Build) -> Result<u8, Failure> {
    let list = arguments.list.as_deref().map(read).transpose()?.unwrap_or_default();
    let captures: Vec<PathBuf> = arguments.captures.iter().chain(&list.captures).cloned().collect();
    let imported = match captures.as_slice() {
        [] => Imported::default(),
        captures => take_in(arguments, captures)?,
    };
    let asked = if list.servers.is_empty() { Vec::new() } else { ask_all(arguments, &list)? };
    if arguments.json {
        writeln!(std::io::stdout(), "{}", in_json(&imported, &asked))?;
    }
    if asked.len() < list.servers.len() {
        let (asked, all) = (asked.len(), counted(list.servers.len() as u64, "server", "servers"));
        return Err(Failure::general(format!("stopped after {asked} of {all}; the same command goes on with the others")));
    }
    Ok(if imported.failed.is_empty() { OK } else { GENERAL })
}

fn read(path: &Path) -> Result<List, Failure> {
    let shown = visible(&path.display().to_string());
    let text = std::fs::read(path).map_err(|error| Failure::because(&format!("cannot read the list `{shown}`"), &error))?;
    let source = Source::new(path.display().to_string(), text);
    List::read(&source, path.parent().unwrap_or(Path::new(""))).map_err(|problems| {
        for problem in &problems {
            tell!("{}", problem.render(&source, Paint::stderr().is_on()));
        }
        Failure::invalid(format!("`{shown}` has {}", counted(problems.len() as u64, "problem", "problems")))
    })
}

fn take_in(arguments: &Build, captures: &[PathBuf]) -> Result<Imported, Failure> {
    let began = Instant::now();
    let mut shown = Shown::new();
    let imported = import(&arguments.output, captures, Timestamp::now(), &mut |progress| shown.update(progress))?;
    shown.clear();
    for failed in &imported.failed {
        tell!("{}: {}", visible(&failed.place), visible(&failed.why));
    }
    let Progress { captures, added, tools } = imported.progress;
    tell!(
        "{} read in {:.1} s: {} with {} added to {}",
        counted(captures, "capture", "captures"),
        began.elapsed().as_secs_f64(),
        counted(added, "server", "servers"),
        counted(tools, "tool", "tools"),
        visible(&arguments.output.display().to_string())
    );
    Ok(imported)
}

/// Asks the servers of a list, until a signal stops it.
fn ask_all(arguments: &Build, list: &List) -> Result<Vec<Asked>, Failure> {
    // Threads wait for servers; what they wait for, and the signals, are one thread's work.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::because("cannot start", &error))?;
    let stop = runtime.block_on(async { signals::stop_token() });
    let stop = stop.map_err(|error| Failure::because("cannot listen for signals", &error))?;
    let client = Client { runtime: runtime.handle().clone(), stop };
    let program = std::env::current_exe().map_err(|error| Failure::because("cannot find this program", &error))?;
    let is_ours = arguments.work.is_none();
    let work = arguments.work.clone().map_or_else(throw_away, Ok)?;
    let conditions = Conditions {
        work: work.clone(),
        jobs: usize::from(arguments.jobs),
        unisolated: arguments.unisolated,
        again: arguments.again,
        program: vec![program.display().to_string(), "catalog".to_owned(), "cell".to_owned()],
    };
    let all = list.servers.len();
    let mut done = 0;
    let collected = collect(&arguments.output, list, &conditions, &client, &mut |asked| {
        done += 1;
        tell!("{done}/{all} {}", told(asked));
    });
    runtime.shutdown_background();
    if is_ours {
        let _ = std::fs::remove_dir_all(&work);
    }
    let asked = collected?;
    let answered = asked.iter().filter(|asked| !matches!(asked.outcome, Some(Err(_)))).count() as u64;
    let output = visible(&arguments.output.display().to_string());
    tell!("{answered} of {} are in {output}", counted(all as u64, "server", "servers"));
    Ok(asked)
}

fn told(asked: &Asked) -> String {
    let (name, paint) = (visible(&asked.name), Paint::stderr());
    let seconds = asked.took.as_secs_f64();
    match &asked.outcome {
        None => format!("{name}: {}", paint.dim("it has answered before")),
        Some(Ok(tools)) => format!("{name}: {}, {seconds:.1} s", counted(*tools as u64, "tool", "tools")),
        Some(Err(problem)) => format!("{name}: {}, {seconds:.1} s", paint.warn(&shortened(problem, 300))),
    }
}

/// Asks servers as a client would.
struct Client {
    runtime: Handle,
    stop: CancellationToken,
}

impl Asker for Client {
    fn ask(&self, reach: &Reach<'_>, timeout: Duration) -> Result<Said, String> {
        let vitals = Vitals::quiet("server", timeout * 2);
        let upstream = match reach {
            Reach::Child(words, environment) => {
                let variables = environment.iter().map(|(name, value)| (name.clone(), value.clone()));
                Upstream::Child(ChildCommand::secluded(words, &[]).with(variables).watched(&vitals))
            }
            Reach::Url(url, given) => {
                let given = headers::resolved(given).map_err(|failure| failure.message().to_owned())?;
                let target = HttpTarget::new(url, &given, &UpstreamTls::default(), timeout).map_err(|error| error.to_string())?;
                Upstream::Http(target)
            }
        };
        let listed = self.runtime.block_on(async {
            tokio::select! {
                listed = list_tools(&upstream, timeout) => Some(listed),
                // A child is killed as what speaks to it is dropped, and its cell with it.
                () = self.stop.cancelled() => None,
            }
        });
        let listing = listed.ok_or("nobody wants to know any more")?.map_err(|error| {
            // What a server says last is most often why it has ended.
            let said = vitals.condition().said;
            let last = said.lines().rev().find(|line| !line.trim().is_empty());
            last.map_or_else(|| error.to_string(), |line| format!("{error}; it said: {}", line.trim()))
        })?;
        Ok(Said {
            name: listing.server_name,
            revision: listing.revision,
            instructions: listing.instructions,
            tools: listing.tools,
            prompts: listing.prompts,
        })
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }
}

/// Runs a server where `ask_all` has led to.
pub fn cell(arguments: &CellArguments) -> Result<u8, Failure> {
    let way = match (arguments.unisolated, arguments.user) {
        (true, _) => Way::Nothing,
        (false, Some(user)) => Way::Superuser(user),
        (false, None) => Way::UserNamespace,
    };
    let cell = Cell { root: arguments.root.clone(), reads: arguments.read.clone(), way, network: arguments.network };
    cell.enter(&arguments.command).map_err(Failure::general)
}

impl From<CollectError> for Failure {
    fn from(error: CollectError) -> Failure {
        match error {
            CollectError::Collection(error) => error.into(),
            CollectError::NoCell(_) | CollectError::Held(..) => Failure::general(error.to_string()),
            CollectError::Work(..) => Failure::because("servers cannot be asked", &error),
        }
    }
}

fn in_json(imported: &Imported, asked: &[Asked]) -> String {
    let failed = imported
        .failed
        .iter()
        .map(|failed| format!("{{\"place\":{},\"why\":{}}}", json::quote(&failed.place), json::quote(&failed.why)));
    let asked = asked.iter().map(|asked| {
        let (tools, problem) = match &asked.outcome {
            None => ("null".to_owned(), "null".to_owned()),
            Some(Ok(tools)) => (tools.to_string(), "null".to_owned()),
            Some(Err(problem)) => ("null".to_owned(), json::quote(problem)),
        };
        let (name, isolation) = (json::quote(&asked.name), asked.isolation);
        format!("{{\"server\":{name},\"isolation\":\"{isolation}\",\"tools\":{tools},\"problem\":{problem}}}")
    });
    let (failed, asked): (Vec<String>, Vec<String>) = (failed.collect(), asked.collect());
    let Progress { captures, added, tools } = imported.progress;
    format!(
        "{{\"captures\":{captures},\"added\":{added},\"tools\":{tools},\"failed\":[{}],\"servers\":[{}]}}",
        failed.join(","),
        asked.join(",")
    )
}

/// How far it is, on a line of a terminal that is written again and again; nowhere else.
struct Shown {
    is_on: bool,
    last: Option<Instant>,
}

/// What an eye can follow.
const PAUSE: Duration = Duration::from_millis(100);

impl Shown {
    fn new() -> Shown {
        Shown { is_on: stderr().is_terminal(), last: None }
    }

    fn update(&mut self, progress: &Progress) {
        if self.is_on && self.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            self.last = Some(Instant::now());
            let Progress { captures, added, tools } = progress;
            let _ = write!(stderr(), "\r\u{1b}[K{captures} captures, {added} servers, {tools} tools");
        }
    }

    fn clear(&mut self) {
        if self.last.take().is_some() {
            let _ = write!(stderr(), "\r\u{1b}[K");
        }
    }
}
