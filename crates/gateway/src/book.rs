//! The policy book: Markdown in which policies, calls and expected decisions stand among prose, and are run.
//!
//! A fenced block called `policy` begins a policy with fresh counters at 10:30 UTC on 15 January 2026; `tools` gives it a
//! `tools/list`; each line of `calls` is a call and what is expected of it; `problems` lists exactly what checking the policy
//! finds. Everything else is prose.

mod expectation;
mod markdown;

use crate::simulate::{SimulatedCall, Simulation};
use expectation::Line;
use jiff::Timestamp;
use markdown::{Block, blocks};
use policy::{Problem, Severity, Source, Tools};
use std::fmt;
use std::sync::Arc;

/// What running one file found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BookRun {
    /// How many policies it holds.
    pub policies: u64,
    /// How many calls were made.
    pub calls: u64,
    /// What is not as expected, in the order of the file.
    pub failures: Vec<BookFailure>,
}

/// An expectation that does not hold, or a line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookFailure {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What was expected, and what there was.
    pub message: String,
}

impl fmt::Display for BookFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Runs every policy and every call of a Markdown text; `file` is its name in failures.
pub async fn run_book(file: &str, text: &str) -> BookRun {
    let mut run = Run { file, found: BookRun::default() };
    let mut chapter: Option<Chapter> = None;
    for block in blocks(text) {
        match (block.kind.as_str(), &mut chapter) {
            ("policy", _) => {
                run.end(chapter.take());
                run.found.policies += 1;
                chapter = Some(Chapter::begin(file, block));
            }
            ("tools" | "problems" | "calls", None) => run.fail(block.line, "a block before the first `policy`"),
            ("tools", Some(chapter)) => chapter.take_tools(&block, &mut run),
            ("problems", Some(chapter)) => chapter.check_problems(&block, &mut run),
            ("calls", Some(chapter)) => chapter.run_calls(&block, &mut run).await,
            _ => {}
        }
    }
    run.end(chapter.take());
    run.found
}

struct Run<'f> {
    file: &'f str,
    found: BookRun,
}

impl Run<'_> {
    fn fail(&mut self, line: usize, message: impl Into<String>) {
        self.found.failures.push(BookFailure { file: self.file.to_owned(), line, message: message.into() });
    }

    /// A policy without a list of its problems must load.
    fn end(&mut self, chapter: Option<Chapter>) {
        let Some(chapter) = chapter.filter(|chapter| !chapter.expects_problems && !chapter.reported) else { return };
        chapter.report_errors(self);
    }
}

/// One policy and what was given for it so far.
struct Chapter {
    source: Source,
    /// The line of its first line in the file.
    line: usize,
    loaded: policy::Loaded,
    simulation: Option<Result<Simulation, String>>,
    tools: Option<String>,
    expects_problems: bool,
    /// Whether its errors have been reported.
    reported: bool,
}

impl Chapter {
    fn begin(file: &str, block: Block) -> Chapter {
        let source = Source::new(file, block.text);
        let loaded = policy::load(&source);
        Chapter { source, line: block.line, loaded, simulation: None, tools: None, expects_problems: false, reported: false }
    }

    fn take_tools(&mut self, block: &Block, run: &mut Run<'_>) {
        match Tools::parse(block.text.as_bytes()) {
            // Counters begin anew: the policy stands before another server.
            Ok(_) => (self.tools, self.simulation) = (Some(block.text.clone()), None),
            Err(error) => run.fail(block.line, format!("the tools cannot be read: {error}")),
        }
    }

