//! One-time approvals.
//!
//! An approval is bound to everything that was asked about: server, grant, principal, tool, digest of the arguments and
//! revision of the policy. It is opened by a call, decided by a person, and spent by the same call when it comes again.
//! Where several people must say yes, each of them counts once, and the last one opens it; one no denies.
//! There is at most one open approval for one call, and a bounded number for one grant.
//!
//! An approval is good while its time lasts, and not before it was opened: a clock that was set back does not prolong it.
//!
//! Whoever decides must see the arguments, so they are kept as they came, whatever the audit log keeps of them: but only
//! while there is something to decide or to use, and only up to a length. What is over keeps none.

use crate::StoreError;
use crate::admission::{ApprovalRequest, Subject};
use crate::arguments::{self, ArgumentsMode, LONGEST};
use crate::chain::Ledger;
use crate::draft::{Draft, Phase};
use crate::error::Fault;
use crate::key::{DigestKey, random_id};
use crate::sql::{Row, Sql};
use crate::value::values;
use json::{Document, Strictness, quote};
use policy::Quorum;

/// What has become of an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalState {
    /// Nobody has decided yet.
    Pending,
    /// Somebody has said yes; it has not been used.
    Approved,
    /// Somebody has said no.
    Denied,
    /// It was used.
    Spent,
    /// Its time ran out.
    Expired,
}

impl ApprovalState {
    /// `pending`, `approved`, `denied`, `spent` or `expired`.
    pub fn as_str(self) -> &'static str {
        match self {
            ApprovalState::Pending => "pending",
            ApprovalState::Approved => "approved",
            ApprovalState::Denied => "denied",
            ApprovalState::Spent => "spent",
            ApprovalState::Expired => "expired",
        }
    }

    fn parse(text: &str) -> ApprovalState {
        match text {
            "pending" => ApprovalState::Pending,
            "approved" => ApprovalState::Approved,
            "denied" => ApprovalState::Denied,
            "spent" => ApprovalState::Spent,
            // What cannot be read cannot be used.
            _ => ApprovalState::Expired,
        }
    }
}

/// What there is to see of the arguments of a call that was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShownArguments {
    /// They themselves: JSON, exactly as it came.
    Whole(String),
    /// Longer than 64 KiB; in their place `{"bytes": …, "hmac": …}`, as the audit log has it.
    TooLong(String),
    /// Nothing is left to decide or to use, but they lie in the file until state is opened or tidied next. Not given out.
    Overdue,
    /// They were removed when the approval was spent, denied or expired.
    Removed,
}

/// An approval as people see it. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Its id.
    pub id: String,
    /// As of now.
    pub state: ApprovalState,
    /// The upstream.
    pub server: String,
    /// The grant that asks.
    pub grant: String,
    /// Who holds it.
    pub principal: String,
    /// The tool.
    pub tool: String,
    /// The digest of the arguments.
    pub digest: String,
    /// The revision of the policy.
    pub policy: String,
    /// The rule that asks.
    pub rule: String,
    /// The arguments.
    pub arguments: ShownArguments,
    /// When it was opened.
    pub created: i64,
    /// Until when it waits, or once approved, may be used.
    pub expires: i64,
    /// For how long it waits and then may be used.
    pub timeout_ms: u64,
    /// When it was approved or denied.
    pub decided: Option<i64>,
    /// By whom.
    pub decided_by: Option<String>,
    /// Who must say yes, all of these; without any, one person whoever it is.
    pub quorums: Vec<Quorum>,
    /// Who has said yes, each once, the earliest first.
    pub votes: Vec<Vote>,
    /// The id of the call that used it.
    pub spent_by: Option<String>,
}

/// One person's yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Whose.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
}

/// The answer of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The call may be made, once.
    Approve,
    /// It may not. Also takes back an approval that was not used yet.
    Deny,
}

/// How a call stands that needs an approval.
pub(crate) enum Standing {
    Unasked,
    Pending { id: String, expires: i64 },
    Approved { id: String },
    Denied { id: String },
}

