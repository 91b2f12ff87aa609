//! What the state keeps besides the file: servers, policies and grants that people have given to a running gateway.
//!
//! Each is read by what reads the file, so that what is a mistake there is one here. Together with the file's they are one
//! list: a name that stands in both is a mistake of the one that is kept. One with mistakes is left out; nothing else suffers
//! for it. A policy that is kept is named as `state:NAME` where a file would name a path, and a server so by a grant of the
//! file. What is kept may name secrets and files only as the configuration allows.

use super::Config;
use super::authorization::{self, Around};
use super::grants::{self, GrantConfig, TokenConfig};
use super::reading::{Finished, Reading, code};
use super::servers::{self, ServerConfig};
use policy::{Member, Policy, Problem, SecretReference, Severity, Source, Span};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{Document, DocumentKind, Kept, StoredGrant};

/// How what is kept is named elsewhere, before its name.
pub(crate) const KEPT: &str = "state:";

/// A policy that is kept, as it was read.
#[derive(Clone, Debug)]
pub(crate) struct KeptPolicy {
    /// Of which version of the document.
    pub version: i64,
    /// `None`: it has mistakes.
    policy: Option<Arc<Policy>>,
    problems: Vec<Problem>,
    /// The secrets that it refers to, as it has them.
    references: Vec<String>,
    /// Whether it refers to something that it may not.
    is_barred: bool,
}

impl KeptPolicy {
    /// What it says, where that can be used.
    pub fn policy(&self) -> Option<&Arc<Policy>> {
        self.policy.as_ref().filter(|_| !self.is_barred)
    }
}

/// What is said of one document.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub kind: DocumentKind,
    pub name: String,
    /// Errors and warnings.
    pub problems: Vec<Problem>,
}

