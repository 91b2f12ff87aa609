//! Audit records, before and after they are bound into the chain.
//!
//! A record's **body** is one line of JSON and is all there is: what is stored, hashed, exported and shown is that text.
//! It names its own number and the hash of its predecessor, so that no field of a record lies outside its hash. The line
//! that people and tools read is the body with its hash appended; taking the last member off gives the hashed bytes back.

use crate::clock::write_rfc3339;
use crate::line::{Line, OneLine, key};
use json::{Document, Strictness, quote};
use policy::{Decision, Outcome, Reason, Shadow};
use std::borrow::Cow;
use std::sync::Arc;

/// Which event a record tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// A call was decided: allowed, asked about, or denied. Written before anything is forwarded.
    #[default]
    Decided,
    /// An allowed call has ended.
    Finished,
    /// A message was refused before it could be decided: malformed, or of a method that does not pass.
    Refused,
    /// Somebody did something to the gateway: approved, denied, reloaded.
    Admin,
}

impl Phase {
    /// `decided`, `finished`, `refused` or `admin`.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Decided => "decided",
            Phase::Finished => "finished",
            Phase::Refused => "refused",
            Phase::Admin => "admin",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// With a result.
    Completed,
    /// With a result that says `isError`.
    ToolError,
    /// With a JSON-RPC error.
    UpstreamError,
    /// It was never sent.
    Refused,
    /// With something that the policy withholds from the client.
    Withheld,
    /// The server wants input before it goes on.
    InputRequired,
    /// Nobody knows: no answer came.
    Lost,
}

impl Reply {
    /// `completed`, `tool_error`, `upstream_error`, `withheld`, `refused`, `input_required` or `lost`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reply::Completed => "completed",
            Reply::ToolError => "tool_error",
            Reply::UpstreamError => "upstream_error",
            Reply::Withheld => "withheld",
            Reply::Refused => "refused",
            Reply::InputRequired => "input_required",
            Reply::Lost => "lost",
        }
    }
}

/// An audit record to be: everything but its number, its time and its place in the chain, which the store adds.
///
/// Texts longer than 4,096 bytes are cut, and end in `…`.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The decision's id: equal in the records of one call.
    pub id: Arc<str>,
    /// Which event.
    pub phase: Phase,
    /// The upstream's name.
    pub server: Option<Arc<str>>,
    /// The MCP method; for [`Phase::Admin`] what was done (`approvals/approve`).
    pub method: Option<Cow<'static, str>>,
    /// The tool.
    pub tool: Option<Arc<str>>,
    /// Who called; for [`Phase::Admin`] who acted.
    pub principal: Option<Arc<str>>,
    /// With which grant.
    pub grant: Option<Arc<str>>,
    /// In which session.
    pub session: Option<Arc<str>>,
    /// What was decided.
    pub outcome: Option<Outcome>,
    /// Why.
    pub reason: Option<Reason>,
    /// By which rule.
    pub rule: Option<Arc<str>>,
    /// Under which revision of the policy.
    pub policy: Option<Arc<str>>,
    /// How the call ended.
    pub reply: Option<Reply>,
    /// What the agent was told.
    pub message: Option<String>,
    /// When another try may succeed, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// The approval that was opened, is awaited, was spent or decided.
    pub approval: Option<String>,
    /// What would have been decided if the policy were enforced.
    pub shadow: Option<Shadow>,
    /// How long the call took.
    pub duration_ms: Option<u64>,
    /// The arguments as [`crate::arguments::render`] gives them.
    pub arguments: Option<OneLine>,
    /// Which document has another version, for [`Phase::Admin`].
    pub change: Option<Changed>,
    /// Anything else worth keeping, for people.
    pub detail: Option<String>,
}

/// Another version of a document.
#[derive(Clone, Debug)]
pub struct Changed {
    /// `server`, `policy` or `grant`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The number of the version that it has now.
    pub version: i64,
    /// The SHA-256 of what it was, in hexadecimal; `None`: it was not there.
    pub before: Option<String>,
    /// The same of what it is; `None`: it was removed.
    pub after: Option<String>,
}

