//! Of `replay` and `policy suggest`: what is made of recorded calls.

use super::{StateArgument, ToolsArgument};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Decide recorded calls again under another policy or configuration
///
/// Every recorded call is judged once more, in its order, with the policy's own counters and windows on the clock of the
/// records; what would have been decided otherwise is listed. Under the same policy that is nothing. Rules that look at
/// arguments need records that keep them (`--audit-args full` or `redacted`). What cannot be known is said. With -c the
/// policies are those that the configuration, with what the state keeps, has for the call's server and grant.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate replay --policy new.yaml --since 7d
  callgate replay -c new-callgate.yaml --since 7d --grant ci
  callgate replay --policy new.yaml --lock callgate.lock --json | jq '.differences[] | .tool'")]
pub struct Replay {
    /// The policy to try: YAML or JSON, in any dialect; may be given several times: all must allow then
    #[arg(short, long, value_name = "POLICY", required_unless_present = "config")]
    pub policy: Vec<PathBuf>,
    /// Or the configuration to try; its records are looked at unless --state names others, and its lock file
    #[arg(short, long, value_name = "FILE", conflicts_with = "policy")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub records: RecordsArguments,
    #[command(flatten)]
    pub tools: ToolsArgument,
    /// Exit with 1 when a decision would have been another one
    #[arg(long)]
    pub exit_code: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Which records are looked at.
#[derive(Debug, Args)]
pub struct RecordsArguments {
    /// At or after: `2026-01-15T10:30:00Z`, `2026-01-15`, or so long ago: `1h`, `7d`; all by default
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Before: a time like that of --since
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Of this server only
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// With this grant only
    #[arg(long, value_name = "NAME")]
    pub grant: Option<String>,
    #[command(flatten)]
    pub state: StateArgument,
}

/// Write policies
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  callgate policy suggest --from-audit --since 7d -o policy.yaml")]
pub enum Policy {
    /// Write the least policy that would have allowed what was recorded
    ///
    /// Lists the tools that were called, bounds their arguments by what was seen, and their pace by the busiest minute. It is a
    /// beginning: read it before you use it. It is tried on the same records before it is given out.
    #[command(after_help = "\
Examples:
  callgate policy suggest --from-audit --since 7d -o policy.yaml
  callgate policy suggest --from-audit --server files --include-denied")]
    Suggest(Suggest),
}

#[derive(Debug, Args)]
pub struct Suggest {
    /// From the records of calls; the only source there is
    #[arg(long, required = true)]
    pub from_audit: bool,
    #[command(flatten)]
    pub records: RecordsArguments,
    /// Allow what was denied as well: of a policy that was too strict, or in shadow mode
    #[arg(long)]
    pub include_denied: bool,
    /// Write the policy to this file, which must not exist yet; to stdout by default
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
