//! The conformance suite of the protocol, directly and through callgate.
//!
//! What counts is not that scenarios pass through the gateway, but that nothing about them changes: every way through is
//! compared, check by check, with what the same suite finds without a gateway. Where a way cannot but change something,
//! `tests/conformance/exceptions.json` says so with a reason; what is listed and does not change is a finding too.

mod compare;
mod kit;
mod processes;
mod table;

use std::path::Path;
use std::thread;

use crate::workspace::Workspace;
use compare::{Exceptions, Results};
use kit::Kit;
use processes::Running;

/// What is run.
#[derive(Default)]
pub struct Options<'o> {
    /// Only this revision of the protocol.
    pub requirements: Option<&'o str>,
    /// Only the ways whose name holds this; what they are compared with is run all the same.
    pub only: Option<&'o str>,
    /// Write the table of docs/verification.md instead of checking it.
    pub write: bool,
}

/// The revisions that the suite has a set of requirements for.
const REVISIONS: &[&str] = &["2025-11-25", "2026-07-28"];

/// A way from the suite to a server, or from a client to the suite.
struct Way {
    name: &'static str,
    /// For the table.
    says: &'static str,
    between: Between,
    /// Whether the server speaks only the era that the suite does not.
    bridges: bool,
}

/// What stands between the suite and the other end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    /// Nothing: what the others are compared with.
    Nothing,
    /// `callgate serve --upstream URL`.
    Serve,
    /// `callgate serve -- everything-server --stdio`.
    ServeStdio,
    /// `callgate serve -c`, at the endpoint of one of its servers; before it another that shows a grant's token, which the suite
    /// cannot.
    Configured,
    /// The same at the endpoint of all its servers; before it what takes their name off those of the tools again.
    Federated,
    /// A client, and what stands between it and the suite, in the words of `client.mjs`.
    Client(&'static str),
    /// The same, where the server wants access tokens.
    Authorized(&'static str),
    /// The same, where a user has to agree to that in a browser.
    Agreed,
    /// The same, where somebody else says who calls.
    Vouched,
}

const WAYS: &[Way] = &[
    way("direct", "the everything-server itself", Between::Nothing),
    way("serve", "`callgate serve --upstream URL`", Between::Serve),
    way("serve-stdio", "`callgate serve -- everything-server --stdio`", Between::ServeStdio),
    way("configured", "`callgate serve -c`, at `/mcp/<server>`, with a grant", Between::Configured),
    way("federated", "`callgate serve -c`, at `/mcp`, with a grant", Between::Federated),
    Way { bridges: true, ..way("bridge", "`callgate serve --upstream URL`, a server of the other era", Between::Serve) },
    Way {
        bridges: true,
        ..way("bridge-stdio", "`callgate serve -- everything-server --stdio`, of the other era", Between::ServeStdio)
    },
    way("client", "a client itself", Between::Client("direct")),
    way("client-serve", "a client, `callgate serve --upstream URL`", Between::Client("serve")),
    way("client-run", "a client, `callgate run --upstream URL`", Between::Client("run")),
    way("authorized", "a client that gets tokens itself", Between::Authorized("direct")),
    way("authorized-serve", "a client, `callgate serve -c` that gets tokens", Between::Authorized("configured")),
    way("authorized-user", "a client, `callgate serve -c` that its user authorises in a browser", Between::Agreed),
    way(
        "authorized-vouched",
        "a client, `callgate serve -c` that is told by an identity provider or a platform",
        Between::Vouched,
    ),
];

/// Ways of one kind are compared with one another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Server,
    Client,
    Authorized,
    /// These are compared with nothing.
    Judged,
}

const fn way(name: &'static str, says: &'static str, between: Between) -> Way {
    Way { name, says, between, bridges: false }
}

/// The client scenarios that a gateway can have a part in, by revision; the others are about authorization, or about what a
/// gateway does not do.
const CLIENT_SCENARIOS: &[(&str, &[&str])] = &[
    ("2025-11-25", &["initialize", "tools_call", "sse-retry", "json-schema-2020-12-preservation"]),
    (
        "2026-07-28",
        &[
            "tools_call",
            "request-metadata",
            "sep-2322-client-request-state",
            "json-schema-2020-12-preservation",
            "json-schema-ref-no-deref",
            "http-standard-headers",
            "http-custom-headers",
            "http-invalid-tool-headers",
        ],
    ),
];

