//! The arguments of a tool, at every depth of its schema.
//!
//! A policy names an argument by the way that a call takes to it: `request.url`, `rows[*].path`. Alternatives and references
//! are no steps of that way, and are followed; whether a call takes an alternative, its way does not say.

use crate::paths;
use json::{Value, quote};

/// One argument.
pub(crate) struct Argument<'s> {
    /// As a policy names it below `args`: `request.url`, `rows[*].path`.
    pub path: String,
    /// The last name of that.
    pub name: String,
    /// Where its schema stands in the definition: `inputSchema.properties.request.properties.url`.
    pub at: String,
    /// What it may be.
    pub schema: Value<'s>,
    /// Whether no call is valid without it.
    pub is_required: bool,
    /// Whether it is reached without an alternative and without a reference.
    pub is_direct: bool,
    steps: Vec<Step<'s>>,
}

/// A step from a call's arguments to one of them.
#[derive(Clone)]
enum Step<'s> {
    /// Into a member of what this schema describes.
    Member(String, Value<'s>),
    /// Into each element of a list.
    Each,
}

impl<'s> Argument<'s> {
    /// All arguments that policies can name, in the order of the schema; what hostile schemas hold beyond some hundreds is left
    /// out.
    pub fn all(schema: Value<'s>) -> Vec<Argument<'s>> {
        let mut walk = Walk { root: schema, visits: 0, found: Vec::new() };
        walk.visit(schema, &Place { at: "inputSchema".to_owned(), is_required: true, is_direct: true, ..Place::default() });
        walk.found
    }

    /// Whether a text can be given, or a list of texts. What says nothing of its type can be given anything.
    pub fn holds_text(&self) -> bool {
        let says = |schema: Value<'_>, word: &str| match schema.get("type") {
            None => true,
            Some(types) => types.says(word) || types.elements().is_some_and(|mut types| types.any(|one| one.says(word))),
        };
        let of_texts = || self.schema.get("items").is_none_or(|items| says(items, "string"));
        says(self.schema, "string") || self.is_list() && of_texts()
    }

    /// Whether its schema asks for a list.
    pub fn is_list(&self) -> bool {
        self.schema.get("type").is_some_and(|word| word.says("array"))
    }

    /// The arguments of a call that gives it `value`, a JSON text: the members of an object, in which `sample` makes up whatever
    /// else is required.
    pub fn given(&self, value: &str, sample: impl Fn(Value<'_>) -> String) -> Vec<(String, String)> {
        let mut value = value.to_owned();
        for (i, step) in self.steps.iter().enumerate().rev() {
            match step {
                Step::Each => value = format!("[{value}]"),
                Step::Member(name, of) => {
                    let mut members = required(*of, &sample);
                    members.retain(|(other, _)| other != name);
                    members.push((name.clone(), value));
                    if i == 0 {
                        return members;
                    }
                    value = object(&members);
                }
            }
        }
        Vec::new()
    }
}

/// Whether no object that this schema describes is without a member of that name.
pub(crate) fn is_required(schema: Value<'_>, name: &str) -> bool {
    schema.get("required").and_then(Value::elements).into_iter().flatten().any(|required| required.says(name))
}

/// The members that a schema requires, each with what `sample` makes of its schema.
pub(crate) fn required(schema: Value<'_>, sample: impl Fn(Value<'_>) -> String) -> Vec<(String, String)> {
    let names = schema.get("required").and_then(Value::elements).into_iter().flatten().filter_map(Value::as_str);
    let mut members: Vec<(String, String)> = Vec::new();
    for name in names {
        if members.iter().all(|(known, _)| *known != name) {
            let member = schema.get("properties").and_then(|all| all.get(&name));
            members.push((name.into_owned(), member.map_or_else(|| quote("sample"), &sample)));
        }
    }
    members
}

/// An object as JSON text.
pub(crate) fn object(members: &[(String, String)]) -> String {
    let members: Vec<String> = members.iter().map(|(name, value)| format!("{}:{value}", quote(name))).collect();
    format!("{{{}}}", members.join(","))
}

/// Where a walk stands.
#[derive(Clone, Default)]
struct Place<'s> {
    at: String,
    path: String,
    is_required: bool,
    is_direct: bool,
    steps: Vec<Step<'s>>,
    /// How many places lie above: steps, alternatives and references.
    depth: usize,
}

struct Walk<'s> {
    root: Value<'s>,
    visits: usize,
    found: Vec<Argument<'s>>,
}

