//! One line of calls: the call, and what is expected of it.
//!
//! `[@TIME | +SPAN] tool [{arguments}] [x10] [grant=a] [principal=b] [server=c] [reply=lost]
//!  # outcome [reason] ["message"] [rule="name"] [counter=used/max …] [retry=1..60000]`

use crate::simulate::{is_object, reply_of};
use jiff::Timestamp;
use mcp::{Kind, Side};
use policy::{Decision, Outcome, Reason};
use store::Reply;

/// A line of a `calls` block.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub time: Time,
    pub tool: String,
    /// JSON text.
    pub arguments: Option<String>,
    pub times: u32,
    pub grant: Option<String>,
    pub principal: Option<String>,
    pub server: Option<String>,
    pub reply: Reply,
    pub expected: Expected,
}

/// What a line does to the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    Still,
    At(Timestamp),
    /// By so many milliseconds.
    Later(i64),
}

/// What is expected of a decision.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    outcome: Outcome,
    /// Whether it is what rules in shadow mode would have done.
    shadow: bool,
    reason: Option<Reason>,
    message: Option<String>,
    rule: Option<String>,
    /// `spend=400/1000`
    standings: Vec<String>,
    /// Milliseconds, both included.
    retry: Option<(u64, u64)>,
}

impl Line {
    pub fn parse(text: &str) -> Result<Line, String> {
        let mut rest = Text(text);
        let time = match rest.0.chars().next() {
            Some('@') => {
                let word = rest.word()?;
                Time::At(word[1..].parse().map_err(|_| format!("`{word}` is no time; write `@2026-01-15T10:30:00Z`"))?)
            }
            Some('+') => {
                let word = rest.word()?;
                let span =
                    policy::parse_span(&word[1..]).ok_or(format!("`{word}` is no span; write `+5s`, `+1m`, `+2h` or `+1d`"))?;
                Time::Later(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
            }
            _ => Time::Still,
        };
        let tool = rest.word()?;
        let mut line = Line {
            time,
            tool,
            arguments: None,
            times: 1,
            grant: None,
            principal: None,
            server: None,
            reply: Reply::Completed,
            expected: Expected::parse("allow")?,
        };
        if rest.0.starts_with('{') {
            line.arguments = Some(rest.object()?);
        }
        while !rest.0.starts_with('#') {
            let word = rest.word().map_err(|_| "a call needs what is expected of it: `# allow`".to_owned())?;
            match word.split_once('=') {
                Some(("grant", name)) => line.grant = Some(name.to_owned()),
                Some(("principal", name)) => line.principal = Some(name.to_owned()),
                Some(("server", name)) => line.server = Some(name.to_owned()),
                Some(("reply", word)) => line.reply = reply_of(word)?,
                _ => {
                    let times = word.strip_prefix('x').and_then(|times| times.parse().ok()).filter(|times| *times > 0);
                    line.times = times.ok_or(format!(
                        "`{word}` means nothing here; expected `x10`, `grant=…`, `principal=…`, `server=…`, `reply=…` or `# …`"
                    ))?;
                }
            }
        }
        line.expected = Expected::parse(rest.0[1..].trim())?;
        Ok(line)
    }
}

/// A line of a `methods` block: `[server] method [mode=url] # outcome …`. Notifications are told by their names.
#[derive(Clone, Debug)]
pub(crate) struct MethodLine {
    pub from: Side,
    pub kind: Kind,
    pub method: String,
    /// Of an elicitation.
    pub mode: Option<String>,
    pub expected: Expected,
}

impl MethodLine {
    pub fn parse(text: &str) -> Result<MethodLine, String> {
        let (said, expected) = text.split_once('#').ok_or("a method needs what is expected of it: `# allow`")?;
        let words: Vec<&str> = said.split_whitespace().collect();
        let (from, words) = match words.split_first() {
            Some((&"server", rest)) => (Side::Server, rest),
            _ => (Side::Client, &words[..]),
        };
        let (method, mode) = match words {
            [method] => (*method, None),
            [method, mode] if mode.starts_with("mode=") => (*method, mode.strip_prefix("mode=").map(str::to_owned)),
            _ => {
                return Err(format!(
                    "`{}` is no message; write `resources/read` or `server elicitation/create mode=url`",
                    said.trim()
                ));
            }
        };
        let kind = if method.starts_with("notifications/") { Kind::Notification } else { Kind::Request };
        Ok(MethodLine { from, kind, method: method.to_owned(), mode, expected: Expected::parse(expected.trim())? })
    }
}

impl Expected {
    fn parse(text: &str) -> Result<Expected, String> {
        let mut rest = Text(text);
        let word =
            rest.word().map_err(|_| "what is expected is missing: write `allow`, `ask` or `deny` after the `#`".to_owned())?;
        let (outcome, shadow) = match word.as_str() {
            "allow" => (Outcome::Allow, false),
            "ask" => (Outcome::Ask, false),
            "deny" => (Outcome::Deny, false),
            "shadow-ask" => (Outcome::Ask, true),
            "shadow-deny" => (Outcome::Deny, true),
            _ => return Err(format!("unknown outcome `{word}`; expected `allow`, `ask`, `deny`, `shadow-ask` or `shadow-deny`")),
        };
        let mut expected =
            Expected { outcome, shadow, reason: None, message: None, rule: None, standings: Vec::new(), retry: None };
        while !rest.0.is_empty() {
            if rest.0.starts_with('"') {
                expected.message = Some(rest.string()?);
            } else if let Some(after) = rest.0.strip_prefix("rule=").filter(|after| after.starts_with('"')) {
                rest = Text(after);
                expected.rule = Some(rest.string()?);
            } else {
                let word = rest.word()?;
                match word.split_once('=') {
                    Some(("rule", rule)) => expected.rule = Some(rule.to_owned()),
                    Some(("retry", range)) => {
                        expected.retry = Some(range_of(range).ok_or(format!("`{word}` is no range; write `retry=1..60000`"))?)
                    }
                    Some((_, standing)) if standing.contains('/') => expected.standings.push(word),
                    _ => expected.reason = Some(Reason::parse(&word).ok_or(format!("`{word}` is no reason"))?),
                }
            }
        }
        Ok(expected)
    }