/// Those in which the gateway gets an access token by itself; they belong to an extension, whatever the revision.
const AUTHORIZED_SCENARIOS: &[&str] = &["auth/client-credentials-basic", "auth/client-credentials-jwt"];

/// Those in which somebody else says who calls; of extensions, too, whatever the revision.
const VOUCHED_SCENARIOS: &[&str] = &["auth/enterprise-managed-authorization", "auth/wif-jwt-bearer"];

/// Those in which a user authorises the gateway, by revision. They are about nobody but the client of an authorization server,
/// which the gateway is: so they are compared with nothing, and every check must succeed.
const AGREED_SCENARIOS: &[(&str, &[&[&str]])] = &[
    (
        "2025-11-25",
        &[SINCE_2025_11_25, &["auth/2025-03-26-oauth-metadata-backcompat", "auth/2025-03-26-oauth-endpoint-fallback"]],
    ),
    ("2026-07-28", &[SINCE_2025_11_25, SINCE_2026_07_28]),
];

const SINCE_2025_11_25: &[&str] = &[
    "auth/metadata-default",
    "auth/metadata-var1",
    "auth/metadata-var2",
    "auth/metadata-var3",
    "auth/basic-cimd",
    "auth/scope-from-www-authenticate",
    "auth/scope-from-scopes-supported",
    "auth/scope-omitted-when-undefined",
    "auth/scope-step-up",
    "auth/scope-retry-limit",
    "auth/token-endpoint-auth-basic",
    "auth/token-endpoint-auth-post",
    "auth/token-endpoint-auth-none",
    "auth/pre-registration",
    "auth/dpop",
    "auth/dpop-nonce",
];

const SINCE_2026_07_28: &[&str] = &[
    "auth/resource-mismatch",
    "auth/offline-access-scope",
    "auth/offline-access-not-supported",
    "auth/authorization-server-migration",
    "auth/iss-supported",
    "auth/iss-not-advertised",
    "auth/iss-supported-missing",
    "auth/iss-wrong-issuer",
    "auth/iss-unexpected",
    "auth/iss-normalized",
    "auth/metadata-issuer-mismatch",
];

/// Runs the suite in all ways, or those that are asked for.
///
/// # Errors
/// What could not be run, every scenario that fails directly, every change that is not listed, every listed one that is
/// not there, and a table that is out of date.
pub fn run(workspace: &Workspace, options: &Options) -> Result<String, String> {
    let kit = Kit::ready(workspace)?;
    let mut exceptions = Exceptions::read(&workspace.root.join("tests/conformance/exceptions.json"))?;
    let revisions: Vec<&str> =
        REVISIONS.iter().copied().filter(|revision| options.requirements.is_none_or(|wanted| wanted == *revision)).collect();
    if revisions.is_empty() {
        return Err(format!("no such revision; there are {}", REVISIONS.join(" and ")));
    }
    let wanted = |way: &Way| options.only.is_none_or(|part| way.name.contains(part));
    if !WAYS.iter().any(wanted) {
        let names: Vec<&str> = WAYS.iter().map(|way| way.name).collect();
        return Err(format!("no way is called that; there are {}", names.join(", ")));
    }

    let mut report = Report::default();
    for revision in revisions {
        for side in [Side::Server, Side::Client, Side::Authorized] {
            let ways = || WAYS.iter().filter(|way| way.side() == side && way.is_for(revision));
            if ways().any(wanted) {
                report.compare(&kit, revision, ways().filter(|way| way.is_plain() || wanted(way)), &mut exceptions)?;
            }
        }
        for way in WAYS.iter().filter(|way| way.side() == Side::Judged && wanted(way)) {
            report.judge(&kit, revision, way, &mut exceptions)?;
        }
    }
    let page = workspace.root.join("docs/verification.md");
    report.findings.extend(table::hold(&page, &report.rows, options.write)?);
    if report.findings.is_empty() {
        let checks: usize = report.rows.iter().map(|row| row.checks).sum();
        return Ok(format!("conformance: {checks} checks in {} runs, as the suite finds them directly", report.rows.len()));
    }
    Err(format!("{} findings:\n  {}", report.findings.len(), report.findings.join("\n  ")))
}

/// What was found.
#[derive(Default)]
struct Report {
    findings: Vec<String>,
    rows: Vec<table::Row>,
}

