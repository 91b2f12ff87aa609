//! Pages of one server.

use crate::known::Known;
use crate::part::{Page, Part, Piece, code, counted, first_line, grade, link, marked, risk, text};
use crate::places::{address, of_high_risk, of_server, of_tool};
use catalogue::{Flaw, Inspection, Level, Recommendation, RiskClass, Subject, Suspicion, Weight};
use collection::{Registry, Server, Tool, is_package};
use json::{Value, quote};
use std::collections::BTreeMap;

/// Everything about a server; `others` are its other versions.
pub(crate) fn page(known: &Known, others: &[Server]) -> Page {
    let (server, tools) = (&known.server, &known.tools);
    let facts = &server.facts;
    let mut first = vec![text(format!("{}: {}.", server.designation(), counted(server.tools, "tool")))];
    let inspection = known.inspection();
    if let Some(inspection) = inspection {
        first.extend([text(" Grade by what its definitions say: "), grade(inspection.grade)]);
    }
    let mut parts = vec![Part::Paragraph(first)];
    if let Some(problem) = &facts.problem {
        parts.push(Part::Paragraph(vec![text("It could not be asked: "), code(problem.as_str())]));
    }
    if !tools.is_empty() {
        parts.push(Part::Chart(server.classes));
    }
    let dangerous = tools.iter().filter(|tool| tool.risk.level >= Level::High).count() as u64;
    if dangerous > 0 {
        let said = format!("{} of high or critical risk, with their policies", counted(dangerous, "tool"));
        parts.push(Part::Paragraph(vec![link(said, of_high_risk(&address(server)))]));
    }
    parts.extend(inspection.iter().flat_map(|inspection| found(server, inspection)));
    if let Some(command) = command(server) {
        parts.push(Part::Heading(2, "Start it behind Callgate".into()));
        parts.push(Part::Code {
            label: "With the policy below as policy.yaml".into(),
            text: format!("callgate run -p policy.yaml -- {command}"),
        });
    }
    if !tools.is_empty() {
        parts.push(Part::Heading(2, "Tools".into()));
        parts.push(table(server, tools.iter()));
        parts.push(Part::Heading(2, "Recommended policy".into()));
        parts.extend(policies(&known.recommendation(tools)));
    }
    if let Some(instructions) = &facts.instructions {
        parts.push(Part::Heading(2, "What it tells the model".into()));
        parts.push(Part::Quote(instructions.clone()));
    }
    if !others.is_empty() {
        parts.push(Part::Heading(2, "Other versions".into()));
        let item = |other: &Server| {
            vec![link(other.designation(), of_server(&address(other))), text(format!(": {}", counted(other.tools, "tool")))]
        };
        parts.push(Part::List(others.iter().map(item).collect()));
    }
    let risks: Vec<String> = tools.iter().map(|tool| tool.risk.to_json(&facts.name, &tool.name)).collect();
    let inspection = inspection.map_or("null".to_owned(), |inspection| inspection.to_json());
    let data = format!("{{\"server\":{},\"inspection\":{inspection},\"tools\":[{}]}}", summary_json(server), risks.join(","));
    let classes = RiskClass::ALL.iter().zip(server.classes).filter(|(_, count)| *count > 0);
    let classes: Vec<String> = classes.map(|(class, count)| format!("{count} {class}")).collect();
    let summary = match &facts.problem {
        Some(_) => format!("{} could not be asked what it has.", facts.name),
        None => format!("The {} of {}: {}.", counted(server.tools, "tool"), facts.name, classes.join(", ")),
    };
    Page { title: address(server), summary, parts, data }
}

/// The tools of a server that deserve attention, each with its policy.
pub(crate) fn high_risk(known: &Known) -> Page {
    let server = &known.server;
    let mut dangerous: Vec<&Tool> = known.tools.iter().filter(|tool| tool.risk.level >= Level::High).collect();
    dangerous.sort_by_key(|tool| std::cmp::Reverse((tool.risk.level, tool.risk.class)));
    let facts = &server.facts;
    let summary = format!("{} of {} with a level of high or critical.", counted(dangerous.len() as u64, "tool"), facts.name);
    let back = link("All of its tools", of_server(&address(server)));
    let mut parts = vec![Part::Paragraph(vec![text(format!("{summary} ")), back])];
    if !dangerous.is_empty() {
        parts.push(table(server, dangerous.iter().copied()));
        parts.push(Part::Heading(2, "Their policy".into()));
        parts.push(Part::Paragraph(vec![text("It refuses every tool that it does not name.")]));
        parts.extend(policies(&known.recommendation(dangerous.iter().copied())));
    }
    let risks: Vec<String> = dangerous.iter().map(|tool| tool.risk.to_json(&facts.name, &tool.name)).collect();
    Page { title: format!("High-risk tools of {}", address(server)), summary, parts, data: format!("[{}]", risks.join(",")) }
}

