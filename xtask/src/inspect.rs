//! How well poisoned definitions are found, and honest ones left alone.
//!
//! The definitions lie outside of the repository, since they belong to their authors; where they are absent, there is
//! nothing to measure, and the command says so. The rules were tuned on the first half of every set, in its order; the
//! second half was kept back, with the exceptions that docs/inspect.md names. `--missed` and `--false` therefore print the first
//! half alone. `--write` puts the tables into docs/inspect.md.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use catalogue::{Grade, Inspection, Introduction, inspect};
use json::{Document, Strictness, Value};

use crate::workspace::Workspace;

/// What to print besides the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Tables,
    Write,
    Missed,
    False,
}

/// Inspects every definition of every set, and prints how it went.
///
/// # Errors
/// A file that cannot be read or is not what it should be.
pub fn run(workspace: &Workspace, wanted: Wanted) -> Result<String, String> {
    let corpora = workspace.corpora();
    if !corpora.join("attacks").exists() {
        return Ok(format!("inspect: skipped, {} is not there", corpora.display()));
    }
    let sets = sets(&corpora)?;
    match wanted {
        Wanted::Missed => Ok(listed(sets.iter().filter(|set| set.is_poisoned()), |grade| grade < Grade::D)),
        Wanted::False => Ok(listed(sets.iter().filter(|set| !set.is_poisoned()), |grade| grade > Grade::B)),
        Wanted::Tables => Ok(tables(&sets)),
        Wanted::Write => write(&workspace.root.join("docs/inspect.md"), &tables(&sets)),
    }
}

/// Inspects every definition of every set; `None` where they are not there.
///
/// # Errors
/// When of what was kept back too few poisoned definitions have a D or F, or too many honest ones; in the second half of each set,
/// since the rules were tuned on the first.
pub fn hold(workspace: &Workspace) -> Result<Option<String>, String> {
    let corpora = workspace.corpora();
    if !corpora.join("attacks").exists() {
        return Ok(None);
    }
    let sets = sets(&corpora)?;
    let (mut found, mut poisoned, mut blamed, mut honest) = (0, 0, 0, 0);
    let mut broken = Vec::new();
    for set in &sets {
        let kept_back = set.halves()[1];
        let (bad, of) = (kept_back.iter().filter(|case| case.grade >= Grade::D).count(), kept_back.len());
        let (is_kept, bound) = match set.kind {
            Kind::Poisoned(floor) => {
                (found, poisoned) = (found + bad, poisoned + of);
                (bad * 1_000 >= of * floor, format!("at least {floor}"))
            }
            Kind::Honest(ceiling) => {
                (blamed, honest) = (blamed + bad, honest + of);
                (bad * 1_000 <= of * ceiling, format!("at most {ceiling}"))
            }
        };
        // Of nothing every share is held: then the collection has another form by now.
        if !is_kept || of == 0 {
            broken.push(format!("{}: {bad} of {of} have a D or F, and not {bound} of a thousand", set.name));
        }
    }
    if !broken.is_empty() {
        return Err(broken.join("; "));
    }
    Ok(Some(format!(
        "inspect: {found} of {poisoned} kept-back poisoned definitions found, {blamed} of {honest} honest ones blamed"
    )))
}

/// Definitions of one kind, in their order.
struct Set {
    name: &'static str,
    kind: Kind,
    cases: Vec<Case>,
}

/// What the definitions of a set are, and of a thousand in the half that was kept back how many [`hold`] demands or lets have a D
/// or F: what the tables of docs/inspect.md say, rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// At least so many.
    Poisoned(usize),
    /// At most so many.
    Honest(usize),
}

struct Case {
    name: String,
    grade: Grade,
    findings: Vec<String>,
}

