//! Of `attacks`.

use super::ToolsArgument;
use catalogue::attacks::Control;
use clap::builder::TypedValueParser;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Documented attacks on MCP: what stops each, and the proof
///
/// Each is documented elsewhere, with its sources; each that a gateway can stop comes with a policy and with cases that are
/// played against this very program.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  callgate attacks list --class ssrf
  callgate attacks show fetch-mcp-ssrf
  callgate attacks test
  callgate attacks test --policy policy.yaml --tools tools.json")]
pub enum Attacks {
    List(ListAttacks),
    Show(ShowAttack),
    Test(TestAttacks),
}

/// List the attacks
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate attacks list --control pin
  callgate attacks list --json | jq -r 'select(.cves | length > 0).id'")]
pub struct ListAttacks {
    /// Only those of this class, such as `path-traversal`
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,
    /// Only those that this control stops; `none`: those that nothing here does
    #[arg(long, value_name = "CONTROL", value_parser = control())]
    pub control: Option<Control>,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Show one attack: what happened, what stops it, its policy and sources
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  callgate attacks show supabase-mcp-ticket-leak")]
pub struct ShowAttack {
    /// Its id
    pub id: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Play the attacks against callgate, or try your policy against them
///
/// Every case is played by a scripted client before a hostile server: with callgate in between, where it must not get through,
/// and without, where it must; a case that cannot fail shows nothing. All of it stays on this machine. With --policy, and --tools or
/// --lock, nothing is played: each attack that applies to one of the tools is judged by the policy, and what is missing is printed as a
/// policy. Exits with 4 where an attack gets through.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate attacks test
  callgate attacks test git-mcp-add-traversal rug-pull-silent-redefinition
  callgate attacks test --policy policy.yaml --tools tools.json
  callgate attacks test --policy policy.yaml --lock callgate.lock
  callgate attacks test --policy policy.yaml --policy missing.yaml --tools tools.json --json")]
pub struct TestAttacks {
    /// Only these attacks
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Try this policy instead; of several, all must allow a call, as those of a server and a grant
    #[arg(short, long, value_name = "POLICY", requires = "ToolsArgument")]
    pub policy: Vec<PathBuf>,
    #[command(flatten)]
    pub tools: ToolsArgument,
    /// How many cases are played at a time; as many as there are cores by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32), conflicts_with = "policy")]
    pub jobs: Option<u8>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

fn control() -> impl TypedValueParser<Value = Control> {
    super::one_of(
        Control::ALL
            .iter()
            .filter(|control| control.is_ours() || **control == Control::None)
            .map(|control| (control.name(), *control))
            .collect(),
    )
}
