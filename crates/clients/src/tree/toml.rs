//! TOML.

use super::{Member, Node, Value};
use std::ops::Range;
use toml_edit::{Document, Item, TableLike};

pub(crate) fn parse(text: &str) -> Result<Node, String> {
    let document = Document::parse(text).map_err(|error| error.to_string().trim_end().replace('\n', "; "))?;
    Ok(Node { span: 0..text.len(), value: mapping(document.as_table(), false) })
}

fn mapping(table: &dyn TableLike, braced: bool) -> Value {
    let members = table.iter().filter_map(|(key, item)| {
        let (written, _) = table.get_key_value(key)?;
        Some(Member { key: key.to_owned(), key_span: written.span().unwrap_or_default(), value: node(item) })
    });
    Value::Mapping { members: members.collect(), braced }
}

fn node(item: &Item) -> Node {
    let span: Range<usize> = item.span().unwrap_or_default();
    let value = match item {
        Item::Table(table) => mapping(table, false),
        Item::ArrayOfTables(tables) => Value::List {
            items: tables
                .iter()
                .map(|table| Node { span: table.span().unwrap_or_default(), value: mapping(table, false) })
                .collect(),
            bracketed: false,
        },
        Item::Value(value) => return of_value(value),
        Item::None => Value::Other,
    };
    Node { span, value }
}

fn of_value(value: &toml_edit::Value) -> Node {
    let read = match value {
        toml_edit::Value::String(text) => Value::Text(text.value().clone()),
        toml_edit::Value::Boolean(flag) => Value::Flag(*flag.value()),
        toml_edit::Value::Array(list) => Value::List { items: list.iter().map(of_value).collect(), bracketed: true },
        toml_edit::Value::InlineTable(table) => mapping(table, true),
        toml_edit::Value::Integer(_) | toml_edit::Value::Float(_) | toml_edit::Value::Datetime(_) => Value::Other,
    };
    Node { span: value.span().unwrap_or_default(), value: read }
}
