//! The server on its standard streams.
//!
//! rmcp knows both eras and cannot be made to forget one. A server of the legacy era has never heard of `server/discover`,
//! where rmcp would answer with a modern error; one of the modern era refuses `initialize` and goes on, where rmcp ends. So
//! these lines are answered here.

use rmcp::ServiceExt;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

use crate::server::Everything;
use crate::shared::Eras;

/// Serves until the client closes its end.
///
/// # Errors
/// When the streams fail or the client does not speak the protocol.
pub async fn serve(server: Everything, eras: Eras) -> Result<(), String> {
    let (lines, inner) = tokio::io::duplex(64 * 1024);
    let relay = tokio::spawn(relay(lines, eras));
    let running = server.serve(tokio::io::split(inner)).await.map_err(|error| error.to_string())?;
    running.waiting().await.map_err(|error| error.to_string())?;
    relay.abort();
    Ok(())
}

async fn relay(lines: DuplexStream, eras: Eras) {
    let (mut from_server, mut to_server) = tokio::io::split(lines);
    let (said, mut heard) = tokio::sync::mpsc::channel::<Vec<u8>>(64);
    tokio::spawn(async move {
        let mut stdout = tokio::io::stdout();
        while let Some(bytes) = heard.recv().await {
            if stdout.write_all(&bytes).await.is_err() || stdout.flush().await.is_err() {
                return;
            }
        }
    });
    let replies = said.clone();
    tokio::spawn(async move {
        let mut lines = BufReader::new(&mut from_server);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
            if replies.send(std::mem::take(&mut line)).await.is_err() {
                return;
            }
        }
    });
    let mut stdin = BufReader::new(tokio::io::stdin());
    let mut line = Vec::new();
    while stdin.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
        let forwarded = match never_heard_of(&line, eras) {
            Some(answer) => said.send(answer).await.is_ok(),
            None => to_server.write_all(&line).await.is_ok(),
        };
        if !forwarded {
            return;
        }
        line.clear();
    }
    let _ = to_server.shutdown().await;
}

/// The answer of a server of one era to the opening of the other.
fn never_heard_of(line: &[u8], eras: Eras) -> Option<Vec<u8>> {
    let message: Value = serde_json::from_slice(line).ok()?;
    let error = match (eras, message["method"].as_str()?) {
        (Eras::Legacy, "server/discover") => json!({"code": -32601, "message": "Method not found"}),
        (Eras::Modern, "initialize") => {
            let data = json!({"supported": ["2026-07-28"], "requested": message["params"]["protocolVersion"]});
            json!({"code": -32022, "message": "Unsupported protocol version", "data": data})
        }
        _ => return None,
    };
    Some(format!("{}\n", json!({"jsonrpc": "2.0", "id": message["id"], "error": error})).into_bytes())
}