impl Said {
    /// Whether it is left out for that.
    pub fn is_wrong(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

/// What the file and the state say together.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    /// The file's, and then those that are kept.
    pub servers: Vec<ServerConfig>,
    /// The same; without those that are revoked.
    pub grants: Vec<GrantConfig>,
    /// The policies that are kept, by name.
    pub policies: BTreeMap<String, KeptPolicy>,
    /// What there is to say of what is kept.
    pub said: Vec<Said>,
    /// Grants of the file, and servers that they name and the state does not keep.
    pub missing: Vec<(String, String)>,
    /// The files that what is kept names.
    pub files: Vec<PathBuf>,
    /// Digests of all that was read of what is kept, and of those files.
    pub fingerprints: Vec<[u8; 32]>,
}

impl Whole {
    /// What a configuration and what the state keeps say together. `environment` gives the value of a variable; `before` is
    /// what they said before, of which what has not changed is taken over.
    pub fn of(config: &Config, kept: &Kept, environment: &dyn Fn(&str) -> Option<String>, before: &Whole) -> Whole {
        let mut whole = Whole::default();
        let references = config.references();
        for document in &kept.policies {
            let known = before.policies.get(&document.name).filter(|known| known.version == document.version);
            let mut policy = known.cloned().unwrap_or_else(|| read_policy(document, &config.base));
            let source = source(DocumentKind::Policy, &document.name, document.text.as_deref());
            // Another configuration may allow what this one does not, and the other way round.
            let barred = barred(Reading::new(&source, &config.base, environment).referring_to(references), &policy, &source);
            policy.is_barred = !barred.is_empty();
            whole.say(DocumentKind::Policy, &document.name, policy.problems.iter().cloned().chain(barred).collect());
            whole.policies.insert(document.name.clone(), policy);
        }
        let policies = std::mem::take(&mut whole.policies);
        // Whoever may write the state could otherwise start programs on gateways that nobody administers.
        let commands = config.admin.as_ref().is_some_and(|admin| admin.commands);
        let around = Around {
            grants: &config.grants,
            identity: config.identity.as_ref(),
            authorizations: config.authorizations.as_ref().map(|section| section.url.is_some()),
            listen: config.listen,
        };
        let is_asked = config.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
        whole.servers.clone_from(&config.servers);
        let mut known: Vec<&str> = config.servers.iter().map(|server| server.name.as_str()).collect();
        let twice: HashSet<&str> = known.iter().copied().collect();
        for document in &kept.servers {
            let source = source(DocumentKind::Server, &document.name, document.text.as_deref());
            let reading = Reading::new(&source, &config.base, environment).beside_policies(&policies).referring_to(references);
            let read = read_with(reading, |reading, root| {
                if twice.contains(document.name.as_str()) {
                    stands_twice(reading, &root.at, "server", &document.name);
                }
                // Before anything else of it is looked at.
                if let Some(command) = authorization::member(&root, "command").filter(|_| !commands) {
                    let problem =
                        reading.error(code::COMBINATION, &command.at, "a server that the state keeps may be no command here");
                    problem.help = Some("give it a `url`, or write it into the configuration file".into());
                    return None;
                }
                let key_at = root.at.clone();
                let at = authorization::member(&root, "authorization").map_or(key_at.clone(), |node| node.at.clone());
                let mut server = servers::server(reading, &Member { key: document.name.clone(), key_at, value: root })?;
                authorization::check_server(reading, &at, &mut server, &around);
                Some(server)
            });
            let read = whole.take(DocumentKind::Server, &document.name, read);
            whole.servers.extend(read);
            // One that has mistakes is still a server: grants that name it are not wrong for that.
            known.push(&document.name);
        }
        let revoked: HashSet<&str> =
            kept.grants.iter().filter(|grant| grant.revoked.is_some()).map(|grant| grant.name.as_str()).collect();
        whole.find_missing(config, &known);
        let of_file = config.grants.iter();
        whole.grants.extend(of_file.clone().filter(|grant| !revoked.contains(grant.name.as_str())).cloned());
        let twice: HashSet<&str> = of_file.map(|grant| grant.name.as_str()).collect();
        for stored in kept.grants.iter().filter(|grant| grant.revoked.is_none() && grant.spec.is_some()) {
            let source = source(DocumentKind::Grant, &stored.name, stored.spec.as_deref());
            // References to secrets belong to servers: a grant has none.
            let no_variables = |_: &str| None;
            let reading = Reading::new(&source, &config.base, &no_variables);
            let reading = reading.beside_policies(&policies).referring_to(references);
            let (servers, others) = (&whole.servers, &whole.grants);
            let read = read_with(reading, |reading, root| {
                if twice.contains(stored.name.as_str()) {
                    stands_twice(reading, &root.at, "grant", &stored.name);
                }
                read_grant(reading, &root, stored, servers, &known, (others, is_asked))
            });
            let read = whole.take(DocumentKind::Grant, &stored.name, read);
            whole.grants.extend(read);
        }
        whole.policies = policies;
        whole
    }

    /// What is said of one document.
    pub fn said_of(&self, kind: DocumentKind, name: &str) -> &[Problem] {
        self.said.iter().find(|said| said.kind == kind && said.name == name).map_or(&[], |said| &said.problems)
    }

    /// The server of this name.
    pub fn server(&self, name: &str) -> Option<&ServerConfig> {
        self.servers.iter().find(|server| server.name == name)
    }

    /// The grant of this name.
    pub fn grant(&self, name: &str) -> Option<&GrantConfig> {
        self.grants.iter().find(|grant| grant.name == name)
    }

    /// Notes which servers grants of the file name that nobody has told us of. `known` are the names of all.
    fn find_missing(&mut self, config: &Config, known: &[&str]) {
        let named = config.grants.iter().flat_map(|grant| grant.servers.iter().map(|server| (&grant.name, server)));
        for (grant, server) in named.filter(|(_, server)| !known.contains(&server.as_str())) {
            self.missing.push((grant.clone(), server.clone()));
        }
    }

