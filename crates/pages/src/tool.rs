//! The page of one tool.

use crate::attack;
use crate::known::Known;
use crate::part::{Page, Part, Piece, code, first_line, link, risk, text};
use crate::places::{address, of_server, of_tool, slug};
use crate::server::{policies, said};
use catalogue::attacks::{self, Applies, Attack};
use catalogue::{Recommendation, RiskClass, Supports};
use collection::Tool;
use json::{Kind, Value, quote};

/// The page of the tool with this slug.
pub(crate) fn page(known: &Known, wanted: &str) -> Option<Page> {
    let (server, tools) = (&known.server, &known.tools);
    let tool = tools.iter().find(|tool| slug(&tool.name) == wanted)?;
    let definition = tool.definition.root();
    let class = tool.risk.class;
    let mut parts = vec![Part::Paragraph(vec![
        risk(class, tool.risk.level),
        text(" A tool of "),
        link(server.designation(), of_server(&address(server))),
        text("."),
    ])];
    let description = definition.get("description").and_then(Value::as_str).unwrap_or_default();
    if !description.is_empty() {
        parts.push(Part::Heading(2, "What it does".into()));
        parts.push(Part::Paragraph(vec![text("In the server's own words:")]));
        parts.push(Part::Quote(description.clone().into_owned()));
    }
    parts.push(Part::Heading(2, if class == RiskClass::Read { "Why it is Read" } else { "Why it needs a policy" }.into()));
    parts.push(Part::List(evidence(tool, true)));
    let flaws: Vec<Vec<Piece>> = known.flaws_of(tool).take(MOST_ROWS).map(said).collect();
    if !flaws.is_empty() {
        parts.push(Part::Heading(2, "What was found in its definition".into()));
        parts.push(Part::List(flaws));
    }
    parts.extend(parameters(definition));
    if !tool.risk.signals.is_empty() {
        parts.push(Part::Heading(2, "Signals".into()));
        parts.push(Part::List(evidence(tool, false)));
    }
    parts.push(Part::Heading(2, "Recommended policy".into()));
    let recommended = known.recommendation([tool]);
    parts.extend(policies(&recommended));
    let applying = applying(tool);
    parts.extend(documented(&applying));
    let same: Vec<&Tool> = tools.iter().filter(|other| other.risk.class == class && other.id != tool.id).take(12).collect();
    if !same.is_empty() {
        parts.push(Part::Heading(2, format!("Other {class} tools of this server")));
        let item = |other: &&Tool| vec![link(&other.name, of_tool(&address(server), &other.name))];
        parts.push(Part::List(same.iter().map(item).collect()));
    }
    parts.push(Part::Paragraph(vec![link(format!("{class} tools of all servers"), format!("class/{class}"))]));
    parts.push(Part::Heading(2, "Questions and answers".into()));
    let (name, yaml) = (&server.facts.name, recommended.yaml());
    parts.extend(questions(tool, &recommended, &yaml));
    let data = format!(
        "{{\"server\":{},\"tool\":{},\"risk\":{},\"definition\":{},\"attacks\":[{}],\"policyYaml\":{},\"policyJson\":{}}}",
        quote(name),
        quote(&tool.name),
        tool.risk.to_json(name, &tool.name),
        definition.canonical(),
        applying.iter().map(applying_json).collect::<Vec<_>>().join(","),
        quote(&yaml),
        quote(&recommended.json())
    );
    let summary = format!("{} of {name}: {class}, {}. {}", tool.name, tool.risk.level, first_line(&description));
    Some(Page { title: tool.name.clone(), summary, parts, data })
}

/// An attack, and each place of the tool where it applies.
type Applying = (&'static Attack, Vec<Applies<'static>>);

fn applying(tool: &Tool) -> Vec<Applying> {
    attacks::applying(tool.definition.root(), &tool.risk)
}

fn documented(applying: &[Applying]) -> Vec<Part> {
    let mut parts = vec![Part::Heading(2, "Documented attacks that apply".into())];
    if applying.is_empty() {
        parts.push(Part::Paragraph(vec![text("None of "), link("those that are known here", "attacks"), text(".")]));
        return parts;
    }
    let row = |(attack, places): &Applying| {
        let why: Vec<&str> = places.iter().map(|place| place.because.as_str()).collect();
        attack::row(attack, &why.join("; "))
    };
    parts.push(Part::Paragraph(vec![
        text("They were done to other products that gave the same way in. Which of them a policy stops, "),
        code("callgate attacks test --policy policy.yaml --tools tools.json"),
        text(" says."),
    ]));
    let caption = "What was done, and what Callgate does about it".into();
    parts.push(Part::Table {
        caption,
        heads: vec!["attack", "why it applies", "callgate"],
        rows: applying.iter().map(row).collect(),
    });
    parts
}

/// `{"id", "places": [{"argument", "because"}]}`
fn applying_json((attack, places): &Applying) -> String {
    let place = |place: &Applies<'_>| {
        let argument = place.argument.as_deref().map_or("null".to_owned(), quote);
        format!("{{\"argument\":{argument},\"because\":{}}}", quote(&place.because))
    };
    let places: Vec<String> = places.iter().map(place).collect();
    format!("{{\"id\":\"{}\",\"places\":[{}]}}", attack.id, places.join(","))
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

fn questions(tool: &Tool, recommended: &Recommendation, policy: &str) -> Vec<Part> {
    let (name, risk) = (&tool.name, &tool.risk);
    let worst = match risk.class {
        RiskClass::Read => "It returns information and leaves nothing behind that anybody else could notice.",
        RiskClass::Write => "It creates or changes something that an ordinary further call can put back.",
        RiskClass::Execute => "It sets something going, or sends something off, whose effect its arguments or others decide.",
        RiskClass::Destructive => "It removes or overwrites something that no ordinary call brings back.",
        RiskClass::Financial => "It moves money, or binds somebody to pay it.",
    };
    let treated = recommended.treatment();
    let further = if policy.contains("FILL-IN") { " Lines that wait to be filled in narrow that further." } else { "" };
    let sure = match risk.confidence {
        3 => "The definition says it in so many words.",
        2 => "It is inferred from the definition, or an annotation contradicts.",
        _ => "A second careful reader may well differ; in doubt a tool is never graded Read.",
    };
    vec![
        Part::Question(format!("What is the worst that a call of {name} can do?"), worst.to_owned()),
        Part::Question("What does the recommended policy do with it?".to_owned(), format!("In short, {treated}.{further}")),
        Part::Question("How sure is the grade?".to_owned(), format!("{sure} What the code does, a definition does not prove.")),
    ]
}
