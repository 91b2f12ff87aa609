//! The top of a file.

use super::Lowering;
use super::entry::{GLOBAL, escape};
use super::name::globs_overlap;
use super::rule::Action;
use crate::definitions::Definitions;
use crate::model::{Mode, Pattern, Policy, Posture, ServerRequests};
use crate::outline::Outline;
use crate::problem::{MOST, code};
use crate::risk::{RISK_KEYS, RiskClass};
use crate::source::{Kind, Member, Node};
use crate::text::{Span, shown};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::OnceLock;

impl Lowering<'_> {
    pub(super) fn file(&mut self, root: &Node) -> (Policy, Outline) {
        let revision = revision(&self.source.text);
        let mut policy = Policy {
            revision,
            description: None,
            posture: Posture::Deny,
            mode: Mode::Enforce,
            hidden: Vec::new(),
            entries: Vec::new(),
            methods: Vec::new(),
            server_requests: ServerRequests::default(),
            webhook: None,
            definitions: Definitions::default(),
            results: None,
            names: OnceLock::new(),
        };
        let is_json = self.source.is_json();
        let mut outline = Outline { top: first_line(root), is_json, ..Outline::default() };
        let Some(fields) = self.fields(root, "the policy", FILE_KEYS) else { return (policy, outline) };
        self.version(fields.member("version"), &outline);
        policy.description = fields.get("description").and_then(|node| self.string(node, "`description`")).map(str::to_owned);
        policy.mode = self.mode(&fields);
        match fields.get("default") {
            Some(node) => {
                let words = [("allow", Posture::Allow), ("deny", Posture::Deny)];
                policy.posture = self.word(node, "`default`", &words).unwrap_or(Posture::Deny);
                outline.default = Some(node.at.clone());
            }
            None if is_json => {
                self.error(code::MISSING, &outline.top, "`default` is missing").help =
                    Some(r#"add `"default": "deny"`: only listed tools may then be used (or "allow")"#.into());
            }
            None => policy.posture = Posture::Allow,
        }
        if let Some(node) = fields.get("hide") {
            (policy.hidden, outline.hidden) = self.hidden(node);
        }
        if let Some(node) = fields.get("risk") {
            for (class, at) in self.risk(node) {
                policy.hidden.push(Pattern::Class(class));
                outline.hidden.push(at);
            }
        }
        if let Some(node) = fields.get("methods") {
            policy.methods = self.methods(node);
        }
        if let Some(node) = fields.get("server_requests") {
            policy.server_requests = self.server_requests(node);
        }
        if let Some(node) = fields.get("definitions") {
            policy.definitions = self.definitions(node);
        }
        if let Some(node) = fields.get("results") {
            policy.results = self.results(node, "/results".into());
        }
        if let Some(node) = fields.get("approvals") {
            policy.webhook = self.approvals(node);
        }
        // In the order of the file, so that the rules of `*` and `all_tools` are too.
        for member in fields.members() {
            match member.key.as_str() {
                "all_tools" => self.entry(member, Pattern::Any, GLOBAL, "/all_tools".into()),
                "tools" => self.tools(&member.value),
                _ => {}
            }
        }
        (policy.entries, outline.entries) = self.finished();
        outline.refusals = std::mem::take(&mut self.refusals);
        (policy, outline)
    }

    fn version(&mut self, member: Option<&Member>, outline: &Outline) {
        let Some(member) = member else {
            let problem = self.warn(code::NO_VERSION, &outline.top, "no `version`: the policy is read as version 1");
            let line = if outline.is_json { r#""version": "1","# } else { r#"version: "1""# };
            problem.help = Some(format!("add `{line}` as the first line"));
            return;
        };
        let node = &member.value;
        if node.as_str() == Some("1") {
            return;
        }
        let written = shown(&self.source.slice(&node.at));
        let message = match &node.kind {
            Kind::String(_) => format!("unknown version {written}"),
            Kind::Number(_) => format!("version `{written}` is a number"),
            _ => format!("`version` is {}", node.describe()),
        };
        let code = if matches!(node.kind, Kind::String(_)) { code::WORD } else { code::TYPE };
        let at = if node.at.is_empty() { &member.key_at } else { &node.at };
        let help = if outline.is_json { r#"write `"version": "1"`"# } else { r#"write `version: "1"`, with the quotes"# };
        let problem = self.error(code, at, message);
        problem.label = Some("expected the string \"1\"".into());
        problem.help = Some(help.into());
    }

    fn hidden(&mut self, node: &Node) -> (Vec<Pattern>, Vec<Span>) {
        let mut hidden: Vec<(Pattern, Span)> = Vec::new();
        let mut first: HashMap<&str, &Span> = HashMap::new();
        for node in self.list(node, "`hide`").unwrap_or_default() {
            let Some(text) = self.string(node, "a hidden name") else { continue };
            let Some(pattern) = self.pattern(text, &node.at, "a hidden name") else { continue };
            if let Some(earlier) = first.get(text).filter(|_| self.problems.len() <= MOST) {
                let line = self.source.line(earlier.start);
                let message = format!("`{}` is hidden twice: first in line {line}", shown(text));
                let problem = self.error(code::DUPLICATE, &node.at, message);
                problem.also.push(((*earlier).clone(), "first here".into()));
                problem.help = Some("remove one of the two".into());
                continue;
            }
            first.insert(text, &node.at);
            hidden.push((pattern, node.at.clone()));
        }
        hidden.into_iter().unzip()
    }

    fn tools(&mut self, node: &Node) {
        let members = match &node.kind {
            Kind::Object(members) => members,
            Kind::Empty => {
                self.error(code::MISSING, &node.at, "`tools` has nothing under it").help =
                    Some("write `tools: {}` for no tools, or list some".into());
                return;
            }
            _ => return self.wrong_type(node, "`tools`", "a mapping from the names of tools to their rules"),
        };
        let mut globs: Vec<(&str, &Span)> = Vec::new();
        for member in members {
            if member.key == GLOBAL {
                self.error(code::NAME, &member.key_at, "`_global` is the name of the counters of `*`").help =
                    Some("write `*` for the rules of every tool".into());
                continue;
            }
            if let Some(class) = RiskClass::ALL.into_iter().find(|class| owner_of(*class) == member.key) {
                let key = class.key();
                let message = format!("`{}` is the name of the counters of a class", member.key);
                self.error(code::NAME, &member.key_at, message).help =
                    Some(format!("write the rules of the class into `risk: {{{key}: …}}`"));
                continue;
            }
            let Some(pattern) = self.pattern(&member.key, &member.key_at, "a tool's name") else { continue };
            if let Pattern::Glob(glob) = &pattern {
                let length = |glob: &str| glob.chars().count();
                let same = globs.iter().find(|(other, _)| length(other) == length(glob) && globs_overlap(other, glob));
                if let Some((other, first)) = same {
                    let message = format!("`{glob}` and `{other}` are equally long and can match the same name");
                    let first = (*first).clone();
                    let problem = self.error(code::NAME, &member.key_at, message);
                    problem.also.push((first, "the other pattern".into()));
                    problem.help = Some("the longer pattern wins: make one longer, or list the names that both match".into());
                }
                globs.push((&member.key, &member.key_at));
            }
            let owner = if pattern == Pattern::Any { GLOBAL } else { &member.key };
            self.entry(member, pattern, owner, format!("/tools/{}", escape(&member.key)));
        }
    }
}

impl Lowering<'_> {
    /// `risk:`, and gives the classes that are hidden, each with where that is written.
    fn risk(&mut self, node: &Node) -> Vec<(RiskClass, Span)> {
        let Some(fields) = self.fields(node, "`risk`", RISK_KEYS) else { return Vec::new() };
        let mut hidden = Vec::new();
        for member in fields.members() {
            let Some(class) = RiskClass::ALL.into_iter().find(|class| class.key() == member.key) else { continue };
            let pointer = format!("/risk/{}", class.key());
            if member.value.as_str().is_none() {
                self.entry(member, Pattern::Class(class), &owner_of(class), pointer);
                continue;
            }
            match self.word(&member.value, &format!("`{}`", class.key()), TREATMENTS) {
                Some(Treated::Hidden) => hidden.push((class, member.key_at.clone())),
                Some(Treated::By(action)) => self.class_entry(member, class, action, pointer),
                None => {}
            }
        }
        hidden
    }
}

/// What one word says of a class.
#[derive(Clone, Copy)]
enum Treated {
    Hidden,
    By(Action),
}

const TREATMENTS: &[(&str, Treated)] = &[
    ("allow", Treated::By(Action::Allow)),
    ("require_approval", Treated::By(Action::RequireApproval)),
    ("deny", Treated::By(Action::Deny)),
    ("hide", Treated::Hidden),
];

/// Who owns the counters of a class.
fn owner_of(class: RiskClass) -> String {
    format!("_risk_{}", class.key())
}

/// The first 16 hexadecimal digits of the SHA-256 of the text.
fn revision(text: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text);
    digest.as_ref().iter().take(8).fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The first key of the file: where something about the whole is shown.
fn first_line(root: &Node) -> Span {
    match &root.kind {
        Kind::Object(members) => members.first().map_or(root.at.clone(), |member| member.key_at.clone()),
        _ => root.at.clone(),
    }
}

pub(super) const FILE_KEYS: &[&str] = &[
    "version",
    "description",
    "default",
    "mode",
    "hide",
    "all_tools",
    "tools",
    "approvals",
    "risk",
    "server_requests",
    "definitions",
    "methods",
    "results",
];
