//! The policy file, read with all its mistakes reported.

use policy::{Loaded, Policy, Problem, Source};
use std::io;
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
        let mode = std::fs::metadata(path)?.permissions().mode();
        if mode & 0o002 != 0 {
            let why = "anybody may write to this file, so that it protects nothing; mend it with `chmod o-w`";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let source = Source { name: path.display().to_string(), text: std::fs::read(path)? };
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
