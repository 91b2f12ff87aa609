//! Which attacks apply to tools, and which of them a policy stops.
//!
//! For each place where an attack applies, the call is made up as an attacker would make it, and judged by the policy itself:
//! what passes is open. A denial counts only if it is because of the attack: one that a harmless call of the same tool gets as
//! well, for a reason of its own, shows nothing. What is missing is said in lines that stop it.

use super::applies::{Answer, Asked, Takes, Way, surface};
use super::{Attack, Reach, all};
use crate::argument::{Argument, object, required};
use crate::grade::{ToolRisk, grade};
use crate::paths;
use jiff::Timestamp;
use json::{Document, Strictness, Value, quote};
use policy::{Call, Outcome, Policies, Reason, Schema, Tool, Tools};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One attack at one place of one tool.
#[derive(Debug)]
pub struct Finding {
    /// The attack.
    pub attack: &'static Attack,
    /// The tool; none for what the server asks of its client.
    pub tool: Option<String>,
    /// The argument that carries it, if one does, as a policy names it below `args`: `url`, `request.url`, `rows[*].path`.
    pub argument: Option<String>,
    /// Why it applies.
    pub because: String,
    /// Whether the policy stops it.
    pub standing: Standing,
}

/// Whether a policy stops an attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does: by this rule, for this reason.
    Stopped {
        /// As records name it.
        rule: String,
        /// The reason's code.
        reason: &'static str,
    },
    /// The call is refused, but so is a harmless one, by this rule: whether it would stop the attack cannot be told.
    Unclear {
        /// As records name it.
        rule: String,
    },
    /// It does not.
    Open(Missing),
}

/// What a policy lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// The tool under `hide`.
    Hidden(String),
    /// This rule under the tool, as one line of YAML.
    Rule(String, String),
    /// This denial under `server_requests`.
    ServerRequest(&'static str),
}

/// Judges every documented attack against the tools of a server.
///
/// The policies must all allow, as those of a server and a grant do. `at` is when the calls are made: a schedule may deny.
/// Findings are in the order of the attacks, and there in that of the tools.
pub fn judge(server: &str, tools: &Tools, policies: &Policies, at: Timestamp) -> Vec<Finding> {
    let read = |tool: &'_ Tool| Document::parse(tool.definition.clone(), Strictness::Reply).ok();
    let documents: Vec<(&Tool, Document)> = tools.iter().filter_map(|tool| Some((tool, read(tool)?))).collect();
    let graded: Vec<Graded<'_>> = documents
        .iter()
        .map(|(tool, document)| {
            let definition = document.root();
            Graded { tool, definition, arguments: surface(definition).1, risk: grade(definition, server) }
        })
        .collect();
    all().iter().flat_map(|attack| of_attack(attack, &graded, policies, at)).collect()
}

/// The attacks that Callgate stops or limits, but not by what a policy says of tools and of what servers ask: [`judge`] is silent
/// about them, whatever the policy. Each with what does.
pub fn not_judged() -> impl Iterator<Item = (&'static Attack, String)> {
    let is_beyond = |attack: &&Attack| attack.reach != Reach::Cannot && attack.ways.is_empty();
    all().iter().filter(is_beyond).map(|attack| {
        let controls: Vec<String> =
            attack.controls.iter().map(|used| format!("{} ({})", used.control, used.control.meaning())).collect();
        (attack, format!("no list of tools shows whether it is stopped; what does: {}", controls.join(", ")))
    })
}

struct Graded<'t> {
    tool: &'t Tool,
    definition: Value<'t>,
    arguments: Vec<Argument<'t>>,
    risk: ToolRisk,
}

impl<'t> Graded<'t> {
    fn argument(&self, path: &str) -> Option<&Argument<'t>> {
        self.arguments.iter().find(|argument| argument.path == path)
    }
}

