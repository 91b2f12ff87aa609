//! `pin` and `diff`: the lock file of definitions, and what has changed since it was written.

use crate::arguments::{Diff, Pin, PinSource};
use crate::commands::{block_on, gate};
use crate::configurations;
use crate::failure::{Failure, GENERAL, OK};
use crate::terminal::{Paint, counted, shortened, tell, visible};
use catalogue::{Difference, DifferenceKind, Lock, Pinned, Subject, compare};
use gateway::{Section, Upstream, change_lock, list_tools, pending_path, read_lock, tidy};
use json::{Document, Strictness, Value, quote};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What servers say now.
struct Said {
    lock: PathBuf,
    servers: BTreeMap<String, Pinned>,
    /// Whether that is all they say; else only what has been seen to differ.
    whole: bool,
}

pub fn pin(arguments: &Pin) -> Result<u8, Failure> {
    let said = said(&arguments.source)?;
    if !said.whole && arguments.accept.is_empty() {
        let what =
            "name what is to be accepted: `--accept SERVER/TOOL`; or a server to ask: `-- COMMAND`, `--upstream URL`, `-c FILE`";
        return Err(Failure::usage(what));
    }
    let before = read_lock(&said.lock)?;
    let chosen = match arguments.accept.as_slice() {
        [] => said.servers.iter().map(|(name, pinned)| (name.clone(), Choice::All(pinned.clone()))).collect(),
        accepted => accepted.iter().map(|what| chosen(what, &said, &before)).collect::<Result<Vec<_>, Failure>>()?,
    };
    let after = change_lock(&said.lock, |lock| {
        for (server, choice) in &chosen {
            choice.put(lock.servers.entry(server.clone()).or_default(), said.whole);
        }
    })?;
    settle_pending(&said.lock, &after)?;
    let mut count = 0;
    let nothing = Pinned::default();
    let mut out = std::io::stdout().lock();
    for (name, pinned) in &after.servers {
        let differences = compare(before.servers.get(name).unwrap_or(&nothing), pinned, true);
        count += differences.len();
        write!(out, "{}", told(name, &differences, Paint::stdout()))?;
    }
    let shown = visible(&said.lock.display().to_string());
    match count as u64 {
        0 => tell!("nothing has changed in {shown}"),
        count => tell!("{} written to {shown}", counted(count, "change", "changes")),
    }
    Ok(OK)
}

pub fn diff(arguments: &Diff) -> Result<u8, Failure> {
    let said = said(&arguments.source)?;
    let lock = read_lock(&said.lock)?;
    let nothing = Pinned::default();
    let differences: Vec<(&String, Vec<Difference>)> = said
        .servers
        .iter()
        .map(|(name, now)| (name, compare(lock.servers.get(name).unwrap_or(&nothing), now, said.whole)))
        .filter(|(_, differences)| !differences.is_empty())
        .collect();
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let told: Vec<String> = differences.iter().flat_map(|(name, found)| found.iter().map(|one| in_json(name, one))).collect();
        writeln!(out, r#"{{"same":{},"differences":[{}]}}"#, told.is_empty(), told.join(","))?;
    } else if differences.is_empty() {
        writeln!(out, "nothing differs from {}", visible(&said.lock.display().to_string()))?;
    } else {
        for (name, differences) in &differences {
            write!(out, "{}", told(name, differences, Paint::stdout()))?;
        }
        tell!("accept with: callgate pin --accept {}/NAME", differences[0].0);
    }
    Ok(if differences.is_empty() { OK } else { GENERAL })
}

/// What is accepted of a server.
enum Choice {
    All(Pinned),
    One(Section, String, Option<String>),
    Instructions(Option<String>),
}

impl Choice {
    fn put(&self, pinned: &mut Pinned, whole: bool) {
        match self {
            Choice::All(now) if whole => *pinned = now.clone(),
            Choice::All(now) => {
                if let Some(instructions) = &now.instructions {
                    pinned.instructions = Some(instructions.clone());
                }
                for (into, from) in [(&mut pinned.tools, &now.tools), (&mut pinned.prompts, &now.prompts)] {
                    if let Some(from) = from {
                        into.get_or_insert_default().extend(from.clone());
                    }
                }
            }
            Choice::One(section, name, definition) => {
                let definitions = match section {
                    Section::Tools => &mut pinned.tools,
                    Section::Prompts => &mut pinned.prompts,
                };
                let definitions = definitions.get_or_insert_default();
                match definition {
                    Some(definition) => definitions.insert(name.clone(), definition.clone()),
                    None => definitions.remove(name),
                };
            }
            Choice::Instructions(text) => pinned.instructions = Some(text.clone()),
        }
    }
}

