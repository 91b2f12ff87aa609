//! `catalog`: what tools may do, and policies for them.

mod browse;
mod build;
mod difference;
mod site;

use crate::arguments::{Catalog, Classify, Recommend};
use crate::commands::machine::{self, Names};
use crate::commands::scan;
use crate::failure::{Failure, GENERAL, OK};
use crate::terminal::{Paint, counted, shortened, table, tell, visible};
use catalogue::{Level, Recommendation, RiskClass, Supports, ToolRisk, grade};
use clients::Server;
use json::{Document, Strictness, Value};
use std::io::Write;
use std::path::Path;

pub fn catalog(command: &Catalog) -> Result<u8, Failure> {
    match command {
        Catalog::Classify(arguments) => classify(arguments),
        Catalog::Recommend(arguments) => recommend(arguments),
        Catalog::Build(arguments) => build::build(arguments),
        Catalog::Show(arguments) => browse::show(arguments),
        Catalog::Search(arguments) => browse::search(arguments),
        Catalog::Diff(arguments) => difference::diff(arguments),
        Catalog::Export(arguments) => match &arguments.html {
            Some(directory) => site::export(&arguments.catalog.path, directory, arguments.base_url.as_ref()),
            None => browse::export(arguments),
        },
        Catalog::Serve(arguments) => site::serve(arguments),
        Catalog::Cell(arguments) => build::cell(arguments),
    }
}

/// A captured list of tools.
struct Captured {
    server: String,
    document: Document,
}

impl Captured {
    fn read(path: &Path) -> Result<Captured, Failure> {
        let shown = visible(&path.display().to_string());
        let text =
            std::fs::read(path).map_err(|error| Failure::because(&format!("cannot read the tools in `{shown}`"), &error))?;
        let parsed = Document::parse(text, Strictness::Reply);
        let document = parsed.map_err(|error| Failure::general(format!("cannot read the tools in `{shown}`: {error}")))?;
        let named = document.root().get("server").and_then(Value::as_str).map(|name| name.into_owned());
        let server = named.or_else(|| Some(path.file_stem()?.to_string_lossy().into_owned())).unwrap_or_default();
        let captured = Captured { server, document };
        if captured.list().is_none() {
            return Err(Failure::general(format!(
                "`{shown}` holds no list of tools: expected `{{\"tools\": […]}}`, as a server answers `tools/list`"
            )));
        }
        Ok(captured)
    }

    /// The list, in the forms in which it is captured: `{"tools": […]}`, a whole reply, or a bare array.
    fn list(&self) -> Option<Vec<Value<'_>>> {
        let root = self.document.root();
        let list = root.get("tools").or_else(|| root.get("result")?.get("tools")).unwrap_or(root);
        Some(list.elements()?.collect())
    }

    /// The tools that have a name, with it.
    fn tools(&self) -> Vec<(String, Value<'_>)> {
        let named = |tool: Value<'_>| Some(tool.get("name")?.as_str()?.into_owned());
        self.list().unwrap_or_default().into_iter().filter_map(|tool| Some((named(tool)?, tool))).collect()
    }
}

fn classify(arguments: &Classify) -> Result<u8, Failure> {
    let captured = Captured::read(&arguments.tools)?;
    let graded: Vec<(String, ToolRisk)> =
        captured.tools().into_iter().map(|(name, tool)| (name, grade(tool, &captured.server))).collect();
    let mut out = std::io::stdout().lock();
    if arguments.json {
        for (name, risk) in &graded {
            writeln!(out, "{}", risk.to_json(&captured.server, name))?;
        }
        return Ok(OK);
    }
    let mut rows: Vec<(&str, &ToolRisk)> = graded.iter().map(|(name, risk)| (name.as_str(), risk)).collect();
    // The worst first; otherwise as the server lists them.
    rows.sort_by_key(|(_, risk)| std::cmp::Reverse(risk.class));
    let cells: Vec<Vec<String>> = rows.iter().map(|(name, risk)| row(name, risk)).collect();
    let paint = Paint::stdout();
    let heads = ["tool", "risk", "level", "sure", "because", "signals"];
    write!(out, "{}", table(&heads, &cells, |column, cell, padded| painted(paint, column, cell, padded)))?;
    let counts = RiskClass::ALL.map(|class| (class, graded.iter().filter(|(_, risk)| risk.class == class).count()));
    let counts: Vec<String> =
        counts.iter().filter(|(_, count)| *count > 0).map(|(class, count)| format!("{count} {class}")).collect();
    writeln!(
        out,
        "\n{} of `{}`: {}",
        counted(graded.len() as u64, "tool", "tools"),
        visible(&captured.server),
        counts.join(", ")
    )?;
    Ok(OK)
}

