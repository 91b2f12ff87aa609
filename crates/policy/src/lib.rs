//! Policies: read in every dialect, checked, compiled, and evaluated by one pure function.

mod amount;
mod model;
mod window;
