//! How well tools are graded, against labels that people have given.
//!
//! The labels and the captured lists of tools lie outside of the repository, since the texts belong to their authors;
//! where they are absent, there is nothing to measure, and the command says so. `--write` puts the tables into
//! docs/grading.md, `--wrong` prints what was graded otherwise than by people, `--all` every grade of every capture, and
//! `--peer` holds the grades against another project's noisy categories.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use catalogue::{RiskClass, ToolRisk};
use json::{Document, Strictness};
use serde_json::Value;

use crate::workspace::Workspace;

/// What to print besides the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Tables,
    Write,
    Wrong,
    All,
    Peer,
}

/// Grades every labelled tool, and prints how it went.
///
/// # Errors
/// A file that cannot be read or is not what it should be.
pub fn run(workspace: &Workspace, wanted: Wanted) -> Result<String, String> {
    let corpora = workspace.corpora();
    if !corpora.join("gold-risk-labels.json").exists() {
        return Ok(format!("grade: skipped, {} is not there", corpora.display()));
    }
    if wanted == Wanted::Peer {
        return peer(&corpora);
    }
    let captures = captures(&corpora.join("tools"))?;
    if wanted == Wanted::All {
        return Ok(all(&captures));
    }
    let (score, wrong) = score(&corpora, &captures)?;
    let tables = score.tables();
    match wanted {
        Wanted::Wrong => Ok(format!("{wrong}\n{tables}")),
        Wanted::Write => write(&workspace.root.join("docs/grading.md"), &tables),
        Wanted::Tables | Wanted::All | Wanted::Peer => Ok(tables),
    }
}

/// Grades every labelled tool; `None` where the labels are not there.
///
/// # Errors
/// When too few have the class that people gave them, or too many that change something are called Read.
pub fn hold(workspace: &Workspace) -> Result<Option<String>, String> {
    let corpora = workspace.corpora();
    if !corpora.join("gold-risk-labels.json").exists() {
        return Ok(None);
    }
    let (score, wrong) = score(&corpora, &captures(&corpora.join("tools"))?)?;
    let said = score.tables().lines().take(2).collect::<Vec<_>>().join(" ");
    // 95 % and under 1 %: what policies that are made from grades can be built on.
    match score.right * 100 >= score.tools * 95 && score.called_read * 100 < score.changers {
        true => Ok(Some(said)),
        false => Err(format!("{said}\n{wrong}")),
    }
}

/// How the labelled tools are graded, and what of it is wrong.
fn score(corpora: &Path, captures: &Captures) -> Result<(Score, String), String> {
    let labels = labels(&corpora.join("gold-risk-labels.json"))?;
    let mut score = Score::default();
    let mut wrong = String::new();
    for label in &labels {
        let tool = captures.get(&label.server).and_then(|tools| tools.get(&label.tool));
        let Some(risk) = tool else {
            return Err(format!("no capture has `{}` of `{}`", label.tool, label.server));
        };
        if !score.count(label, risk) {
            let _ = writeln!(
                wrong,
                "{} said {} ({}) for {} {}: {}",
                mark(label, risk),
                risk.class,
                risk.confidence,
                label.server,
                label.tool,
                label.reason
            );
            for evidence in
                risk.evidence.iter().filter(|evidence| matches!(evidence.supports, catalogue::Supports::Class(_))).take(3)
            {
                let _ = writeln!(wrong, "      {} {} «{}» {}", evidence.rule, evidence.at, evidence.quote, evidence.why);
            }
        }
    }
    Ok((score, wrong))
}

struct Label {
    server: String,
    tool: String,
    /// One class, or two where readings differ and either counts.
    classes: Vec<RiskClass>,
    signals: BTreeSet<String>,
    either: BTreeSet<String>,
    reason: String,
}

