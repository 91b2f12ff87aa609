//! Documented attacks: one page of all, and one of each.

use crate::part::{Page, Part, Piece, anchor, code, counted, in_line, link, marked, reach, text};
use catalogue::attacks::{self, Attack, AttackClass, Control, Reach, Use};

/// Where the page of an attack is.
pub(crate) fn path_of(id: &str) -> String {
    format!("attacks/{id}")
}

/// All attacks, by class.
pub(crate) fn index() -> Page {
    let all = attacks::all();
    let [stopped, limited, beyond] = Reach::ALL.map(|reach| all.iter().filter(|attack| attack.reach == reach).count());
    let summary = format!("{} documented attacks: {stopped} stopped, {limited} limited, {beyond} out of reach.", all.len());
    let mut parts = vec![
        Part::Paragraph(vec![text(summary.clone())]),
        Part::Facts(vec![
            (
                "stopped",
                vec![text("with the policy on its page, an attack does not get through; a case that is played shows it")],
            ),
            ("limited", vec![text("a part of it does not; what remains is said")]),
            ("out of reach", vec![text("nothing of it passes a gateway, or nothing that passes tells it from honest work")]),
        ]),
        Part::Heading(2, "By class".into()),
        Part::Table {
            caption: "What attacks of a class are, and how far a gateway gets".into(),
            heads: vec!["class", "attacks", "stopped", "limited", "out of reach"],
            rows: classes().map(|(class, of_class)| class_row(class, &of_class)).collect(),
        },
        Part::Heading(2, "By control".into()),
        Part::Table {
            caption: "What stops them, here and elsewhere".into(),
            heads: vec!["control", "what it is", "attacks"],
            rows: Control::ALL.into_iter().filter_map(control_row).collect(),
        },
    ];
    for (class, of_class) in classes() {
        parts.push(Part::Heading(2, class.title.clone()));
        parts.push(Part::Paragraph(marked(&class.works).collect()));
        parts.push(table(class, &of_class));
    }
    let one = |attack: &Attack| {
        let controls: Vec<String> = attack.controls.iter().map(|used| format!("\"{}\"", used.control)).collect();
        format!(
            r#"{{"id":"{}","title":{},"class":"{}","reach":"{}","controls":[{}]}}"#,
            attack.id,
            json::quote(&attack.title),
            main_class(attack).name,
            attack.reach,
            controls.join(",")
        )
    };
    let data: Vec<String> = all.iter().map(one).collect();
    Page { title: "Documented attacks".into(), summary, parts, data: format!("[{}]", data.join(",")) }
}

/// One attack: what happened, what stops it, and the proof.
pub(crate) fn page(attack: &Attack) -> Page {
    let class = main_class(attack);
    let mut parts = vec![
        Part::Paragraph(vec![reach(attack.reach), text(" "), link(class.title.as_str(), place_of(class))]),
        Part::Facts(facts(attack)),
        Part::Heading(2, "What happened".into()),
        Part::Paragraph(marked(&attack.happened).collect()),
        Part::Heading(2, "How attacks of this class work".into()),
        Part::Paragraph(marked(&class.works).collect()),
        Part::Heading(2, "What stops it".into()),
    ];
    parts.push(match attack.controls.as_slice() {
        [] => Part::Paragraph(vec![text("No gateway.")]),
        controls => Part::List(controls.iter().map(used).collect()),
    });
    if let Some(remains) = &attack.remains {
        parts.push(Part::Heading(3, "What remains".into()));
        parts.push(Part::Paragraph(marked(remains).collect()));
    }
    if !attack.elsewhere.is_empty() {
        parts.push(Part::Heading(3, "What helps elsewhere".into()));
        parts.push(Part::List(attack.elsewhere.iter().map(used).collect()));
    }
    parts.extend(policies(attack));
    parts.extend(proof(attack));
    if let Some(note) = &attack.note {
        parts.push(Part::Heading(2, "Note".into()));
        parts.push(Part::Paragraph(marked(note).collect()));
    }
    parts.push(Part::Heading(2, "Sources".into()));
    let source = |source: &attacks::AttackSource| {
        vec![Piece::Away(source.url.clone(), source.url.clone()), text(format!(" ({})", source.seen.describe()))]
    };
    parts.push(Part::List(attack.sources.iter().map(source).collect()));
    let mut others: Vec<&Attack> =
        attacks::all().iter().filter(|other| other.is_of(&class.name) && other.id != attack.id).collect();
    others.sort_by_key(|other| main_class(other).name != class.name);
    others.truncate(MOST_OTHERS);
    if !others.is_empty() {
        parts.push(Part::Heading(2, "Others of its class".into()));
        parts.push(Part::List(others.iter().map(|other| vec![link(other.title.as_str(), path_of(&other.id))]).collect()));
    }
    let summary = format!("{}, {}. {}", class.title, said(attack.reach), crate::part::first_line(&attack.happened));
    Page { title: attack.title.clone(), summary, parts, data: attack.to_json() }
}

/// Attacks as rows, for the page of a tool too: why each applies comes from there.
pub(crate) fn row(attack: &Attack, why: &str) -> Vec<Vec<Piece>> {
    vec![vec![link(attack.title.as_str(), path_of(&attack.id))], marked(why).collect(), vec![reach(attack.reach)]]
}

