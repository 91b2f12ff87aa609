//! Of `init`.

use super::parse_timeout;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Put the servers of the MCP clients on this machine behind callgate
///
/// Finds the configurations of MCP clients, starts their servers once to see what each can do, and proposes a policy for each: every
/// tool is shown with its grade and with what becomes of it. A policy that is there already stays, and is what holds. After consent the configurations are changed so that the servers go through callgate; what they held is kept.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate init --dry-run
  callgate init --dry-run --show-policies
  callgate init --client cursor --client claude-code
  callgate init --undo")]
pub struct Init {
    /// Show what would be done, and do nothing
    #[arg(long, conflicts_with_all = ["undo", "yes"])]
    pub dry_run: bool,
    /// Put every changed configuration back as it was, byte for byte; policies stay
    #[arg(long, conflicts_with_all = ["yes", "client", "project"])]
    pub undo: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Print the policies too, whole
    #[arg(long, conflicts_with = "undo")]
    pub show_policies: bool,
    /// Only this client (`claude-desktop`, `cursor`, `vscode`, …); may be given several times
    #[arg(long, value_name = "CLIENT")]
    pub client: Vec<String>,
    /// The project whose configurations are looked at too; by default the current directory
    #[arg(long, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// How long each server may take to start and to list its tools
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = parse_timeout)]
    pub timeout: Duration,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
