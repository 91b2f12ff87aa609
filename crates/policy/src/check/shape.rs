//! What a JSON Schema says about the value at a path, as far as it says something beyond doubt.

use crate::model::{Literal, Segment};
use serde_json::Value as Json;
use std::collections::BTreeSet;

/// What stands at a path.
pub(super) enum Found {
    /// The schema does not say.
    Open,
    /// No such member, and the schema names others.
    Unknown {
        key: String,
        known: Vec<String>,
    },
    /// A step into something that has no such steps.
    Wrong {
        what: String,
    },
    Declared(Declared),
}

pub(super) struct Declared {
    pub types: Types,
    /// The only strings that are allowed, where the schema lists them.
    pub strings: Option<BTreeSet<String>>,
    /// Whether some step may be missing.
    pub optional: bool,
}

/// A set of JSON types. Integers are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    pub const NULL: Types = Types(1);
    pub const BOOL: Types = Types(2);
    pub const NUMBER: Types = Types(4);
    pub const STRING: Types = Types(8);
    pub const ARRAY: Types = Types(16);
    pub const OBJECT: Types = Types(32);
    const NONE: Types = Types(0);
    const ALL: Types = Types(63);

    pub fn or(self, other: Types) -> Types {
        Types(self.0 | other.0)
    }

    fn and(self, other: Types) -> Types {
        Types(self.0 & other.0)
    }

    pub fn meets(self, other: Types) -> bool {
        self.0 & other.0 != 0
    }

    pub fn of(literal: &Literal) -> Types {
        match literal {
            Literal::Null => Types::NULL,
            Literal::Bool(_) => Types::BOOL,
            Literal::Number(_) => Types::NUMBER,
            Literal::String(_) => Types::STRING,
            Literal::Array(_) => Types::ARRAY,
            Literal::Object(_) => Types::OBJECT,
        }
    }

    fn of_json(value: &Json) -> Types {
        match value {
            Json::Null => Types::NULL,
            Json::Bool(_) => Types::BOOL,
            Json::Number(_) => Types::NUMBER,
            Json::String(_) => Types::STRING,
            Json::Array(_) => Types::ARRAY,
            Json::Object(_) => Types::OBJECT,
        }
    }

    fn named(name: &str) -> Types {
        match name {
            "null" => Types::NULL,
            "boolean" => Types::BOOL,
            "number" | "integer" => Types::NUMBER,
            "string" => Types::STRING,
            "array" => Types::ARRAY,
            "object" => Types::OBJECT,
            _ => Types::ALL,
        }
    }

    /// `a string or null`
    pub fn describe(self) -> String {
        let names = [
            (Types::STRING, "a string"),
            (Types::NUMBER, "a number"),
            (Types::BOOL, "a boolean"),
            (Types::ARRAY, "a list"),
            (Types::OBJECT, "an object"),
            (Types::NULL, "null"),
        ];
        let words: Vec<&str> = names.iter().filter(|(types, _)| self.meets(*types)).map(|(_, word)| *word).collect();
        if words.is_empty() { "nothing".to_owned() } else { words.join(" or ") }
    }
}

/// Follows a path into a schema.
pub(super) fn find(root: &Json, segments: &[Segment]) -> Found {
    let mut at = vec![root];
    let mut optional = false;
    for segment in segments {
        let branches: Vec<&Json> = at.iter().flat_map(|schema| branches(root, schema, 0)).collect();
        let step = match segment {
            Segment::Key(key) => member(&branches, key),
            Segment::Index(_) | Segment::All => elements(&branches),
            Segment::Length => match member(&branches, "length") {
                // A member that is really called so.
                Ok(Some((found, needed))) if !found.is_empty() => Ok(Some((found, needed))),
                _ => return length(&branches, optional),
            },
        };
        match step {
            Ok(Some((next, needed))) => {
                optional |= !needed;
                at = next;
            }
            Ok(None) => return Found::Open,
            Err(found) => return found,
        }
    }
    let branches: Vec<&Json> = at.iter().flat_map(|schema| branches(root, schema, 0)).collect();
    let types = branches.iter().fold(Types::NONE, |types, schema| types.or(types_of(schema)));
    Found::Declared(Declared { types, strings: strings(&branches), optional })
}

type Step<'s> = Result<Option<(Vec<&'s Json>, bool)>, Found>;

