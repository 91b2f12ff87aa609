//! Approvals: the terms of a rule that asks, and `approvals:` at the top of a file.

use super::Lowering;
use crate::approval::{Asking, Quorum, SecretReference, Webhook, WebhookForm, WebhookUrl};
use crate::problem::code;
use crate::reader::{Fields, bad_name};
use crate::source::{Kind, Node};
use crate::text::shown;
use jiff::SignedDuration;
use std::collections::HashSet;

impl Lowering<'_> {
    /// The terms that `fields` speak of; what they do not say is as in `otherwise`.
    pub(super) fn asking(&mut self, fields: &Fields<'_>, otherwise: &Asking) -> Asking {
        let mut asking = otherwise.clone();
        if let Some(node) = fields.get("approval_timeout") {
            asking.timeout = self.span_of_time(node, "`approval_timeout`").unwrap_or(asking.timeout);
        }
        if let Some(node) = fields.get("wait") {
            asking.wait = self.span_of_time(node, "`wait`").unwrap_or(asking.wait);
            if asking.wait > LONGEST_WAIT {
                self.error(code::TIME, &node.at, "a call cannot wait for longer than ten minutes").help =
                    Some("write `wait: 10m` or less; the approval itself may wait longer (`approval_timeout`)".into());
            }
        }
        if let Some(node) = fields.get("approvals") {
            asking.quorum = self.quorum(node).unwrap_or(asking.quorum);
        }
        asking
    }

    /// `2`, `2 of [alice, bob, carol]`, or `{count: 2, of: [alice, bob, carol]}`.
    fn quorum(&mut self, node: &Node) -> Option<Quorum> {
        let (count, of) = match &node.kind {
            Kind::Number(_) => (self.count_of(node)?, Vec::new()),
            Kind::Object(_) => {
                let fields = self.fields(node, "`approvals`", &["count", "of"])?;
                let count = self.required(&fields, "count", "`approvals`").and_then(|node| self.count_of(node));
                let names = fields.get("of").map(|node| self.approvers(node));
                (count?, names.unwrap_or(Some(Vec::new()))?)
            }
            Kind::Invalid => return None,
            _ => match node.as_str().and_then(read_quorum) {
                Some(quorum) => quorum,
                None => {
                    self.error(code::TYPE, &node.at, "`approvals` does not say how many").label =
                        Some("expected `2`, or `2 of [alice, bob, carol]`".into());
                    return None;
                }
            },
        };
        self.check_quorum(count, &of, node).then(|| Quorum { count, of: of.into() })
    }

    fn check_quorum(&mut self, count: u32, of: &[String], node: &Node) -> bool {
        let most = if of.is_empty() { MOST_APPROVERS } else { of.len() };
        let bad = of.iter().find_map(|name| bad_name(name).map(|why| (name, why)));
        let twice = {
            let mut seen = HashSet::new();
            of.iter().find(|name| !seen.insert(name.as_str()))
        };
        let problem = if let Some((name, why)) = bad {
            format!("`{}` is not a name of an approver: {why}", shown(name))
        } else if let Some(name) = twice {
            format!("`{}` is named twice, and counts once", shown(name))
        } else if of.len() > MOST_APPROVERS {
            format!("more than {MOST_APPROVERS} approvers")
        } else if count == 0 || count as usize > most {
            format!("{count} of {most} cannot be asked")
        } else {
            return true;
        };
        self.error(code::NUMBER, &node.at, problem).help =
            Some(format!("name from 1 to {MOST_APPROVERS} people, each once, and ask at least one and at most all of them"));
        false
    }

    fn count_of(&mut self, node: &Node) -> Option<u32> {
        let text = match &node.kind {
            Kind::Number(number) => number.to_string(),
            Kind::Invalid => return None,
            _ => String::new(),
        };
        let count = text.parse().ok();
        if count.is_none() {
            self.error(code::TYPE, &node.at, "the number of approvals is not a whole number").label = Some("expected `2`".into());
        }
        count
    }

    fn approvers(&mut self, node: &Node) -> Option<Vec<String>> {
        let nodes = self.list(node, "`of`")?;
        nodes.iter().map(|node| self.string(node, "the name of an approver").map(str::to_owned)).collect()
    }

    /// `approvals: {webhook: {url, secret, form}}`.
    pub(super) fn approvals(&mut self, node: &Node) -> Option<Webhook> {
        let before = self.problems.len();
        let webhook = self.webhook(node);
        for problem in &mut self.problems[before..] {
            problem.secret = true;
        }
        webhook
    }

    fn webhook(&mut self, node: &Node) -> Option<Webhook> {
        let fields = self.fields(node, "`approvals`", APPROVALS_KEYS)?;
        let member = fields.member("webhook")?;
        let fields = self.fields(&member.value, "`webhook`", WEBHOOK_KEYS)?;
        let url = fields.get("url").map(|node| self.webhook_url(node));
        let secret = fields.get("secret");
        if let Some(node) = secret
            && node.as_str().is_none()
            && !matches!(node.kind, Kind::Invalid)
        {
            self.error(code::TYPE, &node.at, "`secret` of the webhook is not what it must be").label =
                Some("expected `env:NAME` or `file:PATH`".into());
        }
        let form = fields.get("form").map(|node| self.word(node, "`form`", &WebhookForm::WORDS));
        let form = form.unwrap_or(Some(WebhookForm::default()))?;
        let Some(url) = url else {
            self.warn(code::NOT_SENT, &member.key_at, "a webhook without `url` is not sent").help =
                Some("add `url: https://…`, or `url: env:NAME` where the address itself is a secret".into());
            return None;
        };
        let reference = secret.map(|node| node.as_str().and_then(SecretReference::parse));
        let reference = reference.map(|found| found.map(|found| found.beside(&self.source.name)));
        if let (Some(node), Some(None)) = (secret, &reference)
            && node.as_str().is_some()
        {
            // Such a file was written for another gateway and goes on loading: to tell nobody lets nothing pass.
            self.warn(code::NOT_SENT, &node.at, "a webhook whose secret is written out is not sent").help =
                Some("write `secret: env:NAME` or `secret: file:PATH`, and put the secret there".into());
            return None;
        }
        Some(Webhook { url: url?, secret: reference.flatten(), form })
    }

    fn webhook_url(&mut self, node: &Node) -> Option<WebhookUrl> {
        let text = node.as_str();
        // It may hold a secret: no message quotes it.
        let url = text.and_then(|text| match SecretReference::parse(text) {
            Some(reference) => Some(WebhookUrl::Reference(reference.beside(&self.source.name))),
            None if ["https://", "http://"].iter().any(|start| text.starts_with(start)) => {
                Some(WebhookUrl::Literal(text.to_owned()))
            }
            None => None,
        });
        if url.is_none() && !matches!(node.kind, Kind::Invalid) {
            self.error(code::TYPE, &node.at, "`url` of the webhook is not what it must be").label =
                Some("expected `https://…`, or `env:NAME`".into());
        }
        url
    }
}

