//! Arguments against the tool's own schema (`validate:`).
//!
//! The schema comes from the server, so it is judged with suspicion: nothing is fetched for it, patterns run on a
//! linear-time engine with a size limit, and what cannot be judged exactly denies, instead of being guessed.
//!
//! **Numbers.** The validator computes with `i64`, `u64` and `f64`. A number is handed over as an integer when it is one and
//! fits, whatever its spelling (`1.0`, `10e-1`), else as the nearest double; and it is called *faithful* when that double's
//! shortest text reads back as the very same decimal. Rounding keeps order, and no two faithful numbers share a double, so
//! between faithful numbers every comparison is exact. A number that is not faithful denies the call where the schema compares
//! numbers at all; in a bound it makes the schema unfit to judge by.
//!
//! **Effort.** The validator forgets what it has judged, so alternatives within alternatives multiply. What would be too much
//! is found beforehand: for one value by [`weight`], for the arguments as a whole by [`Effort`].

use crate::applicators::{REFERENCES, by_position, element_schema, in_place, resolve};
use crate::effort::Effort;
use crate::model::Validate;
use json::{Decimal, Kind, Value};
use jsonschema::paths::LocationSegment;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value as Json;
use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

/// A tool's `inputSchema`, ready to judge arguments.
///
/// The draft is the one that `$schema` names, else 2020-12. Making one is cheap; it is compiled when first needed.
pub struct ToolSchema {
    /// Or why it cannot be judged by.
    schema: Result<Json, String>,
    validator: OnceLock<Result<Validator, String>>,
    /// Whether some keyword compares numbers.
    compares_numbers: bool,
    /// Whether `multipleOf` occurs, for which the validator rounds integers beyond 2^53.
    divides: bool,
}

/// Why arguments are refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The schema cannot be judged by.
    Schema(String),
    /// The arguments do not satisfy it: a sentence about them.
    Arguments(String),
}

impl ToolSchema {
    /// Reads an `inputSchema`. One that cannot be judged by is kept all the same, and denies every call that needs it.
    pub fn new(input_schema: Value<'_>) -> ToolSchema {
        let mut converted = Converted::default();
        let schema = match converted.json(input_schema) {
            Some(schema) if schema.is_object() || schema.is_boolean() => match (converted.faithful, unfit_reference(&schema)) {
                (false, _) => Err("the schema holds a number that is too long to compare exactly".to_owned()),
                (true, Some(reason)) => Err(reason),
                (true, None) => Ok(schema),
            },
            Some(_) => Err("the schema is no JSON object".to_owned()),
            None => Err("the schema has the same key twice in one object".to_owned()),
        };
        let mentions = |words: &[&str]| schema.as_ref().is_ok_and(|schema| mentions(schema, words));
        let compares_numbers = mentions(COMPARISONS);
        let divides = mentions(&["multipleOf"]);
        ToolSchema { validator: OnceLock::new(), compares_numbers, divides, schema }
    }

    /// The schema; numbers in it are integers where they are whole. `None` when it cannot be judged by.
    pub fn json(&self) -> Option<&Json> {
        self.schema.as_ref().ok()
    }

    /// Why the schema cannot be judged by (a reference to another document, a pattern that needs backtracking), if it cannot.
    pub fn problem(&self) -> Option<&str> {
        self.validator().err()
    }

    /// Judges arguments; absent ones are `{}`.
    pub(crate) fn judge(&self, demands: Validate, arguments: Option<Value<'_>>) -> Result<(), Refusal> {
        let schema = self.schema.as_ref().map_err(|reason| Refusal::Schema(reason.clone()))?;
        let root = Applying::new(schema, schema);
        let given = |name: &str| arguments.is_some_and(|arguments| arguments.get(name).is_some());
        if demands.required_args {
            let missing: Vec<String> =
                root.required().into_iter().filter(|name| !given(name)).map(|name| format!("`{}`", shown(name))).collect();
            if let [one] = missing.as_slice() {
                return Err(Refusal::Arguments(format!("The argument {one} is required.")));
            } else if !missing.is_empty() {
                return Err(Refusal::Arguments(format!("The arguments {} are required.", missing.join(", "))));
            }
        }
        if demands.deny_unknown
            && let Some(arguments) = arguments
        {
            root.refuse_unknown(arguments, "args", true)?;
        }
        if demands.types {
            self.check_types(arguments)?;
        }
        Ok(())
    }

