//! Windowed counters.
//!
//! A counter is kept in buckets, each addressed by upstream, scope, owner, name, window **and its start**: a new span is a
//! new row and nothing is ever reset. That is what makes clock skew between processes harmless: a late writer spends from an
//! older bucket, and a bucket of the future still counts.
//!
//! Charges are judged first and taken afterwards, all or none. This module knows nothing of rules.

use crate::admission::{Subject, Taken, joined};
use crate::error::Fault;
use crate::journal::Change;
use crate::sql::Sql;
use crate::value::values;
use policy::{Amount, Charge, Counter, Scope, Usage};
use std::sync::Arc;

/// What judging all charges of a call came to.
pub(crate) enum Judged {
    /// All fit; this is what to take.
    Fit { usages: Vec<Usage>, taken: Vec<Taken> },
    /// One does not.
    Exhausted { index: usize, usage: Usage },
}

/// What the buckets of a counter hold from `from` on.
pub(crate) fn held(sql: Sql<'_>, key: &str, from: i64) -> Result<Vec<(i64, Amount)>, Fault> {
    Ok(stored(sql, key, from)?.into_iter().map(|(bucket, micros)| (bucket, amount(micros))).collect())
}

/// A negative amount is not ours: somebody has spoilt the counter, and a spoilt counter is a full one.
pub(crate) fn amount(micros: i64) -> Amount {
    u64::try_from(micros).ok().and_then(Amount::from_micros).unwrap_or(Amount::MAX)
}

/// Judges all charges against their counters as of `now`, each with those before it taken. `held` gives what the buckets
/// of a counter hold from a moment on.
pub(crate) fn judge(
    charges: &[(Arc<str>, Charge)],
    now: i64,
    mut held: impl FnMut(&str, i64) -> Result<Vec<(i64, Amount)>, Fault>,
) -> Result<Judged, Fault> {
    let mut usages = Vec::with_capacity(charges.len());
    let mut taken: Vec<Taken> = Vec::new();
    let mut exhausted: Option<(usize, Usage)> = None;
    for (index, (key, charge)) in charges.iter().enumerate() {
        let window = &charge.counter.window;
        let mut held = held(key, window.counts_from(now))?;
        held.extend(taken.iter().filter(|taken| taken.key == *key).map(|taken| (taken.bucket, taken.amount)));
        let usage = charge.usage(&held, now);
        if charge.refuses(&usage) {
            // Of several, the one that frees last, so that a caller who waits as told is not told to wait again.
            if exhausted.is_none_or(|(_, longest)| usage.retry_after_ms > longest.retry_after_ms) {
                exhausted = Some((index, usage));
            }
        } else if charge.amount > Amount::ZERO {
            let bucket = window.bucket(now);
            taken.push(Taken { key: key.clone(), bucket, amount: charge.amount, frees_at: window.frees_at(bucket) });
        }
        usages.push(usage);
    }
    Ok(match exhausted {
        Some((index, usage)) => Judged::Exhausted { index, usage },
        None => Judged::Fit { usages, taken },
    })
}

/// Carries out changes: amounts that are taken, and given back.
pub(crate) fn apply<'c>(sql: Sql<'_>, changes: impl Iterator<Item = &'c Change>) -> Result<(), Fault> {
    // Past the largest amount a counter stays there: only a shadow charge, which is never refused, can get so far.
    const TAKE: &str = "INSERT INTO counters(key, bucket, used, frees_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT(key, bucket) DO UPDATE SET
             used = CASE WHEN counters.used > ?5 - excluded.used THEN ?5 ELSE counters.used + excluded.used END";
    const GIVE_BACK: &str =
        "UPDATE counters SET used = CASE WHEN used + ?3 < 0 THEN 0 ELSE used + ?3 END WHERE key = ?1 AND bucket = ?2";
    for Change { key, bucket, frees_at, micros } in changes {
        match *micros >= 0 {
            true => sql.execute(TAKE, values![key, *bucket, *micros, *frees_at, i64::MAX])?,
            false => sql.execute(GIVE_BACK, values![key, *bucket, *micros])?,
        };
    }
    Ok(())
}

/// What the buckets of a counter hold from `from` on, in millionths as they are stored.
pub(crate) fn stored(sql: Sql<'_>, key: &str, from: i64) -> Result<Vec<(i64, i64)>, Fault> {
    let find = "SELECT bucket, used FROM counters WHERE key = ?1 AND bucket >= ?2";
    sql.rows(find, values![key, from], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Removes buckets that have not counted for so long that no clock will be set back to them.
pub(crate) fn prune(sql: Sql<'_>, now: i64) -> Result<(), Fault> {
    sql.execute("DELETE FROM counters WHERE frees_at < ?1", values![now.saturating_sub(CLOCK_DOUBT_MS)])?;
    Ok(())
}

/// Everything that tells one counter from another. The subject's parts come from authentication, never from the client.
pub(crate) fn key(counter: &Counter, subject: &Subject) -> Arc<str> {
    let Subject { server, grant, principal, session } = subject;
    let (server, scope, who) = match counter.scope {
        Scope::Grant => (&**server, "grant", joined(&[grant])),
        Scope::Principal => (&**server, "principal", joined(&[principal])),
        Scope::Session => match session {
            Some(session) => (&**server, "session", joined(&[grant, session])),
            None => (&**server, "session", joined(&[grant])),
        },
        Scope::Upstream => (&**server, "upstream", String::new()),
        Scope::Global => ("", "global", String::new()),
    };
    joined(&[server, scope, &who, &counter.owner, &counter.name, &counter.window.key()]).into()
}

/// How far a clock may have gone ahead and be set back without anything being forgotten: a day and an hour.
pub(crate) const CLOCK_DOUBT_MS: i64 = 25 * 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;
    use policy::Window;

    fn counter(owner: &str, name: &str, scope: Scope) -> Counter {
        Counter { owner: owner.into(), name: name.into(), window: Window::parse("minute").unwrap(), scope }
    }

    fn subject(server: &str, grant: &str, session: Option<&str>) -> Subject {
        Subject { server: server.into(), grant: grant.into(), principal: "p".into(), session: session.map(Arc::from) }
    }

    #[test]
    fn keys_of_different_counters_differ() {
        let mut keys = vec![
            key(&counter("a", "b", Scope::Global), &subject("s", "g", None)),
            key(&counter("a", "b", Scope::Upstream), &subject("s", "g", None)),
            key(&counter("a", "b", Scope::Upstream), &subject("t", "g", None)),
            key(&counter("a", "b", Scope::Grant), &subject("s", "g", None)),
            key(&counter("a", "b", Scope::Principal), &subject("s", "g", None)),
            key(&counter("a", "b", Scope::Session), &subject("s", "g", None)),
            key(&counter("a", "b", Scope::Session), &subject("s", "g", Some("x"))),
            key(&counter("a:1", "b", Scope::Grant), &subject("s", "g", None)),
            key(&counter("a", "1:b", Scope::Grant), &subject("s", "g", None)),
            key(&counter("a", "b", Scope::Grant), &subject("s", "g\n5:grant", None)),
            key(&counter("a", "b", Scope::Grant), &subject("s5:grant1:g", "", None)),
        ];
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }

    #[test]
    fn a_global_counter_is_one_for_all_upstreams() {
        let counter = counter("_global", "calls", Scope::Global);
        assert_eq!(key(&counter, &subject("s", "g", None)), key(&counter, &subject("t", "h", Some("x"))));
    }
}
