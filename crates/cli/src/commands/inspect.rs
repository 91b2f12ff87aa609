//! `inspect`: what is wrong with what servers say of themselves, before a client connects to them.
//!
//! The catalogue knows what to look for; here definitions are fetched, from files, from one server, or from all servers that
//! the clients of this machine are configured with.

use crate::arguments::Inspect;
use crate::commands::{block_on, gate, machine};
use crate::failure::{Failure, GENERAL, OK};
use crate::terminal::{Paint, counted, shortened, tell, visible};
use catalogue::{Flaw, Grade, Inspection, Introduction, Source, Subject, Weight};
use clients::{Server, Target};
use gateway::Listing;
use json::{Document, Strictness, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

pub fn inspect(arguments: &Inspect) -> Result<u8, Failure> {
    let (seen, unseen) = seen(arguments)?;
    let introductions: Vec<Introduction<'_>> = seen.iter().map(Seen::introduction).collect();
    let found = catalogue::inspect(&introductions);
    let mut out = std::io::stdout().lock();
    if arguments.sarif {
        let of_source = |(found, seen)| (found, Seen::source(seen));
        let with_sources: Vec<_> = found.iter().zip(&seen).map(of_source).collect();
        let notes: Vec<String> = unseen.iter().filter(|one| one.is_used).map(Unseen::said).collect();
        writeln!(out, "{}", catalogue::sarif(&with_sources, &notes, env!("CARGO_PKG_VERSION")))?;
    } else if arguments.json {
        writeln!(out, "{}", in_json(&found, &unseen))?;
    } else {
        let paint = Paint::stdout();
        found.iter().try_for_each(|inspection| write!(out, "{}", told(inspection, paint)))?;
    }
    unseen.iter().for_each(|unseen| tell!("{}", visible(&unseen.said())));
    if seen.is_empty() && unseen.is_empty() {
        tell!("there is no server to inspect");
    }
    let bound = Grade::ALL.into_iter().find(|grade| grade.letter() == arguments.fail_on.to_ascii_uppercase()).unwrap_or(Grade::D);
    // What could not be looked at has not been found good. Of many servers on somebody's machine one is often broken, so that
    // counts only where they say so; where none was seen, it does.
    let is_missing = unseen.iter().any(|unseen| unseen.is_used) && arguments.fail_on_unseen;
    let is_bad = catalogue::worst(&found) >= bound || is_missing || seen.is_empty() && !unseen.is_empty();
    Ok(if is_bad { GENERAL } else { OK })
}

/// A server whose definitions are here.
struct Seen {
    name: String,
    origin: Vec<String>,
    instructions: Option<String>,
    tools: Vec<Document>,
    prompts: Vec<Document>,
    /// A capture as a whole, instead of the lists above.
    whole: Option<Document>,
    /// Where it is described.
    file: Option<String>,
}

impl Seen {
    fn of_listing(name: String, origin: Vec<String>, listing: Listing, file: Option<&Path>) -> Seen {
        let parsed =
            |list: Vec<String>| list.into_iter().filter_map(|one| Document::parse(one, Strictness::Reply).ok()).collect();
        Seen {
            name,
            origin,
            instructions: listing.instructions,
            tools: parsed(listing.tools),
            prompts: parsed(listing.prompts),
            whole: None,
            file: file.map(|path| path.display().to_string()),
        }
    }

    fn captured(path: &Path) -> Result<Seen, Failure> {
        let shown = visible(&path.display().to_string());
        let text =
            std::fs::read(path).map_err(|error| Failure::because(&format!("cannot read the tools in `{shown}`"), &error))?;
        let parsed = Document::parse(text, Strictness::Reply);
        let document = parsed.map_err(|error| Failure::general(format!("cannot read the tools in `{shown}`: {error}")))?;
        let result = document.root().get("result").unwrap_or(document.root());
        let text = |key: &str| result.get(key).and_then(Value::as_str).map(|text| text.into_owned());
        let (name, instructions) = (text("server"), text("instructions"));
        let origin = text("package").into_iter().collect();
        let has_list = result.elements().is_some() || result.get("tools").is_some_and(|tools| tools.elements().is_some());
        if !has_list {
            let expected = "expected `{\"tools\": […]}`, as a server answers `tools/list`";
            return Err(Failure::general(format!("`{shown}` holds no list of tools: {expected}")));
        }
        let name = name.or_else(|| Some(path.file_stem()?.to_string_lossy().into_owned())).unwrap_or_default();
        let (tools, prompts) = (Vec::new(), Vec::new());
        let file = Some(path.display().to_string().replace('\\', "/"));
        Ok(Seen { name, origin, instructions, tools, prompts, whole: Some(document), file })
    }

    fn introduction(&self) -> Introduction<'_> {
        let (tools, prompts) = match self.whole.as_ref().map(|document| document.root().get("result").unwrap_or(document.root()))
        {
            Some(result) => {
                let list = |key: &str| result.get(key).and_then(Value::elements).map(Iterator::collect);
                // A bare list is one of tools.
                let bare = || result.elements().into_iter().flatten().collect();
                (list("tools").unwrap_or_else(bare), list("prompts").unwrap_or_default())
            }
            None => (self.tools.iter().map(Document::root).collect(), self.prompts.iter().map(Document::root).collect()),
        };
        Introduction {
            name: self.name.clone(),
            origin: self.origin.clone(),
            instructions: self.instructions.clone(),
            tools,
            prompts,
        }
    }

    fn source(&self) -> Option<Source<'_>> {
        let text = self.whole.as_ref().and_then(|document| std::str::from_utf8(document.text()).ok());
        Some(Source { file: self.file.as_deref()?, text })
    }
}

