//! How much work a schema makes of some arguments.
//!
//! A validator tries each alternative anew and remembers nothing, so a schema whose alternatives lead back to themselves by
//! the same member doubles or triples the work with every level of the arguments. Here the same walk is taken without
//! judging anything: every schema is counted as often as the validator could apply it, and the walk ends where that is too
//! often. It takes no more time than it allows the validator, and no memory but its stack.
//!
//! What cannot be told without judging (which alternative fits, whether a name matches a pattern) counts as if it did.

use crate::applicators::{combined, depending, element_schema, in_place, referenced};
use serde_json::Value as Json;

/// An upper bound of the work to judge some arguments.
#[derive(Debug)]
pub(crate) struct Effort {
    /// Of the outermost alternatives (`anyOf`, `oneOf`) somewhere: the steps within them.
    alternatives: u64,
    /// How many schemas are within one another at most.
    depth: usize,
}

impl Effort {
    /// Estimates the work to judge `arguments` by the schema `root`; `None` when it is too much.
    ///
    /// Every reference in the schema must lead somewhere in it, and in-place applicators must come to an end.
    pub(crate) fn estimate(root: &Json, arguments: &Json) -> Option<Effort> {
        let left = LEAST.saturating_add(size(arguments).saturating_mul(FOR_EACH_VALUE));
        let mut walk = Walk { root, left, alternatives: 0, within: false, depth: 0, deepest: 0 };
        walk.judge(root, arguments)?;
        Some(Effort { alternatives: walk.alternatives, depth: walk.deepest })
    }

    /// Whether the validator may be asked what is wrong.
    ///
    /// Of alternatives of which none fits it collects the errors of each, and asks at every level anew whether one fits.
    pub(crate) fn is_explicable(&self) -> bool {
        let depth = u64::try_from(self.depth).unwrap_or(u64::MAX);
        self.alternatives.saturating_mul(depth) <= LEAST
    }
}

struct Walk<'s> {
    root: &'s Json,
    /// Steps that may still be taken.
    left: u64,
    alternatives: u64,
    /// Whether the walk is in an alternative.
    within: bool,
    depth: usize,
    deepest: usize,
}

