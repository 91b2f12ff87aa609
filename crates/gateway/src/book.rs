//! The policy book: Markdown in which policies, calls and expected decisions stand among prose, and are run.
//!
//! A fenced block called `policy` (or `policy file=…`, empty) begins a policy with fresh counters at 10:30 UTC on 15 January 2026; `tools` gives it a
//! `tools/list`, `pinned` one that was accepted before; each line of `calls` is a call and what is expected of it, each line of `methods` another message by its
//! method, each of `results` what a tool returns; `problems` lists exactly what checking the policy finds. Everything else is prose.

mod expectation;
mod markdown;
mod returned;

use crate::methods::judge_method;
use crate::simulate::{SimulatedCall, Simulation, read_tools};
use expectation::{Line, MethodLine};
use jiff::Timestamp;
use markdown::{Block, blocks};
use policy::{Decider, Decision, Policies, Problem, RiskClass, Severity, Source};
use returned::ResultLine;
use std::collections::HashSet;
use std::fmt;

/// What running one file found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BookRun {
    /// How many policies it holds.
    pub policies: u64,
    /// How many calls were made.
    pub calls: u64,
    /// How many rules there are in policies that examples were given for.
    pub rules: u64,
    /// Those of them that no example has decided, in the order of the file.
    pub undecided: Vec<Undecided>,
    /// What is not as expected, in the order of the file.
    pub failures: Vec<BookFailure>,
}

impl BookRun {
    /// Adds what another file holds.
    pub fn add(&mut self, other: BookRun) {
        self.policies += other.policies;
        self.calls += other.calls;
        self.rules += other.rules;
        self.failures.extend(other.failures);
        self.undecided.extend(other.undecided);
    }
}

/// A rule that no example has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// The file in which it stands.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// How decisions name it.
    pub rule: String,
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

