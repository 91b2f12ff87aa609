//! The Model Context Protocol without input or output: messages, revisions, framing, headers, lists, methods.
//!
//! Bytes come in as arguments and go out as results: no sockets, no clock, no async. A message is parsed **once**, strictly,
//! and is never rebuilt: what has to change (an id, a list's elements) is changed by splicing its own text, so that what was
//! judged and what is sent are the same bytes.
//!
//! This crate knows nothing of policies: it says what a message *is*, never whether it may pass.

mod asked;
pub mod bridge;
pub mod caching;
pub mod federation;
pub mod framing;
pub mod headers;
mod id;
mod keys;
mod message;
mod method;
mod ourselves;
pub mod reply;
mod revision;
mod splice;
pub mod sse;
mod tasks;
pub mod tools;

pub use asked::{Asked, asked};
pub use id::Id;
pub use message::{Incoming, Kind, MAX_BATCH, Malformed, Message, Side, ToolCall};
pub use method::{METHODS, Method, Route, route};
pub use ourselves::{IMPLEMENTATION, initialize_params};
pub use revision::{Era, Revision};
pub use splice::Edit;
pub use tasks::{TASK_METHODS, TASKS_EXTENSION, created_task, filter_tasks, listed_tasks};
