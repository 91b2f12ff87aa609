//! What else a definition tells: what an argument names, and what may come back.

use super::reading::{Parameter, Reading};
use super::verbs::Sense;
use super::words;
use super::{Evidence, Supports, clauses, further};
use policy::RiskClass;
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
    // How to travel, or who somebody is.
    if parameter.is_one_of("profile, profile name") && said("routing route travel driving walking transport usage user") {
        return None;
    }
    // One of several accounts that the server can act for.
    if parameter.is_named("account") && said("alias nickname") {
        return Some(Signal::CredentialSelector);
    }
    if parameter.is_one_of(CREDENTIALS)
        || parameter.ends_in("token password secret apikey credentials")
            && !parameter.mentions(
                "next page client max continuation version pagination starting cancel tokens request idempotency sync resume",
            )
            && parameter.kind == "string"
            // What one tool hands to the next: `from explain()`.
            && !parameter.description.contains("()")
    {
        return Some(Signal::CredentialSelector);
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
        && (said("javascript python script execute executes run runs evaluate typescript")
            || said("code") && !said("authorization item product country currency account error status")
            || parameter.is_one_of("script, javascript"))
    {
        return Some(Signal::Code);
    }
    let url_name = parameter.mentions("url urls endpoint hostname webhook href")
        || parameter.ends_in("host link domain")
        || parameter.is_named("uri") && said("http https url");
    if url_name && parameter.depth < 3 && !parameter.ends_in("id name arn identifier") {
        return Some(Signal::Url);
    }
    // A working copy, and no path in a repository.
    if parameter.is_one_of(CHECKOUTS) && !said("github gitlab bitbucket remote") {
        return Some(Signal::Path);
    }
    let path_name = parameter.is_one_of(PATHS)
        || parameter.ends_in("path directory dir folder filepath filename file") && !parameter.ends_in("folder");
    let elsewhere = said("repository repo s3 jsonpath url bucket xpath iam api")
        || parameter.mentions("s3 json url uri key id content repo prefix api xpath webhook");
    let local = said("local absolute directory disk filesystem file")
        || parameter.mentions("file filename filepath directory dir local output workspace");
    if path_name && !elsewhere && (local || parameter.is_one_of(PATHS)) && !phrase("the file content") {
        return Some(Signal::Path);
    }
    None
}

const CREDENTIALS: &str = "aws profile, profile, profile name, role, role arn, api key, access key, access token, token, secret, \
    password, credentials, auth token, kube context, context, service account, user google email, username, \
    account email, connection string, credential arn, data access role arn, execution role arn, bearer token, \
    private key, secret key, api token";

/// What stands above the single object, and what it is called by.
const TENANTS: &str = "organization organisation org tenant tenancy workspace account subscription enterprise";
const HANDLES: &str = "id ids sid gid uuid guid slug name key number identifier";

/// Whose account is no tenant: one in a bank, or another object that happens to be called so.
const OTHER_ACCOUNTS: &str = "bank storage service email mail bucket user inventory payment social ledger chart savings asset revenue \
    cosmos automation batch from to";

