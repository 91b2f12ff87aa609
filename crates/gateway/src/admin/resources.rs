//! Carrying out what the admin API is asked.

use super::routes::Operation;
use super::{Admin, Answered, Asked, documents, openapi};
use crate::shown::{approval_json, status_json};
use http::StatusCode;
use json::quote;
use policy::Outcome;
use store::{Answer, Approval, Filter, Reader, Row, Store, StoreError};

/// So many entries where nobody says how many.
const USUAL: usize = 100;
const MOST: usize = 1_000;

pub(super) async fn carry_out(operation: Operation, admin: &Admin, asked: Asked<'_>) -> Answered {
    let id = asked.id.clone().unwrap_or_default();
    let carried_out = match operation {
        Operation::Health => return health(&admin.store),
        Operation::OpenApi => return Answered::ok(openapi()),
        Operation::Status => {
            let place = admin.store.url().to_string();
            let servers = admin.place.as_ref().map(|place| place.gateway.standings_json());
            read(&admin.store, move |reader| Ok(status(status_json(&place, &reader.status(None)?), servers))).await
        }
        Operation::ListApprovals => match Wanted::of(&asked) {
            Ok(wanted) => read(&admin.store, move |reader| Ok(approvals(reader.approvals()?, &wanted))).await,
            Err(refused) => return refused,
        },
        Operation::ShowApproval => read(&admin.store, move |reader| Ok(approval_json(&reader.approval(&id)?))).await,
        Operation::Approve => admin.store.answer(&id, Answer::Approve, asked.by).await.map(|answered| approval_json(&answered)),
        Operation::Deny => admin.store.answer(&id, Answer::Deny, asked.by).await.map(|answered| approval_json(&answered)),
        Operation::ListRecords => match filter(&asked) {
            Ok((filter, limit)) => read(&admin.store, move |reader| records(&reader, &filter, limit)).await,
            Err(refused) => return refused,
        },
        Operation::List(kind) => return documents::list(admin, kind).await,
        Operation::Show(kind) => return documents::show(admin, kind, id).await,
        Operation::Put(kind) => return documents::put(admin, kind, &asked).await,
        Operation::Remove(kind) => return documents::remove(admin, kind, &asked).await,
        Operation::History(kind) => return documents::history(admin, kind, id).await,
        Operation::Restore(kind) => return documents::restore(admin, kind, &asked).await,
        Operation::Rotate => return documents::rotate(admin, &asked).await,
        Operation::Reload => return documents::reload(admin).await,
        Operation::ShowRecord => match read(&admin.store, move |reader| reader.show(&id)).await {
            Ok(rows) if rows.is_empty() => {
                return Answered::refused(StatusCode::NOT_FOUND, "not-found", "there is no such record");
            }
            Ok(rows) => Ok(listed(rows.iter().map(Row::line))),
            Err(error) => Err(error),
        },
    };
    match carried_out {
        Ok(body) => Answered::ok(body),
        Err(error) => failed(&error),
    }
}

pub(super) fn failed(error: &StoreError) -> Answered {
    let (status, code) = match error {
        StoreError::NoSuchApproval(_) | StoreError::NoSuchDocument { .. } => (StatusCode::NOT_FOUND, "not-found"),
        StoreError::OtherVersion { .. } => (StatusCode::PRECONDITION_FAILED, "other-version"),
        StoreError::ApprovalClosed { .. } | StoreError::AlreadyApproved { .. } | StoreError::Grant(_) | StoreError::Moved => {
            (StatusCode::CONFLICT, "conflict")
        }
        StoreError::NotAsked { .. } => (StatusCode::FORBIDDEN, "not-asked"),
        StoreError::Busy | StoreError::Unavailable { .. } | StoreError::Address(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable")
        }
    };
    Answered::refused(status, code, &crate::shown::visible(&error.to_string()))
}

