//! What tools can do.
//!
//! A server describes its tools, and whoever lets a model call them goes by that description. This crate reads it: the
//! class of what a call may do at worst, how sure that is, and the words and schema paths that say so.
//!
//! Everything here is a function of one text: no clock, no network, no files, no store. The same definition is graded the
//! same way at any time and on any machine.

mod argument;
pub mod attacks;
mod class;
mod comparison;
mod definition;
mod difference;
mod grade;
mod inspect;
mod lock;
mod names;
mod paths;
mod recommend;
mod wording;

pub use class::Level;
pub use comparison::{Difference, DifferenceKind, Subject, compare};
pub use definition::{HiddenIn, digest, digest_of, hidden_in, shown_token};
pub use difference::{Change, prompt_changes, text_changes, tool_changes};
pub use grade::{Avoidable, Avoided, Evidence, Signal, Supports, ToolRisk, grade, level_of, words_of};
pub use inspect::{Flaw, Grade, Inspection, Introduction, Source, Suspicion, Weight, inspect, sarif, worst};
pub use lock::{Lock, Pinned};
pub use names::{Names, look_alike, unreadable_name};
pub use policy::RiskClass;
pub use policy::{Hidden, HiddenKind, first_hidden, visible};
pub use recommend::{Profile, Recommendation, Recommended, policy_by_risk, policy_json, policy_yaml, treatment};