/// What `SERVER`, `SERVER/NAME` or `SERVER/@instructions` means.
fn chosen(what: &str, said: &Said, before: &Lock) -> Result<(String, Choice), Failure> {
    let (server, name) = what.split_once('/').map_or((what, None), |(server, name)| (server, Some(name)));
    let missing = |why: &str| Failure::general(format!("cannot accept `{}`: {why}", visible(what)));
    let now = said.servers.get(server);
    let Some(name) = name else {
        let now = now.ok_or_else(|| missing("nothing of that server waits for acceptance"))?;
        return Ok((server.to_owned(), Choice::All(now.clone())));
    };
    let nothing = Pinned::default();
    let now = now.unwrap_or(&nothing);
    if name == "@instructions" {
        let text = now.instructions.clone().ok_or_else(|| missing("no other instructions were seen"))?;
        return Ok((server.to_owned(), Choice::Instructions(text)));
    }
    for section in [Section::Tools, Section::Prompts] {
        if let Some(definition) = section.of(now).and_then(|definitions| definitions.get(name)) {
            return Ok((server.to_owned(), Choice::One(section, name.to_owned(), Some(definition.clone()))));
        }
        // What the server has no more is accepted by forgetting it.
        let was =
            before.servers.get(server).and_then(|pinned| section.of(pinned)).is_some_and(|pinned| pinned.contains_key(name));
        if said.whole && was {
            return Ok((server.to_owned(), Choice::One(section, name.to_owned(), None)));
        }
    }
    Err(missing("no such definition waits for acceptance; see `callgate diff`"))
}

/// Takes what is accepted now out of what waits for acceptance.
fn settle_pending(path: &Path, lock: &Lock) -> Result<(), Failure> {
    let pending = pending_path(path);
    if !pending.exists() {
        return Ok(());
    }
    let left = change_lock(&pending, |pending| {
        for (name, waiting) in &mut pending.servers {
            let Some(pinned) = lock.servers.get(name) else { continue };
            if waiting.instructions == pinned.instructions {
                waiting.instructions = None;
            }
            for (waiting, pinned) in [(&mut waiting.tools, &pinned.tools), (&mut waiting.prompts, &pinned.prompts)] {
                if let (Some(waiting), Some(pinned)) = (waiting, pinned) {
                    waiting.retain(|name, definition| pinned.get(name) != Some(definition));
                }
            }
        }
        tidy(pending);
    })?;
    if left.servers.is_empty() {
        let _ = std::fs::remove_file(&pending);
    }
    Ok(())
}

fn said(source: &PinSource) -> Result<Said, Failure> {
    let named = || source.lock.clone().unwrap_or_else(|| PathBuf::from("callgate.lock"));
    if let Some(path) = &source.config {
        let (config, _) = configurations::read(path)?;
        let mut servers = BTreeMap::new();
        for server in config.servers.iter().filter(|server| source.server.as_ref().is_none_or(|name| *name == server.name)) {
            servers.insert(server.name.clone(), listed(&server.name, &server.upstream()?, source.timeout)?);
        }
        return Ok(Said { lock: source.lock.clone().unwrap_or(config.lock), servers, whole: true });
    }
    if let Some(path) = &source.tools {
        let (name, pinned) = captured(path)?;
        let name = source.server.clone().or(name).ok_or_else(|| Failure::usage("name the server: `--server NAME`"))?;
        return Ok(Said { lock: named(), servers: BTreeMap::from([(name, pinned)]), whole: true });
    }
    if source.upstream.is_none() {
        let lock = named();
        let mut servers = read_lock(&pending_path(&lock))?.servers;
        servers.retain(|name, _| source.server.as_ref().is_none_or(|wanted| wanted == name));
        return Ok(Said { lock, servers, whole: false });
    }
    let (upstream, name) = gate::given(&source.upstream, source.timeout)?;
    let name = source.server.clone().unwrap_or(name);
    let pinned = listed(&name, &upstream, source.timeout)?;
    Ok(Said { lock: named(), servers: BTreeMap::from([(name, pinned)]), whole: true })
}

fn listed(name: &str, upstream: &Upstream, timeout: Duration) -> Result<Pinned, Failure> {
    let listing = block_on(async {
        let listed = list_tools(upstream, timeout).await;
        listed.map_err(|error| Failure::because(&format!("cannot list what `{name}` has"), &error))
    })?;
    Ok(listing.to_pinned())
}

