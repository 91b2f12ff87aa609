//! JSON with comments.

use super::{Member, Node, Value};
use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

/// What clients accept: comments, and commas after the last.
const ACCEPTED: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

pub(crate) fn parse(text: &str) -> Result<Node, String> {
    let parsed = parse_to_ast(text, &CollectOptions::default(), &ACCEPTED).map_err(|error| error.to_string())?;
    parsed.value.as_ref().map(node).ok_or_else(|| "the file is empty".to_owned())
}

fn node(value: &ast::Value<'_>) -> Node {
    let read = match value {
        ast::Value::StringLit(text) => Value::Text(text.value.to_string()),
        ast::Value::BooleanLit(flag) => Value::Flag(flag.value),
        ast::Value::Array(list) => Value::List { items: list.elements.iter().map(node).collect(), bracketed: true },
        ast::Value::Object(object) => Value::Mapping { members: object.properties.iter().map(member).collect(), braced: true },
        ast::Value::NumberLit(_) | ast::Value::NullKeyword(_) => Value::Other,
    };
    Node { span: value.start()..value.end(), value: read }
}

fn member(property: &ast::ObjectProp<'_>) -> Member {
    let name = &property.name;
    Member { key: name.as_str().to_owned(), key_span: name.start()..name.end(), value: node(&property.value) }
}