/// Finds the approval for this very call that still counts.
pub(crate) fn standing(ledger: &Ledger<'_>, subject: &Subject, request: &ApprovalRequest) -> Result<Standing, Fault> {
    let now = ledger.now();
    let bound = values![&request.tool, &request.digest, &subject.server, &subject.grant, &subject.principal, &request.policy];
    let find = format!(
        "SELECT {COLUMNS} FROM approvals WHERE tool = ?1 AND digest = ?2 AND server = ?3 AND grant_name = ?4 AND principal = ?5
           AND policy = ?6 AND state IN ('pending', 'approved', 'denied') ORDER BY created DESC, id"
    );
    let found = ledger.sql.rows(&find, bound, |row| read(row, now))?;
    let current = found.into_iter().find(|approval| approval.lasts(now));
    Ok(match current {
        Some(Approval { id, state: ApprovalState::Approved, .. }) => Standing::Approved { id },
        Some(Approval { id, state: ApprovalState::Pending, expires, .. }) => Standing::Pending { id, expires },
        Some(Approval { id, state: ApprovalState::Denied, .. }) => Standing::Denied { id },
        Some(_) | None => Standing::Unasked,
    })
}

/// How many approvals of a grant wait for an answer.
pub(crate) fn waiting(ledger: &Ledger<'_>, grant: &str) -> Result<u64, Fault> {
    let count = ledger.sql.row(
        "SELECT count(*) FROM approvals WHERE grant_name = ?1 AND state = 'pending' AND expires > ?2",
        values![grant, ledger.now()],
        |row| row.get::<i64>(0),
    )?;
    Ok(count.unwrap_or(0).unsigned_abs())
}

/// Opens an approval; gives its id and when it expires.
pub(crate) fn open(ledger: &Ledger<'_>, subject: &Subject, request: &ApprovalRequest) -> Result<(String, i64), Fault> {
    let id = random_id(10).map_err(Fault::State)?;
    let created = ledger.now();
    // Here and not only once a minute: short approvals that are asked for without end would fill the disk meanwhile.
    expire(ledger.sql, Some(&subject.grant), created)?;
    let timeout = i64::try_from(request.timeout_ms).unwrap_or(i64::MAX);
    let expires = created.saturating_add(timeout);
    let arguments = request.arguments.as_deref().map(|raw| kept(raw, ledger.key.digests()));
    ledger.sql.execute(
        "INSERT INTO approvals(id, state, server, grant_name, principal, tool, digest, policy, rule, arguments, created, expires, timeout,
             quorums)
         VALUES (?1, 'pending', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        values![
            &id,
            &subject.server,
            &subject.grant,
            &subject.principal,
            &request.tool,
            &request.digest,
            &request.policy,
            &request.rule,
            arguments.as_deref(),
            created,
            expires,
            timeout,
            &write_quorums(&request.quorums)
        ],
    )?;
    Ok((id, expires))
}

/// What is kept of arguments while they may be looked at.
fn kept(raw: &str, key: &DigestKey) -> String {
    if raw.len() <= LONGEST {
        return raw.to_owned();
    }
    let note = Document::parse(raw.to_owned(), Strictness::Reply)
        .ok()
        .and_then(|document| arguments::render(ArgumentsMode::Hmac, document.root(), key));
    let note = note.unwrap_or_else(|| arguments::note(raw.len(), raw, key));
    format!("{TOO_LONG}{note}")
}

/// Uses an approval up.
pub(crate) fn spend(sql: Sql<'_>, id: &str, call: &str) -> Result<(), Fault> {
    sql.execute(
        "UPDATE approvals SET state = 'spent', spent_by = ?2, arguments = NULL WHERE id = ?1 AND state = 'approved'",
        values![id, call],
    )?;
    Ok(())
}

/// Makes an approval usable again that was spent for a call which was never sent. Its arguments do not come back: whoever
/// decided has seen them.
pub(crate) fn unspend(sql: Sql<'_>, id: &str, call: &str) -> Result<(), Fault> {
    sql.execute(
        "UPDATE approvals SET state = 'approved', spent_by = NULL WHERE id = ?1 AND state = 'spent' AND spent_by = ?2",
        values![id, call],
    )?;
    Ok(())
}

