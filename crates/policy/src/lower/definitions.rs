//! `definitions:`.

use super::Lowering;
use crate::definitions::{Definitions, HiddenCharacters, Treatment};
use crate::source::Node;

impl Lowering<'_> {
    pub(super) fn definitions(&mut self, node: &Node) -> Definitions {
        let default = Definitions::default();
        let Some(fields) = self.fields(node, "`definitions`", DEFINITION_KEYS) else { return default };
        let mut treatment = |key: &str, what: &str| {
            let words = [Treatment::Allow, Treatment::Warn, Treatment::Ask, Treatment::Deny].map(|word| (word.as_str(), word));
            fields.get(key).and_then(|node| self.word(node, what, &words))
        };
        let (new, changed) = (treatment("new", "`new`"), treatment("changed", "`changed`"));
        let widened = treatment("widened", "`widened`");
        let hidden = fields.get("hidden_characters").and_then(|node| {
            let words = [("refuse", HiddenCharacters::Refuse), ("escape", HiddenCharacters::Escape)];
            self.word(node, "`hidden_characters`", &words)
        });
        Definitions {
            new: new.unwrap_or(default.new),
            // Who says what happens to changes means all of them, unless the worse ones are named.
            widened: widened.or(changed).unwrap_or(default.widened),
            changed: changed.unwrap_or(default.changed),
            hidden_characters: hidden.unwrap_or(default.hidden_characters),
        }
    }
}

pub(super) const DEFINITION_KEYS: &[&str] = &["new", "changed", "widened", "hidden_characters"];

#[cfg(test)]
mod tests {
    use crate::definitions::{Definitions, HiddenCharacters, Treatment::*};
    use crate::{Source, load};

    #[track_caller]
    fn check(text: &str, expected: Definitions) {
        let loaded = load(&Source::new("policy.yaml", format!("version: \"1\"\n{text}\n")));
        let policy = loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.problems));
        assert_eq!(policy.definitions(), expected, "{text}");
    }

    #[test]
    fn who_says_what_happens_to_changes_means_all_of_them() {
        let strict = Definitions::default();
        check("", strict);
        check("definitions: {}", strict);
        check("definitions: {changed: allow}", Definitions { changed: Allow, widened: Allow, ..strict });
        check("definitions: {changed: warn, widened: ask}", Definitions { changed: Warn, widened: Ask, ..strict });
        check("definitions: {new: ask}", Definitions { new: Ask, ..strict });
        check("definitions: {hidden_characters: escape}", Definitions { hidden_characters: HiddenCharacters::Escape, ..strict });
    }

    #[test]
    fn of_two_policies_the_stricter_holds() {
        let lenient = Definitions { new: Warn, widened: Ask, changed: Allow, hidden_characters: HiddenCharacters::Escape };
        let both = lenient.and(Definitions::default());
        assert_eq!(both, Definitions::default());
        assert_eq!(lenient.and(lenient), lenient);
    }
}
