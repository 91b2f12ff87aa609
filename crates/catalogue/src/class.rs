//! The classes of risk, and their levels.

use std::fmt;

/// What a call of a tool may do, at worst.
///
/// Ordered by severity: the most severe class that applies is the tool's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RiskClass {
    /// Returns information, and leaves nothing behind that anybody else could notice.
    Read,
    /// Creates or changes something that an ordinary further call can put back.
    Write,
    /// Sets something going, or sends something off, whose effect its arguments or others decide.
    Execute,
    /// Removes or overwrites something that no ordinary call brings back.
    Destructive,
    /// Moves money, or binds somebody to pay it.
    Financial,
}

impl RiskClass {
    /// All classes, the mildest first.
    pub const ALL: [RiskClass; 5] =
        [RiskClass::Read, RiskClass::Write, RiskClass::Execute, RiskClass::Destructive, RiskClass::Financial];

    /// The class as it is written, such as `Destructive`.
    pub fn name(self) -> &'static str {
        match self {
            RiskClass::Read => "Read",
            RiskClass::Write => "Write",
            RiskClass::Execute => "Execute",
            RiskClass::Destructive => "Destructive",
            RiskClass::Financial => "Financial",
        }
    }

    /// The level that a tool of this class has, unless something lifts it.
    pub fn base_level(self) -> Level {
        match self {
            RiskClass::Read => Level::Low,
            RiskClass::Write => Level::Medium,
            RiskClass::Execute => Level::High,
            RiskClass::Destructive | RiskClass::Financial => Level::Critical,
        }
    }
}

impl fmt::Display for RiskClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

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
    fn the_most_severe_class_is_the_greatest() {
        assert_eq!(RiskClass::ALL.iter().max(), Some(&RiskClass::Financial));
        assert!(RiskClass::ALL.is_sorted());
    }

    #[test]
    fn a_lifted_level_stays_within_bounds() {
        assert_eq!(RiskClass::Read.base_level().lifted(), Level::Medium);
        assert_eq!(RiskClass::Financial.base_level().lifted(), Level::Critical);
    }
}
