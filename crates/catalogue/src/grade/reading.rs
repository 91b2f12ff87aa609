//! A definition as the rules look at it.
//!
//! The input schema is walked as it stands, through properties, items, alternatives and definitions, and every parameter
//! comes out with its path; what a `$ref` leads to is found where it is defined. Depth and number are bounded, since the
//! text is a server's.

use super::words::{self, Sentence};
use json::{Kind, Value};

/// One tool's definition, cut into words.
pub(super) struct Reading {
    pub name: String,
    /// The words of the server's name.
    pub server: Vec<String>,
    /// What the definition and its annotations call the tool for people, where that is not its name again.
    pub titles: Vec<String>,
    pub sentences: Vec<Sentence>,
    pub parameters: Vec<Parameter>,
    /// What results are said to hold, at any depth.
    pub outputs: Vec<Parameter>,
    /// Whether there is more than was read.
    pub is_cut: bool,
    /// How many properties the input schema has at its top.
    pub top_level: usize,
    pub hints: Hints,
    said: Said,
}

/// Which words a description may have: most phrases that are looked for have one that is nowhere in it, and need no search.
struct Said([u64; 32]);

impl Said {
    fn of(sentences: &[Sentence]) -> Said {
        let mut said = Said([0; 32]);
        for word in sentences.iter().flat_map(|sentence| &sentence.words) {
            let (at, bit) = Said::place(word);
            said.0[at] |= bit;
        }
        said
    }

    fn may_have(&self, phrase: &str) -> bool {
        phrase.split(' ').all(|word| {
            let (at, bit) = Said::place(word);
            self.0[at] & bit != 0
        })
    }

    /// FNV-1a, since words are short.
    fn place(word: &str) -> (usize, u64) {
        let hash =
            word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        ((hash >> 6) as usize % 32, 1 << (hash % 64))
    }
}

/// What the annotations say; nothing where they do not.
#[derive(Default)]
pub(super) struct Hints {
    pub read_only: Option<bool>,
    pub destructive: Option<bool>,
}

/// One parameter, at any depth.
pub(super) struct Parameter {
    /// Where it is in the definition: `inputSchema.properties.filter.properties.path`.
    pub path: String,
    pub name: String,
    pub words: Vec<String>,
    pub description: String,
    /// The words of its description.
    pub said: Vec<String>,
    /// The strings that it may be, where they are listed.
    pub values: Vec<String>,
    /// Its type, as far as it is one.
    pub kind: &'static str,
    /// What the items of a list are.
    pub items: &'static str,
    /// Whether it may be a list, among other things.
    pub may_list: bool,
    /// 0 at the top of the schema.
    pub depth: usize,
}

impl Parameter {
    /// Whether its name consists of exactly these words.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.words.iter().map(String::as_str).eq(name.split(' '))
    }

    /// Whether its name is one of these.
    pub(super) fn is_one_of(&self, names: &str) -> bool {
        words::phrases(names).any(|name| self.is_named(name))
    }

    /// Whether its name ends in one of these words.
    pub(super) fn ends_in(&self, nouns: &str) -> bool {
        self.words.last().is_some_and(|last| words::is_one(last, nouns) || words::is_one(&words::singular(last), nouns))
    }

    /// Whether its name has one of these words.
    pub(super) fn mentions(&self, nouns: &str) -> bool {
        self.words.iter().any(|word| words::is_one(word, nouns))
    }

    /// Whether a path in a policy can name it as it is.
    pub(super) fn is_plain(&self) -> bool {
        crate::paths::is_plain(&self.name)
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.kind, "string" | "")
    }
}

impl Reading {
    /// Reads one element of a list of tools.
    pub(super) fn of(definition: Value<'_>, server: &str) -> Reading {
        let text = |value: Option<Value<'_>>| value.and_then(Value::as_str).map(|text| text.into_owned()).unwrap_or_default();
        let annotations = definition.get("annotations");
        let hint = |name: &str| annotations.and_then(|all| all.get(name)?.as_bool());
        let description = text(definition.get("description"));
        let name = text(definition.get("name"));
        let mut titles = vec![text(definition.get("title")), text(annotations.and_then(|all| all.get("title")))];
        titles.retain(|title| !title.is_empty() && words::of_name(title) != words::of_name(&name));
        titles.dedup();
        let schema = definition.get("inputSchema");
        let parameters_of = |schema: Option<Value<'_>>, path: &str| {
            let mut walk = Walk { found: Vec::new(), is_cut: false };
            schema.into_iter().for_each(|schema| walk.through(schema, path, 0));
            (walk.found, walk.is_cut)
        };
        let (mut parameters, is_cut) = parameters_of(schema, "inputSchema");
        let (outputs, _) = parameters_of(definition.get("outputSchema"), "outputSchema");
        for parameter in parameters.iter_mut().filter(|parameter| parameter.depth == 0 && parameter.description.is_empty()) {
            if let Some(said) = said_in_text(&description, &parameter.name) {
                parameter.said = words::of_text(said);
                parameter.description = said.to_owned();
            }
        }
        let sentences = words::sentences(&description);
        Reading {
            said: Said::of(&sentences),
            name,
            server: words::of_name(server),
            is_cut: is_cut || words::are_cut(&sentences),
            sentences,
            titles,
            parameters,
            outputs,
            top_level: schema.and_then(|schema| schema.get("properties")?.members()).map_or(0, Iterator::count),
            hints: Hints { read_only: hint("readOnlyHint"), destructive: hint("destructiveHint") },
        }
    }

    /// Those of these phrases whose words are all in the description.
    pub(super) fn possible<'p>(&self, phrases: &'p str) -> Vec<&'p str> {
        words::phrases(phrases).filter(|phrase| self.said.may_have(phrase)).collect()
    }

    /// The first sentence with one of these phrases.
    pub(super) fn says_any(&self, phrases: &str) -> Option<&Sentence> {
        let possible: Vec<&str> = self.possible(phrases);
        self.sentences.iter().find(|sentence| possible.iter().any(|phrase| sentence.has(phrase)))
    }
}

