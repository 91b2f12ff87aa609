//! How the servers behind a gateway are, for people: `status`, and the admin API.
//!
//! What a server says on standard error is shown, for it tells why it has ended. Values of its environment are taken out of
//! that first: it may have printed what it was started with.

use super::Gateway;
use crate::config::Target;
use crate::config::kept::Whole;
use crate::downstream::federated::{ServerStanding, Standing};
use crate::upstream::Condition;
use json::quote;

/// So many of the last lines on standard error are shown, and so much of each.
const LINES: usize = 5;
const LONGEST_LINE: usize = 300;
/// Shorter values of variables are no secrets, and stand everywhere.
const SHORTEST_SECRET: usize = 6;

impl Gateway {
    /// The names of all servers, in their order.
    pub fn server_names(&self) -> Vec<String> {
        self.federation.standings().into_iter().map(|standing| standing.name).collect()
    }

    /// How each server is, as an array of JSON.
    pub fn standings_json(&self) -> String {
        let each: Vec<String> = self.standings_shown().into_iter().map(|(_, shown)| shown).collect();
        format!("[{}]", each.join(","))
    }

    /// The same, by name.
    pub(crate) fn standings_shown(&self) -> Vec<(String, String)> {
        let whole = self.lock().whole.clone();
        let pending = |server: &str| self.lock.as_ref().map_or(0, |lock| lock.pending_of(server));
        let standings = self.federation.standings().into_iter();
        standings
            .map(|standing| {
                let shown = shown(&standing, pending(&standing.name), &whole);
                (standing.name, shown)
            })
            .collect()
    }
}

fn shown(of: &ServerStanding, pending: usize, whole: &Whole) -> String {
    let (word, why) = match &of.standing {
        Standing::Unknown => ("unknown", None),
        Standing::Well => ("well", None),
        Standing::Slow => ("slow", None),
        Standing::Away(why) => ("away", Some(without_secrets(why, &of.name, whole))),
    };
    let processes = of.processes.as_ref().map(|condition| processes(condition, &of.name, whole));
    format!(
        r#"{{"server":{},"standing":"{word}","why":{},"pins_pending":{pending},"processes":{}}}"#,
        quote(&of.name),
        why.as_deref().map_or_else(|| "null".to_owned(), quote),
        processes.unwrap_or_else(|| "null".to_owned())
    )
}

fn processes(condition: &Condition, server: &str, whole: &Whole) -> String {
    let said = without_secrets(&condition.said, server, whole);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LINES)..].iter().map(|line| {
        let line: String = line.chars().take(LONGEST_LINE).collect();
        quote(&line)
    });
    format!(
        r#"{{"living":{},"started":{},"ended":{},"last_end":{},"paused_ms":{},"stderr":[{}]}}"#,
        condition.living,
        condition.starts,
        condition.ends,
        condition.last_end.as_deref().map_or_else(|| "null".to_owned(), quote),
        condition.paused.map_or(0, |paused| paused.as_millis()),
        last.collect::<Vec<_>>().join(",")
    )
}

/// A text without the values of the variables and headers that the server is called with.
fn without_secrets(text: &str, server: &str, whole: &Whole) -> String {
    let values = whole.server(server).map(|server| match &server.target {
        Target::Command { env, .. } => env.as_slice(),
        Target::Http { headers, .. } => headers.as_slice(),
    });
    let mut text = text.to_owned();
    for (_, value) in values.unwrap_or_default() {
        // A value of several lines, and a header's scheme before its token, may be printed in parts.
        for part in value.expose().split_whitespace().filter(|part| part.len() >= SHORTEST_SECRET) {
            text = text.replace(part, "…");
        }
    }
    text
}
