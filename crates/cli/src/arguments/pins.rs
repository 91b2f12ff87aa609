//! Of `pin` and `diff`.

use super::{UpstreamArguments, parse_server, parse_timeout};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Write down what servers say of themselves, or accept what has changed
///
/// The lock file belongs in version control: `run`, `serve` and `diff` hold servers against it. Without --accept, what a
/// server says now takes the place of what was pinned of it. With --accept, only what is named does, from the server or file
/// that is given, else from what running gateways have seen and kept beside the lock file (FILE.pending).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate pin --server files -- npx -y @modelcontextprotocol/server-filesystem /srv/shared
  callgate pin -c callgate.yaml
  callgate pin --accept files/read_file
  callgate pin --accept files")]
pub struct Pin {
    /// Accept this: a server, or one of its tools or prompts as `SERVER/NAME`, or `SERVER/@instructions`; may be given several
    /// times
    #[arg(long, value_name = "WHAT")]
    pub accept: Vec<String>,
    #[command(flatten)]
    pub source: PinSource,
}

/// Show what has changed in what servers say of themselves
///
/// Compares with the lock file. Without a server or a file, what running gateways have seen and kept beside the lock file
/// (FILE.pending) is shown. Changes by which more is possible than before are marked with `+`. Exits with 1 when there are
/// differences.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate diff
  callgate diff --server files -- npx -y @modelcontextprotocol/server-filesystem /srv/shared
  callgate diff -c callgate.yaml --json")]
pub struct Diff {
    #[command(flatten)]
    pub source: PinSource,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Whose definitions, and where they are pinned.
#[derive(Debug, Args)]
pub struct PinSource {
    /// The lock file; by default `callgate.lock`, or the one that the configuration names
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// All servers of this configuration
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["tools", "upstream", "command"])]
    pub config: Option<PathBuf>,
    /// The server's name, [a-z0-9-]+; derived from the command or URL by default
    #[arg(long, value_name = "NAME", value_parser = parse_server)]
    pub server: Option<String>,
    /// A captured tools/list (JSON), which may hold `server`, `instructions` and `prompts` too
    #[arg(long, value_name = "TOOLS.json", conflicts_with_all = ["upstream", "command"])]
    pub tools: Option<PathBuf>,
    /// How long a server may take to start and to list what it has
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_timeout)]
    pub timeout: Duration,
    #[command(flatten)]
    pub upstream: UpstreamArguments,
}
