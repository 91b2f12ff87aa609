//! `replay`: what another policy would have decided.

use crate::arguments::{RecordsArguments, Replay as Arguments, StateArgument};
use crate::commands::block_on;
use crate::failure::{Failure, GENERAL, OK};
use crate::records::moment;
use crate::terminal::{Paint, counted, visible};
use crate::{configurations, policies};
use gateway::{Candidate, Difference, Replay, Replayed, Tally, Unknown, Was, Which};
use json::quote;
use policy::{Policies, Policy};
use std::collections::{BTreeMap, HashSet};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{Clock, Filter, Reader, Row, rfc3339};

pub fn replay(arguments: &Arguments) -> Result<u8, Failure> {
    let (candidate, reader, lock) = match &arguments.config {
        Some(path) => of_configuration(path, &arguments.records.state)?,
        None => (all_of(&arguments.policy)?.into(), arguments.records.state.reader()?, None),
    };
    let mut wanted = arguments.records.filter()?;
    // Under a configuration others have counted, too.
    let (server, grant) = match arguments.config.is_some() {
        true => (wanted.server.take(), wanted.grant.take()),
        false => (None, None),
    };
    let mut tools = arguments.tools.clone();
    tools.lock = tools.lock.or(lock.filter(|lock| tools.tools.is_none() && lock.exists()));
    let (tools, any) = policies::tools_of_servers(&tools)?;
    let keeping = keeping(&reader, &wanted)?;
    let since = wanted.since.unwrap_or(i64::MIN);
    let begin = wanted.since.map(|since| candidate.goes_back_to(since));
    let left_out = candidate.left_out();
    let mut replay = Replay::new(candidate, tools, any, keeping, since)?.comparing_only(server, grant);
    let mut report = Report::begin(arguments.json)?;
    block_on(async {
        for row in reader.list(&Filter { since: begin, ..wanted.clone() })? {
            match replay.take(&row?).await {
                Replayed::Different(difference) => report.different(&difference)?,
                Replayed::Unknown(unknown) => report.unknown(&unknown)?,
                Replayed::Same { .. } | Replayed::Passed => {}
            }
        }
        Ok(())
    })?;
    let tally = replay.tally();
    let notes = [left_out, notes(tally, first_of(&reader)?, begin)].concat();
    report.end(replay.candidate().revision(), tally, &notes)?;
    Ok(if arguments.exit_code && tally.different > 0 { GENERAL } else { OK })
}

/// A configuration with what the state keeps, its records, and where definitions are pinned.
fn of_configuration(path: &Path, state: &StateArgument) -> Result<(Candidate, Reader, Option<PathBuf>), Failure> {
    let (config, _) = configurations::read(path)?;
    let url = if state.state.is_some() { state.url()? } else { config.place()? };
    let reader = Reader::open(&url, Clock::System)?;
    let candidate = Candidate::of_configuration(&config, &reader.kept()?, &configurations::variable);
    Ok((candidate, reader, Some(config.lock)))
}

/// The policies of some files, all of which must allow.
fn all_of(paths: &[PathBuf]) -> Result<Policies, Failure> {
    let read = |path: &PathBuf| -> Result<Arc<Policy>, Failure> {
        policies::read(path)?.policy().ok_or_else(|| Failure::invalid("the policy has errors"))
    };
    Ok(Policies::all_of(paths.iter().map(read).collect::<Result<_, _>>()?))
}

/// The processes that show in their records that they keep arguments.
pub fn keeping(reader: &Reader, wanted: &Filter) -> Result<HashSet<String>, Failure> {
    let mut keeping = HashSet::new();
    for row in reader.list(&Filter { since: None, phase: Some(store::Phase::Decided), ..wanted.clone() })? {
        keeping.extend(Replay::keeping(&row?));
    }
    Ok(keeping)
}

/// The oldest record that is left.
fn first_of(reader: &Reader) -> Result<Option<Row>, Failure> {
    Ok(reader.list(&Filter::default())?.next().transpose()?)
}

impl RecordsArguments {
    /// The records that they mean.
    pub fn filter(&self) -> Result<Filter, Failure> {
        let now = Clock::System.now();
        let time = |text: &Option<String>| text.as_deref().map(|text| moment(text, now)).transpose().map_err(Failure::usage);
        Ok(Filter {
            since: time(&self.since)?,
            until: time(&self.until)?,
            server: self.server.clone(),
            grant: self.grant.clone(),
            ..Filter::default()
        })
    }
}

/// What the records do not say. `first` is the oldest there is; what was counted from `begin` on would matter.
fn notes(tally: Tally, first: Option<Row>, begin: Option<i64>) -> Vec<String> {
    let mut notes = Vec::new();
    let decisions = |count| counted(count, "decision", "decisions");
    if let Some(first) = first.filter(|row| row.seq > 1) {
        let at = gateway::time_of(&first);
        if let Some(at) = at.filter(|at| begin.is_none_or(|begin| *at > begin)) {
            notes.push(format!(
                "the records begin at {}: what was counted before that is not known, so that limits may have been reached earlier",
                rfc3339(at)
            ));
        }
    }
    if tally.unclassed > 0 {
        notes.push(format!(
            "{} about tools whose definitions are not known: they counted as every class of risk (`--lock` or `--tools` says what they are)",
            decisions(tally.unclassed)
        ));
    }
    if tally.unvalidated > 0 {
        notes.push(format!(
            "{} without `validate`: the schemas are not known (`--lock` or `--tools` says them)",
            decisions(tally.unvalidated)
        ));
    }
    if tally.beyond > 0 {
        notes.push(format!(
            "{} left as they are, because no rule has made them: about definitions, ended grants, states, or a store that failed",
            decisions(tally.beyond)
        ));
    }
    if tally.spoilt > 0 {
        notes.push(format!("{} cannot be read", counted(tally.spoilt, "record", "records")));
    }
    notes
}

