//! What people see of a call before they say yes or no: on the command line, over the admin API, in a webhook, in a client.
//!
//! Everything shown of a call came from a model. So there is one renderer, and whatever a reader would not see, or would see
//! in another order, is made visible by it.

use json::{Document, Strictness, quote};
use policy::Quorum;
use store::{Approval, ApprovalState, Running, ServerStatus, ShownArguments, Status, rfc3339};

/// Makes every character visible that a reader would not see, or that would do something to a terminal: `\u{202e}`.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_hidden(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Control and format characters, blanks that are no space, variation selectors, fillers, tags and private use.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{e000}'..='\u{f8ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}')
}

/// What is asked, on one line of visible characters. Arguments are objects and begin with `{`, so that they cannot pass for
/// one of the other texts.
pub fn arguments_text(arguments: &ShownArguments) -> String {
    match arguments {
        ShownArguments::Whole(raw) => visible(raw),
        ShownArguments::TooLong(note) => format!("too long to show: {}", visible(note)),
        ShownArguments::Overdue | ShownArguments::Removed => "no longer kept".to_owned(),
    }
}

/// The facts of an approval, each with its name, in the order in which people read them; all visible.
pub fn approval_facts(approval: &Approval) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("id", visible(&approval.id)),
        ("state", approval.state.as_str().to_owned()),
        ("tool", visible(&approval.tool)),
        ("server", visible(&approval.server)),
        ("principal", visible(&approval.principal)),
        ("grant", visible(&approval.grant)),
        ("rule", visible(&approval.rule)),
        ("policy", visible(&approval.policy)),
        ("opened", rfc3339(approval.created)),
        (if approval.state == ApprovalState::Approved { "usable until" } else { "expires" }, rfc3339(approval.expires)),
    ];
    if let Some(needs) = needs(approval) {
        facts.push(("needs", needs));
    }
    for vote in &approval.votes {
        facts.push(("approved", format!("{} by {}", rfc3339(vote.at), visible(&vote.by))));
    }
    if let (ApprovalState::Denied, Some(decided), Some(by)) = (approval.state, approval.decided, &approval.decided_by) {
        facts.push(("denied", format!("{} by {}", rfc3339(decided), visible(by))));
    }
    if let Some(spent_by) = &approval.spent_by {
        facts.push(("spent by", visible(spent_by)));
    }
    facts.push(("arguments", arguments_text(&approval.arguments)));
    facts
}

/// Who must say yes, where it is not just anybody; all visible.
pub fn needs(approval: &Approval) -> Option<String> {
    let special = approval.quorums.iter().filter(|quorum| **quorum != Quorum::anybody());
    let needs: Vec<String> = special.map(|quorum| visible(&quorum.to_string())).collect();
    (!needs.is_empty()).then(|| needs.join(" and "))
}