/// Who could not be asked.
struct Unseen {
    server: String,
    why: String,
    /// Whether its client would start it.
    is_used: bool,
}

impl Unseen {
    fn said(&self) -> String {
        format!("{} could not be inspected: {}", self.server, self.why)
    }
}

fn seen(arguments: &Inspect) -> Result<(Vec<Seen>, Vec<Unseen>), Failure> {
    if arguments.clients {
        return of_clients(arguments);
    }
    if !arguments.tools.is_empty() {
        let captured = arguments.tools.iter().map(|path| Seen::captured(path)).collect::<Result<Vec<_>, Failure>>()?;
        return Ok((captured, Vec::new()));
    }
    let (upstream, name) = gate::given(&arguments.upstream, arguments.timeout)?;
    let listing = block_on(async {
        let listed = gateway::list_tools(&upstream, arguments.timeout).await;
        listed.map_err(|error| Failure::because(&format!("cannot list what `{name}` has"), &error))
    })?;
    let origin = arguments.upstream.upstream.iter().chain(&arguments.upstream.command).cloned().collect();
    Ok((vec![Seen::of_listing(name, origin, listing, None)], Vec::new()))
}

/// Every server of every client, each asked once, however many clients have it.
fn of_clients(arguments: &Inspect) -> Result<(Vec<Seen>, Vec<Unseen>), Failure> {
    let machine = machine::this(arguments.project.as_ref())?;
    let (configurations, unreadable) = machine::find(&arguments.client, &machine)?;
    let unread = |error: clients::ReadError| Unseen { server: error.path.display().to_string(), why: error.why, is_used: true };
    let mut unseen: Vec<Unseen> = unreadable.into_iter().map(unread).collect();
    let mut wanted: Vec<(String, Server, &Path)> = Vec::new();
    for (configuration, server) in configurations.iter().flat_map(|one| one.servers.iter().map(move |server| (one, server))) {
        let name = format!("{} ({})", server.name, configuration.client.name);
        let server = machine::unwrapped(server);
        match machine::left_alone(&server) {
            Some(why) => unseen.push(Unseen { server: name, why, is_used: !server.disabled }),
            None if wanted.iter().any(|(_, other, _)| other.target == server.target) => {}
            None => wanted.push((name, server, &configuration.path)),
        }
    }
    let named: Vec<(String, &Server)> = wanted.iter().map(|(name, server, _)| (name.clone(), server)).collect();
    let listings = machine::list_all(&named, arguments.timeout)?;
    let mut seen = Vec::new();
    for ((name, server, path), listed) in wanted.into_iter().zip(listings) {
        let origin = match &server.target {
            Target::Command { command } => command.clone(),
            Target::Url { url, .. } => vec![url.clone()],
        };
        match listed {
            Ok(listing) => seen.push(Seen::of_listing(name, origin, listing, Some(path))),
            Err(why) => unseen.push(Unseen { server: name, why, is_used: true }),
        }
    }
    Ok((seen, unseen))
}

