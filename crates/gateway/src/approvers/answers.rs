//! Calls that wait for a person's answer.
//!
//! An answer may be given by any process on the state, so it is looked for: one task looks for all that wait, four times a
//! second, and there is none while nobody waits. It says only that there is something new; what it is, the call finds out as
//! it found out that it had to wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::{ApprovalState, Reader, Store};
use tokio::sync::oneshot;
use tracing::warn;

/// People take longer to answer than this; and it is little beside what looking costs.
const INTERVAL: Duration = Duration::from_millis(250);

/// Who waits for which approval.
pub(crate) struct Answers {
    store: Store,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    by_id: HashMap<String, Vec<oneshot::Sender<()>>>,
    /// Whether a task looks for answers.
    looking: bool,
}

impl Answers {
    /// Looks for answers in `store`.
    pub fn new(store: Store) -> Arc<Answers> {
        Arc::new(Answers { store, waiting: Mutex::default() })
    }

    /// Waits until the approval of this id waits no longer, whatever has become of it.
    pub async fn answered(self: &Arc<Answers>, id: &str) {
        let (say, said) = oneshot::channel();
        let begins = {
            let mut waiting = self.lock();
            waiting.by_id.entry(id.to_owned()).or_default().push(say);
            !std::mem::replace(&mut waiting.looking, true)
        };
        if begins {
            tokio::spawn(self.clone().look());
        }
        let _ = said.await;
    }

    async fn look(self: Arc<Answers>) {
        let mut reported = false;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let ids: Vec<String> = {
                let mut waiting = self.lock();
                waiting.by_id.retain(|_, said| {
                    said.retain(|said| !said.is_closed());
                    !said.is_empty()
                });
                if waiting.by_id.is_empty() {
                    waiting.looking = false;
                    return;
                }
                waiting.by_id.keys().cloned().collect()
            };
            let store = self.store.clone();
            let looked = tokio::task::spawn_blocking(move || store.reader().map(|reader| over(&reader, ids))).await;
            match looked {
                Ok(Ok(over)) => {
                    let mut waiting = self.lock();
                    let told = over.iter().filter_map(|id| waiting.by_id.remove(id)).flatten();
                    told.for_each(|said| {
                        let _ = said.send(());
                    });
                }
                // Calls go on waiting, each for its own time.
                Ok(Err(error)) if !std::mem::replace(&mut reported, true) => warn!(%error, "answers to approvals cannot be read"),
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those of the approvals that wait no longer.
fn over(reader: &Reader, ids: Vec<String>) -> Vec<String> {
    let waits = |id: &String| reader.approval(id).is_ok_and(|approval| approval.state == ApprovalState::Pending);
    ids.into_iter().filter(|id| !waits(id)).collect()
}