    fn check_types(&self, arguments: Option<Value<'_>>) -> Result<(), Refusal> {
        let validator = self.validator().map_err(|reason| Refusal::Schema(reason.to_owned()))?;
        let mut converted = Converted::default();
        let instance = match arguments {
            Some(arguments) => converted
                .json(arguments)
                .ok_or_else(|| Refusal::Arguments("The arguments have the same key twice in one object.".to_owned()))?,
            None => Json::Object(serde_json::Map::new()),
        };
        if (self.compares_numbers && !converted.faithful) || (self.divides && converted.beyond_doubles) {
            let message = "The arguments hold a number with too many digits to compare it exactly; use fewer digits.";
            return Err(Refusal::Arguments(message.to_owned()));
        }
        let schema = self.schema.as_ref().map_err(|reason| Refusal::Schema(reason.clone()))?;
        let Some(effort) = Effort::estimate(schema, &instance) else {
            let message = "The arguments are too large or too deeply nested to be checked against the tool's schema; \
                           send fewer or simpler ones.";
            return Err(Refusal::Arguments(message.to_owned()));
        };
        if validator.is_valid(&instance) {
            return Ok(());
        }
        let message = "The arguments do not satisfy the tool's schema, which has too many alternatives to say where.";
        let explained = if effort.is_explicable() { validator.validate(&instance) } else { Ok(()) };
        Err(Refusal::Arguments(explained.err().map_or_else(|| message.to_owned(), |error| explanation(error))))
    }

    fn validator(&self) -> Result<&Validator, &str> {
        let compile = || {
            let schema = self.schema.as_ref().map_err(Clone::clone)?;
            jsonschema::options()
                .offline()
                .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES))
                .build(schema)
                .map_err(|error| format!("the schema cannot be compiled: {}", shown(&error.to_string())))
        };
        self.validator.get_or_init(compile).as_ref().map_err(String::as_str)
    }
}

impl std::fmt::Debug for ToolSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Ok(schema) => write!(f, "ToolSchema({schema})"),
            Err(reason) => write!(f, "ToolSchema({reason})"),
        }
    }
}

