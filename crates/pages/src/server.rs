//! Pages of one server.

use crate::part::{Page, Part, Piece, counted, first_line, link, text};
use crate::places::{address, of_high_risk, of_server, of_tool};
use catalogue::{Level, Profile, RiskClass, policy_json, policy_yaml};
use collection::{Registry, Server, Tool, is_package};
use json::{Value, quote};

/// Everything about a server; `others` are its other versions.
pub(crate) fn page(server: &Server, tools: &[Tool], others: &[Server]) -> Page {
    let facts = &server.facts;
    let mut parts = vec![Part::Paragraph(vec![text(format!("{}: {}.", server.designation(), counted(server.tools, "tool")))])];
    if let Some(problem) = &facts.problem {
        parts.push(Part::Paragraph(vec![text("It could not be asked: "), Piece::Code(problem.clone())]));
    }
    parts.push(Part::Chart(server.classes));
    let dangerous = tools.iter().filter(|tool| tool.risk.level >= Level::High).count() as u64;
    if dangerous > 0 {
        let said = format!("{} of high or critical risk, with their policies", counted(dangerous, "tool"));
        parts.push(Part::Paragraph(vec![link(said, of_high_risk(&address(server)))]));
    }
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
        let definitions: Vec<Value<'_>> = tools.iter().map(|tool| tool.definition.root()).collect();
        parts.push(Part::Heading(2, "Recommended policy".into()));
        parts.extend(policies(server, &definitions));
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
    let data = format!("{{\"server\":{},\"tools\":[{}]}}", summary_json(server), risks.join(","));
    let classes = RiskClass::ALL.iter().zip(server.classes).filter(|(_, count)| *count > 0);
    let classes: Vec<String> = classes.map(|(class, count)| format!("{count} {class}")).collect();
    let summary = format!("The {} of {}: {}.", counted(server.tools, "tool"), facts.name, classes.join(", "));
    Page { title: address(server), summary, parts, data }
}

/// The tools of a server that deserve attention, each with its policy.
pub(crate) fn high_risk(server: &Server, tools: &[Tool]) -> Page {
    let mut dangerous: Vec<&Tool> = tools.iter().filter(|tool| tool.risk.level >= Level::High).collect();
    dangerous.sort_by_key(|tool| std::cmp::Reverse((tool.risk.level, tool.risk.class)));
    let facts = &server.facts;
    let summary = format!("{} of {} with a level of high or critical.", counted(dangerous.len() as u64, "tool"), facts.name);
    let mut parts = vec![Part::Paragraph(vec![text(summary.clone())])];
    if !dangerous.is_empty() {
        parts.push(table(server, dangerous.iter().copied()));
        let definitions: Vec<Value<'_>> = dangerous.iter().map(|tool| tool.definition.root()).collect();
        parts.push(Part::Heading(2, "Their policy".into()));
        parts.push(Part::Paragraph(vec![text("It refuses every tool that it does not name.")]));
        parts.extend(policies(server, &definitions));
    }
    let risks: Vec<String> = dangerous.iter().map(|tool| tool.risk.to_json(&facts.name, &tool.name)).collect();
    Page { title: format!("High-risk tools of {}", address(server)), summary, parts, data: format!("[{}]", risks.join(",")) }
}

/// The recommended policy in both forms.
pub(crate) fn policies(server: &Server, tools: &[Value<'_>]) -> [Part; 2] {
    let name = &server.facts.name;
    [
        Part::Code { label: "policy.yaml".into(), text: policy_yaml(name, tools, Profile::Recommended) },
        Part::Code { label: "policy.json".into(), text: policy_json(name, tools, Profile::Recommended) },
    ]
}

/// Tools with their grades.
pub(crate) fn table<'t>(server: &Server, tools: impl Iterator<Item = &'t Tool>) -> Part {
    let row = |tool: &Tool| {
        let description = tool.definition.root().get("description").and_then(Value::as_str).unwrap_or_default().into_owned();
        let signals: Vec<&str> = tool.risk.signals.iter().map(|signal| signal.name()).collect();
        vec![
            vec![link(&tool.name, of_tool(&address(server), &tool.name))],
            vec![Piece::Badge(tool.risk.class, tool.risk.level)],
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
