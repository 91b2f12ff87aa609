//! `policy suggest`: a policy from what was recorded.

use crate::arguments::Suggest;
use crate::commands::block_on;
use crate::commands::replay::keeping;
use crate::commands::scan::write_new;
use crate::failure::{Failure, OK};
use crate::terminal::{counted, tell, visible};
use gateway::{Observed, Replay, Replayed};
use policy::{Outcome, Policies, Source};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Write as _;
use store::{Filter, Reader};

pub fn suggest(arguments: &Suggest) -> Result<u8, Failure> {
    let reader = arguments.records.state.reader()?;
    let wanted = arguments.records.filter()?;
    let keeping = keeping(&reader, &wanted)?;
    let mut observed = Observed::new(arguments.include_denied);
    for row in reader.list(&wanted)? {
        observed.take(&row?, |process| keeping.contains(process));
    }
    if observed.calls() == 0 {
        let what = if arguments.include_denied { "no calls" } else { "no calls that were allowed" };
        return Err(Failure::general(format!("the records hold {what}: there is nothing to make a policy of")));
    }
    let servers: Vec<String> = observed.servers().map(visible).collect();
    if servers.len() > 1 {
        let servers = servers.join("`, `");
        return Err(Failure::usage(format!("the records are of several servers; name one with --server: `{servers}`")));
    }
    // What no condition can say of a tool's arguments shows when it is tried; then they are left open.
    let mut text = observed.policy(&BTreeSet::new());
    let mut tried = tried(&text, &observed, &reader, &wanted, &keeping)?;
    if !tried.refused.is_empty() {
        text = observed.policy(&tried.refused);
        tried = self::tried(&text, &observed, &reader, &wanted, &keeping)?;
    }
    match &arguments.output {
        None => std::io::stdout().write_all(text.as_bytes())?,
        Some(path) => write_new(path, &text)?,
    }
    let calls = counted(observed.calls(), "call", "calls");
    tell!("tried on the records: {} of {calls} would be allowed", tried.allowed);
    Ok(OK)
}

/// What a policy does to the calls that it is to allow.
struct Tried {
    allowed: u64,
    /// The tools of which it does not allow some.
    refused: BTreeSet<String>,
}

fn tried(text: &str, observed: &Observed, reader: &Reader, wanted: &Filter, keeping: &HashSet<String>) -> Result<Tried, Failure> {
    let source = Source::new("suggested policy", text);
    let loaded = policy::load(&source);
    let problems = || loaded.problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ");
    let unfit = || Failure::general(format!("no policy can be made of these records: {}", visible(&problems())));
    let policy = loaded.policy.ok_or_else(unfit)?;
    let mut replay = Replay::new(Policies::from(policy), HashMap::new(), None, keeping.clone(), i64::MIN)?;
    let (mut allowing, mut refused) = (0, BTreeSet::new());
    block_on(async {
        for row in reader.list(wanted)? {
            let row = row?;
            let replayed = replay.take(&row).await;
            if !observed.wants(&row) {
                continue;
            }
            match replayed {
                Replayed::Same { allowed } => allowing += u64::from(allowed),
                Replayed::Different(difference) if difference.now.outcome == Outcome::Allow => allowing += 1,
                Replayed::Different(difference) => refused.extend(difference.which.tool.clone()),
                Replayed::Unknown(_) | Replayed::Passed => {}
            }
        }
        Ok(())
    })?;
    Ok(Tried { allowed: allowing, refused })
}
