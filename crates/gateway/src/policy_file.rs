//! The policy file: read with all its mistakes reported, and taken up anew when its content changes.
//!
//! Change is found by content hash, once a second, so that `mv`, `git checkout` and swapped links work as an edit does. A bad
//! file changes nothing.

use crate::enforcer::Enforcer;
use policy::{Loaded, Policy, Problem, Source};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{error, info, warn};

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

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

    /// Puts each later version of the file in force at `enforcer`, and counts them up in what it gives, for as long as the
    /// runtime lives. `say` is given the mistakes of a version that is not taken up.
    pub fn watch(self, enforcer: Arc<Enforcer>, say: impl Fn(&PolicyFile) + Send + 'static) -> watch::Receiver<u64> {
        let (versions, reloaded) = watch::channel(0);
        let PolicyFile { path, source, .. } = self;
        tokio::spawn(async move {
            let mut seen = source.text;
            let mut unreadable = false;
            loop {
                tokio::time::sleep(INTERVAL).await;
                let file = match PolicyFile::read(&path) {
                    Ok(file) => file,
                    Err(_) if unreadable => continue,
                    Err(error) => {
                        unreadable = true;
                        warn!(path = %path.display(), %error, "the policy file cannot be read; the policy stays as it is");
                        continue;
                    }
                };
                unreadable = false;
                if file.source.text == seen {
                    continue;
                }
                seen.clone_from(&file.source.text);
                match file.policy() {
                    Some(policy) => {
                        info!(revision = policy.revision(), "another policy is in force");
                        enforcer.replace(policy);
                        versions.send_modify(|version| *version += 1);
                    }
                    None => {
                        error!(path = %path.display(), "the policy file has mistakes; the policy stays as it is");
                        say(&file);
                    }
                }
            }
        });
        reloaded
    }
}
