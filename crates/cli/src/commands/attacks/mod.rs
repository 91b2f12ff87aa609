//! `attacks`: what is documented, what stops it, and the proof.

mod client;
pub mod server;
mod stage;
mod yours;

use crate::arguments::{Attacks, ListAttacks, ShowAttack, TestAttacks};
use crate::failure::{DENIED, Failure, OK};
use crate::terminal::{Paint, counted, shortened, table, tell, visible};
use catalogue::attacks::{self, Attack, Case, Control, Reach, Use};
use serde_json::{Value, json};
use stage::Outcome;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

pub fn attacks(command: &Attacks) -> Result<u8, Failure> {
    match command {
        Attacks::List(arguments) => list(arguments),
        Attacks::Show(arguments) => show(arguments),
        Attacks::Test(arguments) if arguments.policy.is_empty() && !arguments.tools.is_given() => test(arguments),
        Attacks::Test(arguments) => yours::test(arguments),
    }
}

fn list(arguments: &ListAttacks) -> Result<u8, Failure> {
    if let Some(name) = arguments.class.as_deref().filter(|name| attacks::class(name).is_none()) {
        let known: Vec<&str> = attacks::classes().iter().map(|class| class.name.as_str()).collect();
        return Err(Failure::usage(format!("there is no class `{}`; there are {}", visible(name), known.join(", "))));
    }
    let wanted = |attack: &&Attack| {
        arguments.class.as_deref().is_none_or(|class| attack.is_of(class))
            && arguments.control.is_none_or(|control| attack.is_stopped_by(control))
    };
    let found: Vec<&Attack> = attacks::all().iter().filter(wanted).collect();
    let mut out = std::io::stdout().lock();
    if arguments.json {
        for attack in found {
            writeln!(out, "{}", attack.to_json())?;
        }
        return Ok(OK);
    }
    let row = |attack: &&Attack| {
        let controls: Vec<&str> = attack.controls.iter().map(|used| used.control.name()).collect();
        let controls = if controls.is_empty() { Control::None.name().to_owned() } else { controls.join(" ") };
        vec![attack.id.clone(), attack.reach.to_string(), controls, shortened(&attack.title, 72)]
    };
    let rows: Vec<Vec<String>> = found.iter().map(row).collect();
    let paint = Paint::stdout();
    write!(
        out,
        "{}",
        table(&["attack", "callgate", "by", "title"], &rows, |column, cell, padded| match (column, cell) {
            (1, "stops") => paint.good(&padded),
            (1, "limits") => paint.warn(&padded),
            (1, _) => paint.bad(&padded),
            (2, _) => paint.dim(&padded),
            _ => padded,
        })
    )?;
    let count = |reach: Reach| found.iter().filter(|attack| attack.reach == reach).count();
    let reaches = [Reach::Stops, Reach::Limits, Reach::Cannot].map(count);
    let number = counted(found.len() as u64, "attack", "attacks");
    writeln!(out, "\n{number}: {} stopped, {} limited, {} out of reach", reaches[0], reaches[1], reaches[2])?;
    Ok(OK)
}

fn find(id: &str) -> Result<&'static Attack, Failure> {
    attacks::find(id)
        .ok_or_else(|| Failure::usage(format!("there is no attack `{}`; `callgate attacks list` shows them", visible(id))))
}

fn show(arguments: &ShowAttack) -> Result<u8, Failure> {
    let attack = find(&arguments.id)?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", attack.to_json())?;
        return Ok(OK);
    }
    let paint = Paint::stdout();
    writeln!(out, "{}\n", paint.strong(&attack.title))?;
    writeln!(out, "  {:<10}{}", "id", attack.id)?;
    writeln!(out, "  {:<10}{}", "known", attack.date)?;
    writeln!(out, "  {:<10}{}", "affected", attack.affected)?;
    let classes: Vec<&str> =
        attack.classes.iter().filter_map(|name| attacks::class(name)).map(|class| class.title.as_str()).collect();
    writeln!(out, "  {:<10}{}", "class", classes.join("; "))?;
    if !attack.cves.is_empty() {
        writeln!(out, "  {:<10}{}", "CVE", attack.cves.join(", "))?;
    }
    let frameworks = &attack.frameworks;
    let named = [
        ("ATLAS", &frameworks.atlas),
        ("OWASP MCP", &frameworks.mcp),
        ("OWASP LLM", &frameworks.llm),
        ("OWASP agentic", &frameworks.agentic),
    ];
    for (name, ids) in named.into_iter().filter(|(_, ids)| !ids.is_empty()) {
        writeln!(out, "  {:<10}{name} {}", "", ids.join(", "))?;
    }
    paragraph(&mut out, paint, "What happened", &attack.happened)?;
    if let Some(class) = attack.classes.first().and_then(|name| attacks::class(name)) {
        paragraph(&mut out, paint, "How it works", &class.works)?;
    }
    paragraph(&mut out, paint, "What Callgate does", attack.reach.name())?;
    uses(&mut out, &attack.controls)?;
    if let Some(remains) = &attack.remains {
        paragraph(&mut out, paint, "What remains", remains)?;
    }
    if !attack.elsewhere.is_empty() {
        writeln!(out, "\n{}", paint.strong("What else helps, elsewhere"))?;
        uses(&mut out, &attack.elsewhere)?;
    }
    for (title, text) in [("Policy", &attack.policy), ("Configuration", &attack.configuration)] {
        if let Some(text) = text {
            writeln!(out, "\n{}\n", paint.strong(title))?;
            text.lines().try_for_each(|line| writeln!(out, "    {line}"))?;
        }
    }
    if !attack.cases.is_empty() {
        writeln!(out, "\n{}\n", paint.strong(&format!("Cases (callgate attacks test {})", attack.id)))?;
        attack.cases.iter().try_for_each(|case| writeln!(out, "  {}", case.title))?;
    }
    if let Some(note) = &attack.note {
        paragraph(&mut out, paint, "Note", note)?;
    }
    writeln!(out, "\n{}\n", paint.strong("Sources"))?;
    attack.sources.iter().try_for_each(|source| writeln!(out, "  {} ({})", source.url, source.seen.describe()))?;
    Ok(OK)
}