impl Report {
    /// Runs ways of one kind, of which the first is the plain one, and compares the others with it.
    fn compare<'w>(
        &mut self,
        kit: &Kit,
        revision: &str,
        mut ways: impl Iterator<Item = &'w Way>,
        exceptions: &mut Exceptions,
    ) -> Result<(), String> {
        let plain = ways.next().filter(|way| way.is_plain()).ok_or("the ways of a kind begin with the plain one")?;
        let base = plain.run(kit, revision)?;
        self.findings.extend(base.failures(plain.name, revision));
        if plain.side() == Side::Server {
            self.findings.extend(kit.missing(revision, &base)?);
        }
        self.rows.push(table::Row::new(plain.name, plain.says, revision, &base, 0));
        for way in ways {
            self.hold(kit, revision, way, &|results| compare::changes(&base, results), exceptions)?;
        }
        Ok(())
    }

    /// Runs a way of which every check must succeed, and every scenario must be run, unless it is listed.
    fn judge(&mut self, kit: &Kit, revision: &str, way: &Way, exceptions: &mut Exceptions) -> Result<(), String> {
        if way.between == Between::Agreed {
            let mut run = agreed(revision);
            run.extend(AUTHORIZED_SCENARIOS.iter().chain(VOUCHED_SCENARIOS));
            let all = kit.about_authorization(revision)?;
            self.findings.extend(exceptions.unaccounted(way.name, revision, &all, &run));
        }
        self.hold(kit, revision, way, &compare::shortcomings, exceptions)
    }

    /// Runs a way; what `judge` finds wrong with it must be listed.
    fn hold(
        &mut self,
        kit: &Kit,
        revision: &str,
        way: &Way,
        judge: Judge<'_>,
        exceptions: &mut Exceptions,
    ) -> Result<(), String> {
        let results = way.run(kit, revision)?;
        let (results, changes) = settle(way, kit, revision, judge, results, exceptions)?;
        let (listed, unlisted) = exceptions.sort(way.name, revision, changes);
        self.rows.push(table::Row::new(way.name, way.says, revision, &results, listed));
        self.findings.extend(unlisted);
        self.findings.extend(exceptions.unused(way.name, revision));
        Ok(())
    }
}

/// What is wrong with results.
type Judge<'j> = &'j dyn Fn(&Results) -> Vec<compare::Change>;

/// Judges, and asks the suite again about each scenario that differs: some of its checks have less than a second for
/// what a busy machine takes longer for. What differs for a reason differs every time.
fn settle(
    way: &Way,
    kit: &Kit,
    revision: &str,
    judge: Judge<'_>,
    mut results: Results,
    exceptions: &Exceptions,
) -> Result<(Results, Vec<compare::Change>), String> {
    for attempt in 1..=AGAIN {
        let changes = judge(&results);
        let open: Vec<String> =
            exceptions.unlisted(way.name, revision, &changes).into_iter().map(|change| change.scenario.clone()).collect();
        if open.is_empty() {
            break;
        }
        println!("conformance: {} for {revision}: again, {attempt} of {AGAIN}: {}", way.name, open.join(", "));
        let mut once_more = way.run_only(kit, revision, &open)?;
        results.take(&mut once_more);
    }
    let changes = judge(&results);
    Ok((results, changes))
}

/// How often a scenario that differs is run again.
const AGAIN: usize = 2;

impl Way {
    fn side(&self) -> Side {
        match self.between {
            Between::Nothing | Between::Serve | Between::ServeStdio | Between::Configured | Between::Federated => Side::Server,
            Between::Client(_) => Side::Client,
            Between::Authorized(_) => Side::Authorized,
            Between::Agreed | Between::Vouched => Side::Judged,
        }
    }

    /// Of what does not depend on the revision, one is enough.
    fn is_for(&self, revision: &str) -> bool {
        self.side() != Side::Authorized || revision == REVISIONS[0]
    }

    /// Whether nothing stands between, so that others are compared with this.
    fn is_plain(&self) -> bool {
        matches!(self.between, Between::Nothing | Between::Client("direct") | Between::Authorized("direct"))
    }