/// An approval as one line of JSON.
///
/// `arguments` are as they came; `arguments_shown` is their text with hidden characters made visible. A note of what is too
/// long has a member of its own, so that no arguments can pass for one.
pub fn approval_json(approval: &Approval) -> String {
    let text = |text: Option<&str>| text.map_or("null".to_owned(), quote);
    let time = |millis: Option<i64>| millis.map_or("null".to_owned(), |millis| quote(&rfc3339(millis)));
    // Arguments are JSON as they came; should they ever not be, they are a string.
    let plain = |raw: &str| {
        let one_line = !raw.contains(['\n', '\r']) && Document::parse(raw.to_owned(), Strictness::Reply).is_ok();
        if one_line { raw.to_owned() } else { quote(raw) }
    };
    let null = || "null".to_owned();
    let (arguments, too_long) = match &approval.arguments {
        ShownArguments::Whole(raw) => (plain(raw), null()),
        ShownArguments::TooLong(note) => (null(), plain(note)),
        ShownArguments::Overdue | ShownArguments::Removed => (null(), null()),
    };
    let quorums: Vec<String> = approval
        .quorums
        .iter()
        .map(|quorum| {
            let names: Vec<String> = quorum.of.iter().map(|name| quote(name)).collect();
            format!(r#"{{"count":{},"of":[{}]}}"#, quorum.count, names.join(","))
        })
        .collect();
    let votes: Vec<String> =
        approval.votes.iter().map(|vote| format!(r#"{{"by":{},"at":{}}}"#, quote(&vote.by), time(Some(vote.at)))).collect();
    format!(
        concat!(
            r#"{{"id":{},"state":"{}","server":{},"grant":{},"principal":{},"tool":{},"arguments":{},"#,
            r#""arguments_too_long":{},"arguments_shown":{},"rule":{},"policy":{},"created":{},"expires":{},"needs":[{}],"#,
            r#""still_needs":{},"approved_by":[{}],"decided":{},"decided_by":{},"spent_by":{}}}"#
        ),
        quote(&approval.id),
        approval.state.as_str(),
        quote(&approval.server),
        quote(&approval.grant),
        quote(&approval.principal),
        quote(&approval.tool),
        arguments,
        too_long,
        quote(&arguments_text(&approval.arguments)),
        quote(&approval.rule),
        quote(&approval.policy),
        time(Some(approval.created)),
        time(Some(approval.expires)),
        quorums.join(","),
        if approval.state == ApprovalState::Pending { approval.still_needs() } else { 0 },
        votes.join(","),
        time(approval.decided),
        text(approval.decided_by.as_deref()),
        text(approval.spent_by.as_deref()),
    )
}

/// Who is running and what was decided, as one line of JSON. `state` is where state is kept.
pub fn status_json(state: &str, status: &Status) -> String {
    let instance = |running: &Running| {
        let policy = running.instance.policy.as_deref().map_or("null".to_owned(), quote);
        let servers = running.instance.servers.as_deref().unwrap_or("null");
        format!(
            r#"{{"server":{},"mode":{},"pid":{},"alive":{},"started":{},"seen":{},"version":{},"policy":{policy},"servers":{servers}}}"#,
            quote(&running.instance.server),
            quote(&running.instance.mode),
            running.pid,
            running.alive,
            quote(&rfc3339(running.started)),
            quote(&rfc3339(running.seen)),
            quote(&running.instance.version),
        )
    };
    let server = |server: &ServerStatus| {
        let rules: Vec<String> =
            server.top_rules.iter().map(|top| format!(r#"{{"rule":{},"count":{}}}"#, quote(&top.rule), top.count)).collect();
        format!(
            r#"{{"server":{},"calls":{},"allowed":{},"denied":{},"asked":{},"top_rules":[{}]}}"#,
            quote(&server.server),
            server.calls,
            server.allowed,
            server.denied,
            server.asked,
            rules.join(",")
        )
    };
    format!(
        r#"{{"state":{},"records":{},"waiting":{},"instances":[{}],"servers":[{}]}}"#,
        quote(state),
        status.records,
        status.waiting,
        status.instances.iter().map(instance).collect::<Vec<_>>().join(","),
        status.servers.iter().map(server).collect::<Vec<_>>().join(",")
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use store::Vote;

    /// An approval of a payment with these arguments.
    pub(crate) fn approval(arguments: &str) -> Approval {
        Approval {
            id: "k3".into(),
            state: ApprovalState::Pending,
            server: "bank".into(),
            grant: "local".into(),
            principal: "local".into(),
            tool: "pay".into(),
            digest: String::new(),
            policy: "abc".into(),
            rule: "large".into(),
            arguments: ShownArguments::Whole(arguments.into()),
            created: 0,
            expires: 60_000,
            timeout_ms: 60_000,
            decided: None,
            decided_by: None,
            quorums: Vec::new(),
            votes: Vec::new(),
            spent_by: None,
        }
    }

    fn fact(approval: &Approval, name: &str) -> Option<String> {
        approval_facts(approval).into_iter().find(|(known, _)| *known == name).map(|(_, text)| text)
    }

    #[test]
    fn what_hides_in_arguments_is_visible_before_anybody_says_yes() {
        let hiding = approval("{\"to\":\"\u{202e}eciv\u{200b}\"}");
        let seen = r#"{"to":"\u{202e}eciv\u{200b}"}"#;
        assert_eq!(fact(&hiding, "arguments").as_deref(), Some(seen));
        assert!(approval_json(&hiding).contains(&format!(r#""arguments_shown":{}"#, quote(seen))));
    }

    #[test]
    fn what_is_too_long_to_show_is_said_to_be_and_cannot_be_played() {
        let note = r#"{"bytes":70000,"hmac":"ab"}"#;
        let long = Approval { arguments: ShownArguments::TooLong(note.into()), ..approval("") };
        assert_eq!(fact(&long, "arguments"), Some(format!("too long to show: {note}")));
        assert!(approval_json(&long).contains(&format!(r#""arguments":null,"arguments_too_long":{note},"#)));
        let played = approval(note);
        assert_eq!(fact(&played, "arguments").as_deref(), Some(note));
        assert!(approval_json(&played).contains(&format!(r#""arguments":{note},"arguments_too_long":null,"#)));
    }

    #[test]
    fn an_approval_is_one_line_of_json() {
        let line = approval_json(&approval("{\"a\":1.0}"));
        assert!(line.contains(r#""arguments":{"a":1.0},"arguments_too_long":null,"arguments_shown":"{\"a\":1.0}","#), "{line}");
        for broken in ["{\n}", "{"] {
            let line = approval_json(&approval(broken));
            assert!(!line.contains('\n'));
            assert!(Document::parse(line, Strictness::Request).is_ok());
        }
    }

    #[test]
    fn who_must_say_yes_and_who_has_is_shown() {
        let quorum = Quorum { count: 2, of: ["alice".to_owned(), "bob".to_owned()].into() };
        let votes = vec![Vote { by: "alice".into(), at: 1_000 }];
        let half = Approval { quorums: vec![quorum], votes, ..approval("{}") };
        assert_eq!(fact(&half, "needs").as_deref(), Some("2 of [alice, bob]"));
        assert_eq!(fact(&half, "approved").as_deref(), Some("1970-01-01T00:00:01.000Z by alice"));
        let line = approval_json(&half);
        let expected = r#""needs":[{"count":2,"of":["alice","bob"]}],"still_needs":1,"approved_by":[{"by":"alice","at":"1970-01-01T00:00:01.000Z"}]"#;
        assert!(line.contains(expected), "{line}");
    }
}