    /// Compares; `last` says whether standings count.
    pub fn check(&self, decision: &Decision, last: bool) -> Result<(), String> {
        let (outcome, reason, rule, message) = match (&decision.shadow, self.shadow) {
            (Some(shadow), true) => (shadow.outcome, shadow.reason, shadow.rule.as_deref(), shadow.message.as_deref()),
            (None, true) => return Err(format!("expected {}, got {}", self.shown_outcome(), shown(decision))),
            (_, false) => (decision.outcome, decision.reason, decision.rule.as_deref(), decision.message.as_deref()),
        };
        if outcome != self.outcome || self.reason.is_some_and(|expected| expected != reason) {
            let wanted = self.reason.map(|reason| format!(" {reason}")).unwrap_or_default();
            return Err(format!("expected {}{wanted}, got {}", self.shown_outcome(), shown(decision)));
        }
        if let Some(expected) = &self.message
            && !message.is_some_and(|message| says(expected, message))
        {
            return Err(format!("expected the message {expected:?}, got {:?}", message.unwrap_or_default()));
        }
        if let Some(expected) = &self.rule
            && rule != Some(expected.as_str())
        {
            return Err(format!("expected the rule {expected:?}, got {:?}", rule.unwrap_or_default()));
        }
        if let Some((least, most)) = self.retry
            && !decision.retry_after_ms.is_some_and(|millis| (least..=most).contains(&millis))
        {
            let got = decision.retry_after_ms.map_or("none".to_owned(), |millis| millis.to_string());
            return Err(format!("expected retry={least}..{most}, got {got}"));
        }
        let stands = |standing: &str| {
            let words = |text: &str| text.split([' ', ',']).any(|word| word == standing);
            decision.steps.iter().any(|step| words(&step.detail))
        };
        match self.standings.iter().find(|standing| last && !stands(standing)) {
            Some(standing) => {
                let got: Vec<&str> =
                    decision.steps.iter().map(|step| &*step.detail).filter(|detail| detail.contains('/')).collect();
                Err(format!("expected {standing}, got {}", if got.is_empty() { "no counter".to_owned() } else { got.join(", ") }))
            }
            None => Ok(()),
        }
    }

