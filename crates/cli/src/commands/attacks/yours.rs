//! `attacks test --policy P --tools T`, or `--lock L`: which attacks apply to these tools, and which of them this policy stops.

use crate::arguments::TestAttacks;
use crate::failure::{DENIED, Failure, OK};
use crate::policies;
use crate::terminal::{Paint, counted, shortened, table, visible};
use catalogue::attacks::{Attack, Control, Finding, Missing, Standing, judge, missing_policy, not_judged, some_of};
use policy::Policies;
use serde_json::json;
use std::collections::HashSet;
use std::io::Write;

pub fn test(arguments: &TestAttacks) -> Result<u8, Failure> {
    if arguments.policy.is_empty() {
        return Err(Failure::usage("a policy is tried against tools: give `--policy` as well"));
    }
    let servers = policies::tools_by_server(&arguments.tools)?;
    let read = |path: &std::path::PathBuf| {
        let file = policies::read(path)?;
        file.policy().ok_or_else(|| Failure::invalid("the policy has errors"))
    };
    let each = arguments.policy.iter().map(read).collect::<Result<Vec<_>, Failure>>()?;
    let (policies, now) = (Policies::all_of(each), jiff::Timestamp::now());
    let is_named = |attack: &Attack| arguments.ids.is_empty() || arguments.ids.contains(&attack.id);
    // What holds for every server, and a tool that several have, is found with each.
    let mut seen = HashSet::new();
    let mut is_new = |finding: &Finding| seen.insert((&finding.attack.id, finding.tool.clone(), finding.argument.clone()));
    let all = servers.iter().flat_map(|(server, tools)| judge(server, tools, &policies, now));
    let findings: Vec<Finding> = all.filter(|finding| is_named(finding.attack) && is_new(finding)).collect();
    let is_open = findings.iter().any(|finding| matches!(finding.standing, Standing::Open(_)));
    let beyond: Vec<(&Attack, String)> = not_judged().filter(|(attack, _)| is_named(attack)).collect();
    if arguments.json {
        print_json(&findings, &beyond)?
    } else {
        print_text(&findings, &beyond)?
    }
    Ok(if is_open { DENIED } else { OK })
}

fn print_json(findings: &[Finding], beyond: &[(&Attack, String)]) -> Result<(), Failure> {
    let finding = |finding: &Finding| {
        let (standing, rule, reason) = match &finding.standing {
            Standing::Stopped { rule, reason } => ("stopped", Some(rule), Some(*reason)),
            Standing::Unclear { rule } => ("unclear", Some(rule), None),
            Standing::Open(_) => ("open", None, None),
        };
        let missing = match &finding.standing {
            Standing::Open(Missing::Hidden(tool)) => Some(format!("hide: [{}]", json::quote(tool))),
            Standing::Open(Missing::Rule(_, rule)) => Some(rule.clone()),
            Standing::Open(Missing::ServerRequest(asked)) => Some(format!("server_requests: {{{asked}: deny}}")),
            Standing::Stopped { .. } | Standing::Unclear { .. } => None,
        };
        json!({
            "attack": finding.attack.id,
            "tool": finding.tool,
            "argument": finding.argument,
            "because": finding.because,
            "standing": standing,
            "rule": rule,
            "reason": reason,
            "missing": missing,
        })
    };
    let all: Vec<serde_json::Value> = findings.iter().map(finding).collect();
    let beyond = beyond.iter().map(|(attack, why)| json!({"attack": attack.id, "why": why}));
    let not_judged: Vec<serde_json::Value> = beyond.collect();
    let told = json!({"findings": all, "not_judged": not_judged, "missing": missing_policy(findings)});
    writeln!(std::io::stdout().lock(), "{told}")?;
    Ok(())
}

fn print_text(findings: &[Finding], beyond: &[(&Attack, String)]) -> Result<(), Failure> {
    // One row for all attacks that stand alike at one place.
    let mut rows: Vec<(Vec<String>, Vec<&str>)> = Vec::new();
    for finding in findings {
        let (standing, by) = match &finding.standing {
            Standing::Stopped { rule, reason } => ("stopped", format!("{reason}: {}", shortened(rule, 40))),
            Standing::Unclear { rule } => ("unclear", format!("a harmless call is refused too: {}", shortened(rule, 40))),
            Standing::Open(_) => ("open", finding.because.clone()),
        };
        let place = match (&finding.tool, &finding.argument) {
            (None, _) => "(the server)".to_owned(),
            (Some(tool), None) => shortened(tool, 40),
            (Some(tool), Some(argument)) => format!("{} {}", shortened(tool, 40), visible(argument)),
        };
        let key = vec![standing.to_owned(), place, by];
        match rows.iter_mut().find(|(known, _)| *known == key) {
            Some((_, attacks)) => attacks.push(&finding.attack.id),
            None => rows.push((key, vec![&finding.attack.id])),
        }
    }
    rows.sort();
    let row = |(mut row, attacks): (Vec<String>, Vec<&str>)| {
        row.push(some_of(&attacks));
        row
    };
    let rows: Vec<Vec<String>> = rows.into_iter().map(row).collect();
    let paint = Paint::stdout();
    let mut out = std::io::stdout().lock();
    write!(
        out,
        "{}",
        table(&["", "where", "by", "attacks"], &rows, |column, cell, padded| match (column, cell) {
            (0, "stopped") => paint.good(&padded),
            (0, "open") => paint.bad(&padded),
            (0, _) => paint.warn(&padded),
            (2, _) => paint.dim(&padded),
            _ => padded,
        })
    )?;
    let count = |wanted: fn(&Standing) -> bool| findings.iter().filter(|finding| wanted(&finding.standing)).count() as u64;
    let open = count(|standing| matches!(standing, Standing::Open(_)));
    let unclear = count(|standing| matches!(standing, Standing::Unclear { .. }));
    let stopped = count(|standing| matches!(standing, Standing::Stopped { .. }));
    let places = counted(findings.len() as u64, "place", "places");
    writeln!(out, "\n{places} where a documented attack applies: {stopped} stopped, {unclear} unclear, {open} open")?;
    print_beyond(&mut out, beyond)?;
    if let Some(missing) = missing_policy(findings) {
        writeln!(
            out,
            "\n# What is missing. Fill in what waits for it, and paste it into the policy, or give it beside it (`--policy` twice)."
        )?;
        write!(out, "{missing}")?;
    }
    Ok(())
}

/// Nobody is to read "0 open" as an answer to more than was asked.
fn print_beyond(out: &mut impl Write, beyond: &[(&Attack, String)]) -> Result<(), Failure> {
    if beyond.is_empty() {
        return Ok(());
    }
    let number = counted(beyond.len() as u64, "attack", "attacks");
    writeln!(out, "\nnot judged here: {number} that Callgate stops or limits in ways that no list of tools shows, by")?;
    for control in Control::ALL {
        let by: Vec<&str> = beyond
            .iter()
            .filter(|(attack, _)| attack.controls.first().is_some_and(|used| used.control == control))
            .map(|(attack, _)| attack.id.as_str())
            .collect();
        if !by.is_empty() {
            writeln!(out, "  {:<16}{:>3}  {}", control.name(), by.len(), some_of(&by))?;
        }
    }
    Ok(())
}
