//! Classes of risk, by which a policy may speak of tools that it does not name.
//!
//! What class a tool is of is not known here: whoever reads its definition says so with each call.

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

    /// The class as it is written in grades, such as `Destructive`.
    pub fn name(self) -> &'static str {
        match self {
            RiskClass::Read => "Read",
            RiskClass::Write => "Write",
            RiskClass::Execute => "Execute",
            RiskClass::Destructive => "Destructive",
            RiskClass::Financial => "Financial",
        }
    }

    /// The class as it is written in policies, such as `destructive`.
    pub fn key(self) -> &'static str {
        RISK_KEYS[self as usize]
    }
}

impl fmt::Display for RiskClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The keys of `risk`, in the order of [`RiskClass::ALL`].
pub(crate) const RISK_KEYS: &[&str] = &["read", "write", "execute", "destructive", "financial"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_severe_class_is_the_greatest() {
        assert_eq!(RiskClass::ALL.iter().max(), Some(&RiskClass::Financial));
        assert!(RiskClass::ALL.is_sorted());
    }

    #[test]
    fn a_class_is_written_alike_in_grades_and_policies() {
        for class in RiskClass::ALL {
            assert_eq!(class.name().to_ascii_lowercase(), class.key());
        }
    }
}
