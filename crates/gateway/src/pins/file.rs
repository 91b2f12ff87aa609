//! The lock file on disk, and beside it what servers say that nobody has accepted yet.
//!
//! Several processes may use one lock file: whoever writes holds a lock on its directory, reads what is there, and puts a new
//! file in its place. What others have written is taken up within a second, as an edit by hand or a `git checkout` is; a file
//! that cannot be read changes nothing.
//!
//! This module knows nothing of messages: it is handed names and canonical definitions.

use catalogue::{Lock, Pinned};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tracing::{error, info, warn};

/// How often the file is looked at, and what is pending written.
const INTERVAL: Duration = Duration::from_secs(1);
/// Past so many bytes a file is no lock file.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// More than any server has; what comes after it is not kept for acceptance.
const MAX_PENDING: usize = 10_000;

/// What of a server is pinned by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Its tools.
    Tools,
    /// Its prompts.
    Prompts,
}

impl Section {
    /// The definitions of this section; `None` where they have not been seen yet.
    pub fn of(self, pinned: &Pinned) -> Option<&BTreeMap<String, String>> {
        match self {
            Section::Tools => pinned.tools.as_ref(),
            Section::Prompts => pinned.prompts.as_ref(),
        }
    }

    fn of_mut(self, pinned: &mut Pinned) -> &mut Option<BTreeMap<String, String>> {
        match self {
            Section::Tools => &mut pinned.tools,
            Section::Prompts => &mut pinned.prompts,
        }
    }
}

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It cannot be read or written.
    #[error("the lock file `{}` cannot be {doing}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        doing: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It is not what it must be.
    #[error("the lock file `{}` is not one: {problem}; restore it, or remove it and pin anew with `callgate pin`", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// The file beside a lock file in which stands what nobody has accepted yet. It does not belong in version control.
pub fn pending_path(lock: &Path) -> PathBuf {
    let mut name = lock.file_name().unwrap_or_default().to_owned();
    name.push(".pending");
    lock.with_file_name(name)
}

/// Reads a lock file; an empty one where there is none.
///
/// # Errors
/// When it cannot be read, anybody may write to it, or it is no lock file.
pub fn read_lock(path: &Path) -> Result<Lock, LockError> {
    Ok(read(path)?.map(|(lock, _)| lock).unwrap_or_default())
}

/// Changes a lock file: reads what is there, lets `change` change it, and puts the result in its place.
///
/// # Errors
/// As [`read_lock`], and when it cannot be written.
pub fn change_lock(path: &Path, change: impl FnOnce(&mut Lock)) -> Result<Lock, LockError> {
    change_file(path, change).map(|(lock, _)| lock)
}

fn read(path: &Path) -> Result<Option<(Lock, Vec<u8>)>, LockError> {
    let unreadable = |error| LockError::File { path: path.to_owned(), doing: "read", error };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    use std::os::unix::fs::PermissionsExt as _;
    if metadata.permissions().mode() & 0o002 != 0 {
        let why = "anybody may write to it, so that it pins nothing; mend it with `chmod o-w`";
        return Err(unreadable(io::Error::new(io::ErrorKind::PermissionDenied, why)));
    }
    if metadata.len() > MAX_BYTES {
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large to be one")));
    }
    let text = std::fs::read(path).map_err(unreadable)?;
    match Lock::parse(&text) {
        Ok(lock) => Ok(Some((lock, text))),
        Err(problem) => Err(LockError::Content { path: path.to_owned(), problem }),
    }
}

fn change_file(path: &Path, change: impl FnOnce(&mut Lock)) -> Result<(Lock, Vec<u8>), LockError> {
    // A link stays one: what it leads to is changed.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let unwritable = |error| LockError::File { path: path.to_owned(), doing: "written", error };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Held until it is closed. The file itself is replaced, so that a lock on it would be one on what was there before.
    let held = File::open(directory).map_err(unwritable)?;
    held.lock().map_err(unwritable)?;
    let (mut lock, before) = read(path)?.unwrap_or_default();
    change(&mut lock);
    let text = lock.render().into_bytes();
    if text != before {
        replace(path, directory, &text).map_err(unwritable)?;
    }
    Ok((lock, text))
}

fn replace(path: &Path, directory: &Path, text: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unique = format!(".{name}.{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let beside = directory.join(unique);
    let written = File::create_new(&beside).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()
    });
    written.and_then(|()| std::fs::rename(&beside, path)).inspect_err(|_| {
        let _ = std::fs::remove_file(&beside);
    })
}

/// A lock file in use.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    current: RwLock<Arc<Lock>>,
    /// The text that is in force, so that a change is seen by content.
    text: Mutex<Option<Vec<u8>>>,
    /// How often it has changed.
    version: AtomicU64,
    pending: Mutex<Pending>,
}

/// What is to be written beside the lock file: definitions that differ, and `None` for those that do no more.
#[derive(Debug, Default)]
struct Pending {
    known: BTreeMap<(String, Section, String), Option<String>>,
    instructions: BTreeMap<String, Option<Option<String>>>,
    changed: bool,
}

