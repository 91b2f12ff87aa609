//! A policy to begin with, from grades.
//!
//! What a tool may do at worst decides how it is treated; what its schema takes decides the rules. The policy is text for a
//! person to read and edit: whatever the server says stands in comments, shortened and with nothing that hides, and rules
//! that need a name or a host which only the reader knows are there as lines to fill in.

mod fill_in;

use crate::argument::is_required;
use crate::class::Level;
use crate::grade::{Avoidable, Avoided, Signal, Supports, ToolRisk, grade};
use crate::paths;
use fill_in::FillIn;
use json::{Kind, Value, quote};
use policy::RiskClass;
use std::collections::HashSet;
use std::fmt::Write as _;

/// How careful a recommended policy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Whatever changes something waits for a person; what cannot be undone is hidden.
    Strict,
    /// Reads are free, changes are limited, what cannot be undone is hidden, money waits for a person.
    #[default]
    Recommended,
    /// Limits are wide; what cannot be undone waits for a person.
    Permissive,
}

/// How one tool is to be treated.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Treatment {
    /// Neither shown nor callable.
    hidden: bool,
    /// A person is asked first.
    asked: bool,
    /// Calls a minute.
    pace: Option<u32>,
    validates: Option<Validates>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validates {
    Required,
    Everything,
}

/// One tool of the policy.
struct Entry {
    name: String,
    description: String,
    parameters: Vec<Parameter>,
    risk: ToolRisk,
    treatment: Treatment,
    /// The bounds on arguments that make it milder than its class.
    bounds: Vec<Bound>,
    /// The list that weighs a call, if there is one.
    weight: Option<String>,
    /// Whether credentials are taken out of what it returns.
    redacts: bool,
    /// The rules that only the reader can complete.
    fill_in: Vec<FillIn>,
    /// Why it cannot stand in a policy by its name.
    unusable: Option<&'static str>,
}

struct Parameter {
    name: String,
    kind: String,
    required: bool,
    description: String,
}

/// A condition on one argument.
enum Bound {
    /// It must be one of these.
    OneOf(String, Vec<String>),
    /// It must be none of these, if it is there.
    NoneOf(String, Vec<String>),
    /// It must not be true.
    NotTrue(String),
}

/// Recommended policies of the tools of one server, graded once.
pub struct Recommendation {
    server: String,
    entries: Vec<Entry>,
}

impl Recommendation {
    /// What is recommended for `tools`, the elements of the list of `server`. Of several of one name the first is meant.
    pub fn of(server: &str, tools: &[Value<'_>], profile: Profile) -> Recommendation {
        Recommendation::of_graded(server, tools.iter().map(|tool| (*tool, grade(*tool, server))), profile)
    }

    /// The same for tools that have been graded already, by [`grade`].
    pub fn of_graded<'t>(
        server: &str,
        tools: impl IntoIterator<Item = (Value<'t>, ToolRisk)>,
        profile: Profile,
    ) -> Recommendation {
        let mut seen: HashSet<String> = HashSet::new();
        let entry = |(tool, risk): (Value<'t>, ToolRisk)| {
            let name = tool.get("name")?.as_str()?.into_owned();
            seen.insert(name.clone()).then(|| Entry::of(name, tool, risk, profile))
        };
        Recommendation { server: server.to_owned(), entries: tools.into_iter().filter_map(entry).collect() }
    }

    /// The policy in YAML, with the grades and the parameters in comments. It loads without a problem, and passes a check against
    /// the very tools it was made from.
    pub fn yaml(&self) -> String {
        let entries = &self.entries;
        let count = entries.len();
        let shown = shortened(&self.server, 80);
        let tools = if count == 1 { "tool" } else { "tools" };
        let mut out = format!(
            "# The {count} {tools} of `{shown}`, graded by `callgate`.\n\
             # Whatever is not named here is refused, and not shown to the agent. Take out what it does not need, and fill in the\n\
             # lines that wait for it: https://github.com/callgate/callgate/blob/main/docs/policy/README.md\n\
             # The descriptions below are the server's own words, shortened.\n\
             version: \"1\"\n\
             description: {}\n\
             default: deny\n",
            quote(&format!("the tools of {shown}")),
        );
        let hidden: Vec<&Entry> = entries.iter().filter(|entry| entry.treatment.hidden && entry.unusable.is_none()).collect();
        if !hidden.is_empty() {
            out.push_str("\n# What they do cannot be undone. To let one be called, move it below.\nhide:\n");
            for entry in &hidden {
                entry.write_description(&mut out);
                let _ = writeln!(out, "  # {}", entry.grade());
                entry.write_why(&mut out);
                let _ = writeln!(out, "  - {}", quote(&entry.name));
            }
        }
        out.push('\n');
        let listed: Vec<&Entry> = entries.iter().filter(|entry| !entry.treatment.hidden || entry.unusable.is_some()).collect();
        if entries.is_empty() {
            out.push_str("# The server lists no tools.\n");
        }
        out.push_str(if listed.iter().all(|entry| entry.unusable.is_some()) { "tools: {}\n" } else { "tools:\n" });
        for (i, entry) in listed.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            entry.write_yaml(&mut out);
        }
        out
    }

