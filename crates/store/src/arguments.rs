//! What is kept of a call's arguments.
//!
//! Arguments hold what people type and what agents find, so by default only a keyed digest is kept: equal arguments can be
//! seen to be equal, and nothing can be read or guessed from it.

use crate::key::{DigestKey, sha256};
use crate::line::{Line, OneLine, key};
use json::{Kind, Value, quote};
use std::str::FromStr;

/// How much of the arguments is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArgumentsMode {
    /// Nothing.
    Drop,
    /// A digest that only the holder of the state's key can compute.
    #[default]
    Hmac,
    /// The arguments, with digests in place of what looks secret and of long texts.
    Redacted,
    /// The arguments, up to 64 KiB.
    Full,
}

impl ArgumentsMode {
    /// `drop`, `hmac`, `redacted` or `full`.
    pub fn as_str(self) -> &'static str {
        match self {
            ArgumentsMode::Drop => "drop",
            ArgumentsMode::Hmac => "hmac",
            ArgumentsMode::Redacted => "redacted",
            ArgumentsMode::Full => "full",
        }
    }
}

impl FromStr for ArgumentsMode {
    type Err = String;

    fn from_str(text: &str) -> Result<ArgumentsMode, String> {
        let all = [ArgumentsMode::Drop, ArgumentsMode::Hmac, ArgumentsMode::Redacted, ArgumentsMode::Full];
        let found = all.into_iter().find(|mode| mode.as_str() == text);
        found.ok_or_else(|| "expected `drop`, `hmac`, `redacted` or `full`".to_owned())
    }
}

/// A digest of what the arguments mean: SHA-256 of their canonical text. Absent arguments are as `{}`.
///
/// For [`crate::Once`]: spelling does not make a call another call. An approval is for exact bytes instead.
pub fn digest(arguments: Option<Value<'_>>) -> String {
    (*sha256(arguments.map_or_else(|| "{}".to_owned(), Value::canonical).as_bytes())).to_owned()
}

/// Gives what is kept of `arguments`, or nothing.
///
/// Digests are of canonical texts. What would be longer than 64 KiB becomes `{"bytes": …, "hmac": …}`.
pub fn render(mode: ArgumentsMode, arguments: Value<'_>, key: &DigestKey) -> Option<OneLine> {
    let whole = || note(arguments.raw().len(), &arguments.canonical(), key);
    let redaction = match mode {
        ArgumentsMode::Drop => return None,
        ArgumentsMode::Hmac => return Some(whole()),
        ArgumentsMode::Redacted => Some(key),
        ArgumentsMode::Full => None,
    };
    let mut out = String::with_capacity(arguments.raw().len().min(LONGEST));
    write(arguments, redaction, false, &mut out);
    Some(if out.len() > LONGEST { whole() } else { OneLine::made(out) })
}

/// What stands in place of arguments: their length in bytes and the keyed digest of a text that says the same.
pub(crate) fn note(bytes: usize, text: &str, key: &DigestKey) -> OneLine {
    let mut out = String::with_capacity(128);
    let mut line = Line::new(&mut out);
    line.number(key!("bytes"), bytes);
    line.word(key!("hmac"), &key.digest(text.as_bytes()));
    line.end();
    OneLine::made(out)
}

/// Writes a value on one line, its numbers and the order of its members as they came.
fn write(value: Value<'_>, redaction: Option<&DigestKey>, secret: bool, out: &mut String) {
    if let Some(key) = redaction
        && hides(value, secret)
    {
        out.push_str(&quote(&format!("[hmac:{}]", &key.digest(value.canonical().as_bytes())[..16])));
        return;
    }
    match value.kind() {
        Kind::Null | Kind::Bool | Kind::Number => out.push_str(value.raw()),
        Kind::String => out.push_str(&quote(&value.as_str().unwrap_or_default())),
        Kind::Array => {
            out.push('[');
            for (i, element) in value.elements().into_iter().flatten().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(element, redaction, secret, out);
            }
            out.push(']');
        }
        Kind::Object => {
            out.push('{');
            for (i, member) in value.members().into_iter().flatten().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&quote(&member.key));
                out.push(':');
                write(member.value, redaction, secret || names_secret(&member.key), out);
            }
            out.push('}');
        }
    }
}

/// Under a name that speaks of secrets every text and number is one; elsewhere, texts that look like credentials or are long.
fn hides(value: Value<'_>, secret: bool) -> bool {
    match value.kind() {
        Kind::String => secret || value.as_str().is_some_and(|text| text.len() > LONGEST_SHOWN || looks_secret(&text)),
        Kind::Number => secret,
        Kind::Null | Kind::Bool | Kind::Array | Kind::Object => false,
    }
}

fn names_secret(key: &str) -> bool {
    let plain: String = key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_NAMES.iter().any(|name| plain.contains(name))
}

fn looks_secret(text: &str) -> bool {
    let has_marker = SECRET_MARKERS
        .iter()
        .any(|marker| text.match_indices(marker).any(|(at, _)| !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric())));
    has_marker || has_userinfo(text) || text.split(|c: char| c.is_whitespace() || "\"',;=".contains(c)).any(is_random)
}

