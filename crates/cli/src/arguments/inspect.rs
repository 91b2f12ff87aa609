//! Of `inspect`.

use super::{UpstreamArguments, parse_timeout};
use clap::Args;
use clap::builder::PossibleValuesParser;
use std::path::PathBuf;
use std::time::Duration;

/// Look for poisoned or imitating definitions before a client connects
///
/// Reads what a server says of itself (instructions, tools, prompts), and tells what honest definitions have no use for:
/// orders to the model, text that hides, other servers' tools taken over, parameters for secrets. Several servers are held
/// against each other. Grades: A nothing, B remarks, C doubtful, D dangerous, F written to deceive. Exits with 1 when a grade is
/// as bad as --fail-on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate inspect -- npx -y @modelcontextprotocol/server-filesystem /srv/shared
  callgate inspect --tools tools.json --tools others.json --fail-on C
  callgate inspect --clients --fail-on-unseen --sarif > callgate.sarif")]
pub struct Inspect {
    /// A captured tools/list (JSON), which may hold `server`, `package`, `instructions` and `prompts` too; may be given several times
    #[arg(long, value_name = "TOOLS.json", conflicts_with_all = ["upstream", "command", "clients"])]
    pub tools: Vec<PathBuf>,
    /// All servers in the configurations of MCP clients on this machine
    #[arg(long, conflicts_with_all = ["upstream", "command"])]
    pub clients: bool,
    /// Only of this client (`claude-desktop`, `cursor`, `vscode`, …); may be given several times
    #[arg(long, value_name = "CLIENT", requires = "clients")]
    pub client: Vec<String>,
    /// The project whose configurations are looked at too; by default the current directory
    #[arg(long, value_name = "DIR", requires = "clients")]
    pub project: Option<PathBuf>,
    /// The grade from which on the exit code is 1
    #[arg(long, value_name = "GRADE", default_value = "D", ignore_case = true, value_parser = PossibleValuesParser::new(["B", "C", "D", "F"]))]
    pub fail_on: String,
    /// Exit with 1 also when a server that a client uses could not be inspected: what was not looked at has not been found good
    #[arg(long, requires = "clients")]
    pub fail_on_unseen: bool,
    /// How long each server may take to start and to list what it has
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_timeout)]
    pub timeout: Duration,
    /// Print one JSON object
    #[arg(long, conflicts_with = "sarif")]
    pub json: bool,
    /// Print a SARIF 2.1.0 log, for what shows the findings of scanners
    #[arg(long)]
    pub sarif: bool,
    #[command(flatten)]
    pub upstream: UpstreamArguments,
}