    /// Everything that `callgate check` says, with the tools where there are some.
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.loaded.problems.clone();
        if let Some(Ok(tools)) = self.tools.as_ref().map(|tools| Tools::parse(tools.as_bytes())) {
            problems.extend(policy::check_tools(&self.source, &self.loaded, &tools));
        }
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }

    fn check_problems(&mut self, block: &Block, run: &mut Run<'_>) {
        self.expects_problems = true;
        let mut found = self.problems();
        for (line, text) in block.lines() {
            let (expected, part) = text.split_once(" #").map_or((text, ""), |(expected, part)| (expected, part.trim()));
            let at = found.iter().position(|problem| shown(problem) == expected.trim() && says(problem, part));
            match at {
                Some(at) => drop(found.remove(at)),
                None => run.fail(line, format!("expected `{text}`, got {}", all_shown(&self.problems()))),
            }
        }
        for problem in found {
            run.fail(block.line, format!("a problem that is not listed: `{}` # {}", shown(&problem), problem.message));
        }
    }

    async fn run_calls(&mut self, block: &Block, run: &mut Run<'_>) {
        if self.loaded.policy.is_none() {
            if !self.expects_problems && !self.reported {
                self.report_errors(run);
                self.reported = true;
            }
            run.fail(block.line, "these calls have no valid policy");
            return;
        }
        for (line, text) in block.lines() {
            match Line::parse(text) {
                Ok(parsed) => {
                    if let Err(message) = self.run_line(&parsed, run).await {
                        run.fail(line, message);
                    }
                }
                Err(error) => run.fail(line, error),
            }
        }
    }

    async fn run_line(&mut self, line: &Line, run: &mut Run<'_>) -> Result<(), String> {
        let simulation = match self.simulation.get_or_insert_with(|| simulation(&self.source, self.tools.as_deref())) {
            Ok(simulation) => simulation,
            Err(error) => return Err(error.clone()),
        };
        match line.time {
            expectation::Time::At(at) => simulation.set(at),
            expectation::Time::Later(millis) => simulation.advance(millis),
            expectation::Time::Still => {}
        }
        let mut call = SimulatedCall::new(&line.tool, line.arguments.as_deref());
        call.reply = line.reply;
        for (place, given) in
            [(&mut call.grant, &line.grant), (&mut call.principal, &line.principal), (&mut call.server, &line.server)]
        {
            if let Some(given) = given {
                place.clone_from(given);
            }
        }
        for time in 1..=line.times {
            let decision = simulation.decide(&call).await;
            run.found.calls += 1;
            line.expected.check(&decision, time == line.times).map_err(|difference| match line.times {
                1 => difference,
                times => format!("call {time} of {times}: {difference}"),
            })?;
        }
        Ok(())
    }

    fn report_errors(&self, run: &mut Run<'_>) {
        for problem in self.loaded.problems.iter().filter(|problem| problem.severity == Severity::Error) {
            let line = self.line + problem.line as usize - 1;
            run.fail(line, format!("the policy is not valid: {} ({})", problem.message, shown(problem)));
        }
    }
}

fn simulation(source: &Source, tools: Option<&str>) -> Result<Simulation, String> {
    let tools = tools.map(|tools| Tools::parse(tools.as_bytes())).transpose()?;
    let start: Timestamp = START.parse().map_err(|error| format!("{error}"))?;
    let policy = policy::load(source).policy.ok_or("these calls have no valid policy")?;
    Simulation::new(Arc::new(policy), tools, start).map_err(|error| error.to_string())
}

/// `error P014 9:17`
fn shown(problem: &Problem) -> String {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    format!("{severity} {} {}:{}", problem.code, problem.line, problem.column)
}

/// Whether the part stands in what the problem says.
fn says(problem: &Problem, part: &str) -> bool {
    [Some(&problem.message), problem.label.as_ref(), problem.help.as_ref()].into_iter().flatten().any(|text| text.contains(part))
}

fn all_shown(problems: &[Problem]) -> String {
    match problems {
        [] => "no problems".to_owned(),
        some => some.iter().map(|problem| format!("`{}`", shown(problem))).collect::<Vec<_>>().join(", "),
    }
}

/// A Thursday.
const START: &str = "2026-01-15T10:30:00Z";
