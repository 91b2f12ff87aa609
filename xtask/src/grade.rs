//! How well tools are graded, against labels that people have given.
//!
//! Two sets of labels: those that the rules were written with, which lie outside of the repository, and the project's own of
//! other servers (`tests/corpora/risk-labels.json`), some of them kept back from the rules. Definitions are their authors' and
//! part of neither: they are read from captures, and where none is at hand, there is nothing to measure. `--write` puts the
//! tables into docs/grading.md, `--wrong` and `--signals` print what was graded otherwise than by people (never of what is
//! kept back), `--all` every grade of every capture, and `--peer` holds the grades against another project's noisy
//! categories.

mod labels;
mod score;

use std::fmt::Write as _;
use std::path::Path;

use json::{Document, Strictness};

use crate::workspace::Workspace;
use labels::{Graded, Label};
use score::Score;

/// What to print besides the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Tables,
    Write,
    Wrong,
    Signals,
    All,
    Peer,
}

/// Grades every labelled tool, and prints how it went. `captures` are more captures than those beside the workspace.
///
/// # Errors
/// A file that cannot be read or is not what it should be.
pub fn run(workspace: &Workspace, wanted: Wanted, captures: Option<&Path>) -> Result<String, String> {
    let corpora = workspace.corpora();
    if wanted == Wanted::Peer {
        return peer(&corpora);
    }
    let graded = graded(&corpora, captures)?;
    if wanted == Wanted::All {
        return Ok(all(&graded));
    }
    let gold = gold(&corpora)?;
    let own = labels::own(&own_path(workspace))?;
    let told = |labels: &[Label], tables: &str| {
        let lines = of_tuned(labels, &graded, if wanted == Wanted::Signals { signals } else { wrong });
        format!("{lines}\n{tables}")
    };
    let (first, second) = (Part::of(&gold, &graded).tables(), sets(&own, &graded));
    match wanted {
        Wanted::Wrong | Wanted::Signals => Ok(format!("{}\n{}", told(&gold, &first), told(&own, &second))),
        Wanted::Write => write(workspace, &[(GOLD, &gold, &first), (OWN, &own, &second)], &graded),
        Wanted::Tables | Wanted::All | Wanted::Peer => Ok(format!("{first}\n{second}")),
    }
}

/// Grades every labelled tool whose definition is at hand; `None` where none is.
///
/// # Errors
/// When too few have the class that people gave them, or too many that change something are called Read.
pub fn hold(workspace: &Workspace) -> Result<Option<String>, String> {
    let corpora = workspace.corpora();
    let graded = graded(&corpora, None)?;
    let mut all = gold(&corpora)?;
    all.extend(labels::own(&own_path(workspace))?);
    let Part { score, missing: _ } = Part::of(&all, &graded);
    if score.tools == 0 {
        return Ok(None);
    }
    let said = score.figures().replace('\n', " ");
    // 95 % and under 1 %: what policies that are made from grades can be built on.
    match score.right * 100 >= score.tools * 95 && score.called_read * 100 < score.changers {
        true => Ok(Some(said)),
        false => Err(format!("{said}\n{}", of_tuned(&all, &graded, wrong))),
    }
}

fn own_path(workspace: &Workspace) -> std::path::PathBuf {
    workspace.root.join("tests/corpora/risk-labels.json")
}

fn gold(corpora: &Path) -> Result<Vec<Label>, String> {
    let path = corpora.join("gold-risk-labels.json");
    if path.exists() { labels::gold(&path) } else { Ok(Vec::new()) }
}

/// The grades of all definitions that are at hand.
fn graded(corpora: &Path, captures: Option<&Path>) -> Result<Graded, String> {
    let mut graded = Graded::default();
    if corpora.exists() {
        graded.captures(&corpora.join("tools"))?;
        graded.cases(&corpora.join("attacks/benign-awslabs.tools.json"))?;
        graded.cases(&corpora.join("attacks/msb-iclr26.tools.json"))?;
    }
    captures.map_or(Ok(()), |path| graded.captures(path))?;
    Ok(graded)
}

/// How some labels are met, and how many have no definition here.
struct Part {
    score: Score,
    missing: usize,
}

