//! The policy file, read with all its mistakes reported.

use policy::{Loaded, Policy, Problem, Source};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A policy file that was read.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    source: Source,
    problems: Vec<Problem>,
    policy: Option<Arc<Policy>>,
}

impl PolicyFile {
    /// Reads and loads the file; its mistakes are in [`PolicyFile::problems`].
    ///
    /// # Errors
    /// When the file cannot be read, or when anybody on this machine may write to it.
    pub fn read(path: &Path) -> io::Result<PolicyFile> {
        PolicyFile::read_with(path, |path| std::fs::read(path))
    }

    /// The same of a path that a document names: see [`content`].
    pub(crate) fn read_bounded(path: &Path) -> io::Result<PolicyFile> {
        PolicyFile::read_with(path, content)
    }

    fn read_with(path: &Path, read: impl FnOnce(&Path) -> io::Result<Vec<u8>>) -> io::Result<PolicyFile> {
        let mode = std::fs::metadata(path)?.permissions().mode();
        if mode & 0o002 != 0 {
            let why = "anybody may write to this file, so that it protects nothing; mend it with `chmod o-w`";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let source = Source { name: path.display().to_string(), text: read(path)? };
        let Loaded { policy, problems, .. } = policy::load(&source);
        Ok(PolicyFile { path: path.to_owned(), source, problems, policy: policy.map(Arc::new) })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Errors and warnings, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The policy; `None` when the file has errors.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.clone()
    }
}

/// What a file holds that a document names. A device or a pipe would keep us waiting, or never end.
///
/// # Errors
/// When it cannot be read, is no plain file, or is larger than anything that a configuration may name.
pub(crate) fn content(path: &Path) -> io::Result<Vec<u8>> {
    let refused = || io::Error::other("it is no plain file, or it is larger than 16 MiB");
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(refused());
    }
    // It may grow while it is read, and some files of the system say that they are empty.
    let mut content = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_BYTES { Err(refused()) } else { Ok(content) }
}

/// More than any policy or bundle of certificates needs.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