/// What is wrong, and where, as a sentence.
fn explanation(error: ValidationError<'_>) -> String {
    let mut path = "args".to_owned();
    for segment in error.instance_path().iter() {
        match segment {
            LocationSegment::Property(key) => path.push_str(&format!(".{}", shown(&key))),
            LocationSegment::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    // Masked: a message is recorded even where arguments are not.
    let message = error.masked_with(format!("`{path}`")).to_string();
    let at = if message.contains(&path) { String::new() } else { format!(" (at `{path}`)") };
    format!("{}{at}.", shown(&message))
}

/// The schemas that apply to one place of the arguments: one, and what it refers to and combines.
struct Applying<'s> {
    root: &'s Json,
    schemas: Vec<&'s Json>,
    /// Those already in `schemas`.
    seen: HashSet<*const Json>,
}

impl<'s> Applying<'s> {
    fn new(root: &'s Json, schema: &'s Json) -> Applying<'s> {
        let mut applying = Applying::nothing(root);
        applying.add(schema, true);
        applying
    }

    fn nothing(root: &'s Json) -> Applying<'s> {
        Applying { root, schemas: Vec::new(), seen: HashSet::new() }
    }

    /// Adds a schema; with `all`, also those of which only some apply.
    fn add(&mut self, schema: &'s Json, all: bool) {
        if !self.seen.insert(schema) {
            return;
        }
        self.schemas.push(schema);
        for target in REFERENCES.iter().filter_map(|keyword| resolve(self.root, schema.get(*keyword)?.as_str()?)) {
            self.add(target, all);
        }
        for schema in schema.get("allOf").and_then(Json::as_array).into_iter().flatten() {
            self.add(schema, all);
        }
        if !all {
            return;
        }
        for schema in ["anyOf", "oneOf"].iter().filter_map(|keyword| schema.get(*keyword)?.as_array()).flatten() {
            self.add(schema, all);
        }
        for schema in ["if", "then", "else"].iter().filter_map(|keyword| schema.get(*keyword)) {
            self.add(schema, all);
        }
        for schema in schema.get("dependentSchemas").and_then(Json::as_object).into_iter().flatten().map(|(_, schema)| schema) {
            self.add(schema, all);
        }
    }

    /// The names that must be given, whichever alternative is chosen.
    fn required(&self) -> Vec<&'s str> {
        let mut certain = Applying::nothing(self.root);
        if let Some(schema) = self.schemas.first() {
            certain.add(schema, false);
        }
        let names =
            certain.schemas.iter().filter_map(|schema| schema.get("required")?.as_array()).flatten().filter_map(Json::as_str);
        let mut required: Vec<&str> = Vec::new();
        for name in names {
            if !required.contains(&name) {
                required.push(name);
            }
        }
        required
    }

    /// Refuses members that no `properties` declares: of the arguments themselves, and of every object within for which some
    /// schema declares any. `patternProperties` and `additionalProperties` declare no names.
    fn refuse_unknown(&self, value: Value<'_>, path: &str, outermost: bool) -> Result<(), Refusal> {
        if let Some(members) = value.members() {
            let declared: Vec<_> = self.schemas.iter().filter_map(|schema| schema.get("properties")?.as_object()).collect();
            for member in members {
                let path = format!("{path}.{}", shown(&member.key));
                let mut schemas: Vec<&Json> =
                    declared.iter().filter_map(|properties| properties.get(member.key.as_ref())).collect();
                if schemas.is_empty() && (outermost || !declared.is_empty()) {
                    return Err(Refusal::Arguments(format!("The tool declares no argument `{path}`; leave it out.")));
                }
                if schemas.is_empty() {
                    schemas = self.schemas.iter().filter_map(|schema| schema.get("additionalProperties")).collect();
                }
                self.within(&schemas).refuse_unknown(member.value, &path, false)?;
            }
        }
        let positions = self.schemas.iter().filter_map(|schema| by_position(schema)).map(Vec::len).max().unwrap_or(0);
        let elements_at = |index: usize| {
            let schemas: Vec<&Json> = self.schemas.iter().filter_map(|schema| element_schema(schema, index)).collect();
            self.within(&schemas)
        };
        let others = elements_at(positions);
        for (index, element) in value.elements().into_iter().flatten().enumerate() {
            let path = format!("{path}[{index}]");
            match index < positions {
                true => elements_at(index).refuse_unknown(element, &path, false)?,
                false => others.refuse_unknown(element, &path, false)?,
            }
        }
        Ok(())
    }

    fn within(&self, schemas: &[&'s Json]) -> Applying<'s> {
        let mut applying = Applying::nothing(self.root);
        for schema in schemas {
            applying.add(schema, true);
        }
        applying
    }
}

/// Why the schema's references make it unfit, if they do: one leads out of the document or nowhere; or what applies to one
/// value does not end, or is so much that a validator would not come to an end in our time.
fn unfit_reference(root: &Json) -> Option<String> {
    fn walk<'s>(root: &'s Json, schema: &'s Json, weights: &mut HashMap<*const Json, Option<u64>>) -> Option<String> {
        match schema {
            Json::Object(members) => {
                for reference in REFERENCES.iter().filter_map(|keyword| members.get(*keyword)?.as_str()) {
                    if !reference.starts_with('#') {
                        return Some(format!("the schema refers to another document, `{}`", shown(reference)));
                    }
                    if resolve(root, reference).is_none() {
                        return Some(format!("the schema refers to `{}`, which is no place in it", shown(reference)));
                    }
                }
                if !std::ptr::eq(root, schema) && members.get("$id").is_some_and(Json::is_string) {
                    return Some("the schema holds another document, with an `$id` of its own".to_owned());
                }
                match weight(root, schema, weights, 0) {
                    None => Some("the schema refers to itself without an end".to_owned()),
                    Some(weight) if weight > HEAVIEST => Some("the schema combines too many schemas for one value".to_owned()),
                    Some(_) => members.values().find_map(|member| walk(root, member, weights)),
                }
            }
            Json::Array(elements) => elements.iter().find_map(|element| walk(root, element, weights)),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => None,
        }
    }
    walk(root, root, &mut HashMap::new())
}

/// How many schemas are applied to a value by applying this one, counting each as often as it is reached; `None` when there
/// is no end to it, or the chain is too long to follow. A schema is `None` in `weights` while it is being weighed.
fn weight<'s>(root: &'s Json, schema: &'s Json, weights: &mut HashMap<*const Json, Option<u64>>, depth: usize) -> Option<u64> {
    if let Some(known) = weights.get(&std::ptr::from_ref(schema)) {
        return *known;
    }
    if depth > 200 {
        return None;
    }
    weights.insert(schema, None);
    let mut sum = 1_u64;
    for part in in_place(root, schema) {
        sum = sum.saturating_add(weight(root, part, weights, depth + 1)?);
    }
    weights.insert(schema, Some(sum));
    Some(sum)
}