fn health(store: &Store) -> Answered {
    match store.health().trouble {
        None => Answered::ok(r#"{"status":"ok"}"#.to_owned()),
        // Where state lies and what is wrong with it is for administrators: the log says it.
        Some(_) => {
            Answered { status: StatusCode::SERVICE_UNAVAILABLE, body: r#"{"status":"store-unavailable"}"#.to_owned(), etag: None }
        }
    }
}

/// What the state tells of all gateways, and how the servers of this one are now.
fn status(of_all: String, servers: Option<String>) -> String {
    match (of_all.strip_suffix('}'), servers) {
        (Some(members), Some(servers)) => format!(r#"{members},"gateway":{{"servers":{servers}}}}}"#),
        _ => of_all,
    }
}

/// Reads state where that may take its time.
pub(super) async fn read<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let store = store.clone();
    let read = tokio::task::spawn_blocking(move || work(store.reader()?)).await;
    read.unwrap_or(Err(StoreError::Busy))
}

/// Which approvals are wanted.
struct Wanted {
    state: String,
    server: Option<String>,
    grant: Option<String>,
    limit: usize,
}

impl Wanted {
    fn of(asked: &Asked<'_>) -> Result<Wanted, Answered> {
        let state = asked.parameter("state").unwrap_or("pending").to_owned();
        if !["pending", "approved", "denied", "spent", "expired", "all"].contains(&state.as_str()) {
            return Err(bad("`state` is `pending`, `approved`, `denied`, `spent`, `expired` or `all`"));
        }
        let text = |name| asked.parameter(name).map(str::to_owned);
        Ok(Wanted { state, server: text("server"), grant: text("grant"), limit: limit(asked)? })
    }

    fn is(&self, approval: &Approval) -> bool {
        (self.state == "all" || self.state == approval.state.as_str())
            && self.server.as_ref().is_none_or(|server| *server == approval.server)
            && self.grant.as_ref().is_none_or(|grant| *grant == approval.grant)
    }
}

fn approvals(all: Vec<Approval>, wanted: &Wanted) -> String {
    let found: Vec<Approval> = all.into_iter().filter(|approval| wanted.is(approval)).collect();
    listed(found[found.len().saturating_sub(wanted.limit)..].iter().map(approval_json))
}

fn filter(asked: &Asked<'_>) -> Result<(Filter, usize), Answered> {
    let text = |name| asked.parameter(name).map(str::to_owned);
    let outcome = match asked.parameter("outcome") {
        None => None,
        Some(word) => {
            let known = [Outcome::Allow, Outcome::Ask, Outcome::Deny].into_iter().find(|outcome| outcome.as_str() == word);
            Some(known.ok_or_else(|| bad("`outcome` is `allow`, `ask` or `deny`"))?)
        }
    };
    let after = match asked.parameter("after") {
        None => None,
        Some(text) => Some(text.parse::<i64>().map_err(|_| bad("`after` is the number of a record"))?),
    };
    let limit = limit(asked)?;
    let filter = Filter {
        server: text("server"),
        tool: text("tool"),
        grant: text("grant"),
        principal: text("principal"),
        rule: text("rule"),
        outcome,
        after_seq: after,
        limit: after.is_none().then_some(limit as u64),
        ..Filter::default()
    };
    Ok((filter, limit))
}

fn records(reader: &Reader, filter: &Filter, limit: usize) -> Result<String, StoreError> {
    let rows: Vec<Row> = reader.list(filter)?.take(limit).collect::<Result<_, _>>()?;
    Ok(listed(rows.iter().map(Row::line)))
}

fn limit(asked: &Asked<'_>) -> Result<usize, Answered> {
    let Some(text) = asked.parameter("limit") else { return Ok(USUAL) };
    text.parse().ok().filter(|limit| (1..=MOST).contains(limit)).ok_or_else(|| bad("`limit` is a number from 1 to 1000"))
}

pub(super) fn bad(message: &str) -> Answered {
    Answered::refused(StatusCode::BAD_REQUEST, "bad-request", message)
}

pub(super) fn listed(items: impl Iterator<Item = String>) -> String {
    format!(r#"{{{}:[{}]}}"#, quote("items"), items.collect::<Vec<_>>().join(","))
}