fn sets(corpora: &Path) -> Result<Vec<Set>, String> {
    let attacks = corpora.join("attacks");
    let remote = File::read(&attacks.join("cisco-remote-eval.tools.json"))?;
    let behaviour = File::read(&attacks.join("cisco-behavioural.tools.json"))?;
    let benchmark = File::read(&attacks.join("msb-iclr26.tools.json"))?;
    let guard = File::read(&attacks.join("mcp-guardbench.sample.json"))?;
    let aws = File::read(&attacks.join("benign-awslabs.tools.json"))?;
    let labelled = |label: &'static str| move |case: &Value<'_>| case.get("label").is_some_and(|said| said.says(label));
    let variant = |name: &'static str| {
        move |case: &Value<'_>| case.get("variant").is_some_and(|said| said.says(name)) && labelled("malicious")(case)
    };
    let originals: Vec<Value<'_>> = benchmark.tools(labelled("benign-baseline"));
    let alone = |name, kind, tools: Vec<Value<'_>>| Set { name, kind, cases: tools.into_iter().map(alone).collect() };
    let beside = |name, kind, tools: Vec<Value<'_>>| Set {
        name,
        kind,
        cases: tools.into_iter().map(|tool| of_tool(tool, &originals)).collect(),
    };
    // One server's file holds its unchanged tools with every variant; what is the same as an original is not poisoned.
    let unchanged: Vec<String> = originals.iter().map(|tool| tool.canonical()).collect();
    let changed = |wanted: &'static str| {
        let mut tools = benchmark.tools(variant(wanted));
        tools.retain(|tool| !unchanged.contains(&tool.canonical()));
        tools
    };
    let named = |tool: &Value<'_>| tool.get("name").and_then(Value::as_str).is_some();
    let poisoned_guard = guard.listed(labelled("malicious"));
    let mut sets = vec![
        alone(
            "poisoned descriptions (example servers of mcp-scanner)",
            Kind::Poisoned(1000),
            behaviour.tools(|case| is_poisoned_example(*case)),
        ),
        alone("prompt injections (mcp-scanner, behavioural)", Kind::Poisoned(1000), behaviour.tools(threat("prompt-injection"))),
        alone("openly hostile tools (mcp-scanner, remote)", Kind::Poisoned(377), remote.tools(labelled("malicious"))),
        alone("MSB: asks for the model's name", Kind::Poisoned(666), changed("out_of_scope_parameter")),
        alone("MSB: praises itself, and asks", Kind::Poisoned(666), changed("preference_manipulation-out_of_scope_parameter")),
        alone("MSB: praises itself", Kind::Poisoned(666), changed("preference_manipulation")),
        beside("MSB: another's name with `_v1`, beside the other", Kind::Poisoned(714), changed("name_overlap")),
        beside("MSB: another's words, beside the other", Kind::Poisoned(666), changed("tool_transfer")),
        alone("mcp-guardbench, definitions", Kind::Poisoned(1000), poisoned_guard.into_iter().filter(named).collect()),
        alone(
            "malice in the code alone (mcp-scanner, behavioural)",
            Kind::Poisoned(0),
            behaviour.tools(|case| is_in_code(*case)),
        ),
        alone("mcp-scanner, honest", Kind::Honest(0), remote.tools(labelled("benign"))),
        alone("MSB, the originals", Kind::Honest(0), originals.clone()),
        alone("mcp-guardbench, honest", Kind::Honest(0), guard.listed(labelled("benign"))),
        alone("awslabs, from sources", Kind::Honest(0), aws.tools(labelled("benign"))),
    ];
    sets.push(captures(&corpora.join("tools"))?);
    Ok(sets)
}

fn threat(name: &'static str) -> impl Fn(&Value<'_>) -> bool {
    move |case| case.get("threat").is_some_and(|said| said.says(name))
}

/// The example servers hold helpers too that say nothing wrong; their names are those of the attack's own files.
fn is_poisoned_example(case: Value<'_>) -> bool {
    let text = case.get("tool").and_then(|tool| tool.get("description")).and_then(Value::as_str).unwrap_or_default();
    let marks = ["<IMPORTANT>", "BCC", "There is no need to mention", "gnore", "reveal"];
    threat("example-malicious-servers")(&case) && marks.iter().any(|mark| text.contains(mark))
}

fn is_in_code(case: Value<'_>) -> bool {
    !threat("example-malicious-servers")(&case) && !threat("prompt-injection")(&case)
}

/// A file of labelled cases.
struct File(Document);

impl File {
    fn read(path: &Path) -> Result<File, String> {
        let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let document = Document::parse(text, Strictness::Reply).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(File(document))
    }

