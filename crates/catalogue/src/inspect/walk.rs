//! Every string of a definition, with where it stands.

use json::{Kind, Value};
use policy::visible;
use std::borrow::Cow;
use std::ops::Range;

/// One string of what a server says.
pub(super) struct Said<'d> {
    pub text: Cow<'d, str>,
    pub spot: Spot,
    /// Keys from the definition on, with dots between them.
    pub path: String,
    pub span: Option<Range<usize>>,
}

/// What a string is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// The server's instructions, which are meant for the model.
    Instructions,
    /// The name of a tool or prompt.
    Name,
    /// A description or title of the tool.
    Description,
    /// A description of a parameter, or of something in the output.
    Parameter,
    /// The name of a parameter.
    Key,
    /// Values, defaults, examples, comments, `_meta`: prose is not expected there.
    Unread,
}

/// All strings of a definition that a model is shown, and the names of parameters.
pub(super) fn strings(definition: Value<'_>) -> Vec<Said<'_>> {
    let mut found = Vec::new();
    walk(definition, Place::Definition, &mut Vec::new(), &mut found);
    found
}

/// What the members of an object are.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// Those of the definition.
    Definition,
    /// Keywords of a schema.
    Schema,
    /// Parameters by name.
    Parameters,
    /// Anything else.
    Other,
}

/// The parser's bound is lower; this keeps the promise for any document.
const DEEPEST: usize = 128;
/// A definition of more strings is cut here, and such a definition is no definition.
const MOST_STRINGS: usize = 50_000;

/// Keywords whose strings mean something to a validator alone.
const TECHNICAL: &[&str] = &[
    "type",
    "format",
    "pattern",
    "$ref",
    "$schema",
    "$id",
    "$anchor",
    "contentMediaType",
    "contentEncoding",
    "required",
    "dependentRequired",
];

fn walk<'d>(value: Value<'d>, place: Place, path: &mut Vec<String>, found: &mut Vec<Said<'d>>) {
    if path.len() > DEEPEST || found.len() >= MOST_STRINGS {
        return;
    }
    match value.kind() {
        Kind::String => found.push(Said {
            text: value.as_str().unwrap_or_default(),
            spot: spot(place, path),
            path: path.join("."),
            span: Some(value.span()),
        }),
        Kind::Array => {
            for (i, element) in value.elements().into_iter().flatten().enumerate() {
                path.push(i.to_string());
                walk(element, place, path, found);
                path.pop();
            }
        }
        Kind::Object => {
            for member in value.members().into_iter().flatten() {
                if place == Place::Schema && TECHNICAL.contains(&&*member.key) {
                    continue;
                }
                let inner = match (place, &*member.key) {
                    (Place::Definition, "inputSchema" | "outputSchema") => Place::Schema,
                    (Place::Definition, _) => Place::Other,
                    (Place::Parameters, _) => Place::Schema,
                    (Place::Schema, "properties" | "$defs" | "definitions" | "patternProperties" | "dependentSchemas") => {
                        Place::Parameters
                    }
                    (Place::Schema, "items" | "anyOf" | "oneOf" | "allOf" | "not" | "if" | "then" | "else") => Place::Schema,
                    (Place::Schema, "additionalProperties" | "prefixItems" | "contains" | "propertyNames") => Place::Schema,
                    (Place::Schema, _) | (Place::Other, _) => Place::Other,
                };
                path.push(visible(&member.key).into_owned());
                if place == Place::Parameters {
                    let span = Some(member.key_span.clone());
                    found.push(Said { text: member.key.clone(), spot: Spot::Key, path: path.join("."), span });
                }
                walk(member.value, inner, path, found);
                path.pop();
            }
        }
        Kind::Null | Kind::Bool | Kind::Number => {}
    }
}

fn spot(place: Place, path: &[String]) -> Spot {
    match (path, path.last().map(String::as_str)) {
        ([_], Some("name")) => Spot::Name,
        ([_], Some("description" | "title")) => Spot::Description,
        ([first, _], Some("title")) if first == "annotations" => Spot::Description,
        // The arguments of prompts are a list of objects.
        ([first, _, _], Some("name")) if first == "arguments" => Spot::Key,
        ([first, _, _], Some("description" | "title")) if first == "arguments" => Spot::Parameter,
        (_, Some("description" | "title")) if place == Place::Other => Spot::Parameter,
        _ => Spot::Unread,
    }
}
