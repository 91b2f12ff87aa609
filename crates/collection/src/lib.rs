//! The catalog file.
//!
//! What many servers say of themselves, with the grade of each tool, in one SQLite file that can be searched. A server is
//! known by its package, version, flags and the digest of what it said, so nothing is kept twice, and a build that was
//! interrupted goes on where it stopped.
//!
//! What servers say is taken in from captures, or the servers of a list are installed and asked, each in a cell of its own.
//!
//! A definition is kept whole; grades and recommended policies follow from it, and are made anew whenever somebody asks. What
//! is kept of a grade is only what is searched for. All texts are other people's: who shows them must expect anything.

mod capture;
mod cell;
mod collect;
mod error;
mod export;
mod facts;
mod file;
mod graded;
mod import;
mod install;
mod list;
mod read;
mod search;
mod write;

pub use capture::{Capture, CaptureError};
pub use cell::{Cell, Way};
pub use collect::{Asked, Asker, CollectError, Conditions, Reach, Said, collect, throw_away};
pub use error::CollectionError;
pub use export::{capture_json, facts_json};
pub use facts::{Facts, Isolation, Registry};
pub use import::{Failed, Imported, Progress, import};
pub use list::{Entry, List, Origin, Package, is_package};
pub use read::{Collection, Page, Server, Tool, Totals};
pub use search::{Found, Hit, Query};