/// What a text says of an argument on a line of its own, as under `Args:` in a Python function's: `path: where to write`,
/// `- path (str): where to write`.
fn said_in_text<'t>(description: &'t str, name: &str) -> Option<&'t str> {
    description.lines().skip(1).take(MOST_LINES).find_map(|line| {
        let rest = line.trim_start_matches([' ', '\t', '-', '*', '•', '`', '"']).strip_prefix(name)?;
        let rest = rest.trim_start_matches(['`', '"', '*', ' ']);
        let rest = if rest.starts_with('(') { rest.split_once(')')?.1.trim_start() } else { rest };
        rest.strip_prefix([':', '-', '–']).map(str::trim).filter(|said| !said.is_empty())
    })
}

/// A walk through a schema, as it stands.
struct Walk {
    found: Vec<Parameter>,
    /// Whether it has turned back.
    is_cut: bool,
}

impl Walk {
    fn through(&mut self, schema: Value<'_>, path: &str, depth: usize) {
        if path.split('.').count() > DEEPEST {
            self.is_cut = true;
            return;
        }
        for member in schema.get("properties").and_then(Value::members).into_iter().flatten() {
            if self.found.len() >= MOST_PARAMETERS {
                self.is_cut = true;
                return;
            }
            let path = format!("{path}.properties.{}", member.key);
            let parameter = parameter(&member.key, member.value, &path, depth);
            self.is_cut |= parameter.values.len() >= MOST_VALUES || words::are_cut_short(&parameter.said);
            self.found.push(parameter);
            self.through(member.value, &path, depth + 1);
        }
        for key in ["items", "additionalProperties", "if", "then", "else"] {
            if let Some(part) = schema.get(key) {
                self.through(part, &format!("{path}.{key}"), depth);
            }
        }
        for key in ["anyOf", "oneOf", "allOf", "prefixItems"] {
            for (i, alternative) in schema.get(key).and_then(Value::elements).into_iter().flatten().enumerate() {
                self.through(alternative, &format!("{path}.{key}[{i}]"), depth);
            }
        }
        for key in ["$defs", "definitions", "patternProperties", "dependentSchemas"] {
            for member in schema.get(key).and_then(Value::members).into_iter().flatten() {
                self.through(member.value, &format!("{path}.{key}.{}", member.key), depth + 1);
            }
        }
    }
}

fn parameter(name: &str, schema: Value<'_>, path: &str, depth: usize) -> Parameter {
    let description = schema.get("description").and_then(Value::as_str).map(|text| text.into_owned()).unwrap_or_default();
    let mut values = Vec::new();
    strings(schema, 0, &mut values);
    Parameter {
        path: path.to_owned(),
        name: name.to_owned(),
        words: words::of_name(name),
        said: words::of_text(&description),
        description,
        values,
        kind: kind(schema),
        items: items(schema).map_or("", kind),
        may_list: kind(schema) == "array" || items(schema).is_some(),
        depth,
    }
}

/// The strings that a schema lists: `enum`, `const`, and those of its alternatives and items.
fn strings(schema: Value<'_>, depth: usize, out: &mut Vec<String>) {
    if depth > 3 {
        return;
    }
    let mut add = |value: Value<'_>| {
        if let Some(text) = value.as_str()
            && out.len() < MOST_VALUES
            && !out.contains(&text.as_ref().to_owned())
        {
            out.push(text.into_owned());
        }
    };
    schema.get("enum").and_then(Value::elements).into_iter().flatten().for_each(&mut add);
    schema.get("const").into_iter().for_each(&mut add);
    for key in ["anyOf", "oneOf"] {
        for alternative in schema.get(key).and_then(Value::elements).into_iter().flatten() {
            strings(alternative, depth + 1, out);
        }
    }
    if let Some(items) = schema.get("items").filter(|items| items.get("properties").is_none()) {
        strings(items, depth + 1, out);
    }
}

/// What the items of a list are, where it may be one.
fn items(schema: Value<'_>) -> Option<Value<'_>> {
    let of_alternatives = || {
        let mut all = ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(key)?.elements()).flatten();
        all.find_map(|schema| schema.get("items"))
    };
    schema.get("items").or_else(of_alternatives)
}

fn kind(schema: Value<'_>) -> &'static str {
    let named = |value: Value<'_>| KINDS.iter().copied().find(|kind| value.says(kind));
    let own = match schema.get("type") {
        Some(kind) if kind.kind() == Kind::Array => kind.elements().into_iter().flatten().find_map(named),
        Some(kind) => named(kind),
        None => None,
    };
    let of_alternatives = || {
        let all = ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(key)?.elements()).flatten();
        all.filter_map(|schema| schema.get("type")).find_map(named)
    };
    own.or_else(of_alternatives).unwrap_or("")
}

const KINDS: [&str; 6] = ["string", "boolean", "array", "object", "integer", "number"];
const DEEPEST: usize = 40;
const MOST_LINES: usize = 200;
const MOST_PARAMETERS: usize = 1000;
const MOST_VALUES: usize = 1000;
