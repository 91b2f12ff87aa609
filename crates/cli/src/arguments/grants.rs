//! Of `grants`.

use super::{StateArgument, parse_timeout};
use clap::Args;
use clap::Subcommand;
use std::path::PathBuf;
use std::time::Duration;

/// Say who may use the gateway of a configuration
///
/// Grants stand in the configuration, or are kept in the state: those are made, rotated and revoked here, and every gateway
/// on the state takes it up within a second. A grant of the configuration can be revoked here too.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  callgate grants create night-agent --principal agent:night --server files -c callgate.yaml
  callgate grants list -c callgate.yaml
  callgate grants rotate night-agent --overlap 1h -c callgate.yaml
  callgate grants revoke night-agent -c callgate.yaml")]
pub enum Grants {
    /// Make a grant; its token is printed, this once
    Create(Box<CreateGrant>),
    /// List the grants of the configuration and of the state
    List {
        #[command(flatten)]
        place: GrantsPlace,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// End grants, for good: in sessions already open and calls under way, too
    Revoke {
        /// Which
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        #[command(flatten)]
        place: GrantsPlace,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Give a grant another token; it is printed, this once
    Rotate {
        /// Which
        #[arg(value_name = "NAME")]
        name: String,
        /// How long the token before it stays good; without it, not at all
        #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
        overlap: Option<Duration>,
        #[command(flatten)]
        place: GrantsPlace,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Where grants are.
#[derive(Debug, Args)]
pub struct GrantsPlace {
    /// The configuration whose gateway they are for
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub state: StateArgument,
}

#[derive(Debug, Args)]
pub struct CreateGrant {
    /// Its name, in counters and records
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The person, agent or service that it is given to; by default the name
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,
    /// A server that it is for; may be given several times. By default all of the configuration
    #[arg(long, value_name = "NAME", alias = "servers", value_delimiter = ',')]
    pub server: Vec<String>,
    /// A tool that may be used, or a pattern; may be given several times. By default what the policies allow
    #[arg(long, value_name = "TOOL", alias = "tools", value_delimiter = ',')]
    pub tool: Vec<String>,
    /// A policy that must allow as well; may be given several times
    #[arg(long, value_name = "POLICY")]
    pub policy: Vec<PathBuf>,
    /// A limit on all its calls, such as `100/hour`; may be given several times
    #[arg(long, value_name = "LIMIT")]
    pub limit: Vec<String>,
    /// When it ends: a day, or a time such as `2027-01-01T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = parse_expiry)]
    pub expires: Option<String>,
    /// Something to find it by, `name=value`; may be given several times
    #[arg(long, value_name = "LABEL", value_parser = parse_label)]
    pub label: Vec<(String, String)>,
    /// Ask for approvals in its client, where that can be asked
    #[arg(long)]
    pub approve_in_client: bool,
    #[command(flatten)]
    pub place: GrantsPlace,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

fn parse_expiry(text: &str) -> Result<String, String> {
    let is_time = text.parse::<jiff::Timestamp>().is_ok() || text.parse::<jiff::civil::Date>().is_ok();
    is_time.then(|| text.to_owned()).ok_or_else(|| "expected a day, or a time such as `2027-01-01T12:00:00Z`".to_owned())
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| "expected `name=value`".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}