/// `{"grade", "servers": […], "unseen": [{"server", "why"}]}`.
fn in_json(found: &[Inspection], unseen: &[Unseen]) -> String {
    let servers: Vec<String> = found.iter().map(Inspection::to_json).collect();
    let missing = unseen.iter().map(|one| serde_json::json!({"server": one.server, "why": one.why}).to_string());
    let (grade, missing) = (catalogue::worst(found), missing.collect::<Vec<_>>().join(","));
    format!(r#"{{"grade":"{grade}","servers":[{}],"unseen":[{missing}]}}"#, servers.join(","))
}

/// For people: the grade, and what was found in each part, the worst first.
fn told(inspection: &Inspection, paint: Paint) -> String {
    let mut out = String::new();
    let tools = counted(inspection.tools as u64, "tool", "tools");
    let _ = writeln!(out, "{} {} ({tools})", painted(inspection.grade, paint), paint.strong(&visible(&inspection.server)));
    let mut grades: Vec<(Option<&Subject>, Grade)> = inspection.grades().into_iter().collect();
    grades.sort_by_key(|(_, grade)| std::cmp::Reverse(*grade));
    // Remarks are many, and each is little: they are counted here, and listed by `--json`.
    let mut remarks: BTreeMap<&str, usize> = BTreeMap::new();
    for (subject, grade) in grades {
        let flaws = || inspection.findings.iter().filter(|flaw| flaw.subject.as_ref() == subject);
        for flaw in flaws().filter(|flaw| flaw.weight == Weight::Remark) {
            *remarks.entry(flaw.rule.meaning()).or_default() += 1;
        }
        if grade > Grade::B {
            let _ = writeln!(out, "  {} {}", painted(grade, paint), named(subject));
            flaws().filter(|flaw| flaw.weight > Weight::Remark).for_each(|flaw| out += &line(flaw, paint));
        }
    }
    for (meaning, count) in remarks {
        let _ = writeln!(out, "  {}", paint.dim(&format!("{count} × {meaning}")));
    }
    out
}

fn named(subject: Option<&Subject>) -> String {
    match subject {
        None => "the server itself".to_owned(),
        Some(Subject::Instructions) => "what it tells the model to begin with".to_owned(),
        Some(Subject::Prompt(name)) => format!("prompt {}", shortened(name, 80)),
        Some(Subject::Tool(name)) => format!("tool {}", shortened(name, 80)),
    }
}

fn line(flaw: &Flaw, paint: Paint) -> String {
    let place = if flaw.path.is_empty() { String::new() } else { format!("{}: ", visible(&flaw.path)) };
    let rule = paint.dim(&format!("[{}]", flaw.rule));
    format!("      {} {rule}\n        {place}\"{}\"\n", visible(&flaw.why), shortened(&flaw.quote, 240))
}

fn painted(grade: Grade, paint: Paint) -> String {
    match grade {
        Grade::A | Grade::B => paint.good(grade.letter()),
        Grade::C => paint.warn(grade.letter()),
        Grade::D | Grade::F => paint.bad(grade.letter()),
    }
}
