//! Of `authorizations`.

use super::GrantsPlace;
use clap::{Args, Subcommand};

/// See and end what users have authorised the gateway to do at servers
///
/// A server with `authorization: {flow: authorization_code}` is called by the authority of each user, who has given it in a
/// browser. What is kept of that lies sealed in the state. What is forgotten here is not used any more within a second, by any
/// gateway on the state; the authorization server is told where it takes tokens back.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  callgate authorizations list -c callgate.yaml
  callgate authorizations forget github person:ada -c callgate.yaml
  callgate authorizations invite github person:ada -c callgate.yaml")]
pub enum Authorizations {
    /// List who has authorised what
    List {
        #[command(flatten)]
        place: GrantsPlace,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Forget what a principal has authorised at a server
    Forget {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        place: GrantsPlace,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the address at which a principal authorises a server, good for a quarter of an hour: for that person alone
    Invite {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        place: GrantsPlace,
    },
}

/// Which authorisation.
#[derive(Debug, Args)]
pub struct Whose {
    /// The server
    #[arg(value_name = "SERVER")]
    pub server: String,
    /// Whose it is, as grants and records name them
    #[arg(value_name = "PRINCIPAL")]
    pub principal: String,
}