/// The alternatives of a schema, with references followed. Members of `allOf` count as alternatives too: each may be the one
/// that declares what is looked for.
fn branches<'s>(root: &'s Json, schema: &'s Json, depth: usize) -> Vec<&'s Json> {
    // A schema may refer to itself; past this depth nothing new comes.
    if depth > 8 {
        return vec![&Json::Bool(true)];
    }
    let Some(object) = schema.as_object() else { return vec![schema] };
    if let Some(reference) = object.get("$ref").and_then(Json::as_str) {
        return match reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer)) {
            Some(target) => branches(root, target, depth + 1),
            None => vec![&Json::Bool(true)],
        };
    }
    let mut found = Vec::new();
    for key in ["anyOf", "oneOf", "allOf"] {
        for branch in object.get(key).and_then(Json::as_array).into_iter().flatten() {
            found.extend(branches(root, branch, depth + 1));
        }
    }
    if found.is_empty() || object.contains_key("properties") || object.contains_key("type") {
        found.push(schema);
    }
    found
}

/// The types that a branch allows; all of them where it says nothing.
fn types_of(schema: &Json) -> Types {
    let Some(object) = schema.as_object() else {
        return if schema == &Json::Bool(false) { Types::NONE } else { Types::ALL };
    };
    let mut types = match object.get("type") {
        Some(Json::String(name)) => Types::named(name),
        Some(Json::Array(names)) => {
            names.iter().filter_map(Json::as_str).fold(Types::NONE, |types, name| types.or(Types::named(name)))
        }
        _ => Types::ALL,
    };
    if let Some(values) = object.get("enum").and_then(Json::as_array) {
        types = types.and(values.iter().fold(Types::NONE, |types, value| types.or(Types::of_json(value))));
    }
    if let Some(value) = object.get("const") {
        types = types.and(Types::of_json(value));
    }
    types
}

/// The only strings that the branches allow.
fn strings(branches: &[&Json]) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for schema in branches.iter().filter(|schema| types_of(schema).meets(Types::STRING)) {
        let object = schema.as_object()?;
        let values: Vec<&Json> = match (object.get("enum").and_then(Json::as_array), object.get("const")) {
            (Some(values), _) => values.iter().collect(),
            (None, Some(value)) => vec![value],
            (None, None) => return None,
        };
        all.extend(values.into_iter().filter_map(Json::as_str).map(str::to_owned));
    }
    (!all.is_empty()).then_some(all)
}

fn member<'s>(branches: &[&'s Json], key: &str) -> Step<'s> {
    let objects: Vec<&&Json> = branches.iter().filter(|schema| types_of(schema).meets(Types::OBJECT)).collect();
    if objects.is_empty() {
        return Err(Found::Wrong { what: format!("no object, so it has no `{key}`") });
    }
    let properties = |schema: &'s Json| schema.get("properties").and_then(Json::as_object);
    let declared: Vec<&Json> = objects.iter().filter_map(|schema| properties(schema)?.get(key)).collect();
    if !declared.is_empty() {
        let required = |schema: &Json| {
            schema.get("required").and_then(Json::as_array).is_some_and(|names| names.iter().any(|name| name == key))
        };
        return Ok(Some((declared, objects.iter().any(|schema| required(schema)))));
    }
    let open = |schema: &Json| match schema.get("additionalProperties") {
        Some(Json::Bool(open)) => *open,
        Some(_) => true,
        None => schema.get("patternProperties").is_some() || schema.get("properties").is_none(),
    };
    // A tool without arguments often has an empty schema, or one without `properties`: nothing is declared, nothing known.
    if objects.iter().any(|schema| open(schema)) {
        return Ok(None);
    }
    let known = objects.iter().filter_map(|schema| properties(schema)).flat_map(|map| map.keys().cloned()).collect();
    Err(Found::Unknown { key: key.to_owned(), known })
}

fn elements<'s>(branches: &[&'s Json]) -> Step<'s> {
    let arrays: Vec<&&Json> = branches.iter().filter(|schema| types_of(schema).meets(Types::ARRAY)).collect();
    if arrays.is_empty() {
        return Err(Found::Wrong { what: "no list, so it has no elements".to_owned() });
    }
    // Positions of `prefixItems` may each have a schema of their own: not judged.
    let items: Option<Vec<&Json>> =
        arrays.iter().map(|schema| schema.get("items").filter(|_| schema.get("prefixItems").is_none())).collect();
    Ok(items.map(|items| (items, true)))
}

fn length(branches: &[&Json], optional: bool) -> Found {
    let types = branches.iter().fold(Types::NONE, |types, schema| types.or(types_of(schema)));
    if types.meets(Types::STRING.or(Types::ARRAY).or(Types::OBJECT)) {
        Found::Declared(Declared { types: Types::NUMBER, strings: None, optional })
    } else {
        Found::Wrong { what: format!("{} has no length", types.describe()) }
    }
}