/// What the store adds to a draft.
pub(crate) struct Stamp<'a> {
    pub seq: i64,
    pub at: i64,
    pub prev: &'a str,
    /// Which process wrote it, and for how many milliseconds of its own monotonic clock it had run: a wall clock that was
    /// moved shows as a disagreement of the two.
    pub instance: Option<(&'a str, u128)>,
}

impl Draft {
    /// Appends the body to `out`: one line of JSON. The members of the listing come first and are always there.
    pub(crate) fn write_body(&self, stamp: &Stamp<'_>, out: &mut String) {
        let mut line = Line::new(out);
        line.number(key!("seq"), stamp.seq);
        line.text(key!("id"), Some(&self.id));
        line.written(key!("at"), |out| write_rfc3339(stamp.at, out));
        line.word(key!("phase"), self.phase.as_str());
        line.text(key!("server"), self.server.as_deref());
        line.text(key!("method"), self.method.as_deref());
        line.text(key!("tool"), self.tool.as_deref());
        line.text(key!("principal"), self.principal.as_deref());
        line.text(key!("grant"), self.grant.as_deref());
        line.text(key!("outcome"), self.outcome.map(Outcome::as_str));
        line.text(key!("reason"), self.reason.map(Reason::as_str));
        line.text(key!("rule"), self.rule.as_deref());
        line.text(key!("policy"), self.policy.as_deref());
        line.text(key!("reply"), self.reply.map(Reply::as_str));
        line.present(key!("session"), self.session.as_deref());
        line.present(key!("message"), self.message.as_deref());
        if let Some(millis) = self.retry_after_ms {
            line.number(key!("retryAfterMs"), millis);
        }
        line.present(key!("approval"), self.approval.as_deref());
        if let Some(shadow) = &self.shadow {
            line.raw(key!("shadow"), &shadow_object(shadow));
        }
        if let Some(millis) = self.duration_ms {
            line.number(key!("durationMs"), millis);
        }
        if let Some(arguments) = &self.arguments {
            line.raw(key!("arguments"), arguments.as_str());
        }
        if let Some(change) = &self.change {
            line.raw(key!("change"), &change_object(change));
        }
        line.present(key!("detail"), self.detail.as_deref());
        if let Some((instance, millis)) = stamp.instance {
            line.text(key!("instance"), Some(instance));
            line.number(key!("uptimeMs"), u64::try_from(millis).unwrap_or(u64::MAX));
        }
        line.text(key!("prev"), Some(stamp.prev));
        line.end();
    }

    /// Says what was decided.
    pub fn decide(&mut self, decision: &Decision) {
        self.outcome = Some(decision.outcome);
        self.reason = Some(decision.reason);
        self.rule.clone_from(&decision.rule);
        self.message.clone_from(&decision.message);
        self.retry_after_ms = decision.retry_after_ms;
        self.shadow.clone_from(&decision.shadow);
        self.reply = (decision.outcome != Outcome::Allow).then_some(Reply::Refused);
    }

    /// Makes of the draft of a decision that of how the call ends: the same call, without what was decided.
    pub fn begin_end(&mut self) {
        self.phase = Phase::Finished;
        (self.outcome, self.reason, self.rule, self.reply) = (None, None, None, None);
        (self.message, self.retry_after_ms, self.approval, self.shadow) = (None, None, None, None);
        (self.arguments, self.change, self.detail) = (None, None, None);
    }
}

fn shadow_object(shadow: &Shadow) -> String {
    let mut out = String::new();
    let mut line = Line::new(&mut out);
    line.word(key!("outcome"), shadow.outcome.as_str());
    line.word(key!("reason"), shadow.reason.as_str());
    line.text(key!("rule"), shadow.rule.as_deref());
    line.text(key!("message"), shadow.message.as_deref());
    line.end();
    out
}