    /// The same policy as `policy.json`: no comments, and nothing to fill in.
    pub fn json(&self) -> String {
        let usable = || self.entries.iter().filter(|entry| entry.unusable.is_none());
        let hidden: Vec<String> =
            usable().filter(|entry| entry.treatment.hidden).map(|entry| format!("    {}", quote(&entry.name))).collect();
        let listed: Vec<String> = usable().filter(|entry| !entry.treatment.hidden).map(Entry::json).collect();
        let mut out = String::from("{\n  \"version\": \"1\",\n  \"default\": \"deny\",\n");
        if !hidden.is_empty() {
            let _ = write!(out, "  \"hide\": [\n{}\n  ],\n", hidden.join(",\n"));
        }
        if listed.is_empty() {
            out.push_str("  \"tools\": {}\n}\n");
        } else {
            let _ = write!(out, "  \"tools\": {{\n{}\n  }}\n}}\n", listed.join(",\n"));
        }
        out
    }

    /// What the policy does with the first of the tools, in a few words: `it is hidden`, `it is allowed, at most 10 calls a
    /// minute`, …
    pub fn treatment(&self) -> String {
        self.entries.first().map_or_else(|| "it is refused, having no name".to_owned(), Entry::said)
    }

    /// The tools, each with its grade and what the policy does with it; those without a name are not among them.
    pub fn tools<'r>(&'r self) -> impl Iterator<Item = Recommended<'r>> {
        let recommended = |entry: &'r Entry| Recommended {
            name: &entry.name,
            class: entry.risk.class,
            level: entry.risk.level,
            treatment: entry.said(),
        };
        self.entries.iter().map(recommended)
    }
}

/// One tool of a [`Recommendation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recommended<'r> {
    /// As the server lists it; not to be trusted.
    pub name: &'r str,
    /// What a call may do at worst.
    pub class: RiskClass,
    /// How bad that is.
    pub level: Level,
    /// What the policy does with it, in a few words, as [`Recommendation::treatment`] gives them.
    pub treatment: String,
}

