//! Configurations as a tree that knows where everything stands, whatever format they are in.

mod jsonc;
mod toml;
mod yaml;

use std::ops::Range;

/// How a configuration is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON, perhaps with comments and trailing commas.
    Json,
    /// YAML, block or flow style.
    Yaml,
    /// TOML.
    Toml,
}

/// A configuration's text, read.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The outermost value.
    pub root: Node,
    /// How it is written.
    pub format: Format,
}

/// A value, and where it stands in the text.
#[derive(Clone, Debug)]
pub struct Node {
    /// The bytes that the value takes up.
    pub span: Range<usize>,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text, as it is meant.
    Text(String),
    /// `true` or `false`.
    Flag(bool),
    /// Values in brackets, or on lines of their own.
    List {
        /// The values in order.
        items: Vec<Node>,
        /// Whether it stands in brackets.
        bracketed: bool,
    },
    /// Values by their keys.
    Mapping {
        /// The members in order.
        members: Vec<Member>,
        /// Whether it stands in braces.
        braced: bool,
    },
    /// Numbers, dates and nothing at all: nothing that is looked at here.
    Other,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Member {
    /// The key, as it is meant.
    pub key: String,
    /// The bytes that the key takes up.
    pub key_span: Range<usize>,
    /// What it is for.
    pub value: Node,
}

impl Tree {
    /// Reads `text`. The error says what is wrong, and where if that is known.
    ///
    /// # Errors
    /// When it is not well-formed, or repeats a key: readers differ about which of the values counts.
    pub fn parse(text: &str, format: Format) -> Result<Tree, String> {
        // Editors on Windows like to begin with a byte order mark; JSON and YAML readers skip it.
        let skipped = text.len() - text.trim_start_matches('\u{feff}').len();
        let root = match format {
            Format::Json => jsonc::parse(&text[skipped..]),
            Format::Yaml => yaml::parse(&text[skipped..]),
            Format::Toml => toml::parse(&text[skipped..]),
        }?;
        let root = root.shifted(skipped);
        match root.repeated_key() {
            Some(key) => Err(format!("the key `{key}` stands twice in one place")),
            None => Ok(Tree { root, format }),
        }
    }
}

impl Node {
    /// The value of a key, where this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.member(key).map(|member| &member.value)
    }

    /// The member of a key, where this is a mapping that has it.
    pub fn member(&self, key: &str) -> Option<&Member> {
        self.members().iter().find(|member| member.key == key)
    }

    /// The members, where this is a mapping.
    pub fn members(&self) -> &[Member] {
        match &self.value {
            Value::Mapping { members, .. } => members,
            _ => &[],
        }
    }

    /// The items, where this is a list.
    pub fn items(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List { items, .. } => Some(items),
            _ => None,
        }
    }

    /// The text, where this is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The texts, where this is a list of nothing else.
    pub fn texts(&self) -> Option<Vec<String>> {
        self.items()?.iter().map(|item| item.text().map(str::to_owned)).collect()
    }

    /// `true` or `false`, where it is one.
    pub fn flag(&self) -> Option<bool> {
        match self.value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    fn shifted(mut self, by: usize) -> Node {
        if by > 0 {
            self.shift(by);
        }
        self
    }

    fn shift(&mut self, by: usize) {
        self.span = self.span.start + by..self.span.end + by;
        match &mut self.value {
            Value::List { items, .. } => items.iter_mut().for_each(|item| item.shift(by)),
            Value::Mapping { members, .. } => {
                for member in members {
                    member.key_span = member.key_span.start + by..member.key_span.end + by;
                    member.value.shift(by);
                }
            }
            Value::Text(_) | Value::Flag(_) | Value::Other => {}
        }
    }

    fn repeated_key(&self) -> Option<&str> {
        let members = self.members();
        let repeated = members.iter().enumerate().find(|(i, member)| members[..*i].iter().any(|other| other.key == member.key));
        let within = || members.iter().find_map(|member| member.value.repeated_key());
        let among = || self.items()?.iter().find_map(Node::repeated_key);
        repeated.map(|(_, member)| member.key.as_str()).or_else(within).or_else(among)
    }
}