    fn run(&self, kit: &Kit, revision: &str) -> Result<Results, String> {
        println!("conformance: {} for {revision}", self.name);
        match self.between {
            Between::Client(between) => {
                let scenarios = CLIENT_SCENARIOS.iter().find(|(of, _)| *of == revision).map_or(&[][..], |(_, all)| all);
                clients(kit, revision, between, scenarios)
            }
            Between::Authorized(between) => authorized(kit, revision, between, AUTHORIZED_SCENARIOS),
            Between::Agreed => authorized(kit, revision, "agreed", &agreed(revision)),
            Between::Vouched => authorized(kit, revision, "vouched", VOUCHED_SCENARIOS),
            _ => {
                let (url, _running) = self.server(kit, revision)?;
                kit.required(&url, revision, &kit.results(self.name, revision))
            }
        }
    }

    fn run_only(&self, kit: &Kit, revision: &str, scenarios: &[String]) -> Result<Results, String> {
        let scenarios: Vec<&str> = scenarios.iter().map(String::as_str).collect();
        match self.between {
            Between::Client(between) => return clients(kit, revision, between, &scenarios),
            Between::Authorized(between) => return authorized(kit, revision, between, &scenarios),
            Between::Agreed => return authorized(kit, revision, "agreed", &scenarios),
            Between::Vouched => return authorized(kit, revision, "vouched", &scenarios),
            _ => {}
        }
        let (url, _running) = self.server(kit, revision)?;
        let mut all = Results::default();
        for scenario in scenarios {
            all.take(&mut kit.one(&url, revision, scenario, &kit.results(self.name, revision))?);
        }
        Ok(all)
    }

    /// The server that the suite is to ask, with everything that has to run for it.
    fn server(&self, kit: &Kit, revision: &str) -> Result<(String, Vec<Running>), String> {
        let eras = match (self.bridges, revision) {
            (false, _) => "both",
            (true, "2026-07-28") => "legacy",
            (true, _) => "modern",
        };
        match self.between {
            Between::Nothing => {
                let server = kit.everything(eras)?;
                Ok((server.url.clone(), vec![server]))
            }
            Between::Serve => {
                let server = kit.everything(eras)?;
                let gateway = kit.serve_before(&server.url)?;
                Ok((gateway.url.clone(), vec![gateway, server]))
            }
            Between::Configured => {
                let server = kit.everything(eras)?;
                let configured = kit.serve_configured(&server.url)?;
                let url = format!("{}/{}", configured.url, kit::SERVER);
                let gateway = kit.serve_with(&url, &["--header", kit::HEADER])?;
                Ok((gateway.url.clone(), vec![gateway, configured, server]))
            }
            Between::Federated => {
                let server = kit.everything(eras)?;
                let configured = kit.serve_configured(&server.url)?;
                let one = kit.as_one(&configured.url)?;
                Ok((one.url.clone(), vec![one, configured, server]))
            }
            Between::ServeStdio => {
                let gateway = kit.serve_of(eras)?;
                Ok((gateway.url.clone(), vec![gateway]))
            }
            Between::Client(_) | Between::Authorized(_) | Between::Agreed | Between::Vouched => {
                Err("a client has no server".to_owned())
            }
        }
    }
}

/// The scenarios of a revision in which a user authorises the gateway.
fn agreed(revision: &str) -> Vec<&'static str> {
    let of = AGREED_SCENARIOS.iter().filter(|(of, _)| *of == revision);
    of.flat_map(|(_, sets)| sets.iter().copied().flatten().copied()).collect()
}

/// Runs client scenarios of servers that want access tokens. They look at every request for one: how many there are is no
/// matter.
fn authorized(kit: &Kit, revision: &str, between: &str, scenarios: &[&str]) -> Result<Results, String> {
    let mut results = clients(kit, revision, between, scenarios)?;
    results.each_once();
    Ok(results)
}

/// Runs client scenarios, two at a time: they mostly wait.
fn clients(kit: &Kit, revision: &str, between: &str, scenarios: &[&str]) -> Result<Results, String> {
    let into = kit.results(&format!("client-{between}"), revision);
    let run = |scenarios: &[&str], into: &Path| -> Result<Results, String> {
        let mut all = Results::default();
        for scenario in scenarios {
            all.take(&mut kit.client(revision, between, scenario, into)?);
        }
        Ok(all)
    };
    let (first, second) = scenarios.split_at(scenarios.len() / 2);
    thread::scope(|scope| {
        let beside = scope.spawn(|| run(first, &into));
        let mut all = run(second, &into)?;
        let mut others = beside.join().map_err(|_| "running a client scenario panicked".to_owned())??;
        all.take(&mut others);
        Ok(all)
    })
}