/// Runs every policy and every call of a Markdown text; `file` is its name in failures. `read` gives the text of a policy that
/// stands in a file of its own, by its path as it is written there, or says why it cannot be had.
pub async fn run_book(file: &str, text: &str, read: impl Fn(&str) -> Result<Vec<u8>, String>) -> BookRun {
    let mut run = Run { file, found: BookRun::default() };
    let mut chapter: Option<Chapter> = None;
    for block in blocks(text) {
        match (block.kind.as_str(), &mut chapter) {
            ("policy", _) => {
                run.end(chapter.take());
                run.found.policies += 1;
                chapter = Chapter::begin(block, &read, &mut run);
            }
            ("tools" | "pinned" | "problems" | "calls" | "methods" | "results", None) => {
                run.fail(block.line, "a block before the first `policy`")
            }
            ("tools", Some(chapter)) => chapter.take_tools(&block, &mut run),
            ("pinned", Some(chapter)) => chapter.take_pinned(&block, &mut run),
            ("problems", Some(chapter)) => chapter.check_problems(&block, &mut run),
            ("calls", Some(chapter)) => chapter.run_calls(&block, &mut run).await,
            ("methods", Some(chapter)) => chapter.run_methods(&block, &mut run),
            ("results", Some(chapter)) => chapter.run_results(&block, &mut run),
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
        let Some(chapter) = chapter else { return };
        if !chapter.expects_problems && !chapter.reported {
            chapter.report_errors(self);
        }
        chapter.report_undecided(self);
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
    /// The tools as they were accepted.
    pinned: Option<String>,
    /// What has decided so far.
    decided: HashSet<(Option<usize>, String)>,
    /// Whether it was asked to decide anything.
    is_tried: bool,
    expects_problems: bool,
    /// Whether its errors have been reported.
    reported: bool,
}

impl Chapter {
    fn begin(block: Block, read: impl Fn(&str) -> Result<Vec<u8>, String>, run: &mut Run<'_>) -> Option<Chapter> {
        let (source, line) = match block.more.strip_prefix("file=") {
            None => (Source::new(run.file, block.text), block.line),
            Some(_) if !block.text.trim().is_empty() => {
                run.fail(block.line, "a policy that stands in a file cannot stand here too");
                return None;
            }
            Some(path) => match read(path) {
                Ok(text) => (Source::new(path, text), 1),
                Err(why) => {
                    run.fail(block.line - 1, format!("the policy `{path}` cannot be read: {why}"));
                    return None;
                }
            },
        };
        let loaded = policy::load(&source);
        Some(Chapter {
            source,
            line,
            loaded,
            simulation: None,
            tools: None,
            pinned: None,
            decided: HashSet::new(),
            is_tried: false,
            expects_problems: false,
            reported: false,
        })
    }

    fn take_pinned(&mut self, block: &Block, run: &mut Run<'_>) {
        match read_tools(block.text.as_bytes()) {
            Ok(_) => (self.pinned, self.simulation) = (Some(block.text.clone()), None),
            Err(error) => run.fail(block.line, format!("the pinned tools cannot be read: {error}")),
        }
    }

    /// Notes what has decided a call of a tool, or another message.
    fn note(&mut self, decision: &Decision, tool: Option<(&str, Option<RiskClass>)>) {
        self.is_tried = true;
        let shadow = decision.shadow.as_ref().and_then(|shadow| shadow.rule.as_ref());
        for rule in decision.rule.as_ref().into_iter().chain(shadow) {
            let number = tool.zip(self.loaded.policy.as_ref());
            let number = number.and_then(|((tool, class), policy)| policy.rule_number(tool, class, rule));
            self.decided.insert((number, rule.to_string()));
        }
    }

    fn report_undecided(&self, run: &mut Run<'_>) {
        if !self.is_tried {
            return;
        }
        for Decider { reference, line, number } in self.loaded.deciders(&self.source) {
            run.found.rules += 1;
            if !self.decided.contains(&(number, reference.clone())) {
                let line = self.line + line as usize - 1;
                run.found.undecided.push(Undecided { file: self.source.name.clone(), line, rule: reference });
            }
        }
    }

    fn take_tools(&mut self, block: &Block, run: &mut Run<'_>) {
        match read_tools(block.text.as_bytes()) {
            // Counters begin anew: the policy stands before another server.
            Ok(_) => (self.tools, self.simulation) = (Some(block.text.clone()), None),
            Err(error) => run.fail(block.line, format!("the tools cannot be read: {error}")),
        }
    }

    /// Everything that `callgate check` says, with the tools where there are some.
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.loaded.problems.clone();
        if let Some(Ok(tools)) = self.tools.as_ref().map(|tools| read_tools(tools.as_bytes())) {
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

    /// Whether there is a policy to judge by; says so where there is none.
    fn is_valid(&mut self, block: &Block, run: &mut Run<'_>) -> bool {
        if self.loaded.policy.is_none() {
            if !self.expects_problems && !self.reported {
                self.report_errors(run);
                self.reported = true;
            }
            run.fail(block.line, "these calls have no valid policy");
        }
        self.loaded.policy.is_some()
    }

    fn run_methods(&mut self, block: &Block, run: &mut Run<'_>) {
        if !self.is_valid(block, run) {
            return;
        }
        let Some(policies) = policy::load(&self.source).policy.map(Policies::from) else { return };
        for (line, text) in block.lines() {
            let judged = MethodLine::parse(text).and_then(|line| {
                run.found.calls += 1;
                let decision = judge_method(&policies, &line.method, line.kind, line.from, line.mode.as_deref());
                self.note(&decision, None);
                line.expected.check(&decision, true)
            });
            if let Err(message) = judged {
                run.fail(line, message);
            }
        }
    }

    fn run_results(&mut self, block: &Block, run: &mut Run<'_>) {
        if !self.is_valid(block, run) {
            return;
        }
        let Some(policies) = policy::load(&self.source).policy.map(Policies::from) else { return };
        let tools = self.tools.as_ref().and_then(|tools| read_tools(tools.as_bytes()).ok());
        for (line, text) in block.lines() {
            let judged = ResultLine::parse(text).and_then(|line| {
                run.found.calls += 1;
                let class = tools.as_ref().and_then(|tools| tools.get(&line.tool)?.class);
                line.check(&policies.results_of_tool(&line.tool, class).judge(line.result()))
            });
            if let Err(message) = judged {
                run.fail(line, message);
            }
        }
    }

    async fn run_calls(&mut self, block: &Block, run: &mut Run<'_>) {
        if !self.is_valid(block, run) {
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
        let simulation = match self
            .simulation
            .get_or_insert_with(|| simulation(&self.source, self.tools.as_deref(), self.pinned.as_deref()))
        {
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
        let class = simulation.class_of(&call.server, &line.tool);
        let mut verdict = Ok(());
        let mut decided: Vec<Decision> = Vec::new();
        for time in 1..=line.times {
            let decision = simulation.decide(&call).await;
            run.found.calls += 1;
            verdict = line.expected.check(&decision, time == line.times).map_err(|difference| match line.times {
                1 => difference,
                times => format!("call {time} of {times}: {difference}"),
            });
            decided.push(decision);
            if verdict.is_err() {
                break;
            }
        }
        decided.iter().for_each(|decision| self.note(decision, Some((&line.tool, class))));
        verdict
    }

    fn report_errors(&self, run: &mut Run<'_>) {
        for problem in self.loaded.problems.iter().filter(|problem| problem.severity == Severity::Error) {
            let line = self.line + problem.line as usize - 1;
            let message = format!("the policy is not valid: {} ({})", problem.message, shown(problem));
            run.found.failures.push(BookFailure { file: self.source.name.clone(), line, message });
        }
    }
}

fn simulation(source: &Source, tools: Option<&str>, pinned: Option<&str>) -> Result<Simulation, String> {
    let tools = tools.map(|tools| read_tools(tools.as_bytes())).transpose()?;
    let start: Timestamp = START.parse().map_err(|error| format!("{error}"))?;
    let policy = policy::load(source).policy.ok_or("these calls have no valid policy")?;
    let simulation = Simulation::new(policy, tools, start).map_err(|error| error.to_string())?;
    Ok(match pinned.map(|pinned| read_tools(pinned.as_bytes())).transpose()? {
        Some(pinned) => simulation.pinning(&pinned),
        None => simulation,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a book, and gives its failures as `line: message`.
    fn failures(text: &str) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let run = runtime.block_on(run_book("book.md", text, |path| Err(format!("there is no `{path}`"))));
        run.failures.iter().map(|failure| format!("{}: {}", failure.line, failure.message)).collect()
    }

    /// A book of one policy (lines 2 to 5) and these calls (from line 8).
    #[track_caller]
    fn check(calls: &str, expected: &[&str]) {
        let policy = "version: \"1\"\ntools:\n  t: {rules: [{name: two, rate_limit: 2/minute}]}\n  s: {mode: shadow, rules: [{name: no, action: deny}]}\n";
        assert_eq!(failures(&format!("```policy\n{policy}```\n```calls\n{calls}\n```\n")), expected, "{calls}");
    }

    #[test]
    fn expectations_that_hold_say_nothing() {
        check(
            "# a comment\n\nt x2 # allow _rate_minute=2/2\nt {\"a\": \"}#\"} # deny limit-reached \"Rate limit of 2…\" rule=\"two\" retry=1..61000\n\
             t grant=b principal=c # allow\nt server=other reply=lost # allow\n+61s t # allow\n@2026-01-16T00:00:00Z t # allow\n\
             s # shadow-deny denied-by-rule rule=\"no\"\ns # allow\n\"t\" {\"a\": [} # allow",
            &["18: the arguments are no JSON object: {\"a\": [} # allow"],
        );
    }

    #[test]
    fn expectations_that_fail_say_what_there_was() {
        check("t # deny", &["8: expected deny, got allow allowed"]);
        check("t # allow _rate_minute=2/2", &["8: expected _rate_minute=2/2, got _rate_minute=1/2"]);
        check("t # shadow-deny", &["8: expected shadow-deny, got allow allowed"]);
        check(
            "t x3 # allow",
            &[
                "8: call 3 of 3: expected allow, got deny limit-reached \"Rate limit of 2 per minute reached. Try again later.\" rule=\"two\"",
            ],
        );
        check(
            "t x2 # allow\nt # deny \"no\"",
            &["9: expected the message \"no\", got \"Rate limit of 2 per minute reached. Try again later.\""],
        );
        check("t x2 # allow\nt # deny rule=three retry=1", &["9: expected the rule \"three\", got \"two\""]);
    }

    #[test]
    fn lines_that_cannot_be_read_say_why() {
        check("t", &["8: a call needs what is expected of it: `# allow`"]);
        check("t # maybe", &["8: unknown outcome `maybe`; expected `allow`, `ask`, `deny`, `shadow-ask` or `shadow-deny`"]);
        check("t # deny because", &["8: `because` is no reason"]);
        check("+soon t # allow", &["8: `+soon` is no span; write `+5s`, `+1m`, `+2h` or `+1d`"]);
        check(
            "t x0 # allow",
            &["8: `x0` means nothing here; expected `x10`, `grant=…`, `principal=…`, `server=…`, `reply=…` or `# …`"],
        );
    }

    #[test]
    fn a_policy_must_load_unless_its_problems_are_listed() {
        let broken = "```policy\nversion: \"1\"\ndefualt: deny\n```\n";
        assert_eq!(failures(broken), ["3: the policy is not valid: unknown key `defualt` in the policy (error P010 2:1)"]);
        assert_eq!(failures(&format!("{broken}```problems\nerror P010 2:1 # defualt\n```\n")), [""; 0]);
        assert_eq!(
            failures(&format!("{broken}```problems\nerror P011 2:1\n```\n")),
            [
                "6: expected `error P011 2:1`, got `error P010 2:1`",
                "6: a problem that is not listed: `error P010 2:1` # unknown key `defualt` in the policy"
            ]
        );
        assert_eq!(failures(&format!("{broken}```calls\nt # allow\n```\n")).len(), 2);
    }

    #[test]
    fn rules_that_no_example_has_decided_are_listed() {
        let policy = "```policy\nversion: \"1\"\nhide: [h]\nmethods: {prompts: deny}\nrisk: {financial: deny}\ntools:\n  a: {rules: [{name: pace, rate_limit: 1/minute}, {name: never, action: deny}]}\n  b: {rules: [{name: pace, rate_limit: 1/minute}]}\n```\n";
        let undecided = |calls: &str| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let run = runtime.block_on(run_book("book.md", &format!("{policy}{calls}"), |_| Err(String::new())));
            let undecided: Vec<String> = run.undecided.iter().map(|rule| format!("{} {}", rule.line, rule.rule)).collect();
            (run.rules, undecided)
        };
        assert_eq!(undecided(""), (0, Vec::new()));
        let all = ["5 /risk/financial", "7 pace", "7 never", "8 pace", "3 (hidden)", "4 /methods/prompts"];
        assert_eq!(undecided("```calls\na # deny\n```\n").1.len(), 5, "the rule that denies is decided by");
        let (rules, left) = undecided("```calls\nx # deny\nb # allow\nb # deny\nh # deny\n```\n");
        assert_eq!(rules, all.len() as u64);
        assert_eq!(left, ["7 pace", "7 never", "4 /methods/prompts"]);
    }

    #[test]
    fn a_policy_may_stand_in_a_file_of_its_own() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let book = "```policy file=p.yaml\n```\n```calls\nt # deny rule=no\nu # deny\n```\n";
        let read = |path: &str| match path {
            "p.yaml" => Ok(b"version: \"1\"\ntools: {t: {rules: [{name: no, action: deny}]}}\n".to_vec()),
            _ => Err("not there".to_owned()),
        };
        let run = runtime.block_on(run_book("book.md", book, read));
        let failures: Vec<String> = run.failures.iter().map(ToString::to_string).collect();
        assert_eq!(failures, ["book.md:5: expected deny, got allow allowed"]);
        let run = runtime.block_on(run_book("book.md", "```policy file=q.yaml\n```\n", read));
        assert_eq!(run.failures[0].message, "the policy `q.yaml` cannot be read: not there");
    }

    #[test]
    fn tools_are_held_against_those_that_were_accepted() {
        let policy = "```policy\nversion: \"1\"\n```\n";
        let pinned = "```pinned\n{\"tools\": [{\"name\": \"t\", \"description\": \"Reads.\"}]}\n```\n";
        let tools = "```tools\n{\"tools\": [{\"name\": \"t\", \"description\": \"Deletes.\"}, {\"name\": \"u\"}]}\n```\n";
        let calls = "```calls\nt # deny definition-changed\nu # deny definition-unpinned\nv # deny definition-unknown\n```\n";
        assert_eq!(failures(&format!("{policy}{pinned}{tools}{calls}")), [""; 0]);
        assert_eq!(
            failures(&format!("{policy}{pinned}{}```calls\nt # allow\n```\n", pinned.replace("pinned", "tools"))),
            [""; 0]
        );
    }

    #[test]
    fn what_becomes_of_results_can_be_expected() {
        let policy =
            "```policy\nversion: \"1\"\ntools: {t: {results: {secrets: redact, withhold: [{matches: no, name: n}]}}}\n```\n";
        let results = |lines: &str| failures(&format!("{policy}```results\n{lines}\n```\n"));
        let key = "AKIAIOSFODNN7EXAMPLE";
        assert_eq!(
            results(&format!(
                "t \"fine\" # pass\nt \"{key}\" # change aws-key=1 \"[redacted: aws-key]\"\n\
                 t {{\"a\": [\"no\"]}} # withhold rule=n \"The result is withheld…\"\nu \"no\" # pass"
            )),
            [""; 0]
        );
        let told =
            "The result is withheld: it holds what the policy forbids. The call was made; do not repeat it to see its result.";
        assert_eq!(
            results("t \"no\" # pass\nt \"no\" # withhold rule=m\nt 1 # pass\nt \"x\" # maybe"),
            [
                format!("6: expected another thing to become of the result; got withhold {told:?} rule=\"n\""),
                format!("7: expected the rule \"m\", got withhold {told:?} rule=\"n\""),
                "8: a result is an object, or a text: `tool \"text\" # pass`".to_owned(),
                "9: `maybe` becomes of no result; expected `pass`, `change` or `withhold`".to_owned(),
            ]
        );
    }

    #[test]
    fn tools_let_validate_be_judged() {
        let policy = "```policy\nversion: \"1\"\ntools: {t: {rules: [{name: v, validate: {required_args: true}}]}}\n```\n";
        let tools =
            "```tools\n{\"tools\": [{\"name\": \"t\", \"inputSchema\": {\"type\": \"object\", \"required\": [\"a\"]}}]}\n```\n";
        let calls = "```calls\nt # deny invalid-arguments\n```\n";
        assert_eq!(failures(&format!("{policy}{tools}{calls}")), [""; 0]);
        assert_eq!(failures(&format!("{policy}{calls}")), ["6: expected deny invalid-arguments, got allow allowed"]);
        assert_eq!(failures(calls), ["2: a block before the first `policy`"]);
    }
}