fn of_attack(attack: &'static Attack, tools: &[Graded<'_>], policies: &Policies, at: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    for way in &attack.ways {
        if let Way::Asks(asked) = way {
            let because = format!("any server may ask its client for {}", asked.name());
            findings.push(Finding { attack, tool: None, argument: None, because, standing: of_asked(*asked, policies) });
        }
    }
    for graded in tools {
        for applies in attack.applies(&graded.tool.name, &graded.arguments, &graded.risk) {
            let argument = applies.argument.as_deref().and_then(|path| graded.argument(path));
            let standing = standing(graded, applies.way, argument, policies, at);
            let tool = Some(graded.tool.name.clone());
            findings.push(Finding { attack, tool, argument: applies.argument, because: applies.because, standing });
        }
    }
    findings
}

fn of_asked(asked: Asked, policies: &Policies) -> Standing {
    let forms: &[(&str, Option<&str>)] = match asked {
        Asked::Sampling => &[("sampling/createMessage", None)],
        Asked::Elicitation => &[("elicitation/create", Some("form")), ("elicitation/create", Some("url"))],
    };
    let denied = forms.iter().map(|(method, mode)| {
        policies.server_request_decision(method, *mode).filter(|decision| decision.outcome == Outcome::Deny)
    });
    match denied.collect::<Option<Vec<_>>>() {
        Some(decisions) => stopped(decisions.first().and_then(|decision| decision.rule.as_deref()), Reason::ServerRequestRefused),
        None => Standing::Open(Missing::ServerRequest(asked.name())),
    }
}

fn stopped(rule: Option<&str>, reason: Reason) -> Standing {
    Standing::Stopped { rule: rule.unwrap_or_default().to_owned(), reason: reason.as_str() }
}

/// The weakest standing of all that an attacker would try.
fn standing(tool: &Graded<'_>, way: &Way, argument: Option<&Argument<'_>>, policies: &Policies, at: Timestamp) -> Standing {
    let (tries, harmless): (Vec<String>, String) = match (way, argument) {
        (Way::Argument { takes, with, .. }, Some(argument)) => {
            let hostile: Vec<&str> =
                if with.is_empty() { takes.hostile().to_vec() } else { with.iter().map(String::as_str).collect() };
            let given = |value: &str| object(&argument.given(value, |schema| sample(schema, 0)));
            // In a list, where it wants one.
            let value = |text: &str| if argument.is_list() { format!("[{text}]") } else { text.to_owned() };
            (hostile.into_iter().map(|text| given(&value(text))).collect(), given(&sample(argument.schema, 0)))
        }
        _ => (vec![worst_call(tool)], worst_call(tool)),
    };
    let harmless = judged(tool, &harmless, policies, at);
    let mut weakest: Option<Standing> = None;
    for attempt in tries {
        let tried = judged(tool, &attempt, policies, at);
        let standing = match tried {
            Tried::Passed { .. } if matches!(way, Way::Call { answer: Answer::Pace, .. }) && tried.is_limited() => {
                stopped(tried.limit(), Reason::LimitReached)
            }
            Tried::Passed { .. } => return Standing::Open(missing(tool, way, argument)),
            Tried::Asked { rule } => stopped(Some(&rule), Reason::ApprovalRequired),
            Tried::Denied { rule, reason, about } => {
                let whole = matches!(reason, Reason::Hidden | Reason::Unlisted | Reason::UnknownTool | Reason::Forbidden);
                let by_argument = argument.is_some_and(|argument| names(&about, &argument.path));
                let alone = argument.is_some() && matches!(harmless, Tried::Passed { .. } | Tried::Asked { .. });
                if whole || by_argument || alone { stopped(Some(&rule), reason) } else { Standing::Unclear { rule } }
            }
        };
        let is_weaker = matches!(standing, Standing::Unclear { .. }) || weakest.is_none();
        if is_weaker {
            weakest = Some(standing);
        }
    }
    weakest.unwrap_or_else(|| Standing::Open(missing(tool, way, argument)))
}

