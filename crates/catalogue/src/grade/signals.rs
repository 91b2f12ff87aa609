//! What else a definition tells: what an argument names, and what may come back.

use super::reading::{Parameter, Reading};
use super::verbs::Sense;
use super::words;
use super::{Evidence, Supports, clauses};
use std::fmt;

/// A property of a tool that its class does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// An argument names a file or directory on the server's machine.
    Path,
    /// An argument is a URL, host or endpoint that will be contacted.
    Url,
    /// Program text, or text that is put into effect.
    Code,
    /// A statement in a database language.
    Sql,
    /// A command line, or an argument vector.
    Shell,
    /// Chooses whose rights are used, or takes credentials.
    CredentialSelector,
    /// One call affects many targets.
    Batch,
    /// Chooses the account, organisation or tenant.
    TenantSelector,
    /// Text or files of the caller leave for others.
    SendsDataOut,
    /// The result may carry text that outsiders wrote.
    UntrustedContent,
    /// The result may hold secrets.
    ReturnsSecrets,
    /// Permissions, membership, keys or exposure may change.
    ChangesAccess,
    /// Ten or more parameters.
    ManyParameters,
}

impl Signal {
    /// All signals, in the order in which they are printed.
    pub const ALL: [Signal; 13] = [
        Signal::Path,
        Signal::Url,
        Signal::Code,
        Signal::Sql,
        Signal::Shell,
        Signal::CredentialSelector,
        Signal::Batch,
        Signal::TenantSelector,
        Signal::SendsDataOut,
        Signal::UntrustedContent,
        Signal::ReturnsSecrets,
        Signal::ChangesAccess,
        Signal::ManyParameters,
    ];

