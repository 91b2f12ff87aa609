//! Policies: read in every dialect, checked, compiled, and evaluated by one pure function.

mod amount;
mod applicators;
mod check;
mod condition;
mod decision;
mod effort;
mod evaluate;
mod lint;
mod load;
mod lower;
mod methods;
mod model;
mod outline;
mod problem;
mod schedule;
mod schema;
mod source;
mod text;
mod tools;
mod validate;
mod window;

pub use amount::Amount;
pub use check::check_tools;
pub use decision::{ApprovalTerms, Charge, Decision, Once, Outcome, Plan, Reason, Shadow, Step, StepResult, Usage};
pub use evaluate::{Call, Schema};
pub use load::{Loaded, load};
pub use methods::{METHOD_NAMES, PROTOCOL_METHODS};
pub use model::{Bound, Counter, Mode, Policy, Posture, Scope};
pub use problem::{Problem, Severity};
pub use schedule::Schedule;
pub use schema::json_schema;
pub use text::Source;
pub use tools::{Tool, Tools};
pub use validate::ToolSchema;
pub use window::{Align, CalendarUnit, Window, Zone, parse_span};