fn row(name: &str, risk: &ToolRisk) -> Vec<String> {
    let told = risk.evidence.iter().find(|evidence| matches!(evidence.supports, Supports::Class(_)));
    let because =
        told.map(|first| format!("{} ({}) \"{}\"", first.why, first.rule, shortened(&first.quote, 48))).unwrap_or_default();
    let signals: Vec<&str> = risk.signals.iter().map(|signal| signal.name()).collect();
    vec![
        shortened(name, 60),
        risk.class.to_string(),
        risk.level.to_string(),
        risk.confidence.to_string(),
        because,
        signals.join(" "),
    ]
}

fn painted(paint: Paint, column: usize, cell: &str, padded: String) -> String {
    match (column, cell) {
        (2, word) if word == Level::Critical.name() => paint.bad(&padded),
        (2, word) if word == Level::High.name() => paint.warn(&padded),
        (4 | 5, _) => paint.dim(&padded),
        _ => padded,
    }
}

fn recommend(arguments: &Recommend) -> Result<u8, Failure> {
    if let Some(directory) = arguments.output.as_deref().filter(|_| arguments.clients) {
        return recommend_for_clients(arguments, directory);
    }
    let Some(tools) = &arguments.tools else { return Err(Failure::usage("no tools are named: `--tools TOOLS.json`")) };
    let captured = Captured::read(tools)?;
    let all = captured.tools();
    for name in &arguments.only {
        if !all.iter().any(|(known, _)| known == name) {
            return Err(Failure::usage(format!("`{}` lists no tool `{}`", visible(&captured.server), visible(name))));
        }
    }
    let wanted = |name: &String| arguments.only.is_empty() || arguments.only.contains(name);
    let tools: Vec<Value<'_>> = all.iter().filter(|(name, _)| wanted(name)).map(|(_, tool)| *tool).collect();
    let recommended = Recommendation::of(&captured.server, &tools, arguments.profile.profile());
    std::io::stdout().lock().write_all(scan::written(&recommended, arguments.format).as_bytes())?;
    Ok(OK)
}

/// A policy for each server of the clients on this machine, in a file of its own.
fn recommend_for_clients(arguments: &Recommend, directory: &Path) -> Result<u8, Failure> {
    let (configurations, unreadable) = machine::find(&arguments.client, &machine::this(arguments.project.as_ref())?)?;
    unreadable.iter().for_each(|error| tell!("not read: {}", visible(&error.to_string())));
    let (mut wanted, mut names, mut is_whole) = (Vec::<(String, Server)>::new(), Names::default(), unreadable.is_empty());
    for (configuration, server) in configurations.iter().flat_map(|one| one.servers.iter().map(move |server| (one, server))) {
        let server = machine::unwrapped(server);
        let name = names.of(&server);
        if let Some(why) = machine::left_alone(&server) {
            tell!("{} ({}) is left out: {}", visible(&server.name), configuration.client.name, visible(&why));
            is_whole &= server.disabled;
        } else if wanted.iter().all(|(known, _)| *known != name) {
            wanted.push((name, server));
        }
    }
    let named: Vec<(String, &Server)> = wanted.iter().map(|(name, server)| (name.clone(), server)).collect();
    let listings = machine::list_all(&named, arguments.timeout)?;
    let shown = visible(&directory.display().to_string());
    std::fs::create_dir_all(directory).map_err(|error| Failure::because(&format!("cannot make `{shown}`"), &error))?;
    let (profile, extension) = (arguments.profile.profile(), arguments.format.extension());
    let mut rows = Vec::new();
    for ((name, _), listed) in named.iter().zip(listings) {
        let path = directory.join(format!("{name}.{extension}"));
        let written = listed.map_err(Failure::general).and_then(|listing| {
            let recommended = scan::recommendation(name, &listing, profile);
            scan::write_new(&path, &scan::written(&recommended, arguments.format)).map(|()| scan::summary(&recommended))
        });
        match written {
            Ok(summary) => rows.push(vec![name.clone(), visible(&path.display().to_string()), summary]),
            Err(failure) => {
                tell!("{} has no new policy: {}", visible(name), visible(failure.message()));
                is_whole = false;
            }
        }
    }
    write!(std::io::stdout().lock(), "{}", table(&[], &rows, |_, _, padded| padded))?;
    Ok(if is_whole { OK } else { GENERAL })
}