/// Whether an argument chooses the account, organisation or tenant above the object that the tool is about.
fn chooses_tenant(parameter: &Parameter, reading: &Reading, names: &[String]) -> bool {
    let kind = parameter.is_text() || matches!(parameter.kind, "integer" | "array");
    if !kind || !parameter.values.is_empty() || parameter.mentions(OTHER_ACCOUNTS) {
        return false;
    }
    let words = &parameter.words;
    let said = |list: &str| parameter.said.iter().any(|word| words::is_one(word, list));
    if parameter.is_one_of("repo owner, repository owner") {
        return true;
    }
    if parameter.is_named("owner") {
        let beside = |other: &Parameter| other.depth == parameter.depth && other.is_one_of("repo, repository, repo name");
        return said("repo repository organization") || reading.parameters.iter().any(beside);
    }
    if words.ends_with(&["owner".into(), "id".into()]) {
        return words.len() > 2 || said("account organization tenant");
    }
    let handled = words.len() > 1 && words.last().is_some_and(|last| words::is_one(last, HANDLES));
    let Some(noun) = words[..words.len() - usize::from(handled)].last().map(|noun| words::singular(noun)) else { return false };
    // `get_workspace`, but not `get_tags_for_workspace`: what it is about is no tenant of it.
    let is_object = names.last().is_some_and(|last| words::singular(last) == noun)
        && !names.iter().rev().nth(1).is_some_and(|before| words::is_one(before, "for in of from"));
    if !words::is_one(&noun, TENANTS) || is_object {
        return false;
    }
    match noun.as_str() {
        // Elsewhere than there it is something that is delivered or paid for.
        "subscription" => {
            let azure = |words: &[String]| words.iter().any(|word| word == "azure");
            azure(&parameter.said) || azure(&reading.server) || reading.sentences.iter().take(4).any(|one| azure(&one.words))
        }
        "account" => said("aws azure gcp cloud") || !further::is_about_money(reading),
        "workspace" => !said("path directory folder prometheus"),
        _ => true,
    }
}

const PATHS: &str = "path, paths, file path, filepath, file, directory, dir, folder path, cwd, working directory, repo path, \
    workspace dir, output path, output dir, output directory, save path, local path, source path, \
    destination path, input file path, file paths, filename, filenames, root, output file";

const CHECKOUTS: &str = "repo path, repository path, repo dir, project path, project root, project directory, workspace path, \
    root path, project dir, root dir, root directory";

/// Arguments by which others get access, or lose it.
const EXPOSURE: &str = "publicly accessible, make public, public, permissions boundary, inline policy, authentication strategy, \
    authentication type, auth mode, publish auth modes, subscribe auth modes, security groups, permissions, roles, grants, acl, \
    access level, share with, allowed ips, is public, public access";

const MOST_FOR_ONE: usize = 6;

/// A statement whose language is told by the tool and not by the argument; a program whose effect is.
fn of_statement(parameter: &Parameter, reading: &Reading, names: &[String]) -> Option<Signal> {
    if parameter.depth > 0
        || !parameter.values.is_empty()
        || names.iter().any(|name| words::is_one(name, "docs documentation search"))
    {
        return None;
    }
    let languages = "sql gremlin cypher opencypher cql mql trql graphql";
    let leading = reading.sentences.iter().take(2).flat_map(|sentence| &sentence.words);
    let speaks = |list: &str| leading.clone().chain(names).any(|word| words::is_one(word, list));
    if parameter.is_text() && parameter.is_one_of("query, statement, sql, sql query") && speaks(languages) {
        return Some(Signal::Sql);
    }
    if parameter.is_text() && parameter.is_named("command") && speaks("valkey redis mongo mongodb") {
        return Some(Signal::Sql);
    }
    let said = |list: &str| parameter.said.iter().any(|word| words::is_one(word, list));
    let commands = names.iter().any(|name| words::is_one(name, "command commands shell exec bash terminal cmd ssh process"));
    if parameter.is_text()
        && parameter.is_one_of("command, cmd, commands")
        && !said("id palette identifier")
        && (commands || speaks("terminal shell bash powershell cmd linux"))
    {
        return Some(Signal::Shell);
    }
    let effective = parameter.is_one_of("manifest, manifests, yaml content, template body, resource yaml, manifest yaml")
        || parameter.mentions("handlers handler resolver") && parameter.mentions("code");
    (effective && speaks("create creates apply applies deploy deploys update updates")).then_some(Signal::Code)
}

