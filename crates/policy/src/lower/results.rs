//! `results:`.

use super::Lowering;
use crate::problem::code;
use crate::results::{Forbidden, Redaction, Results, Unwanted};
use crate::source::{Kind, Node};
use crate::text::shown;
use regex::Regex;
use std::sync::Arc;

impl Lowering<'_> {
    /// Lowers a section; `pointer` is where it stands.
    pub(super) fn results(&mut self, node: &Node, pointer: String) -> Option<Arc<Results>> {
        let fields = self.fields(node, "`results`", RESULT_KEYS)?;
        let mut unwanted = |key: &str, change: &'static str| {
            let words = [("pass", Unwanted::Pass), (change, Unwanted::Change), ("withhold", Unwanted::Withhold)];
            fields.get(key).and_then(|node| self.word(node, &format!("`{key}`"), &words)).unwrap_or_default()
        };
        let hidden_characters = unwanted("hidden_characters", "escape");
        let secrets = unwanted("secrets", "redact");
        let max_bytes = fields.get("max_bytes").and_then(|node| self.size(node));
        let (mut withhold, mut redact) = (Vec::new(), Vec::new());
        for (number, node) in self.items(fields.get("withhold"), "`withhold`").iter().enumerate() {
            withhold.extend(self.forbidden(node, || format!("{pointer}/withhold/{number}")));
        }
        for node in self.items(fields.get("redact"), "`redact`") {
            redact.extend(self.redaction(node));
        }
        let results = Results { reference: pointer.into(), max_bytes, hidden_characters, secrets, withhold, redact };
        if fields.members().is_empty() {
            self.warn(code::NEVER_FIRES, &node.at, "`results` says nothing").help =
                Some("write `secrets: redact` or `hidden_characters: escape`, or remove it".into());
        }
        Some(Arc::new(results))
    }

    fn items<'n>(&mut self, node: Option<&'n Node>, what: &str) -> &'n [Node] {
        let items = node.and_then(|node| Some((node, self.list(node, what)?)));
        let Some((node, items)) = items else { return &[] };
        if items.len() > MOST_ITEMS {
            self.error(code::COMBINATION, &node.at, format!("{what} has more than {MOST_ITEMS} items")).help =
                Some("put several expressions into one: `(?:a|b)`".into());
        }
        items
    }

    fn forbidden(&mut self, node: &Node, pointer: impl Fn() -> String) -> Option<Forbidden> {
        let fields = self.fields(node, "an item of `withhold`", WITHHELD_KEYS)?;
        let matches = self.required(&fields, "matches", "an item of `withhold`");
        let name = self.rule_name(&fields);
        let message = self.message(&fields).map(|message| message.0);
        let regex = self.looked_for(matches?)?;
        Some(Forbidden { reference: name.unwrap_or_else(pointer).into(), regex, message })
    }

    fn redaction(&mut self, node: &Node) -> Option<Redaction> {
        let fields = self.fields(node, "an item of `redact`", REDACTED_KEYS)?;
        let matches = self.required(&fields, "matches", "an item of `redact`");
        let name = self.rule_name(&fields);
        if let Some(member) = fields.member("name").filter(|_| name.as_ref().is_some_and(|name| name.len() > LONGEST_NAME)) {
            let message = format!("the name is longer than {LONGEST_NAME} bytes");
            self.error(code::NAME, &member.value.at, message).help = Some("it stands in the place of what is taken out".into());
        }
        let regex = self.looked_for(matches?)?;
        Some(Redaction { name: name.unwrap_or_else(|| "text".to_owned()).into(), regex })
    }

    /// An expression that is looked for anywhere in a text.
    fn looked_for(&mut self, node: &Node) -> Option<Regex> {
        let regex = self.regex(node, "`matches`")?;
        let shortest = regex_syntax::parse(regex.as_str()).ok().and_then(|parsed| parsed.properties().minimum_len());
        if shortest == Some(0) {
            let message = format!("`{}` is found where nothing stands", shown(regex.as_str()));
            self.error(code::REGEX, &node.at, message).help = Some("write what must be there: `+` for `*`".into());
            return None;
        }
        Some(regex)
    }

    /// Bytes, as a number or as in `1MB`.
    fn size(&mut self, node: &Node) -> Option<u64> {
        let size = match &node.kind {
            Kind::Number(number) => number.scaled(0).and_then(|bytes| u64::try_from(bytes).ok()),
            _ => self.string(node, "`max_bytes`").and_then(bytes_of),
        };
        let size = size.filter(|size| (1..=LARGEST).contains(size));
        if size.is_none() && matches!(node.kind, Kind::Number(_) | Kind::String(_)) {
            let message = format!("`{}` is no size of a result", shown(&self.source.slice(&node.at)));
            self.error(code::NUMBER, &node.at, message).label =
                Some("expected bytes, or as in `64KB`, `1MB`, up to `64MB`".into());
        }
        size
    }
}

/// `64KB`, `1MB`; K and M are powers of a thousand, as on the command line.
fn bytes_of(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Every expression is looked for in every text.
const MOST_ITEMS: usize = 100;
const LONGEST_NAME: usize = 64;
/// As long as a reply may be.
const LARGEST: u64 = 64 << 20;

pub(super) const RESULT_KEYS: &[&str] = &["max_bytes", "hidden_characters", "secrets", "withhold", "redact"];
pub(super) const WITHHELD_KEYS: &[&str] = &["matches", "name", "on_deny", "reason", "message"];
pub(super) const REDACTED_KEYS: &[&str] = &["matches", "name"];
