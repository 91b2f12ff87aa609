//! Where state lies: files and directories for their owner only, which file lies at a path, and waiting for others.

use crate::error::Fault;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Until when to wait for the transactions of other processes: one moment for everything that a call needs.
#[derive(Clone)]
pub(crate) struct Patience(Arc<Mutex<Instant>>);

impl Patience {
    pub fn new(wait: Duration) -> Patience {
        Patience(Arc::new(Mutex::new(Instant::now() + wait)))
    }

    /// Begins anew.
    pub fn renew(&self, wait: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + wait;
    }

    /// Waits a little; gives whether it may go on.
    pub fn wait(&self) -> bool {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(Duration::from_millis(1)));
        !left.is_zero()
    }
}

/// The path of a file whose name is this one's with `suffix`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes the directory (0700) and the file (0600) where they are missing. SQLite gives its own files the file's mode.
pub(crate) fn create_private(path: &Path) -> Result<(), Fault> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty() && !directory.exists()) {
        private_directory(directory).map_err(|error| Fault::Io("making the directory", error))?;
    }
    match private_file().create_new(true).open(path) {
        Ok(_) => Ok(()),
        // Opening and closing it here would drop the locks that this process holds on it, so its mode is set by path.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            tighten(path);
            Ok(())
        }
        Err(error) => Err(Fault::Io("making the file", error)),
    }
}

pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let unfinished = beside(path, ".new");
    let written = (|| {
        let mut file = private_file().create(true).truncate(true).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    written
}

pub(crate) fn private_file() -> std::fs::OpenOptions {
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

pub(crate) fn private_directory(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(unix)]
fn tighten(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if let Ok(metadata) = std::fs::metadata(path)
        && metadata.is_file()
        && metadata.permissions().mode() & 0o077 != 0
    {
        // Somebody else's file stays as it is; whether it can be written to shows later.
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600));
    }
}

#[cfg(not(unix))]
fn tighten(_path: &Path) {}

#[cfg(unix)]
pub(crate) type FileId = (u64, u64);

#[cfg(unix)]
pub(crate) fn file_id(path: &Path) -> std::io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
pub(crate) type FileId = ();

#[cfg(not(unix))]
pub(crate) fn file_id(path: &Path) -> std::io::Result<FileId> {
    std::fs::metadata(path).map(|_| ())
}