    fn cases(&self, wanted: impl Fn(&Value<'_>) -> bool) -> Vec<Value<'_>> {
        self.0.root().get("cases").and_then(Value::elements).into_iter().flatten().filter(|case| wanted(case)).collect()
    }

    fn tools(&self, wanted: impl Fn(&Value<'_>) -> bool) -> Vec<Value<'_>> {
        self.cases(wanted).into_iter().filter_map(|case| case.get("tool")).collect()
    }

    /// The tools of whole answers to `tools/list`.
    fn listed<'d>(&'d self, wanted: impl Fn(&Value<'_>) -> bool) -> Vec<Value<'d>> {
        let list = |case: Value<'d>| case.get("message")?.get("result")?.get("tools")?.elements();
        self.cases(wanted).into_iter().filter_map(list).flatten().collect()
    }
}

fn alone(tool: Value<'_>) -> Case {
    of_tool(tool, &[])
}

/// One tool, and the tools of another server that is there too.
fn of_tool(tool: Value<'_>, others: &[Value<'_>]) -> Case {
    let one = Introduction { name: "server".into(), tools: vec![tool], ..Introduction::default() };
    let other = Introduction { name: "other".into(), tools: others.to_vec(), ..Introduction::default() };
    let servers = if others.is_empty() { vec![one] } else { vec![one, other] };
    let found = inspect(&servers);
    let name = tool.get("name").and_then(Value::as_str).unwrap_or_default().into_owned();
    Case { name, grade: found[0].grade, findings: told(&found[0]) }
}

fn told(inspection: &Inspection) -> Vec<String> {
    let line = |flaw: &catalogue::Flaw| format!("{} {} {}: {}", flaw.weight.name(), flaw.rule, flaw.path, flaw.quote);
    inspection.findings.iter().map(line).collect()
}

/// Every tool of every captured server, with the servers' instructions as cases of their own.
fn captures(directory: &Path) -> Result<Set, String> {
    let entries = std::fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        let file = File::read(&path)?;
        let root = file.0.root();
        let text = |key: &str| root.get(key).and_then(Value::as_str).map(|text| text.into_owned());
        let server = Introduction {
            name: text("server").unwrap_or_default(),
            origin: text("package").into_iter().collect(),
            instructions: text("instructions"),
            tools: root.get("tools").and_then(Value::elements).into_iter().flatten().collect(),
            prompts: Vec::new(),
        };
        let found = inspect(std::slice::from_ref(&server)).remove(0);
        let grades = found.grades();
        let mut parts: Vec<catalogue::Subject> = Vec::new();
        parts.extend(server.instructions.is_some().then_some(catalogue::Subject::Instructions));
        let name = |tool: &Value<'_>| tool.get("name").and_then(Value::as_str).unwrap_or_default().into_owned();
        parts.extend(server.tools.iter().map(|tool| catalogue::Subject::Tool(name(tool))));
        cases.extend(parts.iter().map(|part| {
            Case {
                name: format!("{} {part:?}", server.name),
                grade: grades.get(&Some(part)).copied().unwrap_or(Grade::A),
                findings: found
                    .findings
                    .iter()
                    .filter(|flaw| flaw.subject.as_ref() == Some(part))
                    .map(|flaw| format!("{} {} {}: {}", flaw.weight.name(), flaw.rule, flaw.path, flaw.quote))
                    .collect(),
            }
        }));
    }
    Ok(Set { name: "100 captured servers", kind: Kind::Honest(4), cases })
}

/// The cases of the first halves with a grade that they should not have.
fn listed<'s>(sets: impl Iterator<Item = &'s Set>, is_wrong: impl Fn(Grade) -> bool) -> String {
    let mut out = String::new();
    for set in sets {
        let _ = writeln!(out, "## {}", set.name);
        for case in set.halves()[0].iter().filter(|case| is_wrong(case.grade)) {
            let _ = writeln!(out, "{} {}", case.grade, case.name);
            case.findings.iter().take(4).for_each(|finding| {
                let _ = writeln!(out, "     {finding}");
            });
        }
    }
    out
}

impl Set {
    fn is_poisoned(&self) -> bool {
        matches!(self.kind, Kind::Poisoned(_))
    }

    fn halves(&self) -> [&[Case]; 2] {
        let (tuned, kept) = self.cases.split_at(self.cases.len().div_ceil(2));
        [tuned, kept]
    }
}

fn tables(sets: &[Set]) -> String {
    let mut out = String::new();
    let share = |cases: &[Case], is_wanted: &dyn Fn(Grade) -> bool| {
        if cases.is_empty() {
            return "–".to_owned();
        }
        let count = cases.iter().filter(|case| is_wanted(case.grade)).count();
        format!("{count} ({:.1} %)", 100.0 * count as f64 / cases.len() as f64)
    };
    for (title, is_poisoned) in [("poisoned definitions", true), ("honest definitions", false)] {
        let _ = writeln!(out, "| {title} | tuned on | D or F | C or worse | kept back | D or F | C or worse |");
        let _ = writeln!(out, "|---|--:|--:|--:|--:|--:|--:|");
        for set in sets.iter().filter(|set| set.is_poisoned() == is_poisoned) {
            let halves = set.halves().map(|half| {
                let (bad, doubtful) = (share(half, &|grade| grade >= Grade::D), share(half, &|grade| grade >= Grade::C));
                format!("{} | {bad} | {doubtful}", half.len())
            });
            let _ = writeln!(out, "| {} | {} |", set.name, halves.join(" | "));
        }
        out.push('\n');
    }
    out.pop();
    out
}

const BEGIN: &str = "<!-- written by `cargo xtask inspect --write` -->\n";
const END: &str = "<!-- until here -->";

fn write(path: &Path, tables: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (before, rest) = text.split_once(BEGIN).ok_or("docs/inspect.md has no place for the tables")?;
    let (_, after) = rest.split_once(END).ok_or("docs/inspect.md has no end of the tables")?;
    std::fs::write(path, format!("{before}{BEGIN}{tables}{END}{after}"))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(format!("inspect: written to {}", path.display()))
}