impl<'s> Walk<'s> {
    /// Counts what it takes to judge a value by a schema.
    fn judge(&mut self, schema: &'s Json, value: &Json) -> Option<()> {
        self.spend(1 + listed(schema) + text(value))?;
        if !schema.is_object() {
            return Some(());
        }
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        if self.depth > DEEPEST {
            return None;
        }
        let outermost = !self.within && (schema.get("anyOf").is_some() || schema.get("oneOf").is_some());
        let before = self.left;
        self.within |= outermost;
        for part in in_place(self.root, schema) {
            self.judge(part, value)?;
        }
        if outermost {
            self.within = false;
            self.alternatives = self.alternatives.max(before - self.left);
        }
        match value {
            Json::Object(members) => self.judge_members(schema, members)?,
            Json::Array(elements) => self.judge_elements(schema, elements, value)?,
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
        if schema.get("unevaluatedProperties").is_some() || schema.get("unevaluatedItems").is_some() {
            self.mark(schema, value)?;
        }
        self.depth -= 1;
        Some(())
    }

    fn judge_members(&mut self, schema: &'s Json, members: &serde_json::Map<String, Json>) -> Option<()> {
        let declared = schema.get("properties").and_then(Json::as_object);
        let patterns = schema.get("patternProperties").and_then(Json::as_object);
        for (key, member) in members {
            let own = declared.and_then(|declared| declared.get(key));
            if let Some(own) = own {
                self.judge(own, member)?;
            }
            for (_, pattern) in patterns.into_iter().flatten() {
                self.spend(1 + long(key))?;
                self.judge(pattern, member)?;
            }
            if own.is_none() {
                for keyword in ["additionalProperties", "unevaluatedProperties"] {
                    if let Some(other) = schema.get(keyword) {
                        self.judge(other, member)?;
                    }
                }
            }
            if let Some(names) = schema.get("propertyNames") {
                self.judge(names, &Json::String(key.clone()))?;
            }
        }
        Some(())
    }

    fn judge_elements(&mut self, schema: &'s Json, elements: &[Json], value: &Json) -> Option<()> {
        for (index, element) in elements.iter().enumerate() {
            if let Some(own) = element_schema(schema, index) {
                self.judge(own, element)?;
            }
            for keyword in ["contains", "unevaluatedItems"] {
                if let Some(other) = schema.get(keyword) {
                    self.judge(other, element)?;
                }
            }
        }
        if schema.get("uniqueItems").is_some() {
            // Few are compared each with each, more by their hashes; 16 is above where the validator changes over.
            let rounds = u64::try_from(elements.len().min(16)).unwrap_or(16);
            self.spend(size(value).saturating_mul(rounds))?;
        }
        Some(())
    }

    /// Counts what it takes to find out which members or elements have been evaluated, for `unevaluated…`: the validator
    /// follows what applies in place, and judges once more by what may fail.
    fn mark(&mut self, schema: &'s Json, value: &Json) -> Option<()> {
        self.spend(1)?;
        if self.depth >= DEEPEST {
            return None;
        }
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        for part in combined(schema) {
            self.judge(part, value)?;
        }
        for part in referenced(self.root, schema).chain(combined(schema)).chain(depending(schema)) {
            self.mark(part, value)?;
        }
        let both = |this: &mut Self, keyword: &str, child: &Json| match schema.get(keyword) {
            Some(other) => this.judge(other, child),
            None => Some(()),
        };
        match value {
            Json::Object(members) => {
                for member in members.values() {
                    both(self, "unevaluatedProperties", member)?;
                }
            }
            Json::Array(elements) => {
                for element in elements {
                    both(self, "contains", element)?;
                    both(self, "unevaluatedItems", element)?;
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
        self.depth -= 1;
        Some(())
    }

    fn spend(&mut self, steps: u64) -> Option<()> {
        self.left = self.left.checked_sub(steps)?;
        Some(())
    }
}

/// What the keywords of a schema take that hold lists to go through.
fn listed(schema: &Json) -> u64 {
    let (mut names, mut nested) = (0, 0);
    for (keyword, part) in schema.as_object().into_iter().flatten() {
        match (keyword.as_str(), part) {
            ("enum", Json::Array(literals)) => {
                names += literals.len();
                nested += literals.iter().filter(|literal| literal.is_array() || literal.is_object()).map(size).sum::<u64>();
            }
            ("const", literal) => nested += size(literal),
            ("required", Json::Array(list)) => names += list.len(),
            ("properties" | "dependentRequired" | "dependencies" | "dependentSchemas", Json::Object(members)) => {
                names += members.len();
            }
            _ => {}
        }
    }
    // Looking up a name or comparing a text is a small part of a step.
    nested + u64::try_from(names / 8).unwrap_or(u64::MAX)
}

/// What it takes to go through a string.
fn text(value: &Json) -> u64 {
    value.as_str().map_or(0, long)
}

fn long(text: &str) -> u64 {
    u64::try_from(text.len() / 64).unwrap_or(u64::MAX)
}

/// How many values there are in this one, long strings counting as several.
fn size(value: &Json) -> u64 {
    let within = match value {
        Json::Object(members) => members.values().map(size).fold(0, u64::saturating_add),
        Json::Array(elements) => elements.iter().map(size).fold(0, u64::saturating_add),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => text(value),
    };
    within.saturating_add(1)
}

/// Steps that are always allowed: below 100 ms with what explaining a refusal takes. Real schemas take a few dozen for a call.
const LEAST: u64 = 50_000;

/// Steps that are allowed more for each value in the arguments: long lists are many steps without any of them being twice.
const FOR_EACH_VALUE: u64 = 8;

/// How many schemas may be within one another: eight for each of the 128 levels that arguments may have. Each takes stack,
/// here and in the validator.
const DEEPEST: usize = 1024;

#[cfg(test)]
mod tests {
    use crate::{Call, Outcome, Schema, Source, ToolSchema, load};
    use json::{Document, Strictness};
    use std::time::{Duration, Instant};

    const TYPES: &str = "version: \"1\"\ntools: {\"*\": {rules: [{name: typed, validate: {types: true}}]}}\n";

    /// Whether the call is allowed, else what is said.
    fn judge(schema: &ToolSchema, arguments: &str) -> Result<(), String> {
        let policy = load(&Source::new("p.yaml", TYPES)).policy.unwrap();
        let document = Document::parse(arguments.to_owned(), Strictness::Request).unwrap();
        let (schema, at) = (Schema::Known(schema), jiff::Timestamp::UNIX_EPOCH);
        let plan =
            policy.evaluate(&Call { tool: "t", arguments: Some(document.root()), schema, class: None, at, explained: false });
        match plan.decision.outcome {
            Outcome::Allow => Ok(()),
            Outcome::Ask | Outcome::Deny => Err(plan.decision.message.unwrap_or_default()),
        }
    }

    fn schema(text: &str) -> ToolSchema {
        ToolSchema::new(Document::parse(text.to_owned(), Strictness::Reply).unwrap().root())
    }

    fn nested(open: &str, inner: &str, close: &str, levels: usize) -> String {
        format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
    }

    /// Arguments within arguments, by a schema whose alternatives (`COMBINE`) share the member that leads on.
    fn expression(combine: &str) -> ToolSchema {
        let branch = |op: &str| {
            format!(r##"{{"properties":{{"left":{{"$ref":"#/$defs/e"}},"op":{{"const":"{op}"}}}},"required":["op"]}}"##)
        };
        let branches = ["and", "or", "not"].map(branch).join(",");
        schema(&format!(r##"{{"$ref":"#/$defs/e","$defs":{{"e":{{"{combine}":[{branches}]}}}}}}"##))
    }

    #[test]
    fn alternatives_that_multiply_from_level_to_level_cost_nothing_much() {
        let hostile = [
            ("left", expression("anyOf")),
            ("left", expression("oneOf")),
            ("left", schema(r##"{"not":{"properties":{"left":{"$ref":"#"}}},"if":{"properties":{"left":{"$ref":"#"}}}}"##)),
            ("left", schema(r##"{"additionalProperties":{"$ref":"#"},"patternProperties":{"f":{"$ref":"#"}}}"##)),
            ("left", schema(r##"{"allOf":[{"properties":{"left":{"$ref":"#"}}}],"unevaluatedProperties":{"$ref":"#"}}"##)),
            (
                "left",
                schema(
                    r##"{"dependentSchemas":{"left":{"$ref":"#/$defs/a"}},"properties":{"left":{"$ref":"#"}},"$defs":{"a":{"properties":{"left":{"$ref":"#"}}}}}"##,
                ),
            ),
        ];
        for (key, schema) in hostile {
            assert_eq!(schema.problem(), None);
            for levels in [6, 7, 8, 9, 10, 11, 12, 13, 14, 30, 127] {
                let arguments = nested(&format!(r#"{{"op":"and","{key}":"#), r#"{"op":"bad"}"#, "}", levels);
                let start = Instant::now();
                let judged = judge(&schema, &arguments);
                let bound = Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 100 });
                assert!(start.elapsed() < bound, "{levels} levels took {:?}", start.elapsed());
                let said = "too large or too deeply nested to be checked";
                if levels > 14 {
                    assert!(judged.as_ref().is_err_and(|message| message.contains(said)), "{levels}: {judged:?}, {schema:?}");
                }
            }
        }
        let elements = schema(
            r##"{"properties":{"a":{"$ref":"#/$defs/e"}},"$defs":{"e":{"items":{"$ref":"#/$defs/e"},"contains":{"$ref":"#/$defs/e"}}}}"##,
        );
        assert!(judge(&elements, &format!(r#"{{"a":{}}}"#, nested("[", "1", "]", 126))).is_err());
    }

    #[test]
    fn what_a_person_would_write_is_judged_by_such_a_schema_too() {
        let tree = expression("anyOf");
        assert_eq!(judge(&tree, &nested(r#"{"op":"and","left":"#, r#"{"op":"or"}"#, "}", 6)), Ok(()));
        let message = judge(&tree, &nested(r#"{"op":"and","left":"#, r#"{"op":"bad"}"#, "}", 3)).unwrap_err();
        assert!(message.contains("`args`"), "{message}");
        let message = judge(&tree, &nested(r#"{"op":"and","left":"#, r#"{"op":"bad"}"#, "}", 7)).unwrap_err();
        assert!(message.contains("do not satisfy the tool's schema"), "{message}");
    }

    #[test]
    fn long_lists_are_judged() {
        let rows = schema(
            r#"{"properties":{"rows":{"items":{"properties":{"a":{"anyOf":[{"type":"string"},{"type":"null"}]},"b":{"type":"integer"}},"required":["a"]}}}}"#,
        );
        let list = |rows: usize, last: &str| format!(r#"{{"rows":[{}{last}]}}"#, r#"{"a":"x","b":1},"#.repeat(rows));
        assert_eq!(judge(&rows, &list(20_000, r#"{"a":null}"#)), Ok(()));
        let message = judge(&rows, &list(20_000, r#"{"b":1}"#)).unwrap_err();
        assert!(message.contains("`args.rows[20000]`"), "{message}");
    }

    #[test]
    fn a_chain_of_schemas_at_every_level_does_not_exhaust_the_stack() {
        let links: Vec<String> = (0..90).map(|n| format!(r##""d{n}":{{"allOf":[{{"$ref":"#/$defs/d{}"}}]}}"##, n + 1)).collect();
        let links = links.join(",");
        let end = r##""d90":{"properties":{"a":{"$ref":"#"}}}"##;
        // The third has seven schemas at each level: just below the limit, where the stack must suffice.
        for (first, allowed) in [(0, false), (90, true), (88, true), (86, false)] {
            let schema = schema(&format!(r##"{{"$ref":"#/$defs/d{first}","$defs":{{{links},{end}}}}}"##));
            assert_eq!(schema.problem(), None);
            let judged = judge(&schema, &nested(r#"{"a":"#, "{}", "}", 126));
            assert_eq!(judged.is_ok(), allowed, "{judged:?}");
        }
    }
}
