//! The shapes of well-known credentials.
//!
//! Only what is made to be recognised (a prefix and a length of its own), or stands where it is called a secret: a text that
//! merely looks random is as often a digest. Sources are the issuers' own descriptions of their keys.

use regex::{Regex, RegexSet};
use std::ops::Range;
use std::sync::LazyLock;

/// The secrets in a text, each by its place and by what it is; of each shape no more than `most`. `under` is the key whose value
/// the text is, if it is one.
pub(super) fn found(text: &str, under: Option<&str>, most: usize) -> Vec<(Range<usize>, &'static str)> {
    if text.len() < SHORTEST {
        return Vec::new();
    }
    let set: &Shapes = &KNOWN;
    let mut found = Vec::new();
    for number in set.any.matches(text) {
        let (name, shape) = &set.each[number];
        // What is secret of it, where that is not all.
        let secrets = shape.captures_iter(text).filter_map(|captures| captures.get(1).or_else(|| captures.get(0)));
        let secrets = secrets.filter(|secret| *name != BEARER || is_random(secret.as_str()));
        found.extend(secrets.take(most).map(|secret| (secret.range(), *name)));
    }
    // AWS writes the two parts of a key under names of their own; the second has no shape but its length.
    let is_aws = |key: &str| key.replace(['_', '-'], "").to_ascii_lowercase().ends_with("secretaccesskey");
    if text.len() == 40 && under.is_some_and(is_aws) {
        found.push((0..text.len(), "aws-secret"));
    }
    found
}

/// Whether it is no word: `Bearer authentication-scheme` names none.
fn is_random(token: &str) -> bool {
    token.bytes().any(|byte| byte.is_ascii_digit()) && token.bytes().any(|byte| byte.is_ascii_alphabetic())
}

struct Shapes {
    any: RegexSet,
    each: Vec<(&'static str, Regex)>,
}

/// Compiled when first asked for: about 1 MB.
static KNOWN: LazyLock<Shapes> = LazyLock::new(|| {
    let each = SHAPES.iter().map(|(name, shape)| (*name, Regex::new(shape).expect("the tests compile every shape")));
    let any = RegexSet::new(SHAPES.iter().map(|(_, shape)| *shape)).expect("the tests compile every shape");
    Shapes { each: each.collect(), any }
});

/// The shortest that any shape fits.
const SHORTEST: usize = 16;

const BEARER: &str = "bearer-token";

/// Names and shapes. `\b` is that of ASCII: a letter of another script before a key makes it no other.
const SHAPES: &[(&str, &str)] = &[
    // IAM User Guide, "Unique identifiers": long-term and temporary access keys, bearer tokens.
    ("aws-key", r"(?-u:\b{start-half})(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?-u:\b{end-half})"),
    ("aws-secret", r#"(?i)secret_?access_?key["'\\]{0,3}\s{0,4}[:=]\s{0,4}["'\\]{0,3}([A-Za-z0-9/+]{40})(?-u:\b{end-half})"#),
    ("azure-key", r"(?i)(?:AccountKey|SharedAccessKey)=([A-Za-z0-9+/]{43,86}==?)"),
    (BEARER, r"(?i)(?-u:\b{start-half})bearer\s{1,4}([A-Za-z0-9._~+/!-]{20,}={0,2})"),
    // Google Cloud: API keys, OAuth client secrets.
    ("google-key", r"(?-u:\b{start-half})(?:AIza[0-9A-Za-z_-]{35}|GOCSPX-[0-9A-Za-z_-]{28})(?-u:\b{end-half})"),
    // GitHub, "Behind GitHub's new authentication token formats".
    (
        "github-token",
        r"(?-u:\b{start-half})(?:gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})(?-u:\b{end-half})",
    ),
    ("gitlab-token", r"(?-u:\b{start-half})gl(?:pat|dt|rt|ptt|soat)-[A-Za-z0-9_-]{20,64}(?-u:\b{end-half})"),
    ("huggingface-token", r"(?-u:\b{start-half})hf_[A-Za-z]{34}(?-u:\b{end-half})"),
    // RFC 7519 §3: header and claims are objects in base64url; signed.
    ("jwt", r"(?-u:\b{start-half})eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}"),
    (
        "model-key",
        r"(?-u:\b{start-half})sk-(?:ant-[A-Za-z0-9_-]{32,}|(?:proj|svcacct|admin)-[A-Za-z0-9_-]{32,}|[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20})",
    ),
    ("npm-token", r"(?-u:\b{start-half})npm_[A-Za-z0-9]{36}(?-u:\b{end-half})"),
    (
        // RFC 7468, RFC 4880 §6.2; where its end is missing, as far as it is base64. None reaches over a line of dashes but
        // that of its end: else each beginning would be searched for an end to the end of the text.
        "private-key",
        concat!(
            r"(?s)-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----",
            r"(?:(?:-{0,4}[^-]){16,}?-{5,9}END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----|(?:\\[nr]|[A-Za-z0-9+/=\r\n]){64,})"
        ),
    ),
    ("pypi-token", r"(?-u:\b{start-half})pypi-AgE[A-Za-z0-9_-]{50,}"),
    ("sendgrid-key", r"(?-u:\b{start-half})SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}(?-u:\b{end-half})"),
    ("slack-token", r"(?-u:\b{start-half})xox[abeoprs]-(?:[0-9]{6,}-[0-9A-Za-z-]{10,}|[0-9]-[0-9A-Za-z-]{40,})"),
    ("slack-token", r"(?-u:\b{start-half})xapp-[0-9]-[A-Z0-9]{6,}-[0-9]{6,}-[a-f0-9]{40,}"),
    ("slack-webhook", r"https://hooks\.slack\.com/(?:services|workflows)/T[A-Z0-9]{6,}/[A-Z0-9]{6,}/[A-Za-z0-9/]{16,}"),
    ("stripe-key", r"(?-u:\b{start-half})(?:(?:sk|rk)_(?:live|test)_[0-9A-Za-z]{16,}|whsec_[A-Za-z0-9+/]{32,}={0,2})"),
];
