//! The one policy of `run` and `serve -p`, taken up anew when its content changes.
//!
//! Change is found by content hash, once a second, so that `mv`, `git checkout` and swapped links work as an edit does. A bad
//! file changes nothing.

use crate::enforcer::Enforcer;
use crate::policy_file::PolicyFile;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{error, info, warn};

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

impl PolicyFile {
    /// Puts each later version of the file in force at `enforcer`, and counts them up in what it gives, for as long as the
    /// runtime lives. `say` is given the mistakes of a version that is not taken up.
    pub fn watch(self, enforcer: Arc<Enforcer>, say: impl Fn(&PolicyFile) + Send + 'static) -> watch::Receiver<u64> {
        let (versions, reloaded) = watch::channel(0);
        let (path, source) = (self.path().to_owned(), self.source().clone());
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
                if file.source().text == seen {
                    continue;
                }
                seen.clone_from(&file.source().text);
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
