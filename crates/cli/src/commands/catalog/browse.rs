//! `catalog show`, `search` and `export`: what is in a catalog.

use super::{painted, row};
use crate::arguments::{Export, Search, Show};
use crate::failure::{Failure, OK};
use crate::terminal::{Paint, counted, shortened, table, tell, visible};
use catalogue::{RiskClass, Supports, policy_json, policy_yaml};
use collection::{Collection, Hit, Page, Query, Server, Tool, capture_json, facts_json};
use json::{Value, quote};
use std::io::Write;

pub fn show(arguments: &Show) -> Result<u8, Failure> {
    let collection = Collection::open(&arguments.catalog.path)?;
    let mut out = std::io::stdout().lock();
    let Some(what) = &arguments.what else { return list(&collection, arguments.json, &mut out) };
    let (server, tool) = named(&collection, what)?;
    match (tool, arguments.json) {
        (Some(tool), true) => writeln!(out, "{}", tool_json(&server, &tool, arguments))?,
        (Some(tool), false) => show_tool(&server, &tool, arguments, &mut out)?,
        (None, true) => writeln!(out, "{}", capture_json(&collection, &server)?)?,
        (None, false) => show_server(&collection, &server, &mut out)?,
    }
    Ok(OK)
}

/// A server, or a tool of one: names of servers have `/` in them too.
fn named(collection: &Collection, what: &str) -> Result<(Server, Option<Tool>), Failure> {
    if let Some(server) = collection.server(what)? {
        return Ok((server, None));
    }
    for (slash, _) in what.match_indices('/') {
        let Some(server) = collection.server(&what[..slash])? else { continue };
        let name = &what[slash + 1..];
        return match collection.tool(&server, name)? {
            Some(tool) => Ok((server, Some(tool))),
            None => Err(Failure::general(format!("`{}` lists no tool `{}`", visible(&what[..slash]), visible(name)))),
        };
    }
    Err(Failure::general(format!("the catalog has no server `{}`; `callgate catalog show` lists them", visible(what))))
}

/// The server of this designation.
pub(super) fn server(collection: &Collection, designation: &str) -> Result<Server, Failure> {
    let missing =
        || Failure::general(format!("the catalog has no server `{}`; `callgate catalog show` lists them", visible(designation)));
    collection.server(designation)?.ok_or_else(missing)
}

fn list(collection: &Collection, json: bool, out: &mut impl Write) -> Result<u8, Failure> {
    let servers = collection.servers("", Page::WHOLE)?;
    if json {
        for server in &servers {
            writeln!(out, "{}", server_json(server))?;
        }
        return Ok(OK);
    }
    let cells: Vec<Vec<String>> = servers.iter().map(server_row).collect();
    let heads = ["server", "version", "tools", "Read", "Write", "Execute", "Destructive", "Financial", "note"];
    let paint = Paint::stdout();
    write!(out, "{}", table(&heads, &cells, |column, _, padded| if column == 8 { paint.dim(&padded) } else { padded }))?;
    let totals = collection.totals()?;
    writeln!(out, "\n{} with {}", counted(totals.servers, "server", "servers"), counted(totals.tools, "tool", "tools"))?;
    Ok(OK)
}

fn server_row(server: &Server) -> Vec<String> {
    let note = server.facts.problem.as_deref().map(|problem| shortened(problem, 60)).unwrap_or_default();
    let mut cells = vec![shortened(&server.facts.name, 60), shortened(&server.facts.version, 20), server.tools.to_string()];
    cells.extend(RiskClass::ALL.map(|class| server.count(class).to_string()));
    cells.push(note);
    cells
}

fn server_json(server: &Server) -> String {
    let facts = &server.facts;
    let classes = RiskClass::ALL.map(|class| format!("\"{class}\":{}", server.count(class)));
    format!(
        "{{\"server\":{},\"package\":{},\"version\":{},\"registry\":\"{}\",\"digest\":\"{}\",\"isolation\":\"{}\",\"problem\":{},\"tools\":{},\"classes\":{{{}}}}}",
        quote(&facts.name),
        quote(&facts.package),
        quote(&facts.version),
        facts.registry,
        server.digest,
        facts.isolation,
        facts.problem.as_deref().map_or_else(|| "null".to_owned(), quote),
        server.tools,
        classes.join(",")
    )
}

fn show_server(collection: &Collection, server: &Server, out: &mut impl Write) -> Result<(), Failure> {
    let facts = &server.facts;
    let paint = Paint::stdout();
    writeln!(out, "{}", paint.strong(&visible(&server.designation())))?;
    let mut line = |name: &str, text: &str| -> std::io::Result<()> {
        if text.is_empty() { Ok(()) } else { writeln!(out, "  {name:12} {}", shortened(text, 300)) }
    };
    line("package", &format!("{} ({})", facts.package, facts.registry))?;
    line("flags", &facts.flags.join(" "))?;
    line("environment", &facts.environment.join(" "))?;
    line("calls itself", facts.reported_name.as_deref().unwrap_or_default())?;
    line("revision", facts.revision.as_deref().unwrap_or_default())?;
    line("captured", &format!("{}, {}", facts.captured_at, facts.isolation))?;
    line("digest", &server.digest)?;
    line("instructions", facts.instructions.as_deref().unwrap_or_default())?;
    line("problem", facts.problem.as_deref().unwrap_or_default())?;
    let others: Vec<String> =
        collection.versions(&facts.name)?.iter().filter(|other| other.id != server.id).map(Server::designation).collect();
    line("others", &others.join(" "))?;
    let mut tools = collection.tools(server)?;
    // The worst first; otherwise as the server lists them.
    tools.sort_by_key(|tool| std::cmp::Reverse(tool.risk.class));
    let cells: Vec<Vec<String>> = tools.iter().map(|tool| row(&tool.name, &tool.risk)).collect();
    let heads = ["tool", "risk", "level", "sure", "because", "signals"];
    if !cells.is_empty() {
        write!(out, "\n{}", table(&heads, &cells, |column, cell, padded| painted(paint, column, cell, padded)))?;
    }
    let counts = RiskClass::ALL.into_iter().filter(|class| server.count(*class) > 0);
    let counts: Vec<String> = counts.map(|class| format!("{} {class}", server.count(class))).collect();
    writeln!(out, "\n{}: {}", counted(server.tools, "tool", "tools"), counts.join(", "))?;
    Ok(())
}