/// Carries out a person's answer, and records it.
pub(crate) fn answer(ledger: &mut Ledger<'_>, id: &str, answer: Answer, by: &str) -> Result<Approval, Fault> {
    let now = ledger.now();
    let Some(approval) = find(ledger.sql, id, now)? else {
        return Err(StoreError::NoSuchApproval(id.to_owned()).into());
    };
    let mut votes = approval.votes.clone();
    let (state, expires, arguments) = match (answer, approval.state) {
        (Answer::Approve, ApprovalState::Pending) => {
            approval.check_voter(by)?;
            votes.push(Vote { by: by.to_owned(), at: now });
            let timeout = i64::try_from(approval.timeout_ms).unwrap_or(i64::MAX);
            match approval.missing(&votes) {
                0 => (ApprovalState::Approved, now.saturating_add(timeout), approval.arguments.clone()),
                _ => (ApprovalState::Pending, approval.expires, approval.arguments.clone()),
            }
        }
        (Answer::Deny, ApprovalState::Pending | ApprovalState::Approved) => {
            (ApprovalState::Denied, approval.expires, ShownArguments::Removed)
        }
        (_, state) => return Err(StoreError::ApprovalClosed { id: id.to_owned(), state: state.as_str() }.into()),
    };
    let decided = (state != ApprovalState::Pending).then_some(now);
    let decided_by = decided.map(|_| by.to_owned());
    ledger.sql.execute(
        "UPDATE approvals SET state = ?2, expires = ?3, decided = ?4, decided_by = ?5, votes = ?6,
             arguments = CASE WHEN ?2 = 'denied' THEN NULL ELSE arguments END WHERE id = ?1",
        values![id, state.as_str(), expires, decided, decided_by.as_deref(), &write_votes(&votes)],
    )?;
    let method = match answer {
        Answer::Approve => "approvals/approve",
        Answer::Deny => "approvals/deny",
    };
    ledger.append(&Draft {
        id: random_id(16).map_err(Fault::State)?.into(),
        phase: Phase::Admin,
        server: Some(approval.server.as_str().into()),
        method: Some(method.to_owned().into()),
        tool: Some(approval.tool.as_str().into()),
        principal: Some(by.into()),
        grant: Some(approval.grant.as_str().into()),
        rule: Some(approval.rule.as_str().into()),
        policy: Some(approval.policy.as_str().into()),
        approval: Some(id.to_owned()),
        detail: Some(match (state, approval.missing(&votes)) {
            (ApprovalState::Pending, missing) => format!("asked by {}; still needs {missing} more", approval.principal),
            _ => format!("asked by {}", approval.principal),
        }),
        ..Draft::default()
    })?;
    Ok(Approval { state, expires, arguments, decided, decided_by, votes, ..approval })
}

/// Finds an approval by its id.
pub(crate) fn find(sql: Sql<'_>, id: &str, now: i64) -> Result<Option<Approval>, Fault> {
    sql.row(&format!("SELECT {COLUMNS} FROM approvals WHERE id = ?1"), values![id], |row| read(row, now))
}

/// All approvals that are kept, oldest first.
pub(crate) fn all(sql: Sql<'_>, now: i64) -> Result<Vec<Approval>, Fault> {
    sql.rows(&format!("SELECT {COLUMNS} FROM approvals ORDER BY created, id"), &[], |row| read(row, now))
}

/// Ends the approvals, of one grant or of all, whose time has run out, and removes the arguments of all that are over.
pub(crate) fn expire(sql: Sql<'_>, grant: Option<&str>, now: i64) -> Result<(), Fault> {
    const LIVE: &str = "state IN ('pending', 'approved')";
    const END: &str = "UPDATE approvals SET state = 'expired', arguments = NULL WHERE expires <= ?1";
    match grant {
        Some(grant) => {
            sql.execute(&format!("{END} AND grant_name = ?2 AND {LIVE}"), values![now, grant])?;
        }
        None => {
            sql.execute(&format!("{END} AND {LIVE}"), values![now])?;
            // A file of an earlier version kept them with what was spent or denied.
            sql.execute(&format!("UPDATE approvals SET arguments = NULL WHERE arguments IS NOT NULL AND NOT ({LIVE})"), &[])?;
        }
    }
    Ok(())
}