/// [`Recommendation::yaml`] of these tools.
pub fn policy_yaml(server: &str, tools: &[Value<'_>], profile: Profile) -> String {
    Recommendation::of(server, tools, profile).yaml()
}

/// [`Recommendation::json`] of these tools.
pub fn policy_json(server: &str, tools: &[Value<'_>], profile: Profile) -> String {
    Recommendation::of(server, tools, profile).json()
}

/// [`Recommendation::treatment`] of one tool.
pub fn treatment(server: &str, tool: Value<'_>, profile: Profile) -> String {
    Recommendation::of(server, &[tool], profile).treatment()
}

/// A policy that names no tool, but says what becomes of each class: also of tools that the server gets later. What is there
/// now stands in comments. It loads without a problem, and passes a check against the very tools it was made from.
pub fn policy_by_risk(server: &str, tools: &[Value<'_>], profile: Profile) -> String {
    let shown = shortened(server, 80);
    let mut out = format!(
        "# What the tools of `{shown}` may do, as `callgate` grades them; tools that it gets later are graded likewise.\n\
         # The tools of a class share its limits. What is named under `tools` is treated as it says there instead.\n\
         version: \"1\"\ndescription: {}\ndefault: deny\nrisk:\n",
        quote(&format!("the tools of {shown}, by what they may do")),
    );
    let entries = Recommendation::of(server, tools, profile).entries;
    for class in RiskClass::ALL {
        let of_class: Vec<&Entry> = entries.iter().filter(|entry| entry.risk.class == class).collect();
        let names: Vec<String> = of_class.iter().take(MOST_NAMED).map(|entry| shortened(&entry.name, 60)).collect();
        let more = if of_class.len() > names.len() { ", …" } else { "" };
        let now =
            if names.is_empty() { "none now".to_owned() } else { format!("now {}: {}{more}", of_class.len(), names.join(", ")) };
        let _ = writeln!(out, "  # {now}\n  {}: {}", class.key(), Treatment::of(class, profile).of_class());
    }
    out
}

impl Entry {
    fn of(name: String, definition: Value<'_>, risk: ToolRisk, profile: Profile) -> Entry {
        let description = definition.get("description").and_then(Value::as_str).unwrap_or_default();
        let schema = definition.get("inputSchema");
        let unusable = match &name {
            name if policy::visible(name) != name.as_str()
                || name.chars().any(|c| c.is_control() || c.is_whitespace() && c != ' ') =>
            {
                Some("its name holds characters that hide")
            }
            name if name.is_empty() || name.len() > 256 => Some("its name is empty or longer than 256 bytes"),
            name if name.contains(['*', '?']) => Some("its name would be a pattern"),
            name if name.trim() != name => Some("its name begins or ends with white space"),
            _ => None,
        };
        // Where a rule on arguments takes the worst away, the rest of the tool is of use.
        let bounds = match &risk.avoidable {
            Some(avoidable) if profile != Profile::Strict || avoidable.otherwise < RiskClass::Destructive => {
                bounds(avoidable, schema)
            }
            _ => None,
        };
        let class = match (&bounds, &risk.avoidable) {
            (Some(_), Some(avoidable)) => avoidable.otherwise,
            _ => risk.class,
        };
        Entry {
            description: shortened(in_short(&description), 110),
            parameters: parameters(schema),
            treatment: Treatment::of(class, profile),
            bounds: bounds.unwrap_or_default(),
            weight: weight(&risk, schema),
            redacts: profile != Profile::Permissive && risk.signals.contains(&Signal::ReturnsSecrets),
            fill_in: schema.map_or_else(Vec::new, |schema| FillIn::all(&risk.evidence, schema)),
            risk,
            unusable,
            name,
        }
    }

    /// What becomes of it, in a few words.
    fn said(&self) -> String {
        let treatment = &self.treatment;
        if let Some(why) = self.unusable {
            return format!("it is refused, because {why}");
        }
        if treatment.hidden {
            return "it is hidden from the model, and calls are refused".to_owned();
        }
        let mut said = vec![if treatment.asked { "a person is asked before each call" } else { "it is allowed" }.to_owned()];
        match (treatment.pace, &self.weight) {
            (Some(pace), None) => said.push(format!("at most {pace} calls a minute")),
            (Some(pace), Some(list)) => said.push(format!("at most {pace} elements of `{list}` a minute")),
            (None, _) => {}
        }
        match treatment.validates {
            Some(Validates::Required) => said.push("with its required arguments checked".to_owned()),
            Some(Validates::Everything) => said.push("with all its arguments checked".to_owned()),
            None => {}
        }
        if !self.bounds.is_empty() {
            said.push("without the arguments that make it worst".to_owned());
        }
        if self.redacts {
            said.push("with credentials taken out of what it returns (in YAML only)".to_owned());
        }
        said.join(", ")
    }

    /// `Execute, high, sure (3): R8 "Start a workflow run."`
    fn grade(&self) -> String {
        let sure = match self.risk.confidence {
            3 => "",
            2 => ", by inference",
            _ => ", in doubt",
        };
        let mut signals: Vec<&str> = self.risk.signals.iter().map(|signal| signal.name()).collect();
        signals.truncate(8);
        let signals = if signals.is_empty() { String::new() } else { format!("; {}", signals.join(", ")) };
        format!("{}, {}{sure}{signals}", self.risk.class, self.risk.level)
    }

    fn write_why(&self, out: &mut String) {
        if let Some(first) = self.risk.evidence.first() {
            let _ = writeln!(out, "  #   {}: \"{}\" ({})", first.why, shortened(&first.quote, 80), first.rule);
        }
    }

    fn write_description(&self, out: &mut String) {
        if !self.description.is_empty() {
            let _ = writeln!(out, "  # {}", self.description);
        }
    }

    fn write_yaml(&self, out: &mut String) {
        self.write_description(out);
        let width = self.parameters.iter().map(|parameter| parameter.name.chars().count()).max().unwrap_or(0);
        for parameter in &self.parameters {
            let required = if parameter.required { ", required" } else { "" };
            let description =
                if parameter.description.is_empty() { String::new() } else { format!(": {}", parameter.description) };
            let _ = writeln!(out, "  #   {:<width$}  {}{required}{description}", parameter.name, parameter.kind);
        }
        let _ = writeln!(out, "  # {}", self.grade());
        self.write_why(out);
        if let Some(why) = self.unusable {
            let _ = writeln!(out, "  # {} cannot be listed: {why}.", shortened(&self.name, 60));
            return;
        }
        let mut lines = Vec::new();
        if self.treatment.asked {
            lines.push("action: require_approval".to_owned());
        }
        lines.extend(self.pace_yaml());
        lines.extend(self.validate_text());
        // Not in `policy.json`: the published dialect has no word for what comes back.
        if self.redacts {
            lines.push("results: {secrets: redact}".to_owned());
        }
        for (key, bounds) in [("require", self.required_bounds()), ("deny_if", self.denied_bounds())] {
            if !bounds.is_empty() {
                lines.push(format!("{key}:"));
                lines.extend(bounds.into_iter().map(|bound| format!("  - {bound}")));
            }
        }
        let _ = writeln!(out, "  {}:{}", quote(&self.name), if lines.is_empty() { " {}" } else { "" });
        let is_bare = lines.is_empty();
        for line in lines {
            let _ = writeln!(out, "    {line}");
        }
        fill_in::write(&self.fill_in, out, is_bare);
    }

    fn pace_yaml(&self) -> Option<String> {
        let pace = self.treatment.pace?;
        Some(match &self.weight {
            None => format!("rate_limit: {pace}/minute"),
            Some(list) => format!("limits: [{{counter: items, window: minute, max: {pace}, weight: args.{list}.length}}]"),
        })
    }

    fn validate_text(&self) -> Option<String> {
        Some(match self.treatment.validates? {
            Validates::Required => "validate: {required_args: true}".to_owned(),
            Validates::Everything => "validate: {required_args: true, types: true, unknown: deny}".to_owned(),
        })
    }

    fn required_bounds(&self) -> Vec<String> {
        let bound = |bound: &Bound| match bound {
            Bound::OneOf(name, values) => {
                Some(format!("{{conditions: [{{path: {}, op: in, value: [{}]}}]}}", quote(&format!("args.{name}")), list(values)))
            }
            Bound::NoneOf(..) | Bound::NotTrue(_) => None,
        };
        self.bounds.iter().filter_map(bound).collect()
    }

    fn denied_bounds(&self) -> Vec<String> {
        let bound = |bound: &Bound| match bound {
            Bound::OneOf(..) => None,
            Bound::NoneOf(name, values) => {
                Some(format!("{{conditions: [{{path: {}, op: in, value: [{}]}}]}}", quote(&format!("args.{name}")), list(values)))
            }
            Bound::NotTrue(name) => {
                Some(format!("{{conditions: [{{path: {}, op: eq, value: true}}]}}", quote(&format!("args.{name}"))))
            }
        };
        self.bounds.iter().filter_map(bound).collect()
    }

    fn json(&self) -> String {
        let mut members = Vec::new();
        if self.treatment.asked {
            members.push("      \"action\": \"require_approval\"".to_owned());
        }
        for (key, bounds) in [("require", self.json_bounds(true)), ("deny_if", self.json_bounds(false))] {
            if !bounds.is_empty() {
                members.push(format!("      \"{key}\": [\n{}\n      ]", bounds.join(",\n")));
            }
        }
        if let Some(pace) = self.treatment.pace {
            let counter = quote(&format!("{}_rate", self.name.to_lowercase()));
            let weight = self.weight.as_ref().map(|list| format!(", \"weight\": \"args.{list}.length\"")).unwrap_or_default();
            members.push(format!(
                "      \"limits\": [\n        {{ \"counter\": {counter}, \"window\": \"minute\", \"max\": {pace}, \"scope\": \"grant\"{weight} }}\n      ]"
            ));
        }
        if let Some(validates) = self.treatment.validates {
            members.push(match validates {
                Validates::Required => "      \"validate\": { \"required_args\": true }".to_owned(),
                Validates::Everything => {
                    "      \"validate\": { \"required_args\": true, \"types\": true, \"unknown\": \"deny\" }".to_owned()
                }
            });
        }
        if members.is_empty() {
            return format!("    {}: {{}}", quote(&self.name));
        }
        format!("    {}: {{\n{}\n    }}", quote(&self.name), members.join(",\n"))
    }

    fn json_bounds(&self, required: bool) -> Vec<String> {
        let condition = |name: &str, op: &str, value: String| {
            format!(
                "        {{ \"conditions\": [ {{ \"path\": {}, \"op\": \"{op}\", \"value\": {value} }} ] }}",
                quote(&format!("args.{name}"))
            )
        };
        let bound = |bound: &Bound| match bound {
            Bound::OneOf(name, values) if required => Some(condition(name, "in", format!("[{}]", list(values)))),
            Bound::NoneOf(name, values) if !required => Some(condition(name, "in", format!("[{}]", list(values)))),
            Bound::NotTrue(name) if !required => Some(condition(name, "eq", "true".into())),
            _ => None,
        };
        self.bounds.iter().filter_map(bound).collect()
    }
}

impl Treatment {
    /// The rules of a class, on one line.
    fn of_class(&self) -> String {
        if self.hidden {
            return "hide".to_owned();
        }
        let mut rules = Vec::new();
        if self.asked {
            rules.push("action: require_approval".to_owned());
        }
        rules.extend(self.pace.map(|pace| format!("rate_limit: {pace}/minute")));
        rules.extend(self.validates.map(|validates| match validates {
            Validates::Required => "validate: {required_args: true}".to_owned(),
            Validates::Everything => "validate: {required_args: true, types: true, unknown: deny}".to_owned(),
        }));
        format!("{{{}}}", rules.join(", "))
    }

    fn of(class: RiskClass, profile: Profile) -> Treatment {
        let plain = Treatment { hidden: false, asked: false, pace: None, validates: None };
        let hidden = Treatment { hidden: true, ..plain.clone() };
        let asked = |pace: u32, validates: Validates| Treatment {
            asked: true,
            pace: Some(pace),
            validates: Some(validates),
            ..plain.clone()
        };
        let paced = |pace: u32, validates: Option<Validates>| Treatment { pace: Some(pace), validates, ..plain.clone() };
        match (profile, class) {
            (Profile::Strict, RiskClass::Read) => paced(60, Some(Validates::Required)),
            (Profile::Strict, RiskClass::Write) => paced(10, Some(Validates::Everything)),
            (Profile::Strict, RiskClass::Execute) => asked(5, Validates::Everything),
            (Profile::Strict, RiskClass::Destructive | RiskClass::Financial) => hidden,
            (Profile::Recommended | Profile::Permissive, RiskClass::Read) => plain,
            (Profile::Recommended, RiskClass::Write) => paced(30, None),
            (Profile::Recommended, RiskClass::Execute) => paced(10, Some(Validates::Required)),
            (Profile::Recommended, RiskClass::Destructive) => hidden,
            (Profile::Recommended, RiskClass::Financial) => asked(5, Validates::Everything),
            (Profile::Permissive, RiskClass::Write) => paced(120, None),
            (Profile::Permissive, RiskClass::Execute) => paced(60, Some(Validates::Required)),
            (Profile::Permissive, RiskClass::Destructive | RiskClass::Financial) => asked(10, Validates::Required),
        }
    }
}

/// The conditions that keep the worst away; `None` where they cannot be written.
fn bounds(avoidable: &Avoidable, schema: Option<Value<'_>>) -> Option<Vec<Bound>> {
    let schema = schema?;
    let bound = |argument: &Avoided| {
        let property = schema.get("properties")?.get(&argument.name)?;
        if argument.values.is_empty() {
            return property.get("type")?.says("boolean").then(|| Bound::NotTrue(argument.name.clone()));
        }
        let listed: Option<Vec<String>> =
            property.get("enum")?.elements()?.map(|value| Some(value.as_str()?.into_owned())).collect();
        let allowed: Vec<String> = listed?.into_iter().filter(|value| !argument.values.contains(value)).collect();
        if allowed.is_empty() {
            return None;
        }
        // A value that is left out could be the one that deletes; where it may be, what is refused is named instead.
        Some(if is_required(schema, &argument.name) {
            Bound::OneOf(argument.name.clone(), allowed)
        } else {
            let default = property.get("default").and_then(Value::as_str);
            if default.is_some_and(|default| argument.values.iter().any(|value| *value == default)) {
                return None;
            }
            Bound::NoneOf(argument.name.clone(), argument.values.clone())
        })
    };
    avoidable.arguments.iter().map(bound).collect()
}

/// The required list of a batch: one call weighs what it holds.
fn weight(risk: &ToolRisk, schema: Option<Value<'_>>) -> Option<String> {
    let schema = schema?;
    let batch = risk.evidence.iter().filter(|evidence| evidence.supports == Supports::Signal(Signal::Batch));
    let mut names = batch.filter_map(|evidence| evidence.at.strip_prefix("inputSchema.properties."));
    let is_list = |name: &&str| {
        let property = schema.get("properties").and_then(|all| all.get(name));
        paths::is_plain(name)
            && is_required(schema, name)
            && property.and_then(|list| list.get("type")).is_some_and(|kind| kind.says("array"))
    };
    names.find(is_list).map(str::to_owned)
}

fn list(values: &[String]) -> String {
    values.iter().map(|value| quote(value)).collect::<Vec<_>>().join(", ")
}

fn parameters(schema: Option<Value<'_>>) -> Vec<Parameter> {
    let Some(schema) = schema else { return Vec::new() };
    let properties = schema.get("properties").and_then(Value::members).into_iter().flatten();
    let parameter = |member: json::Member<'_>| Parameter {
        kind: kind_of(member.value),
        required: is_required(schema, &member.key),
        description: member.value.get("description").and_then(Value::as_str).map(|text| shortened(&text, 70)).unwrap_or_default(),
        name: shortened(&member.key, 60),
    };
    properties.map(parameter).collect()
}

/// The type in a word or two: `string`, `integer or null`, `one of 3 words`.
fn kind_of(schema: Value<'_>) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut add = |value: Value<'_>| {
        if let Some(word) = value.as_str().map(|word| shortened(&word, 20)).filter(|word| !words.contains(word)) {
            words.push(word);
        }
    };
    match schema.get("type") {
        Some(kind) if kind.kind() == Kind::Array => kind.elements().into_iter().flatten().for_each(&mut add),
        Some(kind) => add(kind),
        None => {
            let alternatives = ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(key)?.elements()).flatten();
            alternatives.filter_map(|schema| schema.get("type")).for_each(&mut add);
        }
    }
    let allowed = schema.get("enum").and_then(Value::elements).map(Iterator::count);
    let kind = if words.is_empty() { "any".to_owned() } else { words.join(" or ") };
    match allowed {
        Some(count) => format!("{kind}, one of {count}"),
        None => kind,
    }
}

/// A description without the sections in which many tell their arguments and results: the arguments stand below it.
fn in_short(description: &str) -> &str {
    let mut end = 0;
    for line in description.split_inclusive('\n') {
        let heading = line.trim().trim_start_matches(['#', '*', ' ']).trim_end_matches(['*', ':', ' ']);
        let is_section = SECTIONS.iter().any(|section| heading.eq_ignore_ascii_case(section));
        if is_section && !description[..end].trim().is_empty() {
            return &description[..end];
        }
        end += line.len();
    }
    description
}

const SECTIONS: [&str; 8] = ["args", "arguments", "parameters", "params", "returns", "response", "error responses", "examples"];

/// More tools of a class are not named in its comment.
const MOST_NAMED: usize = 12;

/// On one line, with nothing that hides, at most so many characters.
fn shortened(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = policy::visible(&line);
    if shown.chars().count() <= most {
        return shown.into_owned();
    }
    let kept: String = shown.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}