/// What was found in its definitions: what is grave one by one, remarks counted.
fn found(server: &Server, inspection: &Inspection) -> Vec<Part> {
    let (remarks, grave): (Vec<&Flaw>, Vec<&Flaw>) = inspection.findings.iter().partition(|flaw| flaw.weight == Weight::Remark);
    let mut items: Vec<Vec<Piece>> = grave.iter().take(MOST_FLAWS).map(|flaw| of_part(server, flaw)).collect();
    if grave.len() > MOST_FLAWS {
        items.push(vec![text(format!("and {} more, on the pages of the tools", grave.len() - MOST_FLAWS))]);
    }
    let mut counts: BTreeMap<Suspicion, u64> = BTreeMap::new();
    for flaw in remarks {
        *counts.entry(flaw.rule).or_default() += 1;
    }
    items.extend(counts.into_iter().map(|(rule, count)| {
        vec![text(format!("{}: {} (", counted(count, "remark"), rule.meaning())), code(rule.id()), text(")")]
    }));
    if items.is_empty() {
        return Vec::new();
    }
    vec![Part::Heading(2, "What was found in its definitions".into()), Part::List(items)]
}

/// A flaw, with the part of the server that has it.
fn of_part(server: &Server, flaw: &Flaw) -> Vec<Piece> {
    let mut pieces = match &flaw.subject {
        None => vec![text("the server itself")],
        Some(Subject::Instructions) => vec![text("what it tells the model")],
        Some(Subject::Prompt(name)) => vec![text("prompt "), code(name.as_str())],
        Some(Subject::Tool(name)) => vec![link(name.as_str(), of_tool(&address(server), name))],
    };
    pieces.push(text(": "));
    pieces.extend(said(flaw));
    pieces
}

/// What a flaw is, where it stands, and in which words.
pub(crate) fn said(flaw: &Flaw) -> Vec<Piece> {
    let mut pieces = vec![text(format!("{}: ", flaw.weight.name()))];
    pieces.extend(marked(&flaw.why));
    if !flaw.path.is_empty() {
        pieces.extend([text(" ("), code(flaw.path.as_str()), text(")")]);
    }
    pieces.push(text(format!(": “{}”", first_line(&flaw.quote))));
    pieces
}

/// Whoever has so many has been understood.
const MOST_FLAWS: usize = 50;

/// A recommended policy in both forms.
pub(crate) fn policies(recommended: &Recommendation) -> [Part; 2] {
    let code = |label: &str, text| Part::Code { label: label.into(), text };
    [code("policy.yaml", recommended.yaml()), code("policy.json", recommended.json())]
}

/// Tools with their grades.
pub(crate) fn table<'t>(server: &Server, tools: impl Iterator<Item = &'t Tool>) -> Part {
    let row = |tool: &Tool| {
        let description = tool.definition.root().get("description").and_then(Value::as_str).unwrap_or_default().into_owned();
        let signals: Vec<&str> = tool.risk.signals.iter().map(|signal| signal.name()).collect();
        vec![
            vec![link(&tool.name, of_tool(&address(server), &tool.name))],
            vec![risk(tool.risk.class, tool.risk.level)],
            vec![text(first_line(&description))],
            vec![text(signals.join(", "))],
        ]
    };
    let heads = vec!["tool", "risk", "what it does", "signals"];
    Part::Table { caption: "As the server lists them".into(), heads, rows: tools.map(row).collect() }
}

/// How the server is started, where a registry has it. Captures may say anything: what is no package is nothing to be pasted into
/// a shell.
fn command(server: &Server) -> Option<String> {
    let facts = &server.facts;
    let program = match facts.registry {
        Registry::Npm => "npx -y",
        Registry::Pypi => "uvx",
        Registry::Command | Registry::Url | Registry::Unknown => return None,
    };
    is_package(facts.registry, &facts.package, &facts.version).then(|| format!("{program} {}@{}", facts.package, facts.version))
}

/// What a server is, as JSON.
pub(crate) fn summary_json(server: &Server) -> String {
    let facts = &server.facts;
    let classes = RiskClass::ALL.iter().zip(server.classes).map(|(class, count)| format!("\"{class}\":{count}"));
    let classes: Vec<String> = classes.collect();
    format!(
        "{{\"name\":{},\"package\":{},\"version\":{},\"registry\":\"{}\",\"problem\":{},\"tools\":{},\"classes\":{{{}}}}}",
        quote(&facts.name),
        quote(&facts.package),
        quote(&facts.version),
        facts.registry,
        facts.problem.as_deref().map_or("null".to_owned(), quote),
        server.tools,
        classes.join(",")
    )
}