impl LockFile {
    /// Opens a lock file; one that is not there yet is empty.
    ///
    /// # Errors
    /// When it cannot be read, anybody may write to it, or it is no lock file.
    pub fn open(path: &Path) -> Result<Arc<LockFile>, LockError> {
        let (lock, text) = read(path)?.map_or_else(|| (Lock::default(), None), |(lock, text)| (lock, Some(text)));
        Ok(Arc::new(LockFile {
            path: path.to_owned(),
            current: RwLock::new(Arc::new(lock)),
            text: Mutex::new(text),
            version: AtomicU64::new(1),
            pending: Mutex::default(),
        }))
    }

    /// What is pinned without any file: for simulation. Nothing is ever written.
    pub(crate) fn of(lock: Lock) -> Arc<LockFile> {
        Arc::new(LockFile {
            path: PathBuf::new(),
            current: RwLock::new(Arc::new(lock)),
            text: Mutex::default(),
            version: AtomicU64::new(1),
            pending: Mutex::default(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is pinned now.
    pub(crate) fn current(&self) -> Arc<Lock> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes whenever what is pinned does.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Pins what has not been seen of a server before; what another process has pinned meanwhile stays. A file that cannot be
    /// written pins for as long as this process lives, and the log says so.
    pub(crate) fn pin_first(&self, server: &str, first: Pinned) {
        let merge = |lock: &mut Lock| {
            let pinned = lock.servers.entry(server.to_owned()).or_default();
            pinned.instructions = pinned.instructions.take().or(first.instructions.clone());
            pinned.tools = pinned.tools.take().or(first.tools.clone());
            pinned.prompts = pinned.prompts.take().or(first.prompts.clone());
        };
        let (lock, text) = match change_file(&self.path, merge) {
            Ok((lock, text)) => {
                info!(server, path = %self.path.display(), "pinned what a server says at first");
                (lock, Some(text))
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                error!(server, %error, cause, "what a server says at first is pinned for this process only");
                let mut lock = Lock::clone(&self.current());
                merge(&mut lock);
                (lock, None)
            }
        };
        self.take(lock, text);
    }

    fn take(&self, lock: Lock, text: Option<Vec<u8>>) {
        if let Some(text) = text {
            *self.lock_text() = Some(text);
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(lock);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// How many definitions of a server nobody has accepted yet.
    pub(crate) fn pending_of(&self, server: &str) -> usize {
        let pending = self.lock_pending();
        let definitions = pending.known.iter().filter(|((of, ..), definition)| of == server && definition.is_some()).count();
        definitions + usize::from(pending.instructions.get(server).is_some_and(Option::is_some))
    }

    /// Keeps a definition that is not the pinned one for acceptance, or (`None`) forgets it: it is the pinned one again.
    pub(crate) fn pend(&self, server: &str, section: Section, name: &str, definition: Option<String>) {
        let mut pending = self.lock_pending();
        let key = (server.to_owned(), section, name.to_owned());
        let known = pending.known.get(&key);
        if known == Some(&definition) || (known.is_none() && pending.known.len() >= MAX_PENDING) {
            return;
        }
        pending.known.insert(key, definition);
        pending.changed = true;
    }

    /// The same for what a server tells the model to begin with.
    pub(crate) fn pend_instructions(&self, server: &str, instructions: Option<Option<String>>) {
        let mut pending = self.lock_pending();
        if pending.instructions.get(server) != Some(&instructions) {
            pending.instructions.insert(server.to_owned(), instructions);
            pending.changed = true;
        }
    }

    /// Takes up changes of the file, and writes what is pending, for as long as the runtime lives. `changed` is called after
    /// each change that was taken up.
    pub fn watch(self: &Arc<LockFile>, changed: impl Fn() + Send + 'static) {
        let file = self.clone();
        tokio::spawn(async move {
            let mut complained = false;
            loop {
                tokio::time::sleep(INTERVAL).await;
                match file.refresh() {
                    Ok(false) => complained = false,
                    Ok(true) => {
                        complained = false;
                        info!(path = %file.path.display(), "other definitions are pinned");
                        changed();
                    }
                    Err(_) if complained => {}
                    Err(error) => {
                        complained = true;
                        error!(%error, "what is pinned stays as it is");
                    }
                }
                if let Err(error) = file.write_pending() {
                    warn!(%error, "definitions that wait for acceptance cannot be written");
                }
            }
        });
    }

    /// The same; gives what is told of each change, and of each that `others` tell of.
    pub fn watch_beside(self: &Arc<LockFile>, mut others: watch::Receiver<u64>) -> watch::Receiver<u64> {
        let (versions, told) = watch::channel(0);
        let changed = versions.clone();
        self.watch(move || changed.send_modify(|version| *version += 1));
        tokio::spawn(async move {
            while others.changed().await.is_ok() {
                versions.send_modify(|version| *version += 1);
            }
        });
        told
    }

    /// Writes what is pending, at the end.
    pub fn close(&self) {
        if let Err(error) = self.write_pending() {
            warn!(%error, "definitions that wait for acceptance cannot be written");
        }
    }

    /// Takes up what the file says now; whether that is something else than before.
    pub(crate) fn refresh(&self) -> Result<bool, LockError> {
        let Some((lock, text)) = read(&self.path)? else {
            // Whoever removes the file wants everything pinned anew; but a `git checkout` removes it for a moment too.
            return Ok(false);
        };
        if self.lock_text().as_deref() == Some(&*text) {
            return Ok(false);
        }
        self.take(lock, Some(text));
        Ok(true)
    }

    /// Writes what is pending, if that has changed.
    pub(crate) fn write_pending(&self) -> Result<(), LockError> {
        let path = pending_path(&self.path);
        let (known, instructions) = {
            let mut pending = self.lock_pending();
            if !std::mem::take(&mut pending.changed) {
                return Ok(());
            }
            (pending.known.clone(), pending.instructions.clone())
        };
        let nothing = known.values().all(Option::is_none) && instructions.values().all(Option::is_none);
        if nothing && !path.exists() {
            return Ok(());
        }
        let lock = change_lock(&path, |lock| {
            for ((server, section, name), definition) in known {
                let definitions = section.of_mut(lock.servers.entry(server).or_default()).get_or_insert_default();
                match definition {
                    Some(definition) => definitions.insert(name, definition),
                    None => definitions.remove(&name),
                };
            }
            for (server, told) in instructions {
                lock.servers.entry(server).or_default().instructions = told;
            }
            tidy(lock);
        })?;
        if lock.servers.is_empty() {
            let _ = std::fs::remove_file(&path);
        }
        Ok(())
    }

    fn lock_text(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what says nothing: in a file of what is pending, empty sections do not mean that there is nothing.
pub fn tidy(pending: &mut Lock) {
    let empty: BTreeSet<String> = pending
        .servers
        .iter_mut()
        .filter_map(|(name, pinned)| {
            for section in [Section::Tools, Section::Prompts] {
                let definitions = section.of_mut(pinned);
                if definitions.as_ref().is_some_and(BTreeMap::is_empty) {
                    *definitions = None;
                }
            }
            (*pinned == Pinned::default()).then(|| name.clone())
        })
        .collect();
    pending.servers.retain(|name, _| !empty.contains(name));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(names: &[&str]) -> Option<BTreeMap<String, String>> {
        Some(names.iter().map(|name| ((*name).to_owned(), format!(r#"{{"name":"{name}"}}"#))).collect())
    }

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("callgate-pins-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn the_first_to_pin_is_right_and_the_others_follow() {
        let path = directory("first").join("callgate.lock");
        let (a, b) = (LockFile::open(&path).unwrap(), LockFile::open(&path).unwrap());
        a.pin_first("files", Pinned { tools: tools(&["read"]), ..Pinned::default() });
        b.pin_first("files", Pinned { tools: tools(&["evil"]), instructions: Some(None), ..Pinned::default() });
        assert_eq!(b.current().servers["files"].tools, tools(&["read"]));
        assert!(a.refresh().unwrap());
        assert_eq!(a.current(), b.current());
        assert!(!a.refresh().unwrap());
    }

    #[test]
    fn a_file_that_is_none_changes_nothing() {
        let path = directory("none").join("callgate.lock");
        let file = LockFile::open(&path).unwrap();
        file.pin_first("files", Pinned { tools: tools(&["read"]), ..Pinned::default() });
        std::fs::write(&path, "{").unwrap();
        assert!(file.refresh().is_err());
        assert_eq!(file.current().servers["files"].tools, tools(&["read"]));
        assert!(LockFile::open(&path).is_err());
    }

    #[test]
    fn what_waits_for_acceptance_stands_beside_the_file() {
        let path = directory("pending").join("callgate.lock");
        let file = LockFile::open(&path).unwrap();
        file.write_pending().unwrap();
        assert!(!pending_path(&path).exists());
        file.pend("files", Section::Tools, "read", Some(r#"{"name":"read"}"#.into()));
        file.pend_instructions("files", Some(Some("x".into())));
        file.write_pending().unwrap();
        let pending = read_lock(&pending_path(&path)).unwrap();
        assert_eq!(pending.servers["files"].tools, tools(&["read"]));
        file.pend("files", Section::Tools, "read", None);
        file.pend_instructions("files", None);
        file.write_pending().unwrap();
        assert!(!pending_path(&path).exists());
    }

    #[test]
    fn a_place_that_cannot_be_written_pins_for_the_process() {
        let file = LockFile::open(Path::new("/nowhere/at/all/callgate.lock")).unwrap();
        file.pin_first("files", Pinned { tools: tools(&["read"]), ..Pinned::default() });
        assert_eq!(file.current().servers["files"].tools, tools(&["read"]));
    }
}
