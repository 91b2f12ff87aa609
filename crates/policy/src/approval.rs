//! What a policy says of approvals: who must say yes, for how long a call waits, and who is told.
//!
//! Secrets are named, never held: whoever runs the policy resolves a [`SecretReference`], and this crate reads neither
//! environment nor files.

use jiff::SignedDuration;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// So many different people, of these or of any.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quorum {
    /// How many of them; at least one. Nobody counts twice.
    pub count: u32,
    /// Who counts: names as approvers have them. Empty: anybody who may answer.
    pub of: Arc<[String]>,
}

impl Quorum {
    /// One person, whoever may answer.
    pub fn anybody() -> Quorum {
        Quorum { count: 1, of: Arc::from([]) }
    }

    /// Whether an approval of this person would count.
    pub fn counts(&self, approver: &str) -> bool {
        self.of.is_empty() || self.of.iter().any(|name| name == approver)
    }

    /// How many are missing when these, each once, have said yes.
    pub fn missing(&self, approvers: &[impl AsRef<str>]) -> u32 {
        let counted = approvers.iter().filter(|name| self.counts(name.as_ref())).count();
        self.count.saturating_sub(u32::try_from(counted).unwrap_or(u32::MAX))
    }
}

impl fmt::Display for Quorum {
    /// As a policy has it: `2 of [alice, bob, carol]`, or `2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.of {
            [] => write!(f, "{}", self.count),
            names => write!(f, "{} of [{}]", self.count, names.join(", ")),
        }
    }
}

/// On what terms a rule asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asking {
    /// How long an approval waits for an answer, and then how long it may be used.
    pub timeout: SignedDuration,
    /// How long the call itself waits before it is answered that it must be repeated; zero where it does not.
    pub wait: SignedDuration,
    pub quorum: Quorum,
}

impl Asking {
    /// Long enough to come back from a meeting, short enough that what is approved is still what was asked.
    pub const TIMEOUT: SignedDuration = SignedDuration::from_mins(30);
}

impl Default for Asking {
    fn default() -> Asking {
        Asking { timeout: Asking::TIMEOUT, wait: SignedDuration::ZERO, quorum: Quorum::anybody() }
    }
}

/// Where a secret is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretReference {
    /// `env:NAME`: a variable of the gateway's own environment.
    Env(String),
    /// `file:PATH`: the content of a file, without its last line break; relative to the file that names it.
    File(String),
}

impl fmt::Display for SecretReference {
    /// As it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretReference::Env(name) => write!(f, "env:{name}"),
            SecretReference::File(path) => write!(f, "file:{path}"),
        }
    }
}

impl SecretReference {
    /// Reads `env:NAME` or `file:PATH`; `None` for anything else, which may be a secret itself.
    pub fn parse(text: &str) -> Option<SecretReference> {
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        match text.split_once(':')? {
            ("env", name) => named(name).map(SecretReference::Env),
            ("file", path) => named(path).map(SecretReference::File),
            _ => None,
        }
    }

    /// The same, with a relative path taken from the place of the file called `name`.
    pub fn beside(self, name: &str) -> SecretReference {
        match self {
            SecretReference::File(path) => {
                let place = Path::new(name).parent().unwrap_or(Path::new("")).join(path);
                SecretReference::File(place.to_string_lossy().into_owned())
            }
            SecretReference::Env(name) => SecretReference::Env(name),
        }
    }
}

/// Where a webhook posts to.
#[derive(Clone, PartialEq, Eq)]
pub enum WebhookUrl {
    /// An `http://` or `https://` address. Some services put a secret into it, so it is not shown.
    Literal(String),
    /// Somewhere else.
    Reference(SecretReference),
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WebhookUrl::Literal(_) => f.write_str("Literal(…)"),
            WebhookUrl::Reference(reference) => f.debug_tuple("Reference").field(reference).finish(),
        }
    }
}

/// What the body of a webhook looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WebhookForm {
    /// Members of our own, for programs.
    #[default]
    Json,
    /// An incoming webhook of Slack: Block Kit.
    Slack,
    /// A workflow webhook of Microsoft Teams: an Adaptive Card.
    Teams,
}

impl WebhookForm {
    /// Every form with its word.
    pub const WORDS: [(&str, WebhookForm); 3] =
        [("json", WebhookForm::Json), ("slack", WebhookForm::Slack), ("teams", WebhookForm::Teams)];
}

/// Who is told that a call waits for an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where to post to.
    pub url: WebhookUrl,
    /// What signs the body; without it, it goes unsigned.
    pub secret: Option<SecretReference>,
    /// What the body looks like.
    pub form: WebhookForm,
}

impl Webhook {
    /// The secrets that it refers to.
    pub fn references(&self) -> impl Iterator<Item = &SecretReference> {
        let url = match &self.url {
            WebhookUrl::Literal(_) => None,
            WebhookUrl::Reference(reference) => Some(reference),
        };
        url.into_iter().chain(&self.secret)
    }

    /// The same, with relative paths of what it refers to taken from the place of the file called `name`.
    #[must_use]
    pub(crate) fn beside(self, name: &str) -> Webhook {
        let url = match self.url {
            WebhookUrl::Reference(reference) => WebhookUrl::Reference(reference.beside(name)),
            literal @ WebhookUrl::Literal(_) => literal,
        };
        Webhook { url, secret: self.secret.map(|reference| reference.beside(name)), ..self }
    }
}