/// Converting the exact value into the validator's, and whether that lost anything.
struct Converted {
    faithful: bool,
    /// Whether there is an integer beyond ±2^53.
    beyond_doubles: bool,
}

impl Default for Converted {
    fn default() -> Converted {
        Converted { faithful: true, beyond_doubles: false }
    }
}

impl Converted {
    /// `None` when an object has a key twice.
    fn json(&mut self, value: Value<'_>) -> Option<Json> {
        Some(match value.kind() {
            Kind::Null => Json::Null,
            Kind::Bool => Json::Bool(value.as_bool()?),
            Kind::String => Json::String(value.as_str()?.into_owned()),
            Kind::Number => self.number(value),
            Kind::Array => Json::Array(value.elements()?.map(|element| self.json(element)).collect::<Option<_>>()?),
            Kind::Object => {
                let mut members = serde_json::Map::new();
                for member in value.members()? {
                    if members.insert(member.key.into_owned(), self.json(member.value)?).is_some() {
                        return None;
                    }
                }
                Json::Object(members)
            }
        })
    }

    fn number(&mut self, value: Value<'_>) -> Json {
        let number = value.as_decimal();
        if let Some(integer) = number.as_ref().and_then(|number| number.scaled(0)) {
            self.beyond_doubles |= integer.unsigned_abs() > 1 << 53;
            if let Ok(integer) = i64::try_from(integer) {
                return Json::from(integer);
            }
            if let Ok(integer) = u64::try_from(integer) {
                return Json::from(integer);
            }
        }
        let double: f64 = value.raw().parse().unwrap_or(f64::INFINITY);
        self.beyond_doubles |= double.abs() > 9_007_199_254_740_992.0;
        // `{:e}` is the shortest text that reads back as this double, in JSON's grammar.
        self.faithful &= double.is_finite() && number.is_some() && Decimal::parse(&format!("{double:e}")) == number;
        serde_json::Number::from_f64(double).map_or(Json::Null, Json::Number)
    }
}