impl Part {
    fn of<'l>(labels: impl IntoIterator<Item = &'l Label>, graded: &Graded) -> Part {
        let mut part = Part { score: Score::default(), missing: 0 };
        for label in labels {
            match graded.get(label) {
                Some(risk) => {
                    part.score.count(label, risk);
                }
                None => part.missing += 1,
            }
        }
        part
    }

    fn tables(&self) -> String {
        match (self.score.tools, self.missing) {
            (0, missing) => format!("None of {missing} definitions is at hand.\n"),
            (_, 0) => self.score.tables(),
            (_, missing) => format!("{missing} definitions are not at hand.\n{}", self.score.tables()),
        }
    }
}

/// The tables of the project's own labels: of those that the rules were mended with, and of those that were kept back.
fn sets(own: &[Label], graded: &Graded) -> String {
    let set = |is_tuned_on: bool| Part::of(own.iter().filter(|label| label.is_tuned_on == is_tuned_on), graded).tables();
    format!("### Kept back\n\n{}\n### Mended with\n\n{}", set(false), set(true))
}

/// What there is to `tell` of tools that may be looked at: never of what is kept back, since it would be no longer.
fn of_tuned(labels: &[Label], graded: &Graded, tell: fn(&Label, &Graded) -> Option<String>) -> String {
    labels.iter().filter(|label| label.is_tuned_on).filter_map(|label| tell(label, graded)).collect()
}

/// What is wrong with the class or the level of a tool.
fn wrong(label: &Label, graded: &Graded) -> Option<String> {
    let risk = graded.get(label)?;
    let is_right = label.classes.contains(&risk.class);
    if is_right && label.levels().contains(&risk.level) {
        return None;
    }
    let expected: Vec<&str> = label.classes.iter().map(|class| class.name()).collect();
    let grave = if risk.class == catalogue::RiskClass::Read && !is_right { "!! " } else { "" };
    let mut out = format!(
        "{grave}{} said {} {} ({}) for {} {}: {}\n",
        expected.join("|"),
        risk.class,
        risk.level,
        risk.confidence,
        label.server,
        label.tool,
        label.reason
    );
    let speaks = |evidence: &&catalogue::Evidence| is_right || matches!(evidence.supports, catalogue::Supports::Class(_));
    for evidence in risk.evidence.iter().filter(speaks).take(4) {
        let _ = writeln!(out, "      {} {} «{}» {}", evidence.rule, evidence.at, evidence.quote, evidence.why);
    }
    Some(out)
}

/// The signals that are found and were not labelled (`+`), or were and are not found (`-`).
fn signals(label: &Label, graded: &Graded) -> Option<String> {
    let risk = graded.get(label)?;
    let mut out = String::new();
    for signal in catalogue::Signal::ALL {
        let mark = match (risk.signals.contains(&signal), label.signals.contains(signal.name())) {
            (true, false) if !label.either.contains(signal.name()) => '+',
            (false, true) => '-',
            _ => continue,
        };
        let at = risk.evidence.iter().find(|evidence| evidence.supports == catalogue::Supports::Signal(signal));
        let at = at.map(|evidence| format!(" {} «{}»", evidence.at, evidence.quote)).unwrap_or_default();
        let _ = writeln!(out, "{mark}{signal} {} {}{at}", label.server, label.tool);
    }
    (!out.is_empty()).then_some(out)
}

fn all(graded: &Graded) -> String {
    let mut out = String::new();
    for (server, tools) in &graded.0 {
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
    let file = labels::read(&corpora.join("peer-tool-categories.json"))?;
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

/// The marks in docs/grading.md between which the tables of one set of labels stand.
const GOLD: &str = "<!-- written by `cargo xtask grade --write` -->\n";
const OWN: &str = "<!-- written by `cargo xtask grade --write`, with captures -->\n";
const END: &str = "<!-- until here -->";

/// Writes the tables of every set of which all definitions are at hand.
fn write(workspace: &Workspace, sets: &[(&str, &Vec<Label>, &str)], graded: &Graded) -> Result<String, String> {
    let path = workspace.root.join("docs/grading.md");
    let mut text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut said = String::new();
    for (begin, labels, tables) in sets {
        let missing = labels.iter().filter(|label| graded.get(label).is_none()).count();
        if labels.is_empty() || missing > 0 {
            let _ = writeln!(said, "grade: {missing} definitions are not at hand, their tables stay as they are");
            continue;
        }
        let (before, rest) = text.split_once(begin).ok_or("docs/grading.md has no place for the tables")?;
        let (_, after) = rest.split_once(END).ok_or("docs/grading.md has no end of the tables")?;
        text = format!("{before}{begin}{tables}{END}{after}");
    }
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(format!("{said}grade: written to {}", path.display()))
}