    /// The signal as it is written, such as `credential-selector`.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Path => "path",
            Signal::Url => "url",
            Signal::Code => "code",
            Signal::Sql => "sql",
            Signal::Shell => "shell",
            Signal::CredentialSelector => "credential-selector",
            Signal::Batch => "batch",
            Signal::TenantSelector => "tenant-selector",
            Signal::SendsDataOut => "sends-data-out",
            Signal::UntrustedContent => "untrusted-content",
            Signal::ReturnsSecrets => "returns-secrets",
            Signal::ChangesAccess => "changes-access",
            Signal::ManyParameters => "many-parameters",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What one parameter is, as far as policies care.
pub(super) fn of_parameter(parameter: &Parameter) -> Option<Signal> {
    let said = |list: &str| parameter.said.iter().any(|word| words::is_one(word, list));
    let phrase = |phrase: &str| super::words::has_phrase(&parameter.said, phrase);
    let texts = parameter.is_text() || parameter.kind == "array" && matches!(parameter.items, "string" | "");
    if !texts || !parameter.values.is_empty() && !parameter.mentions("profile") {
        return None;
    }
    if parameter.is_one_of(CREDENTIALS)
        || parameter.ends_in("token password secret apikey credentials")
            && !parameter.mentions(
                "next page client max continuation version pagination starting cancel tokens request idempotency sync resume",
            )
            && parameter.kind == "string"
    {
        return Some(Signal::CredentialSelector);
    }
    if parameter.is_one_of(TENANTS) {
        return Some(Signal::TenantSelector);
    }
    let sql = "sql, sql query, sql statement, statement, statements, cypher, cypher query, cql, sql list, \
        sql statements, gremlin, query string, query";
    if parameter.is_one_of(sql)
        && (parameter.mentions("sql cypher cql gremlin") || said("sql cypher gremlin cql opencypher"))
        && !said("promql")
    {
        return Some(Signal::Sql);
    }
    if parameter.is_one_of("cli command, shell command, bash command, cmd, shell, argv, command line")
        || parameter.is_one_of("command, commands, args")
            && said("shell bash execute run executable terminal cli")
            && parameter.values.is_empty()
    {
        return Some(Signal::Shell);
    }
    if parameter.is_one_of("script, code, javascript, python, js, expression, source code, python code, function, program")
        && (said("javascript python code script execute run evaluate typescript")
            || parameter.is_one_of("code, script, javascript"))
    {
        return Some(Signal::Code);
    }
    let url_name = parameter.mentions("url urls endpoint hostname webhook href")
        || parameter.ends_in("host link domain")
        || parameter.is_named("uri") && said("http https url");
    if url_name && !parameter.ends_in("id name arn identifier") {
        return Some(Signal::Url);
    }
    let path_name = parameter.is_one_of(PATHS)
        || parameter.ends_in("path directory dir folder filepath filename file") && !parameter.ends_in("folder");
    let elsewhere = said("repository repo s3 jsonpath url bucket xpath iam api")
        || parameter.mentions("s3 json url uri key id content repo prefix api xpath webhook");
    let local =
        said("local absolute directory disk filesystem file") || parameter.mentions("file directory dir local output workspace");
    if path_name && !elsewhere && (local || parameter.is_one_of(PATHS)) && !phrase("the file content") {
        return Some(Signal::Path);
    }
    None
}

const CREDENTIALS: &str = "aws profile, profile, profile name, role, role arn, api key, access key, access token, token, secret, \
    password, credentials, auth token, kube context, context, service account, user google email, username, \
    account email, connection string, credential arn, data access role arn, execution role arn, bearer token, \
    private key, secret key, api token";

const TENANTS: &str = "account id, account, organization id, organization, org, org id, organization slug, tenant, tenant id, \
    subscription, subscription id, workspace, workspace id, workspace slug, owner, account ids, team id, \
    organisation, organization name, tenancy id, catalog id, linked account, organization ids";

const PATHS: &str = "path, paths, file path, filepath, file, directory, dir, folder path, cwd, working directory, repo path, \
    workspace dir, output path, output dir, output directory, save path, local path, source path, \
    destination path, input file path, file paths, filename, filenames, root, output file";

const MOST_FOR_ONE: usize = 6;

/// The signals of a tool, each with what says so.
pub(super) fn all(reading: &Reading, main: Option<Sense>, is_change: bool, names: &[String]) -> Vec<(Signal, Evidence)> {
    let mut found: Vec<(Signal, Evidence)> = Vec::new();
    let mut add = |signal: Signal, quote: String, at: String, why: &'static str| {
        // Each argument counts, the rest once.
        let is_known =
            |(known, evidence): &(Signal, Evidence)| *known == signal && (evidence.at == at || !at.contains(".properties."));
        let count = found.iter().filter(|(known, _)| *known == signal).count();
        if count < MOST_FOR_ONE && !found.iter().any(is_known) {
            found.push((signal, Evidence { at, quote, rule: "signal", why, supports: Supports::Signal(signal) }));
        }
    };
    for parameter in &reading.parameters {
        if let Some(signal) = of_parameter(parameter) {
            add(signal, parameter.name.clone(), parameter.path.clone(), "what an argument is");
        }
        let many = parameter.kind == "array"
            && (parameter.items == "object"
                || parameter.ends_in("id key arn name url path file statement email")
                || parameter.is_one_of("operations, requests, items, updates, entries, commands, urls"));
        if is_change
            && parameter.depth == 0
            && many
            && !parameter.mentions("fields columns properties security subnet include sort")
        {
            add(Signal::Batch, parameter.name.clone(), parameter.path.clone(), "one call affects many");
        }
    }
    let has = |list: &str| names.iter().any(|name| words::is_one(name, list));
    let name = || reading.name.clone();
    if is_change && has("batch bulk all many multi") {
        add(Signal::Batch, name(), "name".into(), "one call affects many");
    }
    let sentence = |phrases: &str| reading.says_any(phrases).map(|sentence| clauses::quote(&sentence.text));
    let access = has(
        "permission permissions policy policies role roles member members collaborator access invite share grant revoke key token acl user group sharing credential",
    );
    if is_change
        && (matches!(main, Some(Sense::Access))
            || access
                && matches!(
                    main,
                    Some(
                        Sense::Make
                            | Sense::Change
                            | Sense::Remove
                            | Sense::Delete
                            | Sense::Label
                            | Sense::Send
                            | Sense::Put
                            | Sense::Generate
                            | Sense::Manage
                    )
                ))
    {
        add(Signal::ChangesAccess, name(), "name".into(), "rights may change");
    }
    if is_change
        && reading
            .parameters
            .iter()
            .any(|parameter| parameter.is_one_of("publicly accessible, make public, public, permissions boundary, inline policy"))
    {
        add(Signal::ChangesAccess, name(), "inputSchema".into(), "exposure may change");
    }
    let outsiders = "page web email gmail message messages comment comments issue issues ticket log logs file document \
        documents search news content scrape crawl tweet post posts thread query find history events review \
        reviews article pull snapshot";
    if !matches!(main, Some(Sense::Make | Sense::Change | Sense::Remove | Sense::Delete | Sense::Label | Sense::Put))
        && has(outsiders)
    {
        add(Signal::UntrustedContent, name(), "name".into(), "the result may hold what outsiders wrote");
    }
    let secret = has("secret secrets password credentials token keys env connection") && matches!(main, Some(Sense::Look));
    let told = sentence(
        "connection string, environment variables, api keys, secret access key, temporary credentials, returns the token, presigned url",
    );
    if secret && !has("metadata info type types name names provider status") {
        add(Signal::ReturnsSecrets, name(), "name".into(), "the result may hold secrets");
    } else if let (Some(quote), Some(Sense::Look)) = (told, main) {
        add(Signal::ReturnsSecrets, quote, "description".into(), "the result may hold secrets");
    }
    let sends = matches!(main, Some(Sense::Send | Sense::Post))
        || is_change && has("comment message email upload feedback reply note post");
    if sends {
        add(Signal::SendsDataOut, name(), "name".into(), "text or files leave for others");
    }
    if reading.top_level >= 10 {
        add(Signal::ManyParameters, format!("{} parameters", reading.top_level), "inputSchema".into(), "ten or more");
    }
    found.sort_by_key(|(signal, _)| *signal);
    found
}