fn table(class: &AttackClass, of_class: &[&Attack]) -> Part {
    let row = |attack: &&Attack| {
        let controls = attack.controls.iter().map(|used| code(used.control.name()));
        vec![
            vec![link(attack.title.as_str(), path_of(&attack.id))],
            vec![text(attack.date.as_str())],
            vec![reach(attack.reach)],
            in_line(controls),
        ]
    };
    Part::Table {
        caption: format!("{}: {}", class.title, counted(of_class.len() as u64, "attack")),
        heads: vec!["attack", "known", "callgate", "by"],
        rows: of_class.iter().map(row).collect(),
    }
}

/// Each class with the attacks of which it is the main one.
fn classes() -> impl Iterator<Item = (&'static AttackClass, Vec<&'static Attack>)> {
    let of_class = |class: &'static AttackClass| {
        let main = |attack: &&Attack| attack.classes.first() == Some(&class.name);
        (class, attacks::all().iter().filter(main).collect::<Vec<_>>())
    };
    attacks::classes().iter().map(of_class).filter(|(_, attacks)| !attacks.is_empty())
}

fn class_row(class: &AttackClass, of_class: &[&Attack]) -> Vec<Vec<Piece>> {
    let mut row = vec![vec![link(class.title.as_str(), place_of(class))], vec![text(of_class.len().to_string())]];
    row.extend(Reach::ALL.map(|reach| vec![text(of_class.iter().filter(|attack| attack.reach == reach).count().to_string())]));
    row
}

fn control_row(control: Control) -> Option<Vec<Vec<Piece>>> {
    let uses = |attack: &&Attack| attack.is_stopped_by(control) || attack.elsewhere.iter().any(|used| used.control == control);
    let count = attacks::all().iter().filter(uses).count();
    (count > 0).then(|| vec![vec![code(control.name())], vec![text(control.meaning())], vec![text(count.to_string())]])
}

fn facts(attack: &Attack) -> Vec<(&'static str, Vec<Piece>)> {
    let frameworks = &attack.frameworks;
    let technique = |id: &String| Piece::Away(id.clone(), format!("https://atlas.mitre.org/techniques/{id}"));
    let cve = |id: &String| Piece::Away(id.clone(), format!("https://www.cve.org/CVERecord?id={id}"));
    let plain = |ids: &[String]| in_line(ids.iter().map(|id| text(id.as_str())));
    let classes = attack.classes.iter().filter_map(|name| attacks::class(name));
    let facts = [
        ("Affected", vec![text(attack.affected.as_str())]),
        ("Known since", vec![text(attack.date.as_str())]),
        ("Classes", in_line(classes.map(|class| link(class.title.as_str(), place_of(class))))),
        ("CVE", in_line(attack.cves.iter().map(cve))),
        ("MITRE ATLAS", in_line(frameworks.atlas.iter().map(technique))),
        ("OWASP MCP Top 10", plain(&frameworks.mcp)),
        ("OWASP LLM Top 10", plain(&frameworks.llm)),
        ("OWASP agentic Top 10", plain(&frameworks.agentic)),
        ("Id", vec![code(attack.id.as_str())]),
    ];
    facts.into_iter().filter(|(_, said)| !said.is_empty()).collect()
}

fn used(used: &Use) -> Vec<Piece> {
    [code(used.control.name()), text(": ")].into_iter().chain(marked(&used.how)).collect()
}

fn policies(attack: &Attack) -> Vec<Part> {
    let mut parts = Vec::new();
    let texts = [
        ("policy.yaml", attack.policy.clone()),
        ("policy.json", attack.policy_json()),
        ("callgate.yaml, for callgate serve", attack.configuration.clone()),
    ];
    for (label, text) in texts.into_iter().filter_map(|(label, text)| Some((label, text?))) {
        parts.push(Part::Code { label: label.into(), text });
    }
    if !parts.is_empty() {
        parts.insert(0, Part::Heading(2, "The policy".into()));
        parts.insert(1, Part::Paragraph(vec![text("For the tools of its cases; yours may be called otherwise.")]));
    }
    parts
}

fn proof(attack: &Attack) -> Vec<Part> {
    let mut parts = vec![Part::Heading(2, "The proof".into())];
    if attack.cases.is_empty() {
        parts.push(Part::Paragraph(vec![text("There is no case to play: no gateway can stop it.")]));
        return parts;
    }
    let said = "A hostile server and a client play it by a script, once through Callgate, where it must not get through, and once without, where it must:";
    parts.push(Part::Paragraph(vec![text(said)]));
    parts.push(Part::List(attack.cases.iter().map(|case| vec![text(case.title.as_str())]).collect()));
    parts.push(Part::Code { label: "To play it".into(), text: format!("callgate attacks test {}", attack.id) });
    parts
}

/// Every attack has a class, and every class is described: the catalogue's own tests say so.
fn main_class(attack: &Attack) -> &'static AttackClass {
    let named = attack.classes.first().and_then(|name| attacks::class(name));
    named.expect("an attack has a class that is described")
}

fn place_of(class: &AttackClass) -> String {
    format!("attacks#{}", anchor(&class.title))
}

/// How far a gateway gets, in words.
fn said(reach: Reach) -> &'static str {
    match reach {
        Reach::Stops => "stopped by Callgate",
        Reach::Limits => "limited by Callgate",
        Reach::Cannot => "out of a gateway's reach",
    }
}

/// Classes have up to fifty; the index has them all.
const MOST_OTHERS: usize = 12;