/// Forgets approvals whose time ran out a month ago; of those that are over also the oldest beyond ten thousand a grant.
///
/// One that was denied is not over before its time: forgotten, it could be asked for again.
pub(crate) fn prune(sql: Sql<'_>, now: i64) -> Result<(), Fault> {
    expire(sql, None, now)?;
    sql.execute("DELETE FROM approvals WHERE expires < ?1", values![now.saturating_sub(KEPT_MS)])?;
    sql.execute(
        "DELETE FROM approvals WHERE id IN (SELECT id FROM (
             SELECT id, row_number() OVER (PARTITION BY grant_name ORDER BY created DESC, id) AS place FROM approvals
             WHERE state = 'spent' OR expires <= ?1) AS ended WHERE place > ?2)",
        values![now, MOST_OVER],
    )?;
    Ok(())
}

impl Approval {
    /// How many more people must say yes: the most that any of its quorums lacks.
    pub fn still_needs(&self) -> u32 {
        self.missing(&self.votes)
    }

    fn missing(&self, votes: &[Vote]) -> u32 {
        let names: Vec<&str> = votes.iter().map(|vote| vote.by.as_str()).collect();
        let missing = self.quorums.iter().map(|quorum| quorum.missing(&names)).max();
        missing.unwrap_or_else(|| Quorum::anybody().missing(&names))
    }

    /// Whether a yes of this person counts, and is the first.
    fn check_voter(&self, by: &str) -> Result<(), StoreError> {
        let id = || self.id.clone();
        if self.votes.iter().any(|vote| vote.by == by) {
            return Err(StoreError::AlreadyApproved { id: id(), by: by.to_owned(), missing: self.still_needs() });
        }
        if !self.quorums.is_empty() && !self.quorums.iter().any(|quorum| quorum.counts(by)) {
            let needs: Vec<String> = self.quorums.iter().map(Quorum::to_string).collect();
            return Err(StoreError::NotAsked { id: id(), by: by.to_owned(), needs: needs.join(" and ") });
        }
        Ok(())
    }

    fn lasts(&self, now: i64) -> bool {
        now < self.expires && self.decided.unwrap_or(self.created) <= now.saturating_add(SKEW_MS)
    }
}

fn read(row: &Row<'_>, now: i64) -> Result<Approval, Fault> {
    let mut approval = Approval {
        id: row.get(0)?,
        state: ApprovalState::parse(&row.get::<String>(1)?),
        server: row.get(2)?,
        grant: row.get(3)?,
        principal: row.get(4)?,
        tool: row.get(5)?,
        digest: row.get(6)?,
        policy: row.get(7)?,
        rule: row.get(8)?,
        arguments: match row.get::<Option<String>>(9)? {
            Some(text) => match text.strip_prefix(TOO_LONG) {
                Some(note) => ShownArguments::TooLong(note.to_owned()),
                None => ShownArguments::Whole(text),
            },
            None => ShownArguments::Removed,
        },
        created: row.get(10)?,
        expires: row.get(11)?,
        timeout_ms: row.get::<i64>(12)?.unsigned_abs(),
        decided: row.get(13)?,
        decided_by: row.get(14)?,
        quorums: read_quorums(row.get(16)?),
        votes: read_votes(row.get(17)?),
        spent_by: row.get(15)?,
    };
    if matches!(approval.state, ApprovalState::Pending | ApprovalState::Approved) && !approval.lasts(now) {
        approval.state = ApprovalState::Expired;
    }
    let over = !matches!(approval.state, ApprovalState::Pending | ApprovalState::Approved);
    if over && approval.arguments != ShownArguments::Removed {
        approval.arguments = ShownArguments::Overdue;
    }
    Ok(approval)
}