/// Text that is run or put into effect by a tool which does so, whatever the argument is called.
fn of_program(parameter: &Parameter, reading: &Reading, names: &[String]) -> bool {
    let deploys = names.iter().any(|name| name == "deploy");
    let leading = reading.sentences.iter().take(2).flat_map(|sentence| &sentence.words);
    let is_of_platform = || leading.clone().chain(names).any(|word| words::is_one(word, PLATFORMS));
    let said = |list: &str| parameter.said.iter().any(|word| words::is_one(word, list));
    // Files that are deployed with what stands in them.
    let is_file = parameter.path.contains("iles.items.") || parameter.path.contains("ources.items.");
    if parameter.is_text() && parameter.is_one_of("content, contents") && is_file && deploys {
        return true;
    }
    if parameter.depth > 1 || !parameter.values.is_empty() || parameter.ends_in(NO_PROGRAM) || said("path filename") {
        return false;
    }
    let is_text = parameter.is_text();
    is_text && parameter.is_one_of(PROGRAMS)
        || is_text && said(LANGUAGES) && said("code script program source expression snippet body")
        || parameter.kind != "boolean"
            && (parameter.is_one_of(DEFINITIONS) && said(PUT_INTO_EFFECT)
                || parameter.is_one_of("body, resource definition, yaml, manifest, spec") && is_of_platform())
}

/// What puts definitions of resources into effect.
const PLATFORMS: &str = "kubernetes k8s kubectl terraform cloudformation helm";

const PROGRAMS: &str = "js code, javascript code, python script, bash script, shell script, init script, startup script, user data, \
    function code, function body, handler code, script content, script source, script body, code snippet, lua script, lua, \
    worker code, worker script, page function, dockerfile, dockerfile content, buildspec, code content, source code, \
    playbook, manifest, manifests, applescript, workflow yaml, pipeline yaml, compose yaml, template body";
const LANGUAGES: &str = "javascript typescript python lua ruby bash powershell applescript groovy";
const DEFINITIONS: &str = "body, yaml, template, config content, pipeline config, pipeline, pipeline definition, workflow definition, \
    definition, compose file, docker compose, terraform code, hcl, spec, resource, resources, resource definition, content, config";
const PUT_INTO_EFFECT: &str = "manifest manifests terraform cloudformation pipeline playbook kubernetes compose helm bicep";

/// What names a program and is none.
const NO_PROGRAM: &str =
    "path file filename url uri id name type language runtime version arn title description status format args";

/// From where to where a file goes, in a tool that moves or copies files.
fn of_ends(parameter: &Parameter, names: &[String]) -> Option<Signal> {
    let of_files = names.iter().any(|name| words::is_one(name, "file files directory folder"));
    let is_end = parameter.depth == 0 && parameter.is_text() && parameter.is_one_of("source, destination, src, dst");
    (of_files && is_end).then_some(Signal::Path)
}

/// Arguments beside which a path is one in a repository or a bucket.
const REMOTE: &str = "repo, repository, branch, ref, project id, bucket, bucket name, repo id, owner, space id";

