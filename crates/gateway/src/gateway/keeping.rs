//! What the state keeps, taken up as it changes.
//!
//! A thread that may wait looks four times a second whether the number of changes is another, so that what one gateway is told
//! is in force on all that share the state within a second. Files that something kept names (secrets, policies, certificates)
//! are looked at as those of the configuration are.

use super::watching::{INTERVAL, Lying, content_of};
use super::{Applied, Gateway};
use crate::config::Config;
use crate::config::kept::Whole;
use policy::Severity;
use std::sync::Arc;
use store::{Kept, Reader, StoreError};
use tracing::{error, info, warn};

impl Gateway {
    /// What would be in force if the state kept this, and the file's part of it; `None` before there is a configuration.
    pub(crate) fn as_if(&self, kept: &Kept) -> Option<(Arc<Config>, Whole)> {
        let (config, before) = {
            let applied = self.lock();
            (applied.config.clone()?, applied.whole.clone())
        };
        let whole = Whole::of(&config, kept, &self.environment, &before);
        Some((config, whole))
    }

    /// The configuration, and what it and the state say together.
    pub(crate) fn applied(&self) -> Option<(Arc<Config>, Arc<Whole>)> {
        let applied = self.lock();
        Some((applied.config.clone()?, applied.whole.clone()))
    }

    /// Takes up what the state keeps now. Waits for the state; within a runtime.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn refresh(&self) -> Result<(), StoreError> {
        let kept = self.store.reader()?.kept()?;
        self.take_kept(kept);
        Ok(())
    }

    fn take_kept(&self, kept: Kept) {
        let mut applied = self.lock();
        // Somebody else may have looked later and been faster.
        if kept.version < applied.kept.version {
            return;
        }
        applied.kept = kept;
        self.read_anew(&mut applied, true);
    }

    /// Reads what is kept, and the files that it names. `must`: put it in force also where they say what they said.
    fn read_anew(&self, applied: &mut Applied, must: bool) {
        let Some(config) = applied.config.clone() else { return };
        let whole = Whole::of(&config, &applied.kept, &self.environment, &applied.whole);
        if !must && whole.fingerprints == applied.whole.fingerprints {
            return;
        }
        if let Err(error) = self.put_in_force(applied, config, Arc::new(whole)) {
            error!(%error, "what the state keeps cannot be put in force; everything stays as it is");
        }
    }
}

/// Tells the operator once of what is kept and left out.
pub(super) fn report(whole: &Whole, before: &Whole) {
    for (grant, server) in whole.missing.iter().filter(|missing| !before.missing.contains(missing)) {
        warn!(grant, server, "a grant of the configuration names a server that the state does not keep; it allows nothing there");
    }
    for said in whole.said.iter().filter(|said| said.is_wrong()) {
        if before.said.iter().any(|known| known.is_wrong() && known.kind == said.kind && known.name == said.name) {
            continue;
        }
        let why = said.problems.iter().find(|problem| problem.severity == Severity::Error);
        let why = why.map(|problem| problem.message.as_str()).unwrap_or_default();
        error!(
            kind = said.kind.as_str(),
            name = said.name,
            why,
            "something that the state keeps cannot be used, and is left out"
        );
    }
}

/// Looks for changes, for as long as the gateway lives.
pub(super) fn follow(gateway: &Arc<Gateway>) {
    let (weak, store) = (Arc::downgrade(gateway), gateway.store.clone());
    let runtime = tokio::runtime::Handle::current();
    let follow = move || {
        let _within = runtime.enter();
        let mut reader: Option<Reader> = None;
        let (mut said, mut lying, mut held) = (false, Lying::default(), None);
        loop {
            std::thread::sleep(INTERVAL);
            let Some(gateway) = weak.upgrade() else { return };
            let files = gateway.lock().whole.files.clone();
            if lying.must_be_read(&files) {
                // What has changed since they were read must show: so what they were then is not taken for known.
                let now = (content_of(&files), files);
                if held.as_ref() != Some(&now) {
                    gateway.read_anew(&mut gateway.lock(), false);
                    held = Some(now);
                }
            }
            let known = gateway.lock().kept.version;
            let look = |reader: &Reader| {
                if let Some(consents) = gateway.consents()
                    && reader.authorizations_version()? != consents.version()
                {
                    let (version, all) = reader.authorizations()?;
                    consents.take(version, all);
                }
                match reader.kept_version()? {
                    version if version == known => Ok(None),
                    _ => reader.kept().map(Some),
                }
            };
            let opened = match reader.take() {
                Some(reader) => Ok(reader),
                None => store.reader(),
            };
            match opened.and_then(|opened| look(&opened).map(|found| (opened, found))) {
                Ok((opened, found)) => {
                    (reader, said) = (Some(opened), false);
                    if let Some(kept) = found {
                        info!("what the state keeps has changed");
                        gateway.take_kept(kept);
                    }
                }
                Err(error) if !said => {
                    said = true;
                    warn!(%error, "what the state keeps cannot be read; servers, policies and grants stay as they were");
                }
                Err(_) => {}
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("kept".to_owned()).spawn(follow) {
        error!(%error, "no thread can be started to look for revoked grants");
    }
}
