//! The levels of risk.

use policy::RiskClass;
use std::fmt;

/// How much attention a tool deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing to see.
    Low,
    /// Can be put back, or tells more than it seems.
    Medium,
    /// Sets things going, gives access, or sends something out.
    High,
    /// Cannot be undone, or runs what it is given.
    Critical,
}

impl Level {
    /// All levels, the lowest first.
    pub const ALL: [Level; 4] = [Level::Low, Level::Medium, Level::High, Level::Critical];

    /// The level that a tool of this class has, unless something lifts it.
    pub fn of(class: RiskClass) -> Level {
        match class {
            RiskClass::Read => Level::Low,
            RiskClass::Write => Level::Medium,
            RiskClass::Execute => Level::High,
            RiskClass::Destructive | RiskClass::Financial => Level::Critical,
        }
    }

    /// The level as it is written, such as `high`.
    pub fn name(self) -> &'static str {
        match self {
            Level::Low => "low",
            Level::Medium => "medium",
            Level::High => "high",
            Level::Critical => "critical",
        }
    }

    /// One step up; `critical` stays.
    pub fn lifted(self) -> Level {
        match self {
            Level::Low => Level::Medium,
            Level::Medium => Level::High,
            Level::High | Level::Critical => Level::Critical,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifted_level_stays_within_bounds() {
        assert_eq!(Level::of(RiskClass::Read).lifted(), Level::Medium);
        assert_eq!(Level::of(RiskClass::Financial).lifted(), Level::Critical);
    }
}