impl<'s> Walk<'s> {
    fn visit(&mut self, schema: Value<'s>, here: &Place<'s>) {
        self.visits += 1;
        if self.visits > MOST_VISITS || here.depth > DEEPEST || here.at.len() > LONGEST {
            return;
        }
        let depth = here.depth + 1;
        for member in schema.get("properties").and_then(Value::members).into_iter().flatten() {
            if paths::is_plain(&member.key) && self.found.len() < MOST {
                self.found(schema, &member, here);
            }
        }
        if let Some(items) = schema.get("items") {
            let steps = [&here.steps[..], &[Step::Each]].concat();
            let (at, path) = (format!("{}.items", here.at), format!("{}[*]", here.path));
            self.visit(items, &Place { at, path, steps, depth, ..here.clone() });
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            for (i, alternative) in schema.get(key).and_then(Value::elements).into_iter().flatten().enumerate() {
                let at = format!("{}.{key}[{i}]", here.at);
                self.visit(alternative, &Place { at, is_direct: false, is_required: false, depth, ..here.clone() });
            }
        }
        if let Some((schema, at)) = schema.get("$ref").and_then(|reference| self.referred(reference)) {
            self.visit(schema, &Place { at, is_direct: false, depth, ..here.clone() });
        }
    }

    fn found(&mut self, schema: Value<'s>, member: &json::Member<'s>, here: &Place<'s>) {
        let name = member.key.to_string();
        let dot = if here.path.is_empty() { "" } else { "." };
        let there = Place {
            at: format!("{}.properties.{name}", here.at),
            path: format!("{}{dot}{name}", here.path),
            is_required: here.is_required && is_required(schema, &name),
            is_direct: here.is_direct,
            steps: [&here.steps[..], &[Step::Member(name.clone(), schema)]].concat(),
            depth: here.depth + 1,
        };
        let Place { at, path, is_required, is_direct, steps, depth: _ } = there.clone();
        self.found.push(Argument { path, name, at, schema: member.value, is_required, is_direct, steps });
        self.visit(member.value, &there);
    }

    /// `#/$defs/NAME`, as generators of schemas write it.
    fn referred(&self, reference: Value<'s>) -> Option<(Value<'s>, String)> {
        let text = reference.as_str()?;
        let (place, name) = text.strip_prefix("#/")?.split_once('/')?;
        let known = Some(place).filter(|place| matches!(*place, "$defs" | "definitions"))?;
        Some((self.root.get(known)?.get(name)?, format!("inputSchema.{known}.{name}")))
    }
}

/// As many as are graded.
const MOST: usize = 1_000;
/// Schemas of real tools have some hundred places; references can make any number of them.
const MOST_VISITS: usize = 2_000;
/// Arguments of real tools are flatter.
const DEEPEST: usize = 16;
/// Of a place in a definition.
const LONGEST: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use json::{Document, Strictness};

    fn named(schema: &str) -> Vec<String> {
        let document = Document::parse(schema.to_owned(), Strictness::Reply).unwrap();
        let all = Argument::all(document.root());
        all.iter().map(|one| format!("{}{}", one.path, if one.is_required { "!" } else { "" })).collect()
    }

    #[test]
    fn arguments_are_found_at_every_depth() {
        let schema = r##"{"required":["request","rows"],"properties":{
            "request":{"required":["url"],"properties":{"url":{"type":"string"},"to":{"anyOf":[{"$ref":"#/$defs/To"},{"type":"null"}]}}},
            "rows":{"items":{"required":["path"],"properties":{"path":{}}}}, "odd name":{}},
            "$defs":{"To":{"required":["email"],"properties":{"email":{}}}}}"##;
        assert_eq!(named(schema), ["request!", "request.url!", "request.to", "request.to.email", "rows!", "rows[*].path!"]);
        let document = Document::parse(schema.to_owned(), Strictness::Reply).unwrap();
        let all = Argument::all(document.root());
        let at = |at: &str| all.iter().find(|argument| argument.at == at).unwrap();
        let email = at("inputSchema.$defs.To.properties.email");
        let given = |argument: &Argument<'_>| object(&argument.given("\"x\"", |_| "1".to_owned()));
        assert_eq!(given(email), r#"{"rows":1,"request":{"url":1,"to":{"email":"x"}}}"#);
        let path = at("inputSchema.properties.rows.items.properties.path");
        assert_eq!(given(path), r#"{"request":1,"rows":[{"path":"x"}]}"#);
        assert!(path.is_direct && !email.is_direct);
    }

    #[test]
    fn a_schema_that_leads_to_itself_ends() {
        let all = named(
            r##"{"$ref":"#/$defs/A","$defs":{"A":{"properties":{"a":{"$ref":"#/$defs/A"}},"anyOf":[{"$ref":"#/$defs/A"},{"$ref":"#/$defs/A"}]}}}"##,
        );
        assert!((1..=MOST).contains(&all.len()), "{}", all.len());
    }
}
