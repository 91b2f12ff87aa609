//! What a schema is made of: which schemas it applies to which value.
//!
//! Shared by those who judge by schemas and those who ask what that would cost.

use serde_json::Value as Json;

/// The schemas of which this one asks whether the same value satisfies them.
pub(crate) fn combined(schema: &Json) -> impl Iterator<Item = &Json> {
    ["allOf", "anyOf", "oneOf"].iter().filter_map(|keyword| schema.get(*keyword)?.as_array()).flatten().chain(schema.get("if"))
}

/// The schemas that apply to the same value when something else holds.
pub(crate) fn depending(schema: &Json) -> impl Iterator<Item = &Json> {
    let dependent = ["dependentSchemas", "dependencies"].iter().filter_map(|keyword| schema.get(*keyword)?.as_object());
    let branches = ["then", "else"].iter().filter_map(|keyword| schema.get(*keyword));
    branches.chain(dependent.flat_map(|members| members.values()))
}

/// The schema of an array's element: by position, else of all others.
pub(crate) fn element_schema(schema: &Json, index: usize) -> Option<&Json> {
    by_position(schema)
        .and_then(|schemas| schemas.get(index))
        .or_else(|| schema.get("items").filter(|items| items.is_object()))
        .or_else(|| schema.get("additionalItems"))
}

/// All schemas that applying this one applies to the same value.
pub(crate) fn in_place<'s>(root: &'s Json, schema: &'s Json) -> Vec<&'s Json> {
    let mut parts = Vec::new();
    // One pass over what is there: most schemas have few keywords, and none of these.
    for (keyword, part) in schema.as_object().into_iter().flatten() {
        match (keyword.as_str(), part) {
            ("$ref" | "$dynamicRef" | "$recursiveRef", Json::String(reference)) => parts.extend(resolve(root, reference)),
            ("allOf" | "anyOf" | "oneOf", Json::Array(list)) => parts.extend(list),
            ("dependentSchemas" | "dependencies", Json::Object(members)) => parts.extend(members.values()),
            ("not" | "if" | "then" | "else", part) => parts.push(part),
            _ => {}
        }
    }
    parts
}

/// What a schema refers to.
pub(crate) fn referenced<'s>(root: &'s Json, schema: &'s Json) -> impl Iterator<Item = &'s Json> {
    REFERENCES.iter().filter_map(|keyword| resolve(root, schema.get(*keyword)?.as_str()?))
}

/// The schemas of an array's first elements: `prefixItems`; an array of `items` in old drafts.
pub(crate) fn by_position(schema: &Json) -> Option<&Vec<Json>> {
    ["prefixItems", "items"].iter().find_map(|keyword| schema.get(*keyword)?.as_array())
}

/// What a reference within the document points at: `#`, `#/$defs/x`. Anchors are not followed.
pub(crate) fn resolve<'s>(root: &'s Json, reference: &str) -> Option<&'s Json> {
    root.pointer(&percent_decoded(reference.strip_prefix('#')?)?)
}

pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

pub(crate) const REFERENCES: &[&str] = &["$ref", "$dynamicRef", "$recursiveRef"];
