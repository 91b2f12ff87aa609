//! The command line: a contract that scripts of users rely on.

mod attacks;
mod authorizations;
mod catalog;
mod grants;
mod init;
mod inspect;
mod pins;
mod replay;

pub use attacks::{Attacks, ListAttacks, ShowAttack, TestAttacks};
pub use authorizations::{Authorizations, Whose};
pub use catalog::{
    Build, Catalog, CatalogDiff, CellArguments, Classify, Export, PolicyForm, ProfileArgument, Recommend, Search, ServeCatalog,
    Show,
};
pub use grants::{CreateGrant, Grants, GrantsPlace};
pub use init::Init;
pub use inspect::Inspect;
pub use pins::{Diff, Pin, PinSource};
pub use replay::{Policy, RecordsArguments, Replay, Suggest};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use gateway::{CertificateFiles, ClientAuthorities, ListenerFiles, UpstreamTls};
use policy::{Outcome, Reason};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use store::{ArgumentsMode, Durability, Phase, Retention};

/// Deterministic policy on every tool call that an AI agent makes.
#[derive(Debug, Parser)]
#[command(name = "callgate", version, max_term_width = 110, arg_required_else_help = true, after_help = OVERVIEW)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const OVERVIEW: &str = "\
Examples:
  callgate demo
  callgate scan -o policy.yaml -- npx -y @modelcontextprotocol/server-filesystem /srv/shared
  callgate run -p policy.yaml -- npx -y @modelcontextprotocol/server-filesystem /srv/shared
  callgate audit list --since 1h --outcome deny

Exit codes: 0 ok, 1 failure, 2 usage, 3 policy or configuration invalid,
4 the decision was deny or a test failed, 5 audit chain broken.
Logs go to stderr; CALLGATE_LOG sets their level (error, warn, info, debug).";

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Run),
    Serve(Box<Serve>),
    Check(Check),
    Explain(Explain),
    Simulate(Simulate),
    Test(Test),
    Replay(Replay),
    #[command(subcommand)]
    Policy(Policy),
    Scan(Scan),
    Pin(Pin),
    Diff(Diff),
    Inspect(Inspect),
    #[command(subcommand)]
    Catalog(Catalog),
    #[command(subcommand)]
    Attacks(Attacks),
    #[command(subcommand)]
    Audit(Audit),
    #[command(subcommand)]
    Approvals(Approvals),
    #[command(subcommand)]
    Grants(Grants),
    #[command(subcommand)]
    Authorizations(Authorizations),
    Status(Status),
    Init(Init),
    Demo(Demo),
    Completions(Completions),
    Man(Man),
    /// Print the OpenAPI document of the admin API
    #[command(hide = true)]
    Openapi,
    /// The server that `demo` stands before.
    #[command(hide = true)]
    DemoServer {
        /// Where its state is kept.
        state: PathBuf,
    },
    /// The server of a case of `attacks test`.
    #[command(hide = true)]
    AttackServer {
        /// The attack's id.
        attack: String,
        /// Which of its cases, from 0.
        case: usize,
        /// Where it notes what reaches it.
        log: PathBuf,
        /// Whether it listens on a port.
        #[arg(long)]
        http: bool,
    },
}

/// Stand before one MCP server: wrap a command, or bridge to a URL
///
/// The client speaks to callgate over stdin and stdout as it would to the server. With a command, the server is started as a
/// child, and its exit status becomes ours; with --upstream, callgate bridges to an HTTP server. The policy file is taken up
/// anew when it changes; a file with mistakes changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate run -p policy.yaml -- npx -y @modelcontextprotocol/server-filesystem /srv/shared
  callgate run -p policy.yaml --upstream https://api.githubcopilot.com/mcp/ --header \"Authorization: Bearer $TOKEN\"")]
pub struct Run {
    #[command(flatten)]
    pub policy: RunPolicyArgument,
    #[command(flatten)]
    pub upstream: UpstreamArguments,
    #[command(flatten)]
    pub eras: ErasArgument,
    #[command(flatten)]
    pub keeping: KeepingArguments,
}

#[derive(Debug, Args)]
pub struct RunPolicyArgument {
    /// The policy: YAML or JSON, in any dialect (`-c` means the same)
    #[arg(short, long, value_name = "POLICY", short_alias = 'c')]
    pub policy: PathBuf,
}

