//! What all sessions and requests share.

use rmcp::model::RequestStateCodec;
use rmcp::task_manager::TaskManager;
use tokio::sync::broadcast;

use crate::catalogue::Catalogue;

/// The revisions of the protocol that are served.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Eras {
    /// Those with a handshake, up to 2025-11-25.
    Legacy,
    /// 2026-07-28.
    Modern,
    /// All.
    Both,
}

/// Something that listeners are told about.
#[derive(Clone, Copy)]
pub enum Change {
    /// The list of tools.
    Tools,
    /// The list of prompts.
    Prompts,
}

/// What all sessions and requests share.
pub struct Shared {
    /// Which revisions it serves.
    pub eras: Eras,
    /// What it offers.
    pub catalogue: Catalogue,
    /// Where changes are announced.
    pub changes: broadcast::Sender<Change>,
    /// The tasks that run.
    pub tasks: TaskManager,
    /// What seals the states that clients carry.
    pub states: RequestStateCodec,
}

impl Shared {
    /// A beginning: no tasks, nobody listens.
    pub fn new(eras: Eras) -> Self {
        let states = RequestStateCodec::try_new(*b"a fixture has no secrets to keep").expect("the key is 32 bytes long");
        let (changes, _) = broadcast::channel(64);
        Self { eras, catalogue: Catalogue::new(), changes, tasks: TaskManager::new(), states }
    }
}