    fn say(&mut self, kind: DocumentKind, name: &str, problems: Vec<Problem>) {
        if !problems.is_empty() {
            self.said.push(Said { kind, name: name.to_owned(), problems });
        }
    }

    /// Notes what is said of something that was read, and gives it where it has no mistakes.
    fn take<T>(&mut self, kind: DocumentKind, name: &str, read: (Option<T>, Finished)) -> Option<T> {
        let (value, Finished { mut problems, of_policies, files, fingerprint }) = read;
        self.fingerprints.push(fingerprint);
        problems.extend(of_policies.into_iter().map(|of| of.problem));
        self.files.extend(files);
        let is_sound = problems.iter().all(|problem| problem.severity != Severity::Error);
        self.say(kind, name, problems);
        value.filter(|_| is_sound)
    }
}

fn read_with<'s, T>(
    mut reading: Reading<'s>,
    read: impl FnOnce(&mut Reading<'s>, policy::Node) -> Option<T>,
) -> (Option<T>, Finished) {
    let value = reading.root().and_then(|root| read(&mut reading, root));
    (value, reading.finish())
}

fn read_grant(
    reading: &mut Reading<'_>,
    root: &policy::Node,
    stored: &StoredGrant,
    servers: &[ServerConfig],
    known: &[&str],
    (others, is_asked): (&[GrantConfig], bool),
) -> Option<GrantConfig> {
    let fields = reading.fields(root, "a grant", grants::KEYS)?;
    if let Some(node) = fields.get("name")
        && node.as_str() != Some(&stored.name)
    {
        reading.error(code::VALUE, &node.at, "`name` is another than the grant's").help = Some("leave it out".into());
    }
    if let Some(node) = fields.get("token") {
        reading.error(code::COMBINATION, &node.at, "the token of a grant that the state keeps is made by callgate").help =
            Some("leave `token` out; it is given with the answer, once".into());
    }
    let kept = stored.digest.clone().map(|digest| TokenConfig::Kept { digest, former: stored.former.clone() });
    let grant = grants::grant(reading, &fields, servers, known, kept)?;
    grants::check_certificate(reading, &fields, &grant, others, is_asked);
    Some(grant)
}

/// Files that it names lie beside the configuration, as those of all else that is kept.
fn read_policy(document: &Document, base: &Path) -> KeptPolicy {
    let loaded = policy::load(&source(DocumentKind::Policy, &document.name, document.text.as_deref()));
    let webhook = loaded.policy.as_ref().and_then(Policy::webhook);
    let references = webhook.into_iter().flat_map(|webhook| webhook.references()).map(SecretReference::to_string).collect();
    let policy = loaded.policy.map(|policy| Arc::new(policy.beside(&base.join(&document.name).to_string_lossy())));
    KeptPolicy { version: document.version, policy, problems: loaded.problems, references, is_barred: false }
}

/// What a policy refers to that it may not.
fn barred(mut reading: Reading<'_>, policy: &KeptPolicy, source: &Source) -> Vec<Problem> {
    let text = String::from_utf8_lossy(&source.text);
    for reference in &policy.references {
        let at = text.find(reference).map_or(0..0, |at| at..at + reference.len());
        reading.may_name(&at, reference);
    }
    reading.finish().problems
}

/// A document's text, under the name by which problems tell it.
fn source(kind: DocumentKind, name: &str, text: Option<&str>) -> Source {
    let place = match kind {
        DocumentKind::Server => format!("servers/{name}.json"),
        // As it is named elsewhere: its own relative paths are not taken from here.
        DocumentKind::Policy => format!("{KEPT}{name}"),
        DocumentKind::Grant => format!("grants/{name}.json"),
    };
    Source::new(place, text.unwrap_or_default())
}

fn stands_twice(reading: &mut Reading<'_>, at: &Span, what: &str, name: &str) {
    let problem =
        reading.error(code::TWICE, at, format!("the {what} `{}` stands in the configuration file too", policy::shown(name)));
    problem.help = Some("give one of them another name".into());
}