#[derive(Debug, Args)]
pub struct PolicyArgument {
    /// The policy: YAML or JSON, in any dialect
    #[arg(short, long, value_name = "POLICY")]
    pub policy: PathBuf,
}

/// Which server stands behind the gateway.
#[derive(Debug, Args)]
pub struct UpstreamArguments {
    /// An HTTP server, instead of a command
    #[arg(long, value_name = "URL", conflicts_with = "command")]
    pub upstream: Option<String>,
    /// A header for the HTTP server, `Name: value`, `Name: env:VARIABLE` or `Name: file:PATH`; may be given several times
    #[arg(long, value_name = "HEADER", requires = "upstream", conflicts_with = "command")]
    pub header: Vec<String>,
    #[command(flatten)]
    pub tls: UpstreamTlsArguments,
    /// The command that starts the server, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

impl UpstreamArguments {
    /// Whether no server is named.
    pub fn is_none(&self) -> bool {
        self.upstream.is_none() && self.command.is_empty()
    }
}

/// How an HTTPS server is told from an impostor, and who we are to it.
#[derive(Debug, Args)]
pub struct UpstreamTlsArguments {
    /// Believe the HTTPS server only by these authorities (PEM), instead of the system's
    #[arg(long, value_name = "FILE", requires = "upstream")]
    pub upstream_ca: Option<PathBuf>,
    /// The certificate that we show to the HTTPS server (PEM, the whole chain)
    #[arg(long, value_name = "FILE", requires_all = ["upstream", "upstream_key"])]
    pub upstream_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["upstream", "upstream_cert"])]
    pub upstream_key: Option<PathBuf>,
}

impl UpstreamTlsArguments {
    /// What they say of TLS.
    pub fn tls(&self) -> UpstreamTls {
        let certificate = certificate_files(self.upstream_cert.as_ref(), self.upstream_key.as_ref());
        UpstreamTls { authorities: self.upstream_ca.clone(), certificate }
    }
}

/// Both files, where both are named; one alone is a mistake that has been reported already.
fn certificate_files(certificate: Option<&PathBuf>, key: Option<&PathBuf>) -> Option<CertificateFiles> {
    let (certificate, key) = (certificate?.clone(), key?.clone());
    Some(CertificateFiles { certificate, key })
}

/// What happens where a client and the server speak different eras of the protocol.
#[derive(Debug, Args)]
pub struct ErasArgument {
    /// Whether to translate for a client whose era of the protocol the server does not speak
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub bridge_eras: BridgeWord,
}

/// When eras are bridged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BridgeWord {
    Auto,
    Never,
}

/// How the upstream is called, and where and how state is kept.
#[derive(Debug, Args)]
pub struct KeepingArguments {
    /// The server's name in counters and records, [a-z0-9-]+; derived from the command or URL by default
    #[arg(long, value_name = "NAME", value_parser = parse_server)]
    pub server: Option<String>,
    /// Give up a request over which the server has been silent for so long
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_timeout)]
    pub timeout: Duration,
    #[command(flatten)]
    pub state: StateArgument,
    /// Hold what the server says of itself against this lock file; what is not in it yet is pinned when it is first seen
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// How much of a call's arguments is kept in its records
    #[arg(long, value_name = "MODE", default_value = "hmac", value_parser = arguments_mode())]
    pub audit_args: ArgumentsMode,
    /// Where a call needs an approval, ask the user of the client too (elicitation); without it an agent's own client is never asked
    #[arg(long)]
    pub approve_in_client: bool,
    /// What a record survives before its call is forwarded: the end of the process, or a power failure too
    #[arg(long, value_name = "WHAT", default_value = "process")]
    pub durability: DurabilityWord,
    /// Remove audit records older than this, such as `90d`; without it, none
    #[arg(long, value_name = "SPAN", value_parser = parse_timeout)]
    pub keep_for: Option<Duration>,
    /// Remove the oldest audit records while the state takes more room than this, such as `500MB`; without it, none
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub keep_bytes: Option<u64>,
}

impl Serve {
    /// The certificate of the listener, if it has one, and those that it asks for.
    pub fn listener_files(&self) -> Option<ListenerFiles> {
        let certificate = certificate_files(self.tls_cert.as_ref(), self.tls_key.as_ref())?;
        let clients = self.tls_client_ca.clone().map(|authorities| ClientAuthorities { authorities, required: true });
        Some(ListenerFiles { certificate, clients })
    }
}

