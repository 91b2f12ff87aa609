//! Policies: read in every dialect, checked, compiled, and evaluated by one pure function.

mod amount;
mod model;
mod window;

pub use amount::Amount;
pub use model::{Bound, Counter, Mode, Policy, Posture, Scope};
pub use window::{Align, CalendarUnit, Schedule, Window, Zone, parse_span};