fn labels(path: &Path) -> Result<Vec<Label>, String> {
    let file = read(path)?;
    let classes = |value: &Value| -> Vec<RiskClass> {
        let named = |name: &Value| RiskClass::ALL.into_iter().find(|class| Some(class.name()) == name.as_str());
        match value {
            Value::Array(all) => all.iter().filter_map(named).collect(),
            one => named(one).into_iter().collect(),
        }
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let words = |value: &Value| value.as_array().into_iter().flatten().map(text).collect();
    let label = |label: &Value| Label {
        server: text(&label["server"]),
        tool: text(&label["tool"]),
        classes: classes(&label["risk"]),
        signals: words(&label["signals"]),
        either: words(&label["signals_either"]),
        reason: text(&label["reason"]),
    };
    Ok(file["labels"].as_array().into_iter().flatten().map(label).collect())
}

fn read(path: &Path) -> Result<Value, String> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The grades of every captured tool, by the capture's name and the tool's.
type Captures = BTreeMap<String, BTreeMap<String, ToolRisk>>;

fn captures(directory: &Path) -> Result<Captures, String> {
    let entries = std::fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let mut captures = Captures::new();
    for path in paths {
        let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let document = Document::parse(text, Strictness::Reply).map_err(|error| format!("{}: {error}", path.display()))?;
        let root = document.root();
        let server = root.get("server").and_then(|name| name.as_str()).unwrap_or_default().into_owned();
        let tools = root.get("tools").and_then(|tools| tools.elements()).into_iter().flatten();
        let graded = tools.filter_map(|tool| Some((tool.get("name")?.as_str()?.into_owned(), catalogue::grade(tool, &server))));
        captures.entry(server.clone()).or_default().extend(graded);
    }
    Ok(captures)
}

fn all(captures: &Captures) -> String {
    let mut out = String::new();
    for (server, tools) in captures {
        let _ = writeln!(out, "## {server}");
        for (tool, risk) in tools {
            let first =
                risk.evidence.first().map(|first| format!("{} {} «{}»", first.rule, first.at, first.quote)).unwrap_or_default();
            let _ = writeln!(out, "{}{} {tool}  {first}", risk.class, risk.confidence);
        }
    }
    out
}

/// Another project's categories: a second opinion, noisy, from names and short descriptions alone.
fn peer(corpora: &Path) -> Result<String, String> {
    let file = read(&corpora.join("peer-tool-categories.json"))?;
    let mut out = String::new();
    let (mut same, mut all) = (0, 0);
    for entry in file.as_array().into_iter().flatten() {
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        let definition = serde_json::json!({"name": text("tool"), "description": text("description")}).to_string();
        let document = Document::parse(definition, Strictness::Reply).map_err(|error| error.to_string())?;
        let risk = catalogue::grade(document.root(), text("server"));
        all += 1;
        if risk.class.name() == text("category") {
            same += 1;
        } else {
            let quote = risk.evidence.first().map(|first| format!("{} «{}»", first.rule, first.quote)).unwrap_or_default();
            let _ = writeln!(
                out,
                "{}→{}{} {} {} «{}» {quote}",
                text("category"),
                risk.class,
                risk.confidence,
                text("server"),
                text("tool"),
                text("description")
            );
        }
    }
    let _ = writeln!(out, "{same} of {all} the same");
    Ok(out)
}

#[derive(Default)]
struct Score {
    /// By label, then by grade.
    matrix: BTreeMap<(RiskClass, RiskClass), usize>,
    right: usize,
    tools: usize,
    changers: usize,
    called_read: usize,
    /// By confidence: right, all.
    by_confidence: BTreeMap<u8, (usize, usize)>,
    by_server: BTreeMap<String, (usize, usize)>,
    /// By signal: found and labelled, found and not, labelled and not found.
    signals: BTreeMap<&'static str, (usize, usize, usize)>,
}

impl Score {
    /// Counts one tool; whether it was right.
    fn count(&mut self, label: &Label, risk: &ToolRisk) -> bool {
        let is_right = label.classes.contains(&risk.class);
        let Some(first) = label.classes.first() else { return true };
        let expected = if is_right { risk.class } else { *first };
        *self.matrix.entry((expected, risk.class)).or_default() += 1;
        self.tools += 1;
        self.right += usize::from(is_right);
        if !label.classes.contains(&RiskClass::Read) {
            self.changers += 1;
            self.called_read += usize::from(risk.class == RiskClass::Read);
        }
        for entry in
            [self.by_confidence.entry(risk.confidence).or_default(), self.by_server.entry(label.server.clone()).or_default()]
        {
            entry.0 += usize::from(is_right);
            entry.1 += 1;
        }
        for signal in catalogue::Signal::ALL {
            let (found, labelled) = (risk.signals.contains(&signal), label.signals.contains(signal.name()));
            let counts = self.signals.entry(signal.name()).or_default();
            match (found, labelled) {
                (true, true) => counts.0 += 1,
                (true, false) if !label.either.contains(signal.name()) => counts.1 += 1,
                (false, true) => counts.2 += 1,
                _ => {}
            }
        }
        is_right
    }

    fn tables(&self) -> String {
        let mut out = String::new();
        let percent = |part: usize, whole: usize| {
            if whole == 0 { "–".to_owned() } else { format!("{:.1} %", 100.0 * part as f64 / whole as f64) }
        };
        let _ = writeln!(
            out,
            "{} of {} tools of {} servers have the class that people gave them: {}.",
            self.right,
            self.tools,
            self.by_server.len(),
            percent(self.right, self.tools)
        );
        let _ = writeln!(
            out,
            "Of {} tools that change something, {} are called Read: {}.\n",
            self.changers,
            self.called_read,
            percent(self.called_read, self.changers)
        );
        let _ = writeln!(out, "| people said | {} |", RiskClass::ALL.map(RiskClass::name).join(" | "));
        let _ = writeln!(out, "|---|{}", "--:|".repeat(RiskClass::ALL.len()));
        for expected in RiskClass::ALL {
            let row = RiskClass::ALL.map(|graded| self.matrix.get(&(expected, graded)).copied().unwrap_or(0).to_string());
            let _ = writeln!(out, "| {expected} | {} |", row.join(" | "));
        }
        let _ = writeln!(out, "\n| confidence | tools | right |\n|--:|--:|--:|");
        for (confidence, (right, all)) in self.by_confidence.iter().rev() {
            let _ = writeln!(out, "| {confidence} | {all} | {} |", percent(*right, *all));
        }
        let _ = writeln!(out, "\n| signal | precision | recall | labelled |\n|---|--:|--:|--:|");
        for (signal, (both, found, missed)) in &self.signals {
            let _ = writeln!(
                out,
                "| `{signal}` | {} | {} | {} |",
                percent(*both, both + found),
                percent(*both, both + missed),
                both + missed
            );
        }
        out
    }
}

fn mark(label: &Label, risk: &ToolRisk) -> String {
    let expected: Vec<&str> = label.classes.iter().map(|class| class.name()).collect();
    let grave = risk.class == RiskClass::Read;
    format!("{}{}", if grave { "!! " } else { "" }, expected.join("|"))
}

const BEGIN: &str = "<!-- written by `cargo xtask grade --write` -->\n";
const END: &str = "<!-- until here -->";

fn write(path: &Path, tables: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (before, rest) = text.split_once(BEGIN).ok_or("docs/grading.md has no place for the tables")?;
    let (_, after) = rest.split_once(END).ok_or("docs/grading.md has no end of the tables")?;
    std::fs::write(path, format!("{before}{BEGIN}{tables}{END}{after}"))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(format!("grade: written to {}", path.display()))
}
