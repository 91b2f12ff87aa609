//! The page of one tool.

use crate::part::{Page, Part, Piece, first_line, link, text};
use crate::places::{address, of_server, of_tool, slug};
use crate::server::policies;
use catalogue::{RiskClass, Supports};
use collection::{Server, Tool};
use json::{Kind, Value, quote};

/// The page of the tool with this slug.
pub(crate) fn page(server: &Server, tools: &[Tool], wanted: &str) -> Option<Page> {
    let tool = tools.iter().find(|tool| slug(&tool.name) == wanted)?;
    let definition = tool.definition.root();
    let risk = &tool.risk;
    let mut parts = vec![Part::Paragraph(vec![
        Piece::Badge(risk.class, risk.level),
        text(" A tool of "),
        link(server.designation(), of_server(&address(server))),
        text("."),
    ])];
    let said = definition.get("description").and_then(Value::as_str).unwrap_or_default();
    if !said.is_empty() {
        parts.push(Part::Heading(2, "What it does".into()));
        parts.push(Part::Paragraph(vec![text("In the server's own words:")]));
        parts.push(Part::Quote(said.clone().into_owned()));
    }
    parts.push(Part::Heading(2, if risk.class == RiskClass::Read { "Why it is Read" } else { "Why it needs a policy" }.into()));
    parts.push(Part::List(evidence(tool, true)));
    parts.extend(parameters(definition));
    if !risk.signals.is_empty() {
        parts.push(Part::Heading(2, "Signals".into()));
        parts.push(Part::List(evidence(tool, false)));
    }
    parts.push(Part::Heading(2, "Recommended policy".into()));
    parts.extend(policies(server, &[definition]));
    let same: Vec<&Tool> = tools.iter().filter(|other| other.risk.class == risk.class && other.id != tool.id).take(12).collect();
    if !same.is_empty() {
        parts.push(Part::Heading(2, format!("Other {} tools of this server", risk.class)));
        let item = |other: &&Tool| vec![link(&other.name, of_tool(&address(server), &other.name))];
        parts.push(Part::List(same.iter().map(item).collect()));
    }
    parts.push(Part::Heading(2, "Questions and answers".into()));
    parts.extend(questions(tool));
    let definitions = [definition];
    let [yaml, json] = [
        catalogue::policy_yaml(&server.facts.name, &definitions, catalogue::Profile::Recommended),
        catalogue::policy_json(&server.facts.name, &definitions, catalogue::Profile::Recommended),
    ];
    let data = format!(
        "{{\"server\":{},\"tool\":{},\"risk\":{},\"definition\":{},\"policyYaml\":{},\"policyJson\":{}}}",
        quote(&server.facts.name),
        quote(&tool.name),
        risk.to_json(&server.facts.name, &tool.name),
        definition.canonical(),
        quote(&yaml),
        quote(&json)
    );
    let summary = format!("{} of {}: {}, {}. {}", tool.name, server.facts.name, risk.class, risk.level, first_line(&said));
    Some(Page { title: tool.name.clone(), summary, parts, data })
}

/// What the class rests on, or the signals.
fn evidence(tool: &Tool, of_class: bool) -> Vec<Vec<Piece>> {
    let wanted = tool.risk.evidence.iter().filter(|one| matches!(one.supports, Supports::Class(_)) == of_class);
    let item = |one: &catalogue::Evidence| {
        let before = match one.supports {
            Supports::Class(class) => format!("{class}: {} (", one.why),
            Supports::Signal(signal) => format!("{signal}: {} (", one.why),
        };
        vec![text(before), Piece::Code(one.at.clone()), text(format!("): “{}”", first_line(&one.quote)))]
    };
    wanted.map(item).collect()
}

fn parameters(definition: Value<'_>) -> Vec<Part> {
    let Some(schema) = definition.get("inputSchema") else { return Vec::new() };
    let required = |name: &str| schema.get("required").and_then(Value::elements).into_iter().flatten().any(|one| one.says(name));
    let row = |member: json::Member<'_>| {
        let said = member.value.get("description").and_then(Value::as_str).unwrap_or_default();
        vec![
            vec![Piece::Code(member.key.to_string())],
            vec![text(kind(member.value))],
            vec![text(if required(&member.key) { "yes" } else { "" })],
            vec![text(first_line(&said))],
        ]
    };
    let rows: Vec<_> = schema.get("properties").and_then(Value::members).into_iter().flatten().take(MOST_ROWS).map(row).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let heads = vec!["name", "type", "required", "what it is"];
    vec![Part::Heading(2, "Parameters".into()), Part::Table { caption: "At the top of its schema".into(), heads, rows }]
}

const MOST_ROWS: usize = 500;

/// The types that a schema allows, itself or by its alternatives: `string or null`.
fn kind(schema: Value<'_>) -> String {
    let named = |schema: Value<'_>| -> Vec<String> {
        let Some(kind) = schema.get("type") else { return Vec::new() };
        let one = (kind.kind() == Kind::String).then_some(kind);
        let all = one.into_iter().chain(kind.elements().into_iter().flatten());
        all.filter_map(|kind| Some(kind.as_str()?.into_owned())).collect()
    };
    let alternatives = ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(key)?.elements()).flatten();
    let mut kinds: Vec<String> = named(schema).into_iter().chain(alternatives.flat_map(named)).collect();
    kinds.dedup();
    kinds.truncate(8);
    kinds.join(" or ")
}

fn questions(tool: &Tool) -> Vec<Part> {
    let (name, risk) = (&tool.name, &tool.risk);
    let worst = match risk.class {
        RiskClass::Read => "It returns information and leaves nothing behind that anybody else could notice.",
        RiskClass::Write => "It creates or changes something that an ordinary further call can put back.",
        RiskClass::Execute => "It sets something going, or sends something off, whose effect its arguments or others decide.",
        RiskClass::Destructive => "It removes or overwrites something that no ordinary call brings back.",
        RiskClass::Financial => "It moves money, or binds somebody to pay it.",
    };
    let treated = match risk.class {
        RiskClass::Read => "It is allowed.",
        RiskClass::Write => "It is allowed 30 times a minute.",
        RiskClass::Execute => "It is allowed 10 times a minute, with its required arguments checked.",
        RiskClass::Destructive => "It is hidden: the model does not see it, and calls are refused.",
        RiskClass::Financial => "It is refused, or waits for a person.",
    };
    let sure = match risk.confidence {
        3 => "The definition says it in so many words.",
        2 => "It is inferred from the definition, or an annotation contradicts.",
        _ => "A second careful reader may well differ; in doubt a tool is never graded Read.",
    };
    vec![
        Part::Question(format!("What is the worst that a call of {name} can do?"), worst.to_owned()),
        Part::Question(
            "What does the recommended policy do with it?".to_owned(),
            format!("{treated} Rules on single arguments may narrow that."),
        ),
        Part::Question("How sure is the grade?".to_owned(), format!("{sure} What the code does, a definition does not prove.")),
    ]
}