    fn shown_outcome(&self) -> String {
        format!("{}{}", if self.shadow { "shadow-" } else { "" }, self.outcome)
    }
}

/// `deny limit-reached "…" rule="…"`
fn shown(decision: &Decision) -> String {
    let mut out = format!("{} {}", decision.outcome, decision.reason);
    if let Some(message) = &decision.message {
        out.push_str(&format!(" {message:?}"));
    }
    if let Some(rule) = &decision.rule {
        out.push_str(&format!(" rule={rule:?}"));
    }
    if let Some(shadow) = &decision.shadow {
        out.push_str(&format!(" (shadow-{} {})", shadow.outcome, shadow.reason));
    }
    out
}

/// Whether the message is as expected: equal, or as far as `…` at either end leaves it open.
pub(super) fn says(expected: &str, message: &str) -> bool {
    match (expected.strip_prefix('…'), expected.strip_suffix('…')) {
        (None, None) => message == expected,
        (Some(end), None) => message.ends_with(end),
        (None, Some(beginning)) => message.starts_with(beginning),
        (Some(_), Some(_)) => message.contains(expected.trim_matches('…')),
    }
}

/// `5` or `1..60000`
fn range_of(text: &str) -> Option<(u64, u64)> {
    match text.split_once("..") {
        Some((least, most)) => Some((least.parse().ok()?, most.parse().ok()?)),
        None => text.parse().ok().map(|exact| (exact, exact)),
    }
}

/// What of a line is not read yet, without leading blanks.
pub(super) struct Text<'l>(pub &'l str);

impl Text<'_> {
    /// A word, or a string in quotes.
    pub fn word(&mut self) -> Result<String, String> {
        if self.0.starts_with('"') {
            return self.string();
        }
        let end = self.0.find(char::is_whitespace).unwrap_or(self.0.len());
        if end == 0 {
            return Err("the line ends too early".to_owned());
        }
        Ok(self.take(end).to_owned())
    }

    /// A string in quotes, with the escapes of JSON.
    pub fn string(&mut self) -> Result<String, String> {
        let mut escaped = false;
        let end = self.0.char_indices().skip(1).find(|(_, c)| match (escaped, c) {
            (true, _) => {
                escaped = false;
                false
            }
            (false, '\\') => {
                escaped = true;
                false
            }
            (false, c) => *c == '"',
        });
        let (end, _) = end.ok_or_else(|| format!("the string {} has no end", self.0))?;
        let raw = self.take(end + 1).to_owned();
        let document = json::Document::parse(raw.clone(), json::Strictness::Reply).map_err(|error| format!("{raw}: {error}"))?;
        document.root().as_str().map(|text| text.into_owned()).ok_or_else(|| format!("{raw} is no string"))
    }

    /// A JSON object, up to its closing brace; judged as an object only, so that bad arguments can be tested.
    pub fn object(&mut self) -> Result<String, String> {
        let ends = self.0.match_indices('}').map(|(at, _)| at + 1);
        let end = ends.into_iter().find(|end| is_object(&self.0[..*end]));
        let end = end.ok_or_else(|| format!("the arguments are no JSON object: {}", self.0))?;
        Ok(self.take(end).to_owned())
    }

    fn take(&mut self, end: usize) -> &str {
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest.trim_start();
        taken
    }
}
