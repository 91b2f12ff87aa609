//! Of `catalog`.

use super::{one_of, parse_listen, parse_timeout};
use catalogue::{Level, RiskClass, Signal};
use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Grade tools by what their definitions say, recommend policies, and keep a catalog of servers
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  callgate catalog classify --tools tools.json
  callgate catalog recommend --tools tools.json --profile strict > policy.yaml
  callgate catalog recommend --clients --output policies/
  callgate catalog build servers.yaml -o catalog.db
  callgate catalog search delete bucket --level critical")]
pub enum Catalog {
    Classify(Classify),
    Recommend(Recommend),
    Build(Build),
    Show(Show),
    Search(Search),
    Diff(CatalogDiff),
    Export(Export),
    Serve(ServeCatalog),
    #[command(hide = true)]
    Cell(CellArguments),
}

/// Write a catalog of servers: what they say of themselves, and how each of their tools is graded
///
/// The servers of a list (docs/catalog.md) are installed with the network, then each is started without one (unless the list says
/// that it needs it): in namespaces of its own, with a home of its own, for a limited time. One that does not start is recorded with the reason. A capture is what
/// a server answers to tools/list, `{"server": "…", "tools": […]}`, in a file of its own or one a line (.jsonl).
///
/// What the catalog knows already is passed over, so that an interrupted build goes on where it stopped. Exits with 1 when a
/// capture could not be read; the others are in the catalog all the same.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate catalog build servers.yaml -o catalog.db
  callgate catalog build --captures captures/ more.jsonl -o catalog.db")]
pub struct Build {
    /// The list of servers to ask: YAML
    #[arg(value_name = "LIST", required_unless_present = "captures")]
    pub list: Option<PathBuf>,
    /// Captured lists: files, or directories of them
    #[arg(long, value_name = "FILE|DIR", num_args = 1..)]
    pub captures: Vec<PathBuf>,
    /// The catalog; made where it is missing
    #[arg(short, long, value_name = "FILE", default_value = "catalog.db")]
    pub output: PathBuf,
    /// Where packages are installed, and kept for the next time; by default a directory that is removed in the end
    #[arg(long, value_name = "DIR", requires = "list")]
    pub work: Option<PathBuf>,
    /// How many servers are installed and asked at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
    /// Ask those again that have answered before
    #[arg(long, requires = "list")]
    pub again: bool,
    /// Start servers where the kernel offers no namespaces, with all that you may do; the catalog says so of each
    #[arg(long, requires = "list")]
    pub unisolated: bool,
    /// Print one JSON object in the end
    #[arg(long)]
    pub json: bool,
}

/// Run a server in the namespaces that it was started in; `build` calls this
#[derive(Debug, Args)]
pub struct CellArguments {
    /// An empty directory
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// What the server may read
    #[arg(long, value_name = "PATH")]
    pub read: Vec<PathBuf>,
    /// Whom it runs as
    #[arg(long, value_name = "UID")]
    pub user: Option<u32>,
    /// Only set limits
    #[arg(long)]
    pub unisolated: bool,
    /// It has the machine's network
    #[arg(long)]
    pub network: bool,
    /// The server
    #[arg(last = true, value_name = "COMMAND", required = true)]
    pub command: Vec<String>,
}

/// Which catalog is read.
#[derive(Debug, Args)]
pub struct CatalogArgument {
    /// The catalog
    #[arg(long = "catalog", value_name = "FILE", default_value = "catalog.db")]
    pub path: PathBuf,
}

/// Show what is in a catalog: its servers, one of them, or one tool
///
/// A server is named as the catalog lists it, with `@VERSION` for another than its newest. Characters that hide are made visible.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate catalog show
  callgate catalog show awslabs.aws-healthomics-mcp-server@0.0.37
  callgate catalog show awslabs.aws-healthomics-mcp-server/StartAHORun")]
pub struct Show {
    /// A server, or one of its tools; all servers by default
    #[arg(value_name = "SERVER[/TOOL]")]
    pub what: Option<String>,
    #[command(flatten)]
    pub catalog: CatalogArgument,
    #[command(flatten)]
    pub profile: ProfileArgument,
    /// Print one JSON object; without a server, one a line
    #[arg(long)]
    pub json: bool,
}

/// Find tools by words in their names, descriptions and parameters
///
/// Every word must be there; `creat*` is any word that begins so. Without words, everything that the filters let through.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate catalog search delete bucket
  callgate catalog search --class Financial
  callgate catalog search query --signal sql --level high --level critical --json")]
