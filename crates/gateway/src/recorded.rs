//! Records as events that can be lived through again: calls, how they ended, and what people answered.

use json::{Document, Kind, Strictness, Value};
use policy::{Outcome, Reason};
use store::{Answer, Reply, Row};

/// What one record tells of.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// The decision's id, equal in its two records.
    pub id: String,
    pub seq: i64,
    /// In milliseconds since the Unix epoch.
    pub at: i64,
    pub server: String,
    pub principal: String,
    pub grant: String,
    /// The process that wrote it.
    pub instance: String,
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A call was decided.
    Call(RecordedCall),
    /// A call that was let through has ended.
    Ended(Reply),
    /// A person has answered an approval with this id.
    Answered(String, Answer),
    /// Another message was let through, or refused by the policy.
    Method { method: String, was: Was },
    /// Something else: what no caller did, or a call about which (`decided`) something else than a policy has decided.
    Other { decided: bool },
}

/// A call as it was recorded.
#[derive(Clone, Debug)]
pub(crate) struct RecordedCall {
    pub tool: String,
    pub session: Option<String>,
    pub arguments: Kept,
    pub was: Was,
    /// The approval that it has opened, waits for or has spent.
    pub approval: Option<String>,
    /// What stood beside its arguments, as it was kept.
    pub beside: String,
}

/// A decision as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Was {
    /// The outcome.
    pub outcome: Outcome,
    /// The reason.
    pub reason: Reason,
    /// The rule.
    pub rule: Option<String>,
}

/// What is left of a call's arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// They themselves, as JSON; or what is left of them, with digests in the place of what looked secret.
    Whole(String),
    /// A digest of them, as JSON.
    Digest(String),
    /// Nothing: either there were none, or they were dropped.
    Nothing,
}

impl Recorded {
    /// Reads a record; `None` where it was spoilt.
    pub fn read(row: &Row) -> Option<Recorded> {
        let document = Document::parse(row.body.clone(), Strictness::Reply).ok()?;
        let root = document.root();
        let text = |name: &str| root.get(name).and_then(Value::as_str).map(|text| text.into_owned());
        let at = text("at")?.parse::<jiff::Timestamp>().ok()?.as_millisecond();
        let or_empty = |name: &str| text(name).unwrap_or_default();
        Some(Recorded {
            id: text("id")?,
            seq: row.seq,
            at,
            server: or_empty("server"),
            principal: or_empty("principal"),
            grant: or_empty("grant"),
            instance: or_empty("instance"),
            event: event(root),
        })
    }

    /// Whether whoever wrote this keeps arguments: a call without any had none then.
    pub fn keeps_arguments(&self) -> bool {
        matches!(&self.event, Event::Call(RecordedCall { arguments: Kept::Whole(_), .. }))
    }
}

fn event(root: Value<'_>) -> Event {
    let text = |name: &str| root.get(name).and_then(Value::as_str).map(|text| text.into_owned());
    let (phase, method) = (text("phase").unwrap_or_default(), text("method").unwrap_or_default());
    match (&*phase, &*method) {
        ("decided", "tools/call") => call(root).map_or(Event::Other { decided: true }, Event::Call),
        ("finished", "tools/call") => {
            let reply = text("reply").and_then(|word| crate::simulate::reply_of(&word).ok());
            reply.map_or(Event::Other { decided: false }, Event::Ended)
        }
        ("admin", "approvals/approve" | "approvals/deny") => {
            let answer = if method.ends_with("approve") { Answer::Approve } else { Answer::Deny };
            text("approval").map_or(Event::Other { decided: false }, |id| Event::Answered(id, answer))
        }
        ("decided" | "refused", method) if !method.is_empty() && method != "tools/call" => match was(root) {
            Some(was) if matches!(was.reason, Reason::Allowed | Reason::MethodRefused | Reason::ServerRequestRefused) => {
                Event::Method { method: method.to_owned(), was }
            }
            _ => Event::Other { decided: false },
        },
        _ => Event::Other { decided: false },
    }
}

