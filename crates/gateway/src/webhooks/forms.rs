//! What a webhook says, in the form of whoever reads it.
//!
//! Slack: <https://docs.slack.dev/reference/block-kit/blocks>: at most 50 blocks, 150 characters in a header, 3,000 in the text
//! of a section. Teams: <https://learn.microsoft.com/connectors/teams>: an Adaptive Card as the attachment of a message, at
//! most 28 KB all in all. Both know markup: what a call holds goes only where neither reads any (`plain_text`, `TextRun`), so
//! that a call cannot mention people, link, or draw a button.

use crate::shown::{approval_json, arguments_text, needs, visible};
use json::quote;
use policy::WebhookForm;
use store::{Approval, rfc3339};

/// Of a section's text in Slack; some are left for what Slack counts otherwise.
const SLACK_TEXT: usize = 2_800;
/// So many sections of arguments; the rest is for the admin API or the command line.
const SLACK_SECTIONS: usize = 10;
/// Bytes of arguments in a card, so that all of it stays below Teams' limit even where each needs escaping.
const TEAMS_BYTES: usize = 9_000;

/// The body that says that `approval` waits.
pub(super) fn body(approval: &Approval, form: WebhookForm) -> String {
    match form {
        WebhookForm::Json => json_form(approval),
        WebhookForm::Slack => slack(approval),
        WebhookForm::Teams => teams(approval),
    }
}

fn json_form(approval: &Approval) -> String {
    let id = &approval.id;
    format!(
        concat!(
            r#"{{"type":"approval.requested","approval":{},"approve":{{"command":{},"path":{}}},"#,
            r#""deny":{{"command":{},"path":{}}}}}"#
        ),
        approval_json(approval),
        quote(&format!("callgate approvals approve {id}")),
        quote(&format!("/v1/approvals/{id}/approve")),
        quote(&format!("callgate approvals deny {id}")),
        quote(&format!("/v1/approvals/{id}/deny")),
    )
}

/// The facts that people are shown besides the arguments.
fn facts(approval: &Approval) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("Tool", visible(&approval.tool)),
        ("Server", visible(&approval.server)),
        ("Principal", visible(&approval.principal)),
        ("Grant", visible(&approval.grant)),
        ("Rule", visible(&approval.rule)),
        ("Expires", rfc3339(approval.expires)),
    ];
    facts.extend(needs(approval).map(|needs| ("Needs", needs)));
    facts
}

fn how(approval: &Approval) -> String {
    format!("callgate approvals approve {id}   or   callgate approvals deny {id}", id = visible(&approval.id))
}

