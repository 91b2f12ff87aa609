//! `catalog`: what tools may do, and policies for them.

mod browse;
mod build;
mod difference;
mod site;

use crate::arguments::{Catalog, Classify, PolicyForm, Recommend};
use crate::failure::{Failure, OK};
use crate::terminal::{Paint, counted, shortened, table, visible};
use catalogue::{Level, RiskClass, Supports, ToolRisk, grade, policy_json, policy_yaml};
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
    let captured = Captured::read(&arguments.tools)?;
    let all = captured.tools();
    for name in &arguments.only {
        if !all.iter().any(|(known, _)| known == name) {
            return Err(Failure::usage(format!("`{}` lists no tool `{}`", visible(&captured.server), visible(name))));
        }
    }
    let wanted = |name: &String| arguments.only.is_empty() || arguments.only.contains(name);
    let tools: Vec<Value<'_>> = all.iter().filter(|(name, _)| wanted(name)).map(|(_, tool)| *tool).collect();
    let profile = arguments.profile.profile();
    let policy = match arguments.format {
        PolicyForm::Yaml => policy_yaml(&captured.server, &tools, profile),
        PolicyForm::Json => policy_json(&captured.server, &tools, profile),
    };
    std::io::stdout().lock().write_all(policy.as_bytes())?;
    Ok(OK)
}