/// Whether one of the words is a key somewhere in the schema. As a property's name too: then it only makes us stricter.
fn mentions(schema: &Json, words: &[&str]) -> bool {
    match schema {
        Json::Object(members) => members
            .iter()
            .any(|(key, member)| words.contains(&key.as_str()) || is_integer_type(key, member) || mentions(member, words)),
        Json::Array(elements) => elements.iter().any(|element| mentions(element, words)),
        _ => false,
    }
}

/// `"type": "integer"`, also in a list.
fn is_integer_type(key: &str, member: &Json) -> bool {
    let integer = |value: &Json| value.as_str() == Some("integer");
    key == "type" && (integer(member) || member.as_array().is_some_and(|types| types.iter().any(integer)))
}

/// On one line, without control characters, at most 300 characters: it comes from a server or a model.
fn shown(text: &str) -> String {
    let mut out: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    if text.chars().nth(300).is_some() {
        out.push('…');
    }
    out
}

/// The keywords that compare numbers, besides `"type": "integer"`, which asks whether one is whole.
const COMPARISONS: &[&str] =
    &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "enum", "const", "uniqueItems", "divisibleBy"];

/// How many schemas may apply to one value. Alternatives of alternatives multiply; real schemas stay below a hundred.
const HEAVIEST: u64 = 10_000;

