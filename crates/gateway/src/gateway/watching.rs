//! The configuration file and the files that it names, taken up as they change.
//!
//! How they lie (which file, how long, when written) is looked at four times a second, which costs a system call for each; what
//! they hold, when they lie otherwise, and once a second in any case: a file may be written twice within what a clock can tell
//! apart. What counts is the content, so that `mv`, `git checkout` and swapped links work.

use super::{Environment, Gateway};
use crate::config::ConfigFile;
use crate::policy_file::content;
use ring::digest::{Context, SHA256};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tracing::{error, info, warn};

/// How often it is looked how files lie: with what comes after, a change is in force within a second.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);
/// What they hold is looked at every so many times, however they lie.
const CONTENT_EVERY: u32 = 4;
/// Whoever writes a file has finished when it lies as it lay so long ago.
const SETTLED: Duration = Duration::from_millis(10);
/// So often that is waited for; who writes longer is seen to write again at the next look.
const MOST_SETTLING: usize = 5;

/// What came of looking at the files anew.
#[derive(Debug)]
pub(crate) enum Reloaded {
    /// What they say is in force, except for what they say in these sections: that needs a restart.
    InForce { needs_restart: Vec<&'static str> },
    /// They have mistakes: these, as JSON.
    Mistaken(Vec<String>),
    /// They cannot be read, or what they say cannot be put in force; why.
    Refused(String),
}

impl Gateway {
    /// Takes up each later version of the file that `began` was read from, for as long as the gateway lives: when it or a file
    /// that it names has changed, and when `asked` or an administrator says so. `say` is given a version that is not taken up.
    pub fn watch(self: &Arc<Gateway>, began: Watched, asked: Arc<Notify>, say: impl Fn(&ConfigFile) + Send + 'static) {
        let Some(mut questions) = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let environment = self.environment;
        let gateway = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut watched = began;
            let mut unreadable = false;
            loop {
                let (is_asked, answer) = tokio::select! {
                    () = tokio::time::sleep(INTERVAL) => (false, None),
                    () = asked.notified() => (true, None),
                    Some(answer) = questions.recv() => (true, Some(answer)),
                };
                let Some(gateway) = gateway.upgrade() else { return };
                let Some(read) = watched.look(is_asked, environment).await else { continue };
                let reloaded = match read {
                    Err(_) if unreadable && !is_asked => continue,
                    Err(error) => {
                        unreadable = true;
                        warn!(path = %watched.path.display(), %error, "the configuration cannot be read; it stays as it is");
                        Reloaded::Refused(format!("the configuration cannot be read: {error}"))
                    }
                    Ok(file) => {
                        unreadable = false;
                        gateway.take_up(file, &watched.path, &say)
                    }
                };
                // Whoever has asked may have gone.
                let _ = answer.map(|answer| answer.send(reloaded));
            }
        });
    }

    fn take_up(&self, file: ConfigFile, path: &Path, say: &impl Fn(&ConfigFile)) -> Reloaded {
        if file.config().is_none() {
            error!(path = %path.display(), "the configuration has mistakes; it stays as it is");
            say(&file);
            return Reloaded::Mistaken(file.reports().iter().map(|report| report.problem.to_json()).collect());
        }
        let Some(config) = file.into_config() else { return Reloaded::Mistaken(Vec::new()) };
        let needs_restart = self.began.changed_in(&config);
        match self.apply(config) {
            Ok(()) => {
                info!(path = %path.display(), "another configuration is in force");
                if !needs_restart.is_empty() {
                    let sections = needs_restart.join(", ");
                    warn!(sections, "these sections have changed, and stay as they were at the start: they need a restart");
                }
                Reloaded::InForce { needs_restart }
            }
            Err(error) => {
                error!(path = %path.display(), %error, "the configuration cannot be used; it stays as it is");
                Reloaded::Refused(error.to_string())
            }
        }
    }
}

/// What a configuration depends on, and what that held when it was looked at last.
pub struct Watched {
    path: PathBuf,
    files: Arc<[PathBuf]>,
    lying: Lying,
    held: [u8; 32],
    /// What was read of it.
    fingerprint: [u8; 32],
}

impl Watched {
    /// Begins with a file that was read from `path`.
    pub fn new(path: &Path, file: &ConfigFile) -> Watched {
        // What has changed since it was read must show: so nothing is taken for known.
        let (files, lying, held) = (file.files().into(), Lying::default(), [0; 32]);
        Watched { path: path.to_owned(), files, lying, held, fingerprint: file.fingerprint() }
    }

    /// Reads it again if something has changed, or if it `must`; `None` where it means what it meant.
    async fn look(&mut self, must: bool, environment: Environment) -> Option<std::io::Result<ConfigFile>> {
        let (path, files, held) = (self.path.clone(), self.files.clone(), self.held);
        let mut lying = std::mem::take(&mut self.lying);
        let looked = tokio::task::spawn_blocking(move || {
            let is_due = lying.must_be_read(&files) || must;
            let now = is_due.then(|| content_of(&files)).filter(|now| *now != held || must);
            (lying, now.map(|now| (now, ConfigFile::read(&path, &environment))))
        });
        let (lying, read) = looked.await.ok()?;
        self.lying = lying;
        let (now, read) = read?;
        self.held = now;
        if let Ok(file) = &read {
            if file.fingerprint() == self.fingerprint && !must {
                return None;
            }
            self.fingerprint = file.fingerprint();
            if *self.files != *file.files() {
                self.files = file.files().into();
                self.held = [0; 32];
            }
        }
        Some(read)
    }
}

/// How files lay when that was looked at last.
#[derive(Default)]
pub(super) struct Lying {
    stamps: Vec<Option<Stamp>>,
    looks: u32,
}

/// Device, number, length, and when it was written and changed: seconds and nanoseconds.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Lying {
    /// Looks, and says whether what they hold must be looked at too. Waits a moment for whoever is writing.
    pub fn must_be_read(&mut self, files: &[PathBuf]) -> bool {
        self.looks = self.looks.wrapping_add(1);
        let mut now = stamps(files);
        if now == self.stamps {
            return self.looks.is_multiple_of(CONTENT_EVERY);
        }
        for _ in 0..MOST_SETTLING {
            std::thread::sleep(SETTLED);
            let before = std::mem::replace(&mut now, stamps(files));
            if before == now {
                break;
            }
        }
        self.stamps = now;
        true
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |file: &PathBuf| {
        let of = std::fs::metadata(file).ok()?;
        Some((of.dev(), of.ino(), of.len(), (of.mtime(), of.mtime_nsec()), (of.ctime(), of.ctime_nsec())))
    };
    files.iter().map(stamp).collect()
}

/// A digest of what files hold.
pub(super) fn content_of(files: &[PathBuf]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for file in files {
        match content(file) {
            Ok(content) => {
                context.update(&(content.len() as u64).to_le_bytes());
                context.update(&content);
            }
            Err(_) => context.update(b"\0unreadable"),
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