fn paragraph(out: &mut impl Write, paint: Paint, title: &str, text: &str) -> Result<(), Failure> {
    writeln!(out, "\n{}\n", paint.strong(title))?;
    let mut line = String::from(" ");
    for word in text.split_whitespace() {
        if line.chars().count() + word.chars().count() > 98 {
            writeln!(out, "{line}")?;
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(word);
    }
    writeln!(out, "{line}")?;
    Ok(())
}

fn uses(out: &mut impl Write, uses: &[Use]) -> Result<(), Failure> {
    uses.iter().try_for_each(|used| writeln!(out, "  {:<16}{}", used.control.name(), used.how))?;
    Ok(())
}

/// One case that is to be played.
struct Play {
    attack: &'static Attack,
    number: usize,
    case: &'static Case,
}

fn test(arguments: &TestAttacks) -> Result<u8, Failure> {
    let chosen: Vec<&Attack> = match arguments.ids.as_slice() {
        [] => attacks::all().iter().collect(),
        ids => ids.iter().map(|id| find(id)).collect::<Result<_, _>>()?,
    };
    let cases = |attack: &&'static Attack| {
        let attack = *attack;
        attack.cases.iter().enumerate().map(move |(number, case)| Play { attack, number, case })
    };
    let plays: Vec<Play> = chosen.iter().flat_map(cases).collect();
    let out_of_reach: Vec<&Attack> = chosen.iter().copied().filter(|attack| attack.cases.is_empty()).collect();
    let scratch = Scratch::new()?;
    let jobs =
        arguments.jobs.map_or_else(|| std::thread::available_parallelism().map_or(2, |cores| cores.get().min(8)), usize::from);
    let outcomes = play_all(&plays, jobs, &scratch.0, arguments.json)?;
    let held = outcomes.iter().filter(|outcome| **outcome == Outcome::Held).count();
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let case = |(play, outcome): (&Play, &Outcome)| {
            let (result, why) = worded(outcome);
            json!({"attack": play.attack.id, "case": play.case.title, "scene": play.case.scene.name(), "result": result, "why": why})
        };
        let cases: Vec<Value> = plays.iter().zip(&outcomes).map(case).collect();
        let beyond = |attack: &&Attack| json!({"attack": attack.id, "why": attack.remains});
        let beyond: Vec<Value> = out_of_reach.iter().map(beyond).collect();
        let failed = outcomes.len() - held;
        writeln!(out, "{}", json!({"held": held, "failed": failed, "cases": cases, "out_of_reach": beyond}))?;
    } else {
        let reach = match out_of_reach.len() {
            0 => String::new(),
            n => format!("; {n} are out of a gateway’s reach, and say why (callgate attacks list --control none)"),
        };
        writeln!(out, "\n{held} of {} hold, and fail without callgate{reach}", counted(plays.len() as u64, "case", "cases"))?;
    }
    Ok(if held == outcomes.len() { OK } else { DENIED })
}

fn worded(outcome: &Outcome) -> (&'static str, Option<&str>) {
    match outcome {
        Outcome::Held => ("held", None),
        Outcome::Leaked(why) => ("leaked", Some(why)),
        Outcome::Idle(why) => ("idle", Some(why)),
    }
}

/// Plays all cases, some at a time; each is told of in the order of the list, as soon as it can be.
fn play_all(plays: &[Play], jobs: usize, below: &Path, quiet: bool) -> Result<Vec<Outcome>, Failure> {
    let next = AtomicUsize::new(0);
    let (sender, played) = channel();
    let mut outcomes: Vec<Option<Outcome>> = plays.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some((i, play)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, plays.get(i)?))) {
                    let outcome = stage::play(play.attack, play.number, play.case, below);
                    if sender.send((i, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut told = 0;
        for (i, outcome) in played {
            outcomes[i] = Some(outcome);
            while let Some(Some(outcome)) = outcomes.get(told).filter(|_| !quiet) {
                tell_of(&plays[told], outcome)?;
                told += 1;
            }
        }
        Ok::<(), Failure>(())
    })?;
    let missing = || Outcome::Leaked("the case was not played".to_owned());
    Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect())
}

fn tell_of(play: &Play, outcome: &Outcome) -> Result<(), Failure> {
    let paint = Paint::stdout();
    let (word, why) = worded(outcome);
    let word = format!("{word:<6}");
    let word = if *outcome == Outcome::Held { paint.good(&word) } else { paint.bad(&word) };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word}  {:<38}  {}", play.attack.id, play.case.title)?;
    if let Some(why) = why {
        writeln!(out, "        {}", visible(why))?;
    }
    Ok(())
}

/// A directory of its own, gone at the end unless `CALLGATE_KEEP` is set.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, Failure> {
        let base = std::env::temp_dir();
        let id = std::process::id();
        let made = (0..100).map(|n| base.join(format!("callgate-attacks-{id}-{n}"))).find_map(|path| {
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => None,
                made => Some(made.map(|()| path)),
            }
        });
        let path = made.ok_or_else(|| Failure::general(format!("no room for a directory in {}", base.display())))?;
        path.map(Scratch).map_err(|error| Failure::because("cannot prepare the cases", &error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::env::var_os("CALLGATE_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.0);
        } else {
            tell!("everything is in {}", self.0.display());
        }
    }
}