/// Whether what a step checked is about this argument: `args.path path_within …`.
fn names(check: &str, argument: &str) -> bool {
    let path = format!("args.{argument}");
    check
        .match_indices(&path)
        .any(|(at, _)| !check[at + path.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-'))
}

enum Tried {
    Passed { limits: Vec<String> },
    Asked { rule: String },
    Denied { rule: String, reason: Reason, about: String },
}

impl Tried {
    fn is_limited(&self) -> bool {
        self.limit().is_some()
    }

    fn limit(&self) -> Option<&str> {
        match self {
            Tried::Passed { limits } => limits.first().map(String::as_str),
            Tried::Asked { .. } | Tried::Denied { .. } => None,
        }
    }
}

fn judged(tool: &Graded<'_>, arguments: &str, policies: &Policies, at: Timestamp) -> Tried {
    let Ok(document) = Document::parse(arguments.to_owned(), Strictness::Request) else {
        return Tried::Passed { limits: Vec::new() };
    };
    let schema = Schema::Known(&tool.tool.schema);
    let call = Call {
        tool: &tool.tool.name,
        class: Some(tool.risk.class),
        arguments: Some(document.root()),
        schema,
        at,
        explained: true,
    };
    let plan = policies.evaluate(&call);
    let rule = plan.decision.rule.as_deref().unwrap_or_default().to_owned();
    match plan.decision.outcome {
        Outcome::Allow => Tried::Passed { limits: plan.charges.iter().map(|charge| charge.rule.to_string()).collect() },
        Outcome::Ask => Tried::Asked { rule },
        Outcome::Deny => {
            let about = plan.decision.steps.last().map(|step| format!("{} {}", step.check, step.detail)).unwrap_or_default();
            let said = plan.decision.message.as_deref().unwrap_or_default();
            Tried::Denied { rule, reason: plan.decision.reason, about: format!("{about} {said}") }
        }
    }
}

/// The JSON text of the arguments of a call: what the schema requires, with harmless values, and what makes the tool as bad as
/// it is graded.
fn worst_call(tool: &Graded<'_>) -> String {
    let mut members = tool.definition.get("inputSchema").map(|schema| required(schema, |one| sample(one, 0))).unwrap_or_default();
    for avoided in tool.risk.avoidable.iter().flat_map(|avoidable| &avoidable.arguments) {
        let worst = avoided.values.first().map_or_else(|| "true".to_owned(), |value| quote(value));
        members.retain(|(name, _)| *name != avoided.name);
        members.push((avoided.name.clone(), worst));
    }
    object(&members)
}

/// A harmless value for a schema, as JSON text.
fn sample(schema: Value<'_>, depth: usize) -> String {
    for key in ["const", "default"] {
        if let Some(value) = schema.get(key) {
            return value.raw().to_owned();
        }
    }
    let first = |key: &str| schema.get(key).and_then(|list| list.elements()?.next());
    if let Some(value) = first("enum").or_else(|| first("examples")) {
        return value.raw().to_owned();
    }
    if let Some(one) = first("anyOf").or_else(|| first("oneOf")).filter(|_| depth < DEEPEST) {
        return sample(one, depth + 1);
    }
    let kind = schema.get("type");
    let is = |word: &str| {
        kind.is_some_and(|kind| kind.says(word) || kind.elements().is_some_and(|mut all| all.any(|one| one.says(word))))
    };
    if is("string") || kind.is_none() {
        quote("sample")
    } else if is("integer") || is("number") {
        schema.get("minimum").map_or_else(|| "1".to_owned(), |least| least.raw().to_owned())
    } else if is("boolean") {
        "false".to_owned()
    } else if is("array") && depth < DEEPEST {
        let items = schema.get("items").map_or_else(|| quote("sample"), |items| sample(items, depth + 1));
        format!("[{items}]")
    } else if is("object") && depth < DEEPEST {
        object(&required(schema, |one| sample(one, depth + 1)))
    } else {
        "null".to_owned()
    }
}

/// Arguments of real tools are flatter; what lies deeper gets nothing.
const DEEPEST: usize = 6;

/// What would stop it.
fn missing(tool: &Graded<'_>, way: &Way, argument: Option<&Argument<'_>>) -> Missing {
    let name = tool.tool.name.clone();
    let (takes, pattern, argument) = match (way, argument) {
        (Way::Argument { takes, pattern, .. }, Some(argument)) => (*takes, pattern.as_deref(), argument),
        (Way::Call { answer: Answer::Ask, .. }, _) => {
            return Missing::Rule(name, "{name: a person agrees, action: require_approval}".to_owned());
        }
        (Way::Call { answer: Answer::Pace, .. }, _) => {
            return Missing::Rule(name, "{name: pace, rate_limit: 10/minute}".to_owned());
        }
        _ => return Missing::Hidden(name),
    };
    let named = &argument.path;
    // The words of a command are one value.
    let is_one = takes == Takes::Secret || takes == Takes::Shell && paths::has_words_of_one_command(&argument.name);
    let each = if argument.is_list() && !is_one { "[*]" } else { "" };
    let path = quote(&format!("args.{named}{each}"));
    let titled = |title: &str| quote(&format!("{title} {named}"));
    // A call without the argument must stay what it is.
    let optional = if argument.is_required || takes == Takes::Secret { "" } else { ", optional: true" };
    let condition = |title: &str, op: &str, value: &str| {
        format!("{{name: {}, conditions: [{{path: {path}, op: {op}, value: {value}{optional}}}]}}", titled(title))
    };
    let rule = match takes {
        Takes::Path => condition("where", "path_within", "[\"/srv/FILL-IN\"]"),
        Takes::Url => condition("which hosts in", "host_in", "[\"FILL-IN.example\"]"),
        Takes::Sql => condition("reads only in", "sql_statement_in", "[select]"),
        Takes::Shell => condition("which commands in", "command_in", "[\"FILL-IN\"]"),
        Takes::Word => condition("plain", "regex", &quote(pattern.unwrap_or(PLAIN_WORD))),
        Takes::Secret => condition("without", "exists", "false"),
    };
    Missing::Rule(name, rule)
}

/// What is a name, and neither an option, a path nor anything that a shell, a URL or a query would read further.
const PLAIN_WORD: &str = "^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,127}$";

/// What is missing, as a policy: to be pasted into the one that was judged, or given beside it. `None` where nothing is.
pub fn missing_policy(findings: &[Finding]) -> Option<String> {
    let mut missing: BTreeMap<&Missing, Vec<&str>> = BTreeMap::new();
    for finding in findings {
        if let Standing::Open(what) = &finding.standing {
            let attacks = missing.entry(what).or_default();
            if !attacks.contains(&finding.attack.id.as_str()) {
                attacks.push(&finding.attack.id);
            }
        }
    }
    if missing.is_empty() {
        return None;
    }
    let mut out = String::from("version: \"1\"\ndefault: allow\n");
    let hidden = |tool: &str| missing.contains_key(&Missing::Hidden(tool.to_owned()));
    let (mut hides, mut requests) = (String::new(), String::new());
    let mut tools: BTreeMap<&str, String> = BTreeMap::new();
    for (what, attacks) in &missing {
        let attacks = some_of(attacks);
        match what {
            Missing::Hidden(tool) => {
                let _ = writeln!(hides, "  - {}  # {attacks}", quote(tool));
            }
            // What is hidden needs no rules.
            Missing::Rule(tool, _) if hidden(tool) => {}
            Missing::Rule(tool, line) => {
                let _ = writeln!(tools.entry(tool).or_default(), "      # {attacks}\n      - {line}");
            }
            Missing::ServerRequest(asked) => {
                let _ = writeln!(requests, "  {asked}: deny  # {attacks}");
            }
        }
    }
    if !requests.is_empty() {
        let _ = write!(out, "server_requests:\n{requests}");
    }
    if !hides.is_empty() {
        let _ = write!(out, "hide:\n{hides}");
    }
    if !tools.is_empty() {
        out.push_str("tools:\n");
        for (tool, rules) in tools {
            let _ = write!(out, "  {}:\n    rules:\n{rules}", quote(tool));
        }
    }
    Some(out)
}

/// The first few names of a list, and how many there are more.
pub fn some_of(attacks: &[&str]) -> String {
    const MOST: usize = 3;
    let more = attacks.len().saturating_sub(MOST);
    let named = attacks[..attacks.len().min(MOST)].join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}