impl KeepingArguments {
    /// When audit records are removed, if ever.
    pub fn retention(&self) -> Option<Retention> {
        let retention = Retention { max_age: self.keep_for, max_bytes: self.keep_bytes };
        (retention != Retention::default()).then_some(retention)
    }
}

#[derive(Debug, Args)]
pub struct StateArgument {
    /// Where state is kept: `sqlite:PATH`, `postgres://…`, `redis://…` (counters only), `memory:`, or `env:NAME` for a variable
    /// that says so; by default `callgate.db` in the user's data directory
    // Read only when it is used: what is wrong with it must be said without the password that may stand in it.
    #[arg(long, value_name = "URL")]
    pub state: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DurabilityWord {
    Process,
    Power,
}

impl From<DurabilityWord> for Durability {
    fn from(word: DurabilityWord) -> Durability {
        match word {
            DurabilityWord::Process => Durability::Process,
            DurabilityWord::Power => Durability::Power,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IsolationWord {
    Session,
    Shared,
}

/// Listen for HTTP clients: before one upstream, or, with a configuration file, before many
///
/// The endpoint is /mcp; with -c that of each server is /mcp/<server>. When it can be reached, `callgate listening on http://ADDR/mcp` (or https) is printed to stderr.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate serve -p policy.yaml -- npx -y @modelcontextprotocol/server-filesystem /srv/shared
  callgate serve -p policy.yaml --listen 127.0.0.1:0 --upstream http://127.0.0.1:9000/mcp
  callgate serve -c callgate.yaml")]
pub struct Serve {
    /// The policy: YAML or JSON, in any dialect
    #[arg(short, long, value_name = "POLICY", required_unless_present = "config")]
    pub policy: Option<PathBuf>,
    /// A configuration file: many servers and many callers, instead of one of each
    #[arg(short, long, value_name = "FILE", exclusive = true)]
    pub config: Option<PathBuf>,
    /// Where to listen; port 0 picks a free one. Other addresses than this machine's own only with `--tls-client-ca`: there are
    /// no other credentials here
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7420", value_parser = parse_listen)]
    pub listen: SocketAddr,
    /// Where to listen for administrators: the admin API, with approvals, status and the audit log
    #[arg(long, value_name = "ADDR", requires = "admin_token", conflicts_with = "config")]
    pub admin: Option<SocketAddr>,
    /// The token of an administrator: `env:NAME` or `file:PATH`, or with a name, `alice=env:NAME`; may be given several times
    #[arg(long, value_name = "TOKEN", requires = "admin")]
    pub admin_token: Vec<String>,
    /// Serve HTTPS with this certificate (PEM, the whole chain); taken up anew when the file changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Let only clients in that show a certificate of these authorities (PEM); taken up anew when the file changes
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// A host name by which clients may call us, besides the address itself and localhost; may be given several times
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// An HTTP server, instead of a command
    #[arg(long, value_name = "URL", conflicts_with = "command")]
    pub upstream: Option<String>,
    /// A header for the HTTP server, `Name: value`, `Name: env:VARIABLE` or `Name: file:PATH`; may be given several times
    #[arg(long, value_name = "HEADER", requires = "upstream", conflicts_with = "command")]
    pub header: Vec<String>,
    #[command(flatten)]
    pub upstream_tls: UpstreamTlsArguments,
    /// A variable of our environment that the command gets besides PATH, HOME, LANG and TMPDIR; may be given several times
    #[arg(long, value_name = "NAME", requires = "command", conflicts_with = "upstream")]
    pub env: Vec<String>,
    /// How many children of the command may live at a time; past it, one that nobody uses makes room, or a session is refused
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "upstream")]
    pub max_children: u16,
    /// Whether sessions of the handshake era share a child, or have one each. Clients of the stateless era always share one
    #[arg(long, value_name = "WHAT", default_value = "session", conflicts_with = "upstream")]
    pub isolation: IsolationWord,
    #[command(flatten)]
    pub eras: ErasArgument,
    #[command(flatten)]
    pub keeping: KeepingArguments,
    /// The command that starts the server, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Validate policies, optionally against a server's real tools
///
/// Every mistake is reported, with its place and how to mend it. Warnings leave the exit code at 0, errors make it 3.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate check policies/*.yaml
  callgate check policy.yaml --tools tools.json --json

TOOLS.json is the result of a tools/list: {\"tools\": [...]}, with or without an envelope.")]
pub struct Check {
    /// The policies: YAML or JSON, in any dialect
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub tools: ToolsArgument,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct ToolsArgument {
    /// A captured tools/list (`callgate scan --json`), to judge names, arguments, `validate` and `risk` by
    #[arg(long, value_name = "TOOLS.json")]
    pub tools: Option<PathBuf>,
    /// A lock file, whose pinned tools are taken instead; of several servers in it, the tools of all
    #[arg(long, value_name = "FILE", conflicts_with = "tools")]
    pub lock: Option<PathBuf>,
}

impl ToolsArgument {
    /// Whether any tools were named.
    pub fn is_given(&self) -> bool {
        self.tools.is_some() || self.lock.is_some()
    }
}

/// Show one decision, with its steps
///
/// Counters start at zero and nothing is remembered. Exits with 4 when the decision is deny.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate explain -p policy.yaml --tool create_charge --args '{\"amount\": 400}'
  callgate explain -p policy.yaml --tool StartAHORun --tools tools.json --json
  callgate explain -p policy.yaml --method elicitation/create --mode url")]
pub struct Explain {
    #[command(flatten)]
    pub policy: PolicyArgument,
    /// The tool that is called
    #[arg(long, value_name = "NAME", required_unless_present = "method")]
    pub tool: Option<String>,
    /// Its arguments, a JSON object
    #[arg(long, value_name = "JSON")]
    pub args: Option<String>,
    /// Another method than a call: what a client sends (`resources/read`), or a server asks for (`roots/list`)
    #[arg(long, value_name = "METHOD", conflicts_with_all = ["tool", "args", "tools", "lock"])]
    pub method: Option<String>,
    /// The mode of an elicitation: `form` or `url`
    #[arg(long, value_name = "MODE", requires = "method")]
    pub mode: Option<String>,
    #[command(flatten)]
    pub tools: ToolsArgument,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Decide many calls on a simulated clock, counters in memory
///
/// Reads one JSON object a line: {"tool": "...", "arguments": {...}, "at": "2026-01-01T00:00:00Z", "grant": "...",
/// "principal": "...", "server": "...", "reply": "completed|tool_error|upstream_error|refused|lost"}; all but `tool` may be
/// left out. Prints one decision a line, as JSON. The clock begins now and stands still, except where `at` sets it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate simulate -p policy.yaml --calls calls.jsonl
  printf '{\"tool\":\"send_email\"}\\n%.0s' 1 2 3 | callgate simulate -p policy.yaml --calls -")]
pub struct Simulate {
    #[command(flatten)]
    pub policy: PolicyArgument,
    /// The calls: a file, or `-` for stdin
    #[arg(long, value_name = "FILE")]
    pub calls: PathBuf,
    #[command(flatten)]
    pub tools: ToolsArgument,
    /// Print JSON; the only form there is
    #[arg(long)]
    pub json: bool,
}

/// Run the tests of policies: Markdown with policies, calls and expected decisions
///
/// Prose is ignored; a ```policy block begins a policy with fresh counters, and each line of a ```calls block is a call and
/// what is expected of it; ```policy file=PATH takes the policy from a file beside this one. Of a directory, every .md file
/// is run. With --coverage, the rules are listed by which no example was denied, asked about or noted. Exits with 4 when an
/// expectation fails.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate test docs/policy
  callgate test limits.md --coverage

A test:
  ```policy
  tools: {send_email: {rules: [{name: three a day, rate_limit: 3/day}]}}
  ```
  ```calls
  send_email {\"to\": \"ada@example.org\"} x3   # allow
  send_email                                 # deny limit-reached rule=\"three a day\"
  @2026-01-16T00:00:00Z send_email           # allow
  ```")]
pub struct Test {
    /// Markdown files, or directories of them
    #[arg(value_name = "FILE|DIR", required = true)]
    pub places: Vec<PathBuf>,
    /// List the rules that no example has decided by
    #[arg(long)]
    pub coverage: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// List a server's tools, grade them, and write a policy for them
///
/// The policy treats every tool by what it may do at worst and refuses whatever is not listed; edit it before you use it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate scan -o policy.yaml -- npx -y @modelcontextprotocol/server-filesystem /srv/shared
  callgate scan --by-risk -o policy.yaml -- npx -y @modelcontextprotocol/server-memory
  callgate scan --upstream https://mcp.example.org/mcp --header \"Authorization: Bearer $TOKEN\" -o policy.yaml
  callgate scan --profile strict --format json -o policy.json -- npx -y @modelcontextprotocol/server-memory
  callgate scan --json -o tools.json -- npx -y @modelcontextprotocol/server-memory")]
pub struct Scan {
    /// Name no tool, but say what becomes of each class of risk: also of tools that the server gets later
    #[arg(long)]
    pub by_risk: bool,
    /// Write what the server says of itself, instead of a policy: the TOOLS.json that other commands read
    #[arg(long, conflicts_with_all = ["by_risk", "profile"])]
    pub json: bool,
    /// YAML with the reasons in comments, or policy.json
    #[arg(long, value_name = "FORM", default_value = "yaml", conflicts_with_all = ["by_risk", "json"])]
    pub format: PolicyForm,
    /// Write to this file, which must not exist yet; to stdout by default
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How long the server may take to start and to list its tools
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_timeout)]
    pub timeout: Duration,
    #[command(flatten)]
    pub profile: ProfileArgument,
    #[command(flatten)]
    pub upstream: UpstreamArguments,
}

/// Read and verify the audit log
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  callgate audit verify
  callgate audit list --since 1h --outcome deny
  callgate audit export --since 2026-01-01T00:00:00Z > january.jsonl")]
pub enum Audit {
    /// Check that no record was changed, removed or put in
    ///
    /// Works offline and changes nothing. Exits with 5 when the chain is broken, naming the first broken record; says what such
    /// a check cannot find.
    Verify {
        #[command(flatten)]
        state: StateArgument,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List records, oldest first
    #[command(after_help = "Example:\n  callgate audit list --since 7d --tool StartAHORun --reason limit-reached")]
    List {
        #[command(flatten)]
        filter: FilterArguments,
        /// Only the last so many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        #[command(flatten)]
        state: StateArgument,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show the records of one decision
    Show {
        /// The decision's id, as denials and lists name it, or a record's number
        id: String,
        #[command(flatten)]
        state: StateArgument,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show the last records, and those to come, until interrupted
    Tail {
        #[command(flatten)]
        filter: FilterArguments,
        /// Begin with the last so many
        #[arg(long, value_name = "N", default_value_t = 10)]
        limit: u64,
        #[command(flatten)]
        state: StateArgument,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Write records as JSON lines, each with its hash
    ///
    /// A line without its last member, `hash`, is the text that was hashed.
    Export {
        #[command(flatten)]
        filter: FilterArguments,
        #[command(flatten)]
        state: StateArgument,
        /// Print JSON; the only form there is
        #[arg(long)]
        json: bool,
    },
}

/// Which records are wanted: those that satisfy everything given.
#[derive(Debug, Args)]
pub struct FilterArguments {
    /// At or after: `2026-01-15T10:30:00Z`, `2026-01-15`, or so long ago: `1h`, `7d`
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Before: a time like that of --since
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Of this tool
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,
    /// With this outcome
    #[arg(long, value_parser = outcome())]
    pub outcome: Option<Outcome>,
    /// For this reason: `limit-reached`, `default-deny`, `malformed`, …
    #[arg(long, value_parser = reason(), hide_possible_values = true)]
    pub reason: Option<Reason>,
    /// Of this server
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// Of this phase
    #[arg(long, value_parser = phase())]
    pub phase: Option<Phase>,
}

/// See and answer calls that wait for a person
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  callgate approvals list
  callgate approvals approve k3n8x2p9q4r7")]
pub enum Approvals {
    /// List the calls that wait for an answer
    List {
        /// Those that were answered, spent or have expired as well
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        state: StateArgument,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show one, with its arguments; characters that hide are made visible
    Show(ApprovalArguments),
    /// Let the call be made, once
    Approve(AnswerArguments),
    /// Refuse the call, or take back an approval that was not used yet
    Deny(AnswerArguments),
}

#[derive(Debug, Args)]
pub struct ApprovalArguments {
    /// The approval's id
    pub id: String,
    #[command(flatten)]
    pub state: StateArgument,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct AnswerArguments {
    #[command(flatten)]
    pub approval: ApprovalArguments,
    /// Who answers, for policies that name approvers and for the record; by default you, as the system knows you
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// Show who is running, what was called and denied, and by which rules
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  callgate status\n  callgate status --since 1d --json")]
pub struct Status {
    /// Count calls at or after this time only: `2026-01-15T10:30:00Z`, or so long ago: `1h`, `7d`
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    #[command(flatten)]
    pub state: StateArgument,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Watch a policy at work: a small server, a policy before it, an agent that tries things
///
/// Needs no network and no account, changes nothing but a directory of its own under the system's temporary one, and takes a few
/// seconds.
#[derive(Debug, Args)]
pub struct Demo {}

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate completions bash > ~/.local/share/bash-completion/completions/callgate
  callgate completions zsh > ~/.zfunc/_callgate")]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Write the manual pages to a directory
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  callgate man ~/.local/share/man/man1")]
pub struct Man {
    /// The directory; made where it is missing
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

fn parse_server(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match !text.is_empty() && text.len() <= 64 && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("expected lower-case letters, digits and `-`, at most 64".to_owned()),
    }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let span = policy::parse_span(text).and_then(|span| Duration::try_from(span).ok());
    span.ok_or_else(|| "expected a time such as `60s` or `2m`".to_owned())
}

/// Bytes: `1000000`, `500MB`, `2GB`; K, M and G are powers of a thousand.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => Some(1),
        "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        _ => None,
    };
    let size = factor.and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor)).filter(|size| *size > 0);
    size.ok_or_else(|| "expected a size such as `500MB` or `2GB`".to_owned())
}

/// An address; `localhost:PORT` is 127.0.0.1.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let text = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    text.parse().map_err(|_| "expected an address and a port, such as `127.0.0.1:7420`".to_owned())
}

fn arguments_mode() -> impl TypedValueParser<Value = ArgumentsMode> {
    PossibleValuesParser::new(["drop", "hmac", "redacted", "full"]).try_map(|word| word.parse::<ArgumentsMode>())
}

fn outcome() -> impl TypedValueParser<Value = Outcome> {
    one_of([Outcome::Allow, Outcome::Ask, Outcome::Deny].map(|outcome| (outcome.as_str(), outcome)).to_vec())
}

fn reason() -> impl TypedValueParser<Value = Reason> {
    one_of(Reason::ALL.iter().map(|reason| (reason.as_str(), *reason)).collect())
}

fn phase() -> impl TypedValueParser<Value = Phase> {
    one_of([Phase::Decided, Phase::Finished, Phase::Refused, Phase::Admin].map(|phase| (phase.as_str(), phase)).to_vec())
}

/// One of these words, for the value beside it.
fn one_of<T: Copy + Send + Sync + 'static>(words: Vec<(&'static str, T)>) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words.iter().map(|(word, _)| *word).collect::<Vec<_>>()).try_map(move |given| {
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(&given)).map(|(_, value)| *value);
        found.ok_or_else(|| format!("unknown word `{given}`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn run_takes_its_policy_as_intercept_does() {
        for line in ["callgate run -p p.yaml -- cat -u", "callgate run -c p.yaml -- cat -u"] {
            let Command::Run(run) = parse(line).unwrap().command else { panic!("{line}") };
            assert_eq!(run.policy.policy, PathBuf::from("p.yaml"));
            assert_eq!(run.upstream.command, ["cat", "-u"]);
        }
    }

    #[test]
    fn records_are_kept_for_ever_unless_a_bound_is_named() {
        let retention = |more: &str| {
            let line = format!("callgate run -p p.yaml{more} -- cat");
            let Command::Run(run) = parse(&line).unwrap().command else { panic!("{line}") };
            run.keeping.retention()
        };
        assert_eq!(retention(""), None);
        let days = Some(Duration::from_secs(90 * 24 * 60 * 60));
        assert_eq!(retention(" --keep-for 90d"), Some(Retention { max_age: days, max_bytes: None }));
        assert_eq!(retention(" --keep-bytes 2GB"), Some(Retention { max_age: None, max_bytes: Some(2_000_000_000) }));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            "callgate run -- cat",
            "callgate run -p p.yaml --upstream http://h/ -- cat",
            "callgate run -p p.yaml --header a:b -- cat",
            "callgate run -p p.yaml --server Files -- cat",
            "callgate run -p p.yaml --audit-args some -- cat",
            "callgate run -p p.yaml --keep-for never -- cat",
            "callgate run -p p.yaml --keep-bytes 0 -- cat",
            "callgate serve -p p.yaml --listen nowhere -- cat",
            "callgate check",
            "callgate simulate -p p.yaml",
            "callgate audit list --outcome maybe",
            "callgate audit list --reason because",
            "callgate scan --timeout soon -- cat",
            "callgate grants create",
            "callgate grants revoke -c callgate.yaml",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
