//! Downstreams: the clients that call us.

#[cfg(test)]
mod callers;
pub(crate) mod crossing;
pub(crate) mod door;
pub(crate) mod federated;
pub(crate) mod http;
pub(crate) mod listener;
pub(crate) mod proxy;
mod replay;
pub(crate) mod server;
pub(crate) mod sessions;
pub(crate) mod stdio;
mod stream;