fn change_object(change: &Changed) -> String {
    let mut out = String::new();
    let mut line = Line::new(&mut out);
    line.text(key!("kind"), Some(change.kind));
    line.text(key!("name"), Some(&change.name));
    line.number(key!("version"), change.version);
    line.text(key!("before"), change.before.as_deref());
    line.text(key!("after"), change.after.as_deref());
    line.end();
    out
}

/// One row of the audit log as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number, from 1.
    pub seq: i64,
    /// The exact bytes that are hashed.
    pub body: String,
    /// Their SHA-256 in hexadecimal.
    pub hash: String,
}

impl Row {
    /// The line of a listing or an export: the body with `hash` as its last member.
    ///
    /// A body that somebody has spoilt is shown as a string under `broken`, so that a line stays a line of JSON.
    pub fn line(&self) -> String {
        let is_object = self.body.ends_with('}')
            && !self.body.contains(['\n', '\r'])
            && Document::parse(self.body.clone(), Strictness::Request).is_ok_and(|doc| doc.root().members().is_some());
        if is_object {
            return format!("{},\"hash\":{}}}", &self.body[..self.body.len() - 1], quote(&self.hash));
        }
        format!("{{\"seq\":{},\"broken\":{},\"hash\":{}}}", self.seq, quote(&self.body), quote(&self.hash))
    }
}

/// What has become of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The record's number.
    pub seq: i64,
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
    /// Its hash.
    pub hash: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(draft: &Draft) -> String {
        let mut body = String::new();
        draft.write_body(&Stamp { seq: 3, at: 0, prev: "00", instance: None }, &mut body);
        body
    }

    #[test]
    fn a_body_is_the_listing_line_without_its_hash() {
        let draft =
            Draft { id: "d1".into(), tool: Some("a\nb".into()), arguments: Some(r#"{"x":1.0}"#.into()), ..Draft::default() };
        let body = body(&draft);
        let expected = concat!(
            r#"{"seq":3,"id":"d1","at":"1970-01-01T00:00:00.000Z","phase":"decided","server":null,"method":null,"#,
            r#""tool":"a\nb","principal":null,"grant":null,"outcome":null,"reason":null,"rule":null,"policy":null,"reply":null,"#,
            r#""arguments":{"x":1.0},"prev":"00"}"#
        );
        assert_eq!(body, expected);
        let line = Row { seq: 3, body: body.clone(), hash: "ff".into() }.line();
        assert_eq!(line.strip_suffix(r#","hash":"ff"}"#).unwrap(), body.strip_suffix('}').unwrap());
    }

    #[test]
    fn hostile_texts_stay_on_one_line() {
        let hostile = "\u{1b}[2J\r\n\u{2028}\u{85}\"}";
        let draft = Draft {
            id: hostile.into(),
            message: Some("x".repeat(100_000)),
            arguments: Some("{\n}".into()),
            detail: Some(hostile.into()),
            ..Draft::default()
        };
        let body = body(&draft);
        assert!(!body.contains(|c: char| c.is_control() || c == '\u{2028}'));
        assert!(body.len() < 6000);
        let doc = Document::parse(body, Strictness::Request).unwrap();
        assert_eq!(doc.root().get("detail").unwrap().as_str().unwrap(), hostile);
        assert_eq!(doc.root().get("arguments").unwrap().as_str().unwrap(), "{\n}");
    }

    #[test]
    fn a_spoilt_body_is_still_one_line_of_json() {
        for spoilt in ["", "{", "{\n}", "[1]", "}", r#"{"a":1,"a":2}"#] {
            let line = Row { seq: 1, body: spoilt.into(), hash: "\"".into() }.line();
            let doc = Document::parse(line, Strictness::Request).unwrap();
            assert_eq!(doc.root().get("broken").unwrap().as_str().unwrap(), spoilt);
        }
    }
}