/// What says that the result may hold a secret, and where.
fn returned_secret(reading: &Reading, main: Option<Sense>, names: &[String]) -> Option<(&'static str, String)> {
    let has = |list: &str| names.iter().any(|name| words::is_one(name, list));
    let phrase = |list: &str| words::phrases(list).any(|phrase| words::has_phrase(names, phrase));
    // Of what is bought and sold as a token there is nothing to hide; documentation is about secrets, and holds none.
    let tokens = "token tokens";
    let traded = reading.says_any(TRADED).is_some() || has("price prices balance balances holders usage count limit design");
    if has("documentation docs doc search sections guide") {
        return None;
    }
    let kept = has("secret secrets password passwords credential credentials env kubeconfig") || has("keys") && !has(KEYED);
    let looks = kept || has(tokens) && !traded || phrase(SECRET_NAMES);
    let is_about_it = has("metadata info type types name names provider status count usage validate check verify policy expiry");
    let is_redacted = reading.sentences.iter().any(|sentence| {
        let is_about_them = sentence.words.iter().any(|word| words::is_one(&words::singular(word), KEPT_BACK));
        let is_about_them = is_about_them || sentence.words.iter().any(|word| word.contains("secret"));
        is_about_them && words::phrases(REDACTED).any(|phrase| sentence.has(phrase))
    });
    let by_name = match main {
        _ if is_redacted => false,
        Some(Sense::Look) => looks && !is_about_it && reading.says_any(ONLY_NAMES).is_none(),
        Some(Sense::Make | Sense::Generate | Sense::Change | Sense::Reset) => {
            let mints = has("create generate regenerate rotate reset issue mint provision");
            let anew = has("generate regenerate rotate reset") && has("secret password");
            mints
                && (anew || has("credential credentials") || has(tokens) && !traded || phrase(MINTED))
                && !has("webhooks design")
        }
        Some(Sense::Access) => phrase("assume role") || has("exchange") && has(tokens) && !traded,
        _ => false,
    };
    if by_name {
        return Some(("name", reading.name.clone()));
    }
    let is_given = |output: &&Parameter| output.is_text() && output.is_one_of(GIVEN_SECRETS);
    if let Some(output) = reading.outputs.iter().find(is_given).filter(|_| !is_redacted) {
        return Some(("outputSchema", output.name.clone()));
    }
    // `hide_password`, `include_secrets`: by whether they come back.
    let reveals = |parameter: &&Parameter| {
        parameter.kind == "boolean"
            && parameter.mentions("hide mask redact reveal show include decrypt decryption with")
            && (parameter.mentions("password passwords secret secrets credentials decryption") || parameter.is_named("decrypt"))
    };
    if let Some(parameter) = reading.parameters.iter().find(reveals) {
        return Some(("inputSchema", parameter.name.clone()));
    }
    if let Some(parameter) = any_kind(reading, names).filter(|_| matches!(main, Some(Sense::Look | Sense::Manage))) {
        return Some(("inputSchema", parameter.name.clone()));
    }
    if is_redacted || !matches!(main, Some(Sense::Look | Sense::Make | Sense::Generate | Sense::Access)) {
        return None;
    }
    let leading = reading.sentences.iter().take(14).enumerate();
    let gives = |(at, sentence): &(usize, &super::words::Sentence)| gives_secret(&sentence.words, *at == 0);
    if let Some((_, sentence)) = leading.clone().find(gives) {
        return Some(("description", clauses::quote(&sentence.text)));
    }
    // Of any kind that the caller names: secrets are among them.
    let of_secrets = |parameter: &&Parameter| {
        let lists = |words: &[String]| words.iter().any(|word| matches!(word.as_str(), "secret" | "secrets"));
        parameter.is_one_of("resource type, kind, resource, resource types, resource kind")
            && (lists(&parameter.said) || parameter.values.iter().any(|value| lists(&[value.to_lowercase()])))
    };
    let parameter = reading.parameters.iter().find(of_secrets).filter(|_| main == Some(Sense::Look))?;
    Some(("inputSchema", parameter.name.clone()))
}

/// The argument that names any kind of resource of a cluster; secrets are one of them.
fn any_kind<'r>(reading: &'r Reading, names: &[String]) -> Option<&'r Parameter> {
    let leading = reading.sentences.iter().take(2).flat_map(|sentence| &sentence.words);
    let of_cluster = leading.chain(names).any(|word| words::is_one(word, "kubernetes k8s kubectl"));
    // Of these only what is about them comes back.
    let tells_about =
        names.iter().any(|name| words::is_one(name, "describe explain logs log events api versions top scale rollout list"));
    let is_kind = |parameter: &&Parameter| {
        parameter.depth == 0
            && parameter.values.is_empty()
            && parameter.is_text()
            && parameter.is_one_of("resource type, kind, resource kind")
    };
    reading.parameters.iter().find(is_kind).filter(|_| of_cluster && !tells_about)
}