/// Reads `2` and `2 of [alice, bob, carol]`.
fn read_quorum(text: &str) -> Option<(u32, Vec<String>)> {
    let Some((count, names)) = text.split_once(" of ") else { return Some((text.trim().parse().ok()?, Vec::new())) };
    let names = names.trim().strip_prefix('[')?.strip_suffix(']')?;
    let names = names.split(',').map(|name| name.trim().to_owned()).collect();
    Some((count.trim().parse().ok()?, names))
}

/// A client waits for an answer no longer than this; most give up sooner.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(10);
/// More people than are asked about one call.
const MOST_APPROVERS: usize = 50;

pub(super) const APPROVALS_KEYS: &[&str] = &["webhook"];
pub(super) const WEBHOOK_KEYS: &[&str] = &["url", "secret", "form"];
/// The keys with which a rule says on what terms it asks.
pub(super) const ASKING_KEYS: &[&str] = &["approval_timeout", "wait", "approvals"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_a_number_or_a_number_of_names() {
        assert_eq!(read_quorum("2"), Some((2, vec![])));
        assert_eq!(read_quorum("2 of [a, b c]"), Some((2, vec!["a".to_owned(), "b c".to_owned()])));
        for broken in ["", "two", "2 of", "2 of a, b", "of [a]", "-1", "2 of [a"] {
            assert_eq!(read_quorum(broken), None, "{broken}");
        }
    }
}
