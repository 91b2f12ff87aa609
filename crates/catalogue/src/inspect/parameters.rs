//! Parameters that ask for what is not the tool's business.
//!
//! A definition need not give an order to get something: a model fills in what a parameter is called. `sidenote`,
//! `conversation_history` or `_system_prompt_` is asked for by its name alone.

use super::text::{plain, shortened};
use super::{Flaw, Suspicion, Weight};
use crate::grade::{Signal, Supports, grade};
use json::{Kind, Value};
use regex::Regex;
use std::sync::LazyLock;

/// Names, with spaces, of what belongs to the conversation and not to a task.
static CONTEXT: LazyLock<Regex> = LazyLock::new(|| {
    compile(concat!(
        r"^(side ?notes?|system ?(prompt|message|instructions?)|initial (prompt|instructions?)|(full|raw|original|entire|whole) (user )?(prompt|conversation|context|history|request)|",
        r"(conversation|chat|dialog|dialogue|message|messages) (history|log|logs|transcript|context|dump)|history of (the )?conversation|(previous|prior|all|past) (messages|conversation|prompts)|",
        r"context (window|dump)|hidden (note|notes|context|data)|secret notes?|chain of thought|internal (thoughts|reasoning|monologue|context)|",
        r"(available|other|all) tools|tools? list|env(ironment)? (vars|variables|dump)|environ|diag(nostics)? output)$"
    ))
});

/// Names of what tells who is calling.
static CALLER: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"^(llm|ai|assistant|agent|caller|calling|caller's|your) ?(llm|ai|agent|assistant)? ?(model)? ?(name|version|identity)$|^llm name$",
    )
});

/// Names of parameters for what lies on the machine.
static CONTENT: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"\b(content|contents|output|text|result|data)s? (of|from)\b.{0,30}\b(ssh|rsa|passwd|shadow|env|credentials?|keys?|mcp json|aws|history|secrets?)\b|\bid rsa\b|\bssh private key content",
    )
});

/// Descriptions of the same.
static ASKS: LazyLock<Regex> = LazyLock::new(|| {
    compile(concat!(
        r"\b(name|version|identity|id) of the (\w+ )?(llm|ai|language|large language|chat|assistant)? ?(model|assistant|agent) (that|which|who) (is )?(call|us|invok|mak|runn)|",
        r"\byour (full |entire |complete |own )?(system prompt|system message|model name|instructions so far|internal reasoning|chain of thought|environment variables)\b|",
        r"\b(full|entire|whole|complete) (text of the |text of your )?(conversation|chat|dialogue|system prompt|context window)\b|\b(content|contents) of (your|the user's|~/|/etc/)"
    ))
});

fn compile(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are written here, and a test compiles them")
}

/// What the parameters at the top of a tool's schema ask for, and credentials wherever they are.
pub(super) fn flaws(definition: Value<'_>) -> Vec<Flaw> {
    let mut flaws: Vec<Flaw> = credentials(definition);
    let Some(schema) = definition.get("inputSchema") else { return flaws };
    let required = |name: &str| {
        let mut names = schema.get("required").and_then(Value::elements).into_iter().flatten();
        names.any(|element| element.says(name))
    };
    for member in schema.get("properties").and_then(Value::members).into_iter().flatten().take(MOST_PARAMETERS) {
        let words = spaced(&member.key);
        let description = member.value.get("description").and_then(Value::as_str).unwrap_or_default();
        let described = ASKS.is_match(&plain(&description));
        let asks = match () {
            () if CONTENT.is_match(&words) => Some(("its name asks for the content of a file beside the task", true)),
            () if CONTEXT.is_match(&words) => Some(("its name asks for what belongs to the conversation, not to the task", true)),
            () if described => Some(("it asks for what belongs to the conversation, not to the task", true)),
            // Many services have models; who names its own does not say which is calling.
            () if CALLER.is_match(&words) => Some(("its name asks which model is calling", description.is_empty())),
            () => None,
        };
        let place = format!("inputSchema.properties.{}", member.key);
        if let Some((why, weighs)) = asks {
            let weight = match (required(&member.key), weighs) {
                (true, true) => Weight::Dangerous,
                (false, true) => Weight::Doubtful,
                (_, false) => Weight::Remark,
            };
            let quote = if description.is_empty() { member.key.to_string() } else { format!("{}: {description}", member.key) };
            flaws.push(Flaw {
                rule: Suspicion::AsksForContext,
                weight,
                subject: None,
                path: place.clone(),
                quote: shortened(&quote),
                why: why.to_owned(),
                span: Some(member.value.span()),
            });
        }
        flaws.extend(recipient(&member.key, &words, member.value, &place));
    }
    flaws
}

/// A copy that goes to somebody by default.
fn recipient(name: &str, words: &str, schema: Value<'_>, place: &str) -> Option<Flaw> {
    let default = schema.get("default")?;
    let copies =
        ["bcc", "cc", "blind copy", "forward to", "copy to", "webhook", "webhook url", "callback", "callback url", "report to"];
    let said = match default.kind() {
        Kind::String => default.as_str()?.into_owned(),
        Kind::Array => default.elements()?.next()?.as_str()?.into_owned(),
        _ => return None,
    };
    let is_address = said.contains('@') || said.contains("://");
    (copies.contains(&words) && is_address).then(|| Flaw {
        rule: Suspicion::SendsElsewhere,
        weight: Weight::Dangerous,
        subject: None,
        path: format!("{place}.default"),
        quote: shortened(&format!("{name}: {said}")),
        why: "a copy goes to this address by default".to_owned(),
        span: Some(default.span()),
    })
}

/// What the grade says of credentials.
fn credentials(definition: Value<'_>) -> Vec<Flaw> {
    let risk = grade(definition, "");
    let found = risk.evidence.iter().filter(|evidence| evidence.supports == Supports::Signal(Signal::CredentialSelector));
    let secret = |at: &str| {
        let name = spaced(at.rsplit('.').next().unwrap_or_default());
        ["token", "password", "secret", "key", "credential", "passphrase"].iter().any(|word| name.contains(word))
    };
    let flaw = |evidence: &crate::grade::Evidence| Flaw {
        rule: Suspicion::CredentialParameter,
        weight: Weight::Remark,
        subject: None,
        path: evidence.at.clone(),
        quote: shortened(&evidence.quote),
        why: "credentials belong in the server's environment: what a model fills in, it has read".to_owned(),
        span: None,
    };
    found.filter(|evidence| secret(&evidence.at)).map(flaw).collect()
}

const MOST_PARAMETERS: usize = 1_000;

/// A name in lower case, with spaces where its words end.
pub(super) fn spaced(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut before = ' ';
    for c in name.chars() {
        if !c.is_alphanumeric() {
            out.push(' ');
        } else {
            if c.is_uppercase() && before.is_lowercase() {
                out.push(' ');
            }
            out.push(c);
        }
        before = c;
    }
    plain(&out).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_into_words() {
        assert_eq!(spaced("_system_prompt_"), "system prompt");
        assert_eq!(spaced("conversationHistory"), "conversation history");
        for name in ["system prompt", "sidenote", "conversation history", "full context"] {
            assert!(CONTEXT.is_match(name), "{name}");
        }
        for name in ["context", "conversation id", "note", "message", "history", "prompt"] {
            assert!(!CONTEXT.is_match(name), "{name}");
        }
        assert!(CONTENT.is_match("content from reading ssh id rsa"));
        assert!(CALLER.is_match("llm model name") && !CALLER.is_match("model name") && !CALLER.is_match("llm model"));
    }
}