/// Whether a sentence says that something secret is given: `returns the connection string`, but not `lists users with your API
/// key`.
fn gives_secret(words: &[String], leads: bool) -> bool {
    let is = |word: &String, list: &str| words::is_one(word, list);
    let denies = |word: &String| {
        is(
            word,
            "not never no without redacted masked hidden except excluding cannot doesn't obfuscated metadata provider validate",
        )
    };
    let gives = |word: &String| {
        is(word, "returns returned gets retrieves prints shows includes including reveals creates generates issues provides")
            || leads && is(word, "return get retrieve print show create generate")
    };
    words.iter().enumerate().filter(|(_, word)| gives(word)).any(|(at, _)| {
        let before = &words[at.saturating_sub(2)..at];
        let after = || words[at + 1..].iter().take(12);
        let given = after().take(9).take_while(|word| !is(word, "using with via by from requires about of"));
        let given: Vec<String> = given.cloned().collect();
        !before.iter().chain(after()).any(denies) && words::phrases(SECRETS).any(|phrase| words::has_phrase(&given, phrase))
    })
}

const SECRETS: &str = "connection string, connection strings, connection uri, connection url, environment variables, env vars, \
    api keys, api key, secret access key, temporary credentials, session token, access token, access tokens, refresh token, \
    client secret, private key, private keys, the token, presigned url, pre-signed url, signed url, kubeconfig, secret value, \
    secret values, config vars, access keys, access key, bearer token, auth token, webhook secret, webhook secrets, signing secret, \
    secret key, set-cookie, cookie and, headers including cookie, including cookie";
const SECRET_NAMES: &str = "connection string, connection uri, connection url, environment variables, env vars, env var, config vars, \
    api key, api keys, access key, access keys, private key, stream key, encryption key";
/// What a result is said to hold, by these names.
const GIVEN_SECRETS: &str = "password, secret, client secret, api key, access token, refresh token, id token, private key, secret key, \
    secret access key, session token, secret value, connection string, webhook secret, signing secret, credentials, passphrase";
const MINTED: &str = "api key, api keys, access key, access keys, private key, service key, client secret, webhook secret, signing secret, \
    key pair, signed url, presigned url";
/// Stores and texts whose entries are found by keys.
const KEYED: &str =
    "kv cache redis scan object objects translation translations partition primary foreign s3 localization attribute tag";
const ONLY_NAMES: &str = "names only, only names, secret names, key names, without values, not values, never returns, values are not, \
    metadata only, without revealing, values are never, not the values, not return";
const REDACTED: &str = "redacted, is masked, are masked, not returned, never returned, is not included, are not included";
/// Of what that must be said.
const KEPT_BACK: &str = "secret password passphrase token key credential value env variable";
const TRADED: &str = "blockchain, solana, ethereum, erc20, erc-20, wallet, token address, crypto, liquidity, market cap, llm, model context, \
    tokenizer, design tokens, design token";

/// Whether what a tool does in the main leaves something otherwise than it was.
fn alters(main: Option<Sense>) -> bool {
    use Sense::{Change, Delete, Label, Make, Put, Remove, Send};
    matches!(main, Some(Make | Change | Remove | Delete | Label | Put | Send))
}

/// What outsiders may have written.
const OF_OUTSIDERS: &str = "communication communications attachment attachments rows records inbox transcript extract files \
    output page web email gmail message messages comment comments issue issues ticket log logs file document documents search \
    news content scrape crawl tweet post posts thread query find history events review reviews article pull snapshot";

/// Of these only the names, the kinds or the maker's own words come back.
const OF_THE_MAKER: &str = "docs documentation doc groups group streams stream types rules rule places organizations projects \
    info quota schema schemas stop metadata count";

/// What says that the result may carry what outsiders wrote, where, and why it does.
fn untrusted(reading: &Reading, main: Option<Sense>, names: &[String]) -> Option<(&'static str, String, &'static str)> {
    if alters(main) || matches!(main, Some(Sense::Move | Sense::Post | Sense::Cancel)) {
        return None;
    }
    let has = |list: &str| names.iter().any(|name| words::is_one(name, list));
    if has(OF_OUTSIDERS) && !has(OF_THE_MAKER) {
        return Some(("name", reading.name.clone(), "the result may hold what outsiders wrote"));
    }
    let sentence = reading.says_any("untrusted data, untrusted content, untrusted input, external content")?;
    Some(("description", clauses::quote(&sentence.text), "the text says so"))
}

