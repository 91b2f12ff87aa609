//! What the gateway says of itself, to servers and to clients.

use crate::revision::Revision;

/// What the gateway calls itself, as JSON: an `Implementation`.
pub const IMPLEMENTATION: &str = concat!(r#"{"name":"callgate","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// The `params`, as JSON, of an `initialize` in the gateway's own name. It offers nothing: what a server may ask of its client
/// belongs to a client.
pub fn initialize_params(revision: Revision) -> String {
    format!(r#"{{"protocolVersion":"{revision}","capabilities":{{}},"clientInfo":{IMPLEMENTATION}}}"#)
}
