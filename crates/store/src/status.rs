//! What `status` shows: calls and denials by upstream, the rules that deny most, who is running.

use crate::approvals::{self, ApprovalState};
use crate::error::Fault;
use crate::instances::{self, Running};
use crate::sql::Sql;
use crate::value::values;
use std::collections::BTreeMap;

/// An overview of the audit log and of the processes that write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// By upstream, in the order of their names.
    pub servers: Vec<ServerStatus>,
    /// Oldest first.
    pub instances: Vec<Running>,
    /// Approvals that wait for an answer.
    pub waiting: u64,
    /// All audit records that are kept.
    pub records: u64,
}

/// The calls of one upstream that are on record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its name; empty for messages refused before one was known.
    pub server: String,
    /// Calls decided, and messages refused.
    pub calls: u64,
    /// Calls that were let through.
    pub allowed: u64,
    /// Calls and messages that were not.
    pub denied: u64,
    /// Calls that wait or waited for an approval.
    pub asked: u64,
    /// The rules that denied or asked most often, at most ten, the most frequent first.
    pub top_rules: Vec<RuleCount>,
}

/// How often one rule denied or asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleCount {
    /// The rule; the reason's code where no rule was at work.
    pub rule: String,
    /// How often.
    pub count: u64,
}

pub(crate) fn status(sql: Sql<'_>, now: i64, since: Option<i64>) -> Result<Status, Fault> {
    let query = "SELECT coalesce(json_extract(body, '$.server'), ''), json_extract(body, '$.outcome'),
                coalesce(json_extract(body, '$.rule'), json_extract(body, '$.reason'), ''), count(*)
         FROM audit WHERE CASE WHEN json_valid(body)
            THEN json_extract(body, '$.phase') IN ('decided', 'refused') AND json_extract(body, '$.at') >= ?1 END
         GROUP BY 1, 2, 3";
    let since = since.map(crate::rfc3339).unwrap_or_default();
    let rows = sql.rows(query, values![&since], |row| {
        // Whatever stands in a body that was spoilt, it is counted under some text.
        let text = |column| row.strict(column).map(Option::unwrap_or_default);
        Ok((text(0)?, text(1)?, text(2)?, row.get::<i64>(3)?.unsigned_abs()))
    })?;
    let mut servers: BTreeMap<String, ServerStatus> = BTreeMap::new();
    for (server, outcome, rule, count) in rows {
        let status = servers.entry(server.clone()).or_insert_with(|| ServerStatus { server, ..ServerStatus::default() });
        status.calls += count;
        match outcome.as_str() {
            "allow" => {
                status.allowed += count;
                continue;
            }
            "ask" => status.asked += count,
            _ => status.denied += count,
        }
        match status.top_rules.iter_mut().find(|known| known.rule == rule) {
            Some(known) => known.count += count,
            None => status.top_rules.push(RuleCount { rule, count }),
        }
    }
    let mut servers: Vec<ServerStatus> = servers.into_values().collect();
    for status in &mut servers {
        status.top_rules.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.rule.cmp(&b.rule)));
        status.top_rules.truncate(10);
    }
    let records = sql.row("SELECT count(*) FROM audit", &[], |row| row.get::<i64>(0))?.unwrap_or(0);
    let waiting = approvals::all(sql, now)?.iter().filter(|approval| approval.state == ApprovalState::Pending).count();
    Ok(Status { servers, instances: instances::all(sql, now)?, waiting: waiting as u64, records: records.unsigned_abs() })
}
