//! The MCP clients on a machine: where each keeps its servers, and how to put callgate before them.
//!
//! A configuration is somebody's own text, with comments, an order and habits of spacing. So it is read into a [`Tree`] that
//! knows where everything stands, and changed by replacing a few bytes ([`Wrapping`]); what is not replaced stays as it was. Every
//! change is kept with the text it replaced ([`Backups`]), so that it can be taken back byte for byte.

mod backups;
mod client;
mod configuration;
mod server;
mod tree;
mod wrapping;

pub use backups::{Backups, Change, Undone};
pub use client::{CLIENTS, Client, Machine, Platform};
pub use configuration::{Configuration, ReadError};
pub use server::{Server, Target};
pub use tree::{Format, Member, Node, Tree, Value};
pub use wrapping::{Why, Wrapping};