/// What one pattern may take when compiled: the regex crate's own default would be 10 MiB for each of hundreds of tools.
const PATTERN_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use json::{Document, Strictness};

    const ALL: Validate = Validate { required_args: true, types: true, deny_unknown: true };
    const TYPES: Validate = Validate { required_args: false, types: true, deny_unknown: false };
    const REQUIRED: Validate = Validate { required_args: true, types: false, deny_unknown: false };
    const KNOWN: Validate = Validate { required_args: false, types: false, deny_unknown: true };

    fn schema(text: &str) -> ToolSchema {
        ToolSchema::new(Document::parse(text.to_owned(), Strictness::Reply).unwrap().root())
    }

    fn judge(schema: &ToolSchema, demands: Validate, arguments: &str) -> Result<(), Refusal> {
        schema.judge(demands, Some(Document::parse(arguments.to_owned(), Strictness::Request).unwrap().root()))
    }

    #[track_caller]
    fn check(demands: Validate, text: &str, passes: &[&str], refused: &[(&str, &str)]) {
        let schema = schema(text);
        for arguments in passes {
            assert_eq!(judge(&schema, demands, arguments), Ok(()), "{arguments}");
        }
        for (arguments, message) in refused {
            assert_eq!(judge(&schema, demands, arguments), Err(Refusal::Arguments((*message).to_owned())), "{arguments}");
        }
    }

    #[track_caller]
    fn check_unfit(text: &str) {
        let schema = schema(text);
        assert!(matches!(judge(&schema, TYPES, "{}"), Err(Refusal::Schema(_))), "{text}: {:?}", judge(&schema, TYPES, "{}"));
        assert!(schema.problem().is_some());
    }

    #[test]
    fn required_arguments_must_be_there() {
        let text = r#"{"type":"object","required":["a","b"],"properties":{"a":{},"b":{}}}"#;
        check(
            REQUIRED,
            text,
            &[r#"{"a":1,"b":null}"#, r#"{"a":1,"b":2,"c":3}"#],
            &[("{}", "The arguments `a`, `b` are required."), (r#"{"a":1,"B":2}"#, "The argument `b` is required.")],
        );
        assert!(schema(text).judge(REQUIRED, None).is_err());
        let combined = r##"{"$ref":"#/$defs/x","allOf":[{"required":["b"]}],"anyOf":[{"required":["c"]}],"$defs":{"x":{"required":["a"]}}}"##;
        check(REQUIRED, combined, &[r#"{"a":1,"b":2}"#], &[("{}", "The arguments `a`, `b` are required.")]);
    }

    #[test]
    fn types_are_the_whole_schema() {
        let text =
            r#"{"properties":{"n":{"type":"integer","maximum":10},"list":{"items":{"type":"string","pattern":"^[a-z]+$"}}}}"#;
        check(
            TYPES,
            text,
            &["{}", r#"{"n":10}"#, r#"{"n":1.0}"#, r#"{"n":10e-1}"#, r#"{"list":["a"],"other":1}"#],
            &[
                (r#"{"n":"secret"}"#, "`args.n` is not of type \"integer\"."),
                (r#"{"n":11}"#, "`args.n` is greater than the maximum of 10."),
                (r#"{"n":1.5}"#, "`args.n` is not of type \"integer\"."),
                (r#"{"list":["a","B"]}"#, "`args.list[1]` does not match \"^[a-z]+$\"."),
            ],
        );
        check(TYPES, r#"{"required":["a"]}"#, &[], &[("{}", "\"a\" is a required property (at `args`).")]);
    }

    #[test]
    fn the_draft_is_what_the_schema_says() {
        let text = |draft: &str| format!(r#"{{"$schema":"{draft}","properties":{{"a":{{"items":[{{"type":"string"}}]}}}}}}"#);
        let old = schema(&text("http://json-schema.org/draft-07/schema#"));
        assert!(matches!(judge(&old, TYPES, r#"{"a":[1]}"#), Err(Refusal::Arguments(_))));
        check_unfit(&text("https://example.com/my-own-draft"));
        check(
            TYPES,
            r#"{"properties":{"a":{"prefixItems":[{"type":"null"}]}}}"#,
            &[r#"{"a":[null]}"#],
            &[(r#"{"a":[1]}"#, "`args.a[0]` is not of type \"null\".")],
        );
    }

    #[test]
    fn undeclared_arguments_are_refused_even_where_the_schema_allows_them() {
        let text = r#"{"properties":{"a":{"properties":{"b":{}}},"free":{"type":"object"},"map":{"additionalProperties":{"properties":{"k":{}}}},
            "list":{"items":{"properties":{"c":{}}}}},"additionalProperties":true}"#;
        let passes = [
            r#"{"a":{"b":{"x":1}}}"#,
            r#"{"free":{"anything":{"at":"all"}}}"#,
            r#"{"map":{"any":{"k":1}}}"#,
            r#"{"list":[{"c":1}]}"#,
        ];
        check(
            KNOWN,
            text,
            &passes,
            &[
                (r#"{"x":1}"#, "The tool declares no argument `args.x`; leave it out."),
                (r#"{"A":{}}"#, "The tool declares no argument `args.A`; leave it out."),
                (r#"{"a":{"b":1,"x":1}}"#, "The tool declares no argument `args.a.x`; leave it out."),
                (r#"{"map":{"any":{"x":1}}}"#, "The tool declares no argument `args.map.any.x`; leave it out."),
                (r#"{"list":[{"c":1},{"x":1}]}"#, "The tool declares no argument `args.list[1].x`; leave it out."),
            ],
        );
        check(KNOWN, r#"{"type":"object"}"#, &["{}"], &[(r#"{"x":1}"#, "The tool declares no argument `args.x`; leave it out.")]);
    }

    #[test]
    fn declarations_are_found_through_references_and_alternatives() {
        let text = r##"{"allOf":[{"properties":{"a":{}}}],"oneOf":[{"properties":{"b":{}}},{"$ref":"#/$defs/more%20still"}],"then":{"properties":{"d":{}}},
            "$defs":{"more still":{"properties":{"c":{"$ref":"#/$defs/node"}}},"node":{"properties":{"next":{"$ref":"#/$defs/node"}}}}}"##;
        check(
            KNOWN,
            text,
            &[r#"{"a":1,"b":1,"c":{"next":{"next":{}}},"d":1}"#],
            &[(r#"{"c":{"next":{"x":1}}}"#, "The tool declares no argument `args.c.next.x`; leave it out.")],
        );
    }

    #[test]
    fn numbers_are_compared_exactly_or_not_at_all() {
        let bounded = schema(r#"{"properties":{"n":{"maximum":9007199254740992}}}"#);
        assert_eq!(judge(&bounded, TYPES, r#"{"n":9007199254740992.0}"#), Ok(()));
        for refused in ["9007199254740993", "9007199254740992.1", "123456789012345678901234567890", "9007199254740992.0000000001"]
        {
            assert!(judge(&bounded, TYPES, &format!(r#"{{"n":{refused}}}"#)).is_err(), "{refused}");
        }
        let tenth = schema(r#"{"properties":{"n":{"maximum":0.1}}}"#);
        assert_eq!(judge(&tenth, TYPES, r#"{"n":0.1}"#), Ok(()));
        assert!(judge(&tenth, TYPES, r#"{"n":0.10000000000000000001}"#).is_err());
        assert!(judge(&tenth, TYPES, r#"{"n":0.10000000000000002}"#).is_err());
        let tenths = schema(r#"{"properties":{"n":{"multipleOf":3}}}"#);
        assert_eq!(judge(&tenths, TYPES, r#"{"n":9}"#), Ok(()));
        assert!(judge(&tenths, TYPES, r#"{"n":9007199254740995}"#).is_err());
        // Nothing is compared here, so nothing is lost that matters.
        let free = schema(r#"{"properties":{"n":{"type":"number"}}}"#);
        assert_eq!(judge(&free, TYPES, r#"{"n":0.10000000000000000001}"#), Ok(()));
        check_unfit(r#"{"properties":{"n":{"maximum":0.10000000000000000001}}}"#);
    }

    #[test]
    fn a_schema_that_cannot_be_judged_by_denies() {
        for text in [
            r#"{"$ref":"http://example.com/schema.json"}"#,
            r#"{"properties":{"a":{"$ref":"file:///etc/passwd"}}}"#,
            r##"{"properties":{"a":{"$ref":"#/$defs/nowhere"}}}"##,
            r#"{"properties":{"a":{"pattern":"(?=x)y"}}}"#,
            r#"{"properties":{"a":{"pattern":"(a{1000}){1000}"}}}"#,
            r##"{"$ref":"#"}"##,
            r##"{"anyOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"}]},"b":{"not":{"$ref":"#/$defs/a"}}}}"##,
            r##"{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##,
            r##"{"properties":{"a":{"$id":"https://example.com/","$ref":"#/$defs/a"}},"$defs":{"a":{}}}"##,
            r#"{"type":"object","type":"string"}"#,
            r#""object""#,
            r#"{"type":"objekt"}"#,
        ] {
            check_unfit(text);
        }
    }

    #[test]
    fn alternatives_that_multiply_are_refused_before_they_are_tried() {
        let levels: Vec<String> = (0..40)
            .map(|n| format!(r##""d{n}":{{"anyOf":[{{"$ref":"#/$defs/d{m}"}},{{"$ref":"#/$defs/d{m}"}}]}}"##, m = n + 1))
            .collect();
        check_unfit(&format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{},"d40":{{"type":"null"}}}}}}"##, levels.join(",")));
    }

    #[test]
    fn catastrophic_patterns_and_deep_recursion_cost_nothing_much() {
        let pattern = schema(r#"{"properties":{"a":{"pattern":"^(a+)+$"}}}"#);
        let attack = format!(r#"{{"a":"{}!"}}"#, "a".repeat(100_000));
        assert!(judge(&pattern, TYPES, &attack).is_err());
        let tree = schema(r##"{"properties":{"child":{"$ref":"#"}}}"##);
        let deep = format!("{}{{}}{}", r#"{"child":"#.repeat(120), "}".repeat(120));
        assert_eq!(judge(&tree, ALL, &deep), Ok(()));
    }
}