/// A captured list, and the name of its server where it says one.
fn captured(path: &Path) -> Result<(Option<String>, Pinned), Failure> {
    let shown = visible(&path.display().to_string());
    let text = std::fs::read(path).map_err(|error| Failure::because(&format!("cannot read the tools in `{shown}`"), &error))?;
    let wrong = |why: &str| Failure::general(format!("cannot read the tools in `{shown}`: {why}"));
    let document = Document::parse(text, Strictness::Reply).map_err(|error| wrong(&error.to_string()))?;
    let root = document.root();
    let result = root.get("result").unwrap_or(root);
    let bare = if root.elements().is_some() { Some(root) } else { None };
    let tools = definitions(result.get("tools").or(bare)).map_err(wrong)?;
    let tools = tools.ok_or_else(|| wrong("no list of tools: expected `{\"tools\": […]}`, as a server answers `tools/list`"))?;
    let text = |key: &str| result.get(key).and_then(Value::as_str).map(|text| text.into_owned());
    // Only a capture that has the member says something of it.
    let instructions = result.get("instructions").map(|_| text("instructions"));
    let prompts = definitions(result.get("prompts")).map_err(wrong)?;
    Ok((text("server"), Pinned { instructions, tools: Some(tools), prompts }))
}

fn definitions(list: Option<Value<'_>>) -> Result<Option<BTreeMap<String, String>>, &'static str> {
    let Some(elements) = list.and_then(Value::elements) else { return Ok(None) };
    let mut found = BTreeMap::new();
    for definition in elements {
        let name = definition.get("name").and_then(Value::as_str).ok_or("a definition has no name")?;
        if found.insert(name.into_owned(), definition.canonical()).is_some() {
            return Err("a name is listed twice");
        }
    }
    Ok(Some(found))
}

/// What is different at one server, for people. The server's words are shown with what hides in them.
pub(super) fn told(server: &str, differences: &[Difference], paint: Paint) -> String {
    let mut out = String::new();
    if differences.is_empty() {
        return out;
    }
    let _ =
        writeln!(out, "{}: {}", paint.strong(&visible(server)), counted(differences.len() as u64, "difference", "differences"));
    for difference in differences {
        let (kind, name) = named(&difference.subject);
        let (word, lines) = match &difference.kind {
            DifferenceKind::New(definition) => ("new", introduction(definition)),
            DifferenceKind::Gone => ("gone", Vec::new()),
            DifferenceKind::Changed(changes) => {
                let line = |change: &catalogue::Change| (change.widens, format!("{}: {}", change.place, change.text));
                ("changed", changes.iter().map(line).collect())
            }
        };
        let mark = |widens: bool| if widens { paint.bad("+") } else { " ".to_owned() };
        let _ = writeln!(out, "{} {kind}{} is {word}", mark(difference.widens()), name.map(visible).unwrap_or_default());
        for (widens, line) in lines {
            let _ = writeln!(out, "    {} {}", mark(widens), visible(&line));
        }
    }
    out
}

/// What a reviewer wants to know first of something new.
fn introduction(definition: &str) -> Vec<(bool, String)> {
    let Ok(document) = Document::parse(definition.to_owned(), Strictness::Reply) else { return Vec::new() };
    let root = document.root();
    let description = root.get("description").and_then(Value::as_str).map(|text| (false, shortened(&text, 300)));
    let schema = root.get("inputSchema").and_then(|schema| schema.get("properties")?.members());
    let names: Vec<String> = schema.into_iter().flatten().map(|member| visible(&member.key)).collect();
    let arguments = (!names.is_empty()).then(|| (false, format!("arguments: {}", names.join(", "))));
    let hidden = catalogue::hidden_in(root, 1).first().map(|hidden| {
        let (place, what) = (&hidden.place, hidden.hidden.kind.as_str());
        (true, format!("`{place}` holds {what}, U+{:04X}", u32::from(hidden.hidden.character)))
    });
    description.into_iter().chain(arguments).chain(hidden).collect()
}

fn named(subject: &Subject) -> (&'static str, Option<&str>) {
    match subject {
        Subject::Instructions => ("what it tells the model", None),
        Subject::Prompt(name) => ("prompt ", Some(name)),
        Subject::Tool(name) => ("tool ", Some(name)),
    }
}

/// The same as one JSON object.
pub(super) fn in_json(server: &str, difference: &Difference) -> String {
    let (what, name) = match &difference.subject {
        Subject::Instructions => ("instructions", "null".to_owned()),
        Subject::Prompt(name) => ("prompt", quote(name)),
        Subject::Tool(name) => ("tool", quote(name)),
    };
    let (kind, more) = match &difference.kind {
        DifferenceKind::New(definition) => ("new", format!(r#","definition":{definition}"#)),
        DifferenceKind::Gone => ("gone", String::new()),
        DifferenceKind::Changed(changes) => {
            let change = |change: &catalogue::Change| {
                format!(r#"{{"place":{},"text":{},"widens":{}}}"#, quote(&change.place), quote(&change.text), change.widens)
            };
            ("changed", format!(r#","changes":[{}]"#, changes.iter().map(change).collect::<Vec<_>>().join(",")))
        }
    };
    let widens = difference.widens();
    format!(r#"{{"server":{},"what":"{what}","name":{name},"kind":"{kind}","widens":{widens}{more}}}"#, quote(server))
}