pub struct Search {
    /// The words
    #[arg(value_name = "TEXT")]
    pub text: Vec<String>,
    /// Of this class; may be repeated, for one of several
    #[arg(long, value_parser = one_of(RiskClass::ALL.map(|class| (class.name(), class)).to_vec()), ignore_case = true)]
    pub class: Vec<RiskClass>,
    /// Of this level; may be repeated, for one of several
    #[arg(long, value_parser = one_of(Level::ALL.map(|level| (level.name(), level)).to_vec()))]
    pub level: Vec<Level>,
    /// With this signal; may be repeated, for all of several
    #[arg(long, value_parser = one_of(Signal::ALL.map(|signal| (signal.name(), signal)).to_vec()))]
    pub signal: Vec<Signal>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    #[command(flatten)]
    pub catalog: CatalogArgument,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Show what has changed between two versions of a server, or between two catalogs
///
/// Changes by which more is possible than before are marked with `+`. With one server, its newest version is compared with the
/// one before. Exits with 1 when there are differences.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate catalog diff files
  callgate catalog diff files@1.9.0 files@1.10.0
  callgate catalog diff --since last-month.db
  callgate catalog diff --since last-month.db files --json")]
pub struct CatalogDiff {
    /// A server, and what it is compared with: OLD NEW
    #[arg(value_name = "SERVER", num_args = 0..=2, required_unless_present = "since")]
    pub servers: Vec<String>,
    /// Compare with this older catalog
    #[arg(long, value_name = "FILE")]
    pub since: Option<PathBuf>,
    #[command(flatten)]
    pub catalog: CatalogArgument,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Write what is in a catalog as JSON
///
/// A server is one object: a capture that `build --captures` takes, with the grades of its tools.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate catalog export --jsonl > all.jsonl
  callgate catalog export --facts --json > facts.json
  callgate catalog export --jsonl files shop")]
pub struct Export {
    /// Only these servers; the newest version of all by default
    #[arg(value_name = "SERVER")]
    pub servers: Vec<String>,
    /// Only what may be passed on of other people's servers: names, parameters, classes, digests
    #[arg(long)]
    pub facts: bool,
    /// One JSON array
    #[arg(long, conflicts_with = "jsonl", required_unless_present_any = ["jsonl", "html"])]
    pub json: bool,
    /// One JSON object a line
    #[arg(long)]
    pub jsonl: bool,
    /// Pages to look at, each with its twins in Markdown and JSON, below this directory, which must be empty or new
    #[arg(long, value_name = "DIR", conflicts_with_all = ["json", "jsonl", "facts", "servers"])]
    pub html: Option<PathBuf>,
    /// Where the pages will be, such as `https://example.org/catalog`: a `sitemap.xml` for search engines is written too
    #[arg(long, value_name = "URL", requires = "html")]
    pub base_url: Option<pages::Base>,
    #[command(flatten)]
    pub catalog: CatalogArgument,
}

/// Show a catalog in a browser: servers, tools, search, policies
///
/// Pages are plain HTML and need no script; each is there as `.json` and `.md` too. When it can be reached,
/// `callgate catalog on http://ADDR/` is printed to stderr. Only this machine may look.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate catalog serve
  callgate catalog serve --catalog catalog.db --listen 127.0.0.1:0")]
pub struct ServeCatalog {
    /// Where to listen, on this machine; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7430", value_parser = parse_listen)]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub catalog: CatalogArgument,
}

/// Say what each tool of a captured list may do at worst
///
/// Reads `{"server": "…", "tools": […]}`, as a server answers tools/list. The class is the worst that an argument can reach,
/// with the words that say so; nothing is asked of a model or a network.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate catalog classify --tools tools.json
  callgate catalog classify --tools tools.json --json | jq -r 'select(.risk == \"Destructive\").tool'")]
pub struct Classify {
    /// The captured tools/list
    #[arg(long, value_name = "TOOLS.json")]
    pub tools: PathBuf,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Write policies by the grades of tools: for a captured list, or for every server of the MCP clients on this machine
///
/// With --clients each server is started once, as its client would start it, and gets a file of its own below DIR, which is never
/// written over. What could not be asked is said, and makes the exit code 1; what a client does not use is passed over.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate catalog recommend --tools tools.json > policy.yaml
  callgate catalog recommend --tools tools.json --tool create_charge --format json
  callgate catalog recommend --clients --profile strict --output policies/")]
pub struct Recommend {
    /// The captured tools/list
    #[arg(long, value_name = "TOOLS.json", required_unless_present = "clients", conflicts_with = "clients")]
    pub tools: Option<PathBuf>,
    /// Only this tool, with all others refused; may be repeated
    #[arg(long = "tool", value_name = "NAME", conflicts_with = "clients")]
    pub only: Vec<String>,
    /// All servers in the configurations of MCP clients on this machine
    #[arg(long, requires = "output")]
    pub clients: bool,
    /// Only of this client (`claude-desktop`, `cursor`, `vscode`, …); may be given several times
    #[arg(long, value_name = "CLIENT", requires = "clients")]
    pub client: Vec<String>,
    /// The project whose configurations are looked at too; by default the current directory
    #[arg(long, value_name = "DIR", requires = "clients")]
    pub project: Option<PathBuf>,
    /// How long each server may take to start and to list its tools
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = parse_timeout, requires = "clients")]
    pub timeout: Duration,
    /// Where the policies of --clients go, one file for each server; made where it is missing
    #[arg(short, long, value_name = "DIR", requires = "clients")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub profile: ProfileArgument,
    /// YAML with the reasons in comments, or policy.json
    #[arg(long, value_name = "FORM", default_value = "yaml")]
    pub format: PolicyForm,
}

/// How careful a written policy is.
#[derive(Debug, Args)]
pub struct ProfileArgument {
    /// How careful the policy is: strict, recommended or permissive
    #[arg(long, value_name = "PROFILE", default_value = "recommended", value_parser = PossibleValuesParser::new(["strict", "recommended", "permissive"]))]
    profile: String,
}

impl ProfileArgument {
    /// The profile that was asked for.
    pub fn profile(&self) -> catalogue::Profile {
        match self.profile.as_str() {
            "strict" => catalogue::Profile::Strict,
            "permissive" => catalogue::Profile::Permissive,
            _ => catalogue::Profile::Recommended,
        }
    }
}

/// In which form a policy is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyForm {
    Yaml,
    Json,
}

impl PolicyForm {
    /// How files of this form are named.
    pub fn extension(self) -> &'static str {
        match self {
            PolicyForm::Yaml => "yaml",
            PolicyForm::Json => "json",
        }
    }
}
