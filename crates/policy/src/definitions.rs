//! `definitions:`: what happens where a server's definitions are not those that were pinned, or hold what hides.
//!
//! Which definitions are pinned is no matter of policies; what a policy says is how strict to be about it.

/// What happens to a tool or prompt whose definition is new or has changed, from the most lenient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Treatment {
    /// It is listed and callable, and nothing is said.
    Allow,
    /// It is listed and callable; the log and the records say so.
    Warn,
    /// It is not listed; each call of it needs a person's approval.
    Ask,
    /// It is neither listed nor callable.
    Deny,
}

impl Treatment {
    /// `allow`, `warn`, `ask`, `deny`.
    pub fn as_str(self) -> &'static str {
        match self {
            Treatment::Allow => "allow",
            Treatment::Warn => "warn",
            Treatment::Ask => "ask",
            Treatment::Deny => "deny",
        }
    }
}

/// What happens to texts of a definition that hold characters which hide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HiddenCharacters {
    /// They are shown in what clients are told: `\u{202e}`. Where that is not possible, as in names, as for `Refuse`.
    Escape,
    /// The tool or prompt is neither listed nor callable; instructions are left out.
    Refuse,
}

/// What the policy says of definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definitions {
    /// Of what is not pinned.
    pub new: Treatment,
    /// Of a change by which more is possible than before.
    pub widened: Treatment,
    /// Of any other change.
    pub changed: Treatment,
    /// Of characters that hide.
    pub hidden_characters: HiddenCharacters,
}

impl Default for Definitions {
    fn default() -> Definitions {
        Definitions {
            new: Treatment::Deny,
            widened: Treatment::Deny,
            changed: Treatment::Warn,
            hidden_characters: HiddenCharacters::Refuse,
        }
    }
}

impl Definitions {
    /// What holds where both must allow.
    pub fn and(self, other: Definitions) -> Definitions {
        Definitions {
            new: self.new.max(other.new),
            widened: self.widened.max(other.widened),
            changed: self.changed.max(other.changed),
            hidden_characters: self.hidden_characters.max(other.hidden_characters),
        }
    }
}