/// What is told, as it is found: there may be more of it than fits in memory.
struct Report {
    out: BufWriter<std::io::Stdout>,
    paint: Paint,
    json: bool,
    is_first: bool,
    /// Why decisions are not known, and how many.
    unknown: BTreeMap<&'static str, u64>,
    /// The first of them, as JSON.
    examples: Vec<String>,
}

impl Report {
    fn begin(json: bool) -> Result<Report, Failure> {
        let mut out = BufWriter::new(std::io::stdout());
        if json {
            write!(out, "{{\"differences\":[")?;
        }
        let (unknown, examples) = (BTreeMap::new(), Vec::new());
        Ok(Report { out, paint: Paint::stdout(), json, is_first: true, unknown, examples })
    }

    fn different(&mut self, difference: &Difference) -> Result<(), Failure> {
        let Difference { which: of, was, now } = difference;
        if self.json {
            let comma = if self.is_first { "" } else { "," };
            self.is_first = false;
            let told = format!(
                r#"{{"outcome":"{}","reason":"{}","rule":{},"message":{}}}"#,
                now.outcome,
                now.reason,
                or_null(now.rule.as_deref()),
                or_null(now.message.as_deref())
            );
            write!(self.out, r#"{comma}{{{},"was":{},"now":{told}}}"#, in_json(of), was_in_json(was))?;
            return Ok(());
        }
        let decision = |outcome: &str, reason: &str, rule: Option<&str>| {
            let rule = rule.map(|rule| format!(" ({})", visible(rule))).unwrap_or_default();
            let reason = if reason == "allowed" { String::new() } else { format!(" {reason}{rule}") };
            format!("{}{reason}", self.paint.outcome(outcome, outcome))
        };
        let was = decision(was.outcome.as_str(), was.reason.as_str(), was.rule.as_deref());
        let now = decision(now.outcome.as_str(), now.reason.as_str(), now.rule.as_deref());
        let what = of.tool.as_deref().unwrap_or(&of.method);
        let line = format!("{}  {}  {}  {}", rfc3339(of.at), visible(&of.server), visible(&of.grant), visible(what));
        writeln!(self.out, "{line}\n  was {was}, would be {now}; id {}", visible(&of.id))?;
        Ok(())
    }

    fn unknown(&mut self, unknown: &Unknown) -> Result<(), Failure> {
        *self.unknown.entry(unknown.why).or_default() += 1;
        if self.json && self.examples.len() < MOST_EXAMPLES {
            let Unknown { which: of, was, why } = unknown;
            self.examples.push(format!(r#"{{{},"was":{},"why":{}}}"#, in_json(of), was_in_json(was), quote(why)));
        }
        Ok(())
    }

    fn end(mut self, revision: Option<&str>, tally: Tally, notes: &[String]) -> Result<(), Failure> {
        let Tally { decided, different, stricter, looser, unknown, .. } = tally;
        let same = decided - different;
        if self.json {
            let notes: Vec<String> = notes.iter().map(|note| quote(note)).collect();
            writeln!(
                self.out,
                concat!(
                    r#"],"unknown":[{}],"notes":[{}],"policy":{},"decided":{},"same":{},"different":{},"stricter":{},"#,
                    r#""looser":{},"not_known":{}}}"#
                ),
                self.examples.join(","),
                notes.join(","),
                or_null(revision),
                decided,
                same,
                different,
                stricter,
                looser,
                unknown
            )?;
            return Ok(self.out.flush()?);
        }
        let decisions = counted(decided, "decision", "decisions");
        let verdict = match different {
            0 => self.paint.good("all the same"),
            _ => format!("{same} the same, {different} different ({stricter} no longer allowed, {looser} newly allowed)"),
        };
        writeln!(self.out, "{decisions} made again: {verdict}")?;
        for (why, count) in &self.unknown {
            writeln!(self.out, "not known of {}: {why}", counted(*count, "decision", "decisions"))?;
        }
        for note in notes {
            writeln!(self.out, "note: {note}")?;
        }
        Ok(self.out.flush()?)
    }
}

fn in_json(of: &Which) -> String {
    format!(
        r#""seq":{},"id":{},"at":{},"server":{},"method":{},"tool":{},"principal":{},"grant":{}"#,
        of.seq,
        quote(&of.id),
        quote(&rfc3339(of.at)),
        quote(&of.server),
        quote(&of.method),
        or_null(of.tool.as_deref()),
        quote(&of.principal),
        quote(&of.grant)
    )
}

fn was_in_json(was: &Was) -> String {
    format!(r#"{{"outcome":"{}","reason":"{}","rule":{}}}"#, was.outcome, was.reason, or_null(was.rule.as_deref()))
}

fn or_null(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), quote)
}

/// Decisions that are not known, of which each is told in JSON; of more, only how many.
const MOST_EXAMPLES: usize = 1_000;