fn call(root: Value<'_>) -> Option<RecordedCall> {
    let text = |name: &str| root.get(name).and_then(Value::as_str).map(|text| text.into_owned());
    let was = was(root)?;
    let is_by_policy = match was.reason {
        Reason::UnknownState
        | Reason::DefinitionUnpinned
        | Reason::DefinitionChanged
        | Reason::DefinitionRefused
        | Reason::DefinitionUnknown
        | Reason::ResultWithheld
        | Reason::GrantEnded
        | Reason::ServerReplaced
        | Reason::StoreUnavailable
        | Reason::Malformed => false,
        Reason::ApprovalRequired => !was.rule.as_deref().is_some_and(|rule| rule.starts_with("/definitions")),
        Reason::Allowed
        | Reason::Hidden
        | Reason::Unlisted
        | Reason::UnknownTool
        | Reason::Forbidden
        | Reason::ConditionFailed
        | Reason::ConditionMatched
        | Reason::RuleError
        | Reason::InvalidArguments
        | Reason::SchemaUnknown
        | Reason::BadAmount
        | Reason::LimitReached
        | Reason::OutsideHours
        | Reason::DuplicateCall
        | Reason::ApprovalDenied
        | Reason::TooManyApprovals
        | Reason::MethodRefused
        | Reason::ServerRequestRefused
        | Reason::UnknownTask => true,
    };
    let arguments = match root.get("arguments") {
        None => Kept::Nothing,
        Some(arguments) if is_digest(arguments) => Kept::Digest(arguments.raw().to_owned()),
        Some(arguments) if arguments.kind() == Kind::Object => Kept::Whole(arguments.raw().to_owned()),
        Some(_) => Kept::Nothing,
    };
    // What was found out about the definition stands there too, and is not the caller's.
    let beside = text("detail").unwrap_or_default();
    let beside = beside.split("definition: ").next().unwrap_or_default().to_owned();
    let (session, approval) = (text("session"), text("approval"));
    is_by_policy.then_some(RecordedCall { tool: text("tool")?, session, arguments, was, approval, beside })
}

fn was(root: Value<'_>) -> Option<Was> {
    let text = |name: &str| root.get(name).and_then(Value::as_str).map(|text| text.into_owned());
    let outcome = text("outcome")?;
    let outcome = [Outcome::Allow, Outcome::Ask, Outcome::Deny].into_iter().find(|word| word.as_str() == outcome)?;
    Some(Was { outcome, reason: Reason::parse(&text("reason")?)?, rule: text("rule") })
}

/// When a record was written, in milliseconds since the Unix epoch; `None` where it was spoilt.
pub fn time_of(row: &Row) -> Option<i64> {
    Recorded::read(row).map(|recorded| recorded.at)
}

/// `{"bytes": …, "hmac": …}`, which stands in the place of arguments.
fn is_digest(arguments: Value<'_>) -> bool {
    let members = arguments.members().map_or(0, Iterator::count);
    let hmac = arguments.get("hmac").and_then(Value::as_str);
    members == 2 && arguments.get("bytes").is_some() && hmac.is_some_and(|hmac| hmac.len() >= 32)
}

/// Whether a digest stands somewhere in the place of what looked secret or was long.
pub(crate) fn is_redacted(value: Value<'_>) -> bool {
    match value.kind() {
        Kind::String => value.as_str().is_some_and(|text| {
            let digest = text.strip_prefix("[hmac:").and_then(|rest| rest.strip_suffix(']'));
            digest.is_some_and(|digest| digest.len() == 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
        }),
        Kind::Array => value.elements().into_iter().flatten().any(is_redacted),
        Kind::Object => value.members().into_iter().flatten().any(|member| is_redacted(member.value)),
        Kind::Null | Kind::Bool | Kind::Number => false,
    }
}