fn write_quorums(quorums: &[Quorum]) -> String {
    let each = quorums.iter().map(|quorum| {
        let names: Vec<String> = quorum.of.iter().map(|name| quote(name)).collect();
        format!(r#"{{"count":{},"of":[{}]}}"#, quorum.count, names.join(","))
    });
    format!("[{}]", each.collect::<Vec<_>>().join(","))
}

/// What cannot be read can be met by nobody.
fn read_quorums(text: String) -> Vec<Quorum> {
    let impossible = || vec![Quorum { count: u32::MAX, of: [].into() }];
    let Ok(document) = Document::parse(text, Strictness::Reply) else { return impossible() };
    let Some(elements) = document.root().elements() else { return impossible() };
    let read = elements.map(|element| {
        let names = element.get("of")?.elements()?.map(|name| name.as_str().map(|name| name.into_owned()));
        Some(Quorum { count: element.get("count")?.raw().parse().ok()?, of: names.collect::<Option<Vec<_>>>()?.into() })
    });
    read.collect::<Option<Vec<_>>>().unwrap_or_else(impossible)
}

fn write_votes(votes: &[Vote]) -> String {
    let each = votes.iter().map(|vote| format!(r#"{{"by":{},"at":{}}}"#, quote(&vote.by), vote.at));
    format!("[{}]", each.collect::<Vec<_>>().join(","))
}

/// What cannot be read counts for nothing.
fn read_votes(text: String) -> Vec<Vote> {
    let Ok(document) = Document::parse(text, Strictness::Reply) else { return Vec::new() };
    let read = |element: json::Value<'_>| {
        Some(Vote { by: element.get("by")?.as_str()?.into_owned(), at: element.get("at")?.raw().parse().ok()? })
    };
    document.root().elements().into_iter().flatten().filter_map(read).collect()
}

const COLUMNS: &str = "id, state, server, grant_name, principal, tool, digest, policy, rule, arguments, created, expires, timeout, \
                       decided, decided_by, spent_by, quorums, votes";

/// So many approvals of one grant may wait; a person cannot look through more.
pub(crate) const MOST_WAITING: u64 = 100;
/// How far the clocks of two processes on one file may disagree, or a clock be stepped, without ending approvals.
const SKEW_MS: i64 = 60_000;
/// Of one grant, so many that are over are kept.
const MOST_OVER: i64 = 10_000;
/// Stands before the note that is stored in place of long arguments. No JSON begins like this, so that no arguments can
/// pass for a note.
const TOO_LONG: &str = "too long ";
const KEPT_MS: i64 = 30 * 24 * 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Patience;
    use crate::sqlite::Database;
    use crate::{Durability, StateUrl};
    use std::time::Duration;

    #[test]
    fn of_what_is_over_the_latest_ten_thousand_of_each_grant_are_kept() {
        let patience = Patience::new(Duration::ZERO);
        let connection = Database::open(&StateUrl::Memory, Durability::Process, 0, &patience).unwrap().connection;
        let add = |state: &str, grant: &str, created: i64, expires: i64, count: i64| {
            connection
                .execute(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?5)
                     INSERT INTO approvals(id, state, server, grant_name, principal, tool, digest, policy, rule, created, expires, timeout)
                     SELECT ?1 || ?2 || i, ?1, '', ?2, '', '', '', '', '', ?3 + i, ?4, 1 FROM n",
                    (state, grant, created, expires, count),
                )
                .unwrap()
        };
        let now = 1_000_000;
        // The oldest of all still say something.
        add("denied", "g", 0, now + 1, 5);
        add("pending", "g", 10, now + 1, 5);
        add("approved", "g", 20, now + 1, 5);
        add("expired", "g", 100, now, 9_000);
        add("spent", "g", 20_000, now + 1, 2_000);
        add("expired", "h", 0, now, 7);
        prune(Sql::File(&connection), now).unwrap();

        let count = |condition: &str| -> i64 {
            connection.query_row(&format!("SELECT count(*) FROM approvals WHERE {condition}"), [], |row| row.get(0)).unwrap()
        };
        assert_eq!(count("grant_name = 'g' AND created < 100"), 15);
        assert_eq!((count("state = 'expired' AND grant_name = 'g'"), count("state = 'spent'")), (8_000, 2_000));
        assert_eq!(count("state = 'expired' AND grant_name = 'g' AND created <= 1100"), 0, "the oldest went");
        assert_eq!(count("grant_name = 'h'"), 7);
    }
}
