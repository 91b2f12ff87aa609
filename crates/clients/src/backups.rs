//! What was changed, and the text it replaced: so that every change can be taken back byte for byte.

use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A file and its new text.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which file.
    pub path: PathBuf,
    /// What it holds, as far as is known.
    pub old: String,
    /// What it is to hold.
    pub new: String,
}

/// What became of one file when changes were taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// It holds again what it held before.
    Restored(PathBuf),
    /// It held that already.
    Untouched(PathBuf),
    /// Somebody has changed it since; the text before is still kept.
    Changed {
        /// Which file.
        path: PathBuf,
        /// Where its text from before is.
        backup: PathBuf,
    },
}

/// A directory with one subdirectory for each time that files were changed.
#[derive(Clone, Debug)]
pub struct Backups {
    directory: PathBuf,
}

#[derive(Deserialize, Serialize)]
struct Manifest {
    files: Vec<Entry>,
}

#[derive(Deserialize, Serialize)]
struct Entry {
    path: PathBuf,
    backup: String,
    /// SHA-256 of what it held and of what it was made to hold.
    before: String,
    after: String,
}

const MANIFEST: &str = "manifest.json";

impl Backups {
    /// Those below `directory`, which need not be there yet.
    pub fn at(directory: impl Into<PathBuf>) -> Backups {
        Backups { directory: directory.into() }
    }

    /// Makes changes: first what was there is kept, then the files are exchanged one by one, each as a whole.
    ///
    /// # Errors
    /// When something cannot be written, or a file no longer holds what it did. Files that have been changed by then stay
    /// changed, and can be restored.
    pub fn apply(&self, changes: &[Change]) -> io::Result<()> {
        let directory = self.begin()?;
        let mut files = Vec::new();
        for (i, change) in changes.iter().enumerate() {
            let backup = i.to_string();
            write_new(&directory.join(&backup), change.old.as_bytes())?;
            let path = fs::canonicalize(&change.path)?;
            files.push(Entry { path, backup, before: digest(change.old.as_bytes()), after: digest(change.new.as_bytes()) });
        }
        let manifest = serde_json::to_vec_pretty(&Manifest { files })?;
        write_new(&directory.join(MANIFEST), &manifest)?;
        changes.iter().try_for_each(|change| exchange(&change.path, change.old.as_bytes(), change.new.as_bytes()))
    }

    /// Takes all changes back, the last one first.
    ///
    /// # Errors
    /// When something cannot be read or written; what was restored by then stays restored.
    pub fn undo(&self) -> io::Result<Vec<Undone>> {
        let mut undone = Vec::new();
        for directory in self.runs()?.into_iter().rev() {
            let manifest = match fs::read(directory.join(MANIFEST)) {
                Ok(text) => serde_json::from_slice::<Manifest>(&text).map_err(io::Error::from)?,
                // Nothing was changed before the manifest was there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Manifest { files: Vec::new() },
                Err(error) => return Err(error),
            };
            let mut complete = true;
            for entry in manifest.files {
                let backup = directory.join(&entry.backup);
                let now = fs::read(&entry.path).unwrap_or_default();
                let is = digest(&now);
                if is == entry.before {
                    undone.push(Undone::Untouched(entry.path));
                } else if is == entry.after {
                    exchange(&entry.path, &now, &fs::read(&backup)?)?;
                    undone.push(Undone::Restored(entry.path));
                } else {
                    complete = false;
                    undone.push(Undone::Changed { path: entry.path, backup });
                }
            }
            if complete {
                fs::remove_dir_all(&directory)?;
            }
        }
        Ok(undone)
    }

    /// A new subdirectory, which nobody else may read: configurations hold secrets.
    fn begin(&self) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.directory)?;
        let last = self.runs()?.last().and_then(|run| run.file_name()?.to_str()?.parse::<u32>().ok()).unwrap_or(0);
        let directory = self.directory.join(format!("{:06}", last + 1));
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&directory)?;
        Ok(directory)
    }

    /// The subdirectories, in the order in which they were made.
    fn runs(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut runs = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
        runs.retain(|run| run.is_dir());
        runs.sort();
        Ok(runs)
    }
}

/// Exchanges what a file holds, all at once; a link stays a link, and who may read it stays as it was.
fn exchange(path: &Path, old: &[u8], new: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if fs::read(&path).map_err(told)? != old {
        return Err(io::Error::other(format!("{}: it has been changed meanwhile", path.display())));
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".callgate-{}", std::process::id()));
    let beside = path.with_file_name(name);
    let exchanged = write_new(&beside, new)
        .and_then(|()| fs::set_permissions(&beside, fs::metadata(&path)?.permissions()))
        .and_then(|()| fs::rename(&beside, &path));
    if exchanged.is_err() {
        let _ = fs::remove_file(&beside);
    }
    exchanged.map_err(told)
}

/// Writes a file that is not there yet, for its owner alone, down to the disk.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file: File = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