/// `scheme://user:password@host`
fn has_userinfo(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#', ' ']).next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    })
}

/// A word such as keys and tokens are: long, of letters in both cases and digits mixed, without the signs of paths or prose.
fn is_random(word: &str) -> bool {
    word.len() >= 24
        && word.bytes().all(|c| c.is_ascii_alphanumeric() || b"+/_-.~".contains(&c))
        && word.bytes().filter(u8::is_ascii_digit).count() >= 4
        && word.bytes().any(|c| c.is_ascii_lowercase())
        && word.bytes().any(|c| c.is_ascii_uppercase())
}

/// Longer arguments are not kept, in bytes: a note stands in their place.
pub const LONGEST: usize = 64 << 10;
const LONGEST_SHOWN: usize = 256;
/// Looked for in names without their punctuation: `apiKey`, `X-Api-Key` and `api_key` are one.
const SECRET_NAMES: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "credential",
    "authorization",
    "cookie",
    "bearer",
    "signature",
    "sessionid",
    "cvv",
    "cardnumber",
    "ssn",
];
/// How well-known credentials begin (GitHub, GitLab, Slack, AWS, OpenAI and Anthropic, Stripe, Google, npm, JWT, PEM).
const SECRET_MARKERS: &[&str] = &[
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xoxs-",
    "AKIA",
    "ASIA",
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "AIza",
    "npm_",
    "eyJ",
    "-----BEGIN",
    "Bearer ",
    "Basic ",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;
    use json::{Document, Strictness};

    fn rendered(mode: ArgumentsMode, text: &str) -> Option<String> {
        let doc = Document::parse(text.to_owned(), Strictness::Request).unwrap();
        let key = SecretKey::parse(&SecretKey::generate().unwrap().1).unwrap();
        render(mode, doc.root(), key.digests()).map(|kept| kept.as_str().to_owned())
    }

    #[test]
    fn dropped_arguments_leave_nothing() {
        assert_eq!(rendered(ArgumentsMode::Drop, r#"{"a":1}"#), None);
    }

    #[test]
    fn digests_are_of_the_meaning_and_show_nothing() {
        let key = SecretKey::generate().unwrap().0;
        let render = |text: &str| {
            let doc = Document::parse(text.to_owned(), Strictness::Request).unwrap();
            let text = render(ArgumentsMode::Hmac, doc.root(), key.digests()).unwrap();
            Document::parse(text.as_str().to_owned(), Strictness::Request).unwrap().root().get("hmac").unwrap().raw().to_owned()
        };
        assert_eq!(render(r#"{"a":1,"b":"hunter2"}"#), render(r#"{ "b": "hunter2", "a": 1.0 }"#));
        assert_ne!(render(r#"{"a":1}"#), render(r#"{"a":2}"#));
        assert!(!render(r#"{"b":"hunter2"}"#).contains("hunter2"));
    }

    #[test]
    fn full_arguments_are_one_line_as_they_came() {
        let text = "{ \"b\" : 1.50,\n \"a\": [true, null, \"x\\u2028\\u001b[31m\"] }";
        assert_eq!(rendered(ArgumentsMode::Full, text).unwrap(), r#"{"b":1.50,"a":[true,null,"x\u2028\u001b[31m"]}"#);
    }

    #[test]
    fn huge_arguments_become_a_digest() {
        let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(10 << 20));
        let kept = rendered(ArgumentsMode::Full, &text).unwrap();
        assert!(kept.starts_with(r#"{"bytes":10485768,"hmac":""#) && kept.len() < 200, "{kept}");
    }

    #[test]
    fn what_looks_secret_is_redacted_and_the_rest_is_not() {
        let secrets = r#"{"password":"hunter2","apiKey":5,"auth":{"X-Auth-Token":["abc"]},
            "note":"use ghp_16C7e42F292c6912E7710c838347Ae178B4a please","url":"https://bob:pw@example.org/x",
            "header":"Bearer abc","blob":"aB3dE5fG7hJ9kL1mN3pQ5rS7","long":"LONG"}"#
            .replace("LONG", &"word ".repeat(60));
        let kept = rendered(ArgumentsMode::Redacted, &secrets).unwrap();
        let doc = Document::parse(kept.clone(), Strictness::Request).unwrap();
        assert_eq!(kept.matches("[hmac:").count(), 8, "{kept}");
        assert!(doc.root().get("auth").unwrap().get("X-Auth-Token").is_some());
        let plain = r#"{"path":"/srv/data/2026-01-15/run.txt","risk-level":"high","task":"sk8 on","n":5,"sha":"0123456789abcdef0123456789abcdef"}"#;
        assert_eq!(rendered(ArgumentsMode::Redacted, plain).unwrap(), plain);
    }

    #[test]
    fn absent_arguments_are_as_no_arguments() {
        let doc = Document::parse("{}", Strictness::Request).unwrap();
        assert_eq!(digest(None), digest(Some(doc.root())));
    }
}