fn slack(approval: &Approval) -> String {
    let plain = |text: &str| format!(r#"{{"type":"plain_text","text":{},"emoji":false}}"#, quote(text));
    let section = |text: &str| format!(r#"{{"type":"section","text":{}}}"#, plain(text));
    let fields: Vec<String> =
        facts(approval).iter().map(|(name, value)| plain(&clipped(&format!("{name}: {value}"), 1_900))).collect();
    let title = "A call waits for approval";
    let mut blocks = vec![
        format!(r#"{{"type":"header","text":{}}}"#, plain(title)),
        format!(r#"{{"type":"section","fields":[{}]}}"#, fields.join(",")),
    ];
    let arguments: Vec<char> = arguments_text(&approval.arguments).chars().collect();
    let chunks: Vec<String> = arguments.chunks(SLACK_TEXT).map(|chunk| chunk.iter().collect()).collect();
    blocks.extend(chunks.iter().take(SLACK_SECTIONS).map(|chunk| section(chunk)));
    if chunks.len() > SLACK_SECTIONS {
        let rest = arguments.len() - SLACK_SECTIONS * SLACK_TEXT;
        blocks.push(section(&not_all(rest, &approval.id)));
    }
    blocks.push(format!(r#"{{"type":"context","elements":[{}]}}"#, plain(&how(approval))));
    // The text stands in notifications. It is read as markup, so it holds nothing of the call.
    format!(r#"{{"text":{},"blocks":[{}]}}"#, quote(title), blocks.join(","))
}

fn teams(approval: &Approval) -> String {
    let run = |text: &str, style: &str| {
        format!(r#"{{"type":"RichTextBlock","inlines":[{{"type":"TextRun","text":{}{style}}}]}}"#, quote(text))
    };
    let title = r#"{"type":"TextBlock","size":"Medium","weight":"Bolder","text":"A call waits for approval"}"#;
    let mut body = vec![title.to_owned()];
    body.extend(facts(approval).iter().map(|(name, value)| run(&clipped(&format!("{name}: {value}"), 300), "")));
    let arguments = arguments_text(&approval.arguments);
    let shown = prefix(&arguments, TEAMS_BYTES);
    body.push(run(shown, r#","fontType":"Monospace""#));
    if shown.len() < arguments.len() {
        body.push(run(&not_all(arguments[shown.len()..].chars().count(), &approval.id), r#","weight":"Bolder""#));
    }
    body.push(run(&how(approval), r#","isSubtle":true"#));
    format!(
        concat!(
            r#"{{"type":"message","attachments":[{{"contentType":"application/vnd.microsoft.card.adaptive","contentUrl":null,"#,
            r#""content":{{"$schema":"http://adaptivecards.io/schemas/adaptive-card.json","type":"AdaptiveCard","version":"1.4","#,
            r#""body":[{}]}}}}]}}"#
        ),
        body.join(",")
    )
}

fn not_all(rest: usize, id: &str) -> String {
    format!(
        "NOT ALL IS SHOWN: {rest} more characters. Look at all of it before you answer: callgate approvals show {}",
        visible(id)
    )
}

/// At most so many characters, and a sign where there were more.
fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most).chain(['…']).collect()
}

/// The longest beginning of at most so many bytes.
fn prefix(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shown::tests::approval;
    use serde_json::Value;
    use store::ShownArguments;

    fn parsed(approval: &Approval, form: WebhookForm) -> Value {
        serde_json::from_str(&body(approval, form)).unwrap()
    }

    /// Every text in a value that stands where markup is read.
    fn marked_up(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                let kind = members.get("type").and_then(Value::as_str);
                let plain = matches!(kind, Some("plain_text" | "TextRun"));
                for (key, value) in members {
                    match value {
                        Value::String(text) if !plain && key == "text" => found.push(text.clone()),
                        other => marked_up(other, found),
                    }
                }
            }
            Value::Array(elements) => elements.iter().for_each(|element| marked_up(element, found)),
            _ => {}
        }
    }

    #[test]
    fn a_program_is_told_all_that_a_person_would_be() {
        let body = parsed(&approval(r#"{"amount":5000}"#), WebhookForm::Json);
        assert_eq!(body["type"], "approval.requested");
        assert_eq!(body["approval"]["arguments"]["amount"], 5000);
        assert_eq!(body["approval"]["tool"], "pay");
        assert_eq!(body["approve"]["path"], "/v1/approvals/k3/approve");
    }

    #[test]
    fn slack_is_told_in_blocks_within_its_limits() {
        let long = approval(&format!(r#"{{"text":"{}"}}"#, "x".repeat(60_000)));
        let body = parsed(&long, WebhookForm::Slack);
        let blocks = body["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50 && blocks[0]["type"] == "header");
        assert!(blocks[1]["fields"].as_array().unwrap().len() <= 10);
        for block in blocks {
            let text = block["text"]["text"].as_str().unwrap_or_default();
            assert!(text.chars().count() <= 3_000);
        }
        assert!(blocks.iter().any(|block| block["text"]["text"].as_str().unwrap_or_default().starts_with("NOT ALL IS SHOWN")));
    }

    #[test]
    fn teams_is_told_in_a_card_within_its_limit() {
        let long = approval(&format!(r#"{{"text":"{}"}}"#, "\u{e0041}\\\"".repeat(10_000)));
        let text = body(&long, WebhookForm::Teams);
        assert!(text.len() <= 28 * 1024, "{}", text.len());
        let body = parsed(&long, WebhookForm::Teams);
        assert_eq!(body["type"], "message");
        let card = &body["attachments"][0];
        assert_eq!(card["contentType"], "application/vnd.microsoft.card.adaptive");
        assert_eq!((card["content"]["type"].as_str(), card["content"]["version"].as_str()), (Some("AdaptiveCard"), Some("1.4")));
        assert!(text.contains("NOT ALL IS SHOWN"));
    }

    #[test]
    fn nothing_of_a_call_stands_where_markup_is_read() {
        let mean = "<!channel> *bold* [a](http://evil) <http://evil|ok>";
        let call = Approval {
            tool: mean.into(),
            principal: mean.into(),
            rule: mean.into(),
            arguments: ShownArguments::Whole(format!("{{\"a\":{}}}", quote(mean))),
            ..approval("")
        };
        for form in [WebhookForm::Slack, WebhookForm::Teams] {
            let body = parsed(&call, form);
            assert!(body.to_string().contains("evil"));
            let mut found = Vec::new();
            marked_up(&body, &mut found);
            assert!(!found.is_empty() && found.iter().all(|text| !text.contains("evil")), "{found:?}");
        }
    }
}
