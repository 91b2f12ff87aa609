//! `explain` and `simulate`: decisions without a server.

use crate::arguments::{Explain, Simulate};
use crate::commands::block_on;
use crate::failure::{DENIED, Failure, OK};
use crate::policies;
use crate::terminal::{Paint, shortened, table, tell, visible};
use gateway::{PolicyFile, SimulatedCall, Simulation};
use jiff::Timestamp;
use json::{Document, Kind, Strictness};
use policy::{Decision, Outcome, Tools};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, BufWriter, Write};

pub fn explain(arguments: &Explain) -> Result<u8, Failure> {
    if let Some(text) = &arguments.args {
        let document = Document::parse(text.clone(), Strictness::Reply);
        let document = document.map_err(|error| Failure::usage(format!("the value of --args is no JSON: {error}")))?;
        if document.root().kind() != Kind::Object {
            return Err(Failure::usage("the value of --args must be a JSON object, such as '{\"amount\": 400}'"));
        }
    }
    let file = policies::read(&arguments.policy.policy)?;
    let (what, decision) = match (&arguments.method, &arguments.tool) {
        (Some(method), _) => {
            let policy = file.policy().ok_or_else(|| Failure::invalid("the policy has errors"))?;
            (method, gateway::explain_method(&policy.into(), method, arguments.mode.as_deref()))
        }
        (None, Some(tool)) => {
            let tools = policies::tools(&arguments.tools)?;
            let mut simulation = simulation(&file, tools)?;
            let call = SimulatedCall::new(tool, arguments.args.as_deref());
            (tool, block_on(async { Ok(simulation.decide(&call).await) })?)
        }
        (None, None) => return Err(Failure::usage("name a tool with --tool, or a method with --method")),
    };
    let mut out = std::io::stdout().lock();
    match arguments.json {
        true => writeln!(out, "{}", decision.to_json())?,
        false => write!(out, "{}", explanation(what, &decision, Paint::stdout()))?,
    }
    Ok(if decision.outcome == Outcome::Deny { DENIED } else { OK })
}

/// The clock begins now: rules about hours are explained for this moment.
fn simulation(file: &PolicyFile, tools: Option<Tools>) -> Result<Simulation, Failure> {
    let policy = file.policy().ok_or_else(|| Failure::invalid("the policy has errors"))?;
    Ok(Simulation::new(policy, tools, Timestamp::now())?)
}

fn explanation(tool: &str, decision: &Decision, paint: Paint) -> String {
    let outcome = decision.outcome.as_str();
    let mut out = format!("{}  {}\n", paint.outcome(outcome, outcome), visible(tool));
    let mut facts = vec![("reason", decision.reason.to_string())];
    facts.extend(decision.rule.as_ref().map(|rule| ("rule", visible(rule))));
    facts.extend(decision.message.as_ref().map(|message| ("message", visible(message))));
    facts.extend(decision.retry_after_ms.map(|millis| ("retry", format!("after {millis} ms"))));
    if let Some(shadow) = &decision.shadow {
        let rule = shadow.rule.as_deref().map(|rule| format!(", rule {}", visible(rule))).unwrap_or_default();
        facts.push(("shadow", format!("would be {}: {}{rule}", shadow.outcome, shadow.reason)));
    }
    if decision.outcome == Outcome::Ask {
        facts.push(("note", "nothing was opened: the id stands for that of a real call".to_owned()));
    }
    for (name, value) in facts {
        out.push_str(&format!("  {name:<8} {value}\n"));
    }
    let steps: Vec<Vec<String>> = decision
        .steps
        .iter()
        .enumerate()
        .map(|(i, step)| {
            let cells = [step.result.as_str().to_owned(), visible(&step.rule), visible(&step.check), visible(&step.detail)];
            [vec![format!("  {}.", i + 1)], cells.to_vec()].concat()
        })
        .collect();
    if steps.is_empty() && decision.outcome == Outcome::Allow {
        out.push_str("\nno rule stood against it\n");
    } else if !steps.is_empty() {
        out.push_str("\nsteps\n");
        out.push_str(&table(&[], &steps, |column, cell, padded| match column {
            1 => paint.outcome(cell, &padded),
            _ => padded,
        }));
    }
    out
}

pub fn simulate(arguments: &Simulate) -> Result<u8, Failure> {
    let tools = policies::tools(&arguments.tools)?;
    let mut simulation = simulation(&policies::read(&arguments.policy.policy)?, tools)?;
    let from_stdin = arguments.calls.as_os_str() == "-";
    let name = if from_stdin { "stdin".to_owned() } else { visible(&arguments.calls.display().to_string()) };
    let calls: Box<dyn BufRead> = match from_stdin {
        true => Box::new(std::io::stdin().lock()),
        false => {
            let file = std::fs::File::open(&arguments.calls);
            Box::new(BufReader::new(
                file.map_err(|error| Failure::because(&format!("cannot read the calls in `{name}`"), &error))?,
            ))
        }
    };
    block_on(async {
        let mut out = BufWriter::new(std::io::stdout().lock());
        let mut unread = BTreeSet::new();
        for (i, line) in calls.split(b'\n').enumerate() {
            let line = line.map_err(|error| Failure::because(&format!("cannot read the calls in `{name}`"), &error))?;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let parsed = std::str::from_utf8(&line).map_err(|error| format!("not UTF-8: {error}")).and_then(SimulatedCall::parse);
            let (call, more) = match parsed {
                Ok(parsed) => parsed,
                Err(error) => {
                    out.flush()?;
                    return Err(Failure::general(format!("{name}:{}: {error}", i + 1)));
                }
            };
            for member in more {
                if unread.insert(member.clone()) {
                    let member = shortened(&member, 60);
                    tell!("{} {name}:{}: `{member}` means nothing here and is not read", Paint::stderr().warn("warning:"), i + 1);
                }
            }
            writeln!(out, "{}", simulation.decide(&call).await.to_json())?;
            if from_stdin {
                // Whoever writes line by line may wait for the answer.
                out.flush()?;
            }
        }
        out.flush()?;
        Ok(OK)
    })
}