/// Whether an argument lists what is changed, and not what it is changed by.
fn is_of_many(parameter: &Parameter) -> bool {
    if parameter.kind == "boolean" {
        return parameter.is_one_of("many, multi, update many, delete many");
    }
    let parts = "steps step overlays tag keys options actions choices buttons conditions filters fields columns properties security \
        subnet include sort line lines inputs policy terminology data parallel content sources nodes names permissions providers \
        modes mappings parameters configuration";
    parameter.may_list
        && !parameter.mentions(parts)
        && (parameter.items == "object"
            || parameter.ends_in("id ids key arn arns url file statement statements email")
            || parameter.is_one_of("operations, requests, items, updates, entries, commands, urls, sql list, queries"))
}

/// `Create a new update (comment/post)`
fn speaks_of_comment(words: &[String]) -> bool {
    words.iter().take(9).any(|word| words::is_one(word, "comment comments"))
}

/// `Push multiple files`, but not `using multiple methods`.
fn speaks_of_many(words: &[String]) -> bool {
    let what = "methods ways types formats sources options approaches steps modes kinds strategies languages criteria operations";
    words.windows(2).take(8).any(|pair| pair[0] == "multiple" && !words::is_one(&pair[1], what))
}

/// The signals of a tool, each with what says so.
///
/// `delivers`: the class rests on something being sent or posted.
pub(super) fn all(
    reading: &Reading,
    main: Option<Sense>,
    class: RiskClass,
    delivers: bool,
    names: &[String],
) -> Vec<(Signal, Evidence)> {
    let is_change = class != RiskClass::Read;
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
    let is_remote = reading.parameters.iter().any(|parameter| parameter.depth == 0 && parameter.is_one_of(REMOTE));
    for parameter in &reading.parameters {
        let signal = of_parameter(parameter).filter(|signal| {
            // What is administered is not contacted.
            let is_zone = parameter.is_one_of("domain, domain name, hostname")
                && names.iter().any(|name| words::is_one(name, "domain domains dns zone zones record records"));
            // A path in a repository or a bucket.
            let is_remote_path = is_remote && parameter.is_one_of("path, paths, file path, filepath, file paths, filename");
            !(*signal == Signal::Url && is_zone || *signal == Signal::Path && is_remote_path)
        });
        let signal = signal.or_else(|| of_statement(parameter, reading, names)).or_else(|| of_ends(parameter, names));
        let runs = matches!(class, RiskClass::Execute | RiskClass::Destructive) || matches!(main, Some(Sense::Run));
        let signal = signal.or_else(|| chooses_tenant(parameter, reading, names).then_some(Signal::TenantSelector));
        let signal = signal.or_else(|| (runs && of_program(parameter, reading, names)).then_some(Signal::Code));
        // A program that is only looked at is a text.
        let signal = signal.filter(|signal| *signal != Signal::Code || is_change || matches!(main, Some(Sense::Run)));
        if let Some(signal) = signal {
            // One of the tool's own commands, with what that one takes beside it.
            let is_own = |other: &Parameter| other.depth == 0 && other.kind == "object" && other.is_named("parameters");
            if signal == Signal::Shell && parameter.is_named("command") && reading.parameters.iter().any(is_own) {
                continue;
            }
            add(signal, parameter.name.clone(), parameter.path.clone(), "what an argument is");
        }
        // Of what is made or changed, other things are told by their ids.
        let is_other = matches!(main, Some(Sense::Make | Sense::Change))
            && parameter.ends_in("id ids arn arns key email")
            && parameter
                .words
                .len()
                .checked_sub(2)
                .is_some_and(|at| !names.iter().any(|name| words::singular(name) == words::singular(&parameter.words[at])));
        if is_change && parameter.depth == 0 && is_of_many(parameter) && !is_other {
            add(Signal::Batch, parameter.name.clone(), parameter.path.clone(), "one call affects many");
        }
    }
    let has = |list: &str| names.iter().any(|name| words::is_one(name, list));
    let name = || reading.name.clone();
    // Of a batch that is deleted or stopped there is one.
    let is_object = names.last().is_some_and(|last| last == "batch") && matches!(main, Some(Sense::Delete | Sense::Remove));
    if is_change && has("batch bulk all many multi multiple") && !is_object {
        add(Signal::Batch, name(), "name".into(), "one call affects many");
    }
    let removes = matches!(main, Some(Sense::Delete | Sense::Remove));
    let of_all = |words: &[String]| removes && words.windows(2).take(4).any(|pair| pair[1] == "all" && pair[0] != "and");
    if let Some(sentence) =
        reading.sentences.first().filter(|sentence| is_change && (speaks_of_many(&sentence.words) || of_all(&sentence.words)))
    {
        add(Signal::Batch, clauses::quote(&sentence.text), "description".into(), "one call affects many");
    }
    let rights = "permission permissions policy policies role roles member members collaborator collaborators access invite share grant \
        grants revoke key token acl user sharing credential credentials auth authentication authorization firewall ingress allowlist \
        whitelist membership memberships invitation dsn";
    let access = has(rights) && !words::has_phrase(names, "access layer")
        || words::has_phrase(names, "security group")
        || words::has_phrase(names, "user group");
    if is_change
        && (matches!(main, Some(Sense::Access)) && (access || class == RiskClass::Write && !has("attach detach block unblock"))
            // `suspend_user`
            || class == RiskClass::Write && matches!(main, Some(Sense::Run)) && has("user users account accounts")
            || access && (alters(main) || matches!(main, Some(Sense::Generate | Sense::Manage))))
    {
        add(Signal::ChangesAccess, name(), "name".into(), "rights may change");
    }
    if is_change && reading.parameters.iter().any(|parameter| parameter.is_one_of(EXPOSURE)) {
        add(Signal::ChangesAccess, name(), "inputSchema".into(), "exposure may change");
    }
    if let Some((at, quote, why)) = untrusted(reading, main, names) {
        add(Signal::UntrustedContent, quote, at.into(), why);
    }
    if let Some((at, quote)) = returned_secret(reading, main, names) {
        add(Signal::ReturnsSecrets, quote, at.into(), "the result may hold secrets");
    }
    let sends = matches!(main, Some(Sense::Send | Sense::Post))
        || is_change && has("comment message email upload feedback reply note post") && !has("label labels")
        || matches!(main, Some(Sense::Make)) && has("issue ticket") && !has("type types field label to link")
        || matches!(main, Some(Sense::Make)) && reading.sentences.first().is_some_and(|first| speaks_of_comment(&first.words))
        || is_change && words::has_phrase(names, "push image")
        || delivers;
    if sends {
        add(Signal::SendsDataOut, name(), "name".into(), "text or files leave for others");
    }
    // A page that the caller names learns what its address says.
    let goes = has("navigate goto fetch scrape crawl extract browse visit") || words::has_phrase(names, "open url");
    if let Some(url) = reading.parameters.iter().find(|parameter| goes && of_parameter(parameter) == Some(Signal::Url)) {
        add(Signal::SendsDataOut, url.name.clone(), url.path.clone(), "the address goes to whom it names");
    }
    if let Some(sentence) =
        reading.says_any("uploads to s3, uploads the source, uploads the file, zips code").filter(|_| is_change)
    {
        add(Signal::SendsDataOut, clauses::quote(&sentence.text), "description".into(), "text or files leave for others");
    }
    if reading.top_level >= 10 {
        add(Signal::ManyParameters, format!("{} parameters", reading.top_level), "inputSchema".into(), "ten or more");
    }
    found.sort_by_key(|(signal, _)| *signal);
    found
}