fn show_tool(server: &Server, tool: &Tool, arguments: &Show, out: &mut impl Write) -> Result<(), Failure> {
    let paint = Paint::stdout();
    let risk = &tool.risk;
    writeln!(out, "{} of {}", paint.strong(&visible(&tool.name)), visible(&server.designation()))?;
    writeln!(out, "{}, {}, sure {} of 3", risk.class, risk.level, risk.confidence)?;
    if let Some(description) = tool.definition.root().get("description").and_then(Value::as_str) {
        writeln!(out, "\n  {}", shortened(&description, 600))?;
    }
    writeln!(out)?;
    for evidence in &risk.evidence {
        let what = match evidence.supports {
            Supports::Class(class) => class.name(),
            Supports::Signal(signal) => signal.name(),
        };
        let quoted = shortened(&evidence.quote, 100);
        writeln!(out, "  {what:20} {} ({}) \"{quoted}\" at {}", evidence.why, evidence.rule, visible(&evidence.at))?;
    }
    let policy = policy_yaml(&server.facts.name, &[tool.definition.root()], arguments.profile.profile());
    write!(out, "\n{policy}")?;
    Ok(())
}

fn tool_json(server: &Server, tool: &Tool, arguments: &Show) -> String {
    let definition = tool.definition.root();
    let profile = arguments.profile.profile();
    let name = &server.facts.name;
    let risk = tool.risk.to_json(name, &tool.name);
    format!(
        "{},\"version\":{},\"digest\":\"{}\",\"definition\":{},\"policy\":{{\"yaml\":{},\"json\":{}}}}}",
        risk.trim_end_matches('}'),
        quote(&server.facts.version),
        catalogue::digest(definition),
        definition.raw(),
        quote(&policy_yaml(name, &[definition], profile)),
        policy_json(name, &[definition], profile).trim_end()
    )
}

pub fn search(arguments: &Search) -> Result<u8, Failure> {
    let collection = Collection::open(&arguments.catalog.path)?;
    let query = Query {
        text: arguments.text.join(" "),
        classes: arguments.class.clone(),
        levels: arguments.level.clone(),
        signals: arguments.signal.clone(),
    };
    let found = collection.search(&query, Page { offset: 0, limit: arguments.limit })?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        for hit in &found.hits {
            writeln!(out, "{}", hit_json(hit))?;
        }
        return Ok(OK);
    }
    let cells: Vec<Vec<String>> = found.hits.iter().map(hit_row).collect();
    let paint = Paint::stdout();
    let heads = ["tool", "risk", "level", "server", "says"];
    if !cells.is_empty() {
        write!(out, "{}", table(&heads, &cells, |column, cell, padded| painted(paint, column, cell, padded)))?;
    }
    let more = if found.is_cut { " or more" } else { "" };
    tell!("{} of {}{more}", found.hits.len(), counted(found.count as u64, "tool", "tools"));
    Ok(OK)
}

fn hit_row(hit: &Hit) -> Vec<String> {
    vec![
        shortened(&hit.name, 60),
        hit.class.to_string(),
        hit.level.to_string(),
        shortened(&hit.server_name, 50),
        shortened(&hit.summary, 80),
    ]
}

fn hit_json(hit: &Hit) -> String {
    let signals: Vec<String> = hit.signals.iter().map(|signal| quote(signal.name())).collect();
    format!(
        "{{\"server\":{},\"version\":{},\"tool\":{},\"risk\":\"{}\",\"level\":\"{}\",\"confidence\":{},\"signals\":[{}],\"summary\":{}}}",
        quote(&hit.server_name),
        quote(&hit.version),
        quote(&hit.name),
        hit.class,
        hit.level,
        hit.confidence,
        signals.join(","),
        quote(&hit.summary)
    )
}

pub fn export(arguments: &Export) -> Result<u8, Failure> {
    let collection = Collection::open(&arguments.catalog.path)?;
    let servers = match arguments.servers.as_slice() {
        [] => collection.servers("", Page::WHOLE)?,
        names => names.iter().map(|name| server(&collection, name)).collect::<Result<_, _>>()?,
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let (begin, between, end) = if arguments.json { ("[\n", ",\n", "\n]\n") } else { ("", "\n", "\n") };
    write!(out, "{begin}")?;
    for (i, server) in servers.iter().enumerate() {
        let text = if arguments.facts { facts_json(&collection, server)? } else { capture_json(&collection, server)? };
        write!(out, "{}{text}", if i == 0 { "" } else { between })?;
    }
    if arguments.json || !servers.is_empty() {
        write!(out, "{end}")?;
    }
    out.flush()?;
    Ok(OK)
}
