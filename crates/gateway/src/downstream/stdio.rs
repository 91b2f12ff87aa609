//! A stdio client: one conversation, one message a line in both directions.

use crate::conversation::{Clients, Command, Conversation, questions};
use crate::enforcer::{Caller, Enforcer};
use crate::gate::Gate;
use crate::outbox::Outbox;
use crate::sink::Sink;
use crate::tools::{LiveTools, Schemas};
use crate::upstream::{Connection, Upstream};
use mcp::framing::Lines;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a client may send in one message.
pub(crate) const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// How long replies are waited for after the client has closed its side.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a child may take to end by itself once its input is closed.
const CHILD_PATIENCE: Duration = Duration::from_secs(3);

/// Stands between a stdio client and an upstream until one of them closes or `stop` is cancelled.
///
/// `reloaded` is told when another policy is in force. Gives the child's exit status, or 0 where there was no child.
///
/// # Errors
/// When the child cannot be started.
pub async fn run(
    enforcer: Arc<Enforcer>,
    upstream: Upstream,
    input: impl AsyncRead + Unpin + Send + 'static,
    output: impl AsyncWrite + Unpin + Send + 'static,
    mut reloaded: tokio::sync::watch::Receiver<u64>,
    stop: CancellationToken,
) -> io::Result<u8> {
    let (commands, heard) = mpsc::channel(256);
    let (ask, asked) = questions();
    let schemas = Schemas { tools: LiveTools::of(enforcer.definitions().clone()), ask };
    let Connection { link, inbound } = upstream.connect(&schemas, &Caller::local(None))?;
    let (outbox, writer) = Outbox::start(output);
    let session = format!("stdio-{}", std::process::id());
    let caller = Caller::local(Some(session));
    let gate = Gate {
        enforcer: enforcer.clone(),
        caller,
        schemas,
        over_http: upstream.is_http(),
        stateless: false,
        elicits: false,
        opens_urls: false,
    };
    let sink = Sink::Lines(outbox);
    let notices = commands.downgrade();
    tokio::spawn(async move {
        while reloaded.changed().await.is_ok() {
            let Some(commands) = notices.upgrade() else { return };
            let _ = commands.send(Command::ToolsChanged).await;
        }
    });
    let reader = tokio::spawn(read(input, commands, sink.clone()));
    let conversation = Conversation::new(gate, link, Clients::One).listening(sink);
    let link = conversation.run(heard, asked, inbound, stop.clone(), PATIENCE).await;
    reader.abort();
    // A server that has closed its output is ending; one that we stop is not waited for.
    let code = link.shut_down(if stop.is_cancelled() { Duration::ZERO } else { CHILD_PATIENCE }).await?;
    enforcer.settled().await;
    // All senders are gone now: what is queued is written out, unless the client has stopped reading.
    let _ = tokio::time::timeout(Duration::from_secs(2), writer).await;
    Ok(code)
}

async fn read(mut input: impl AsyncRead + Unpin, commands: mpsc::Sender<Command>, sink: Sink) {
    let mut lines = Lines::new(MAX_REQUEST_BYTES);
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let length = input.read(&mut buffer).await.unwrap_or(0);
        lines.push(&buffer[..length]);
        while let Some(line) = if length == 0 { lines.finish() } else { lines.next_line() } {
            let sink = sink.clone();
            let command = match line {
                Ok(bytes) => Command::Bytes { bytes, sink },
                Err(too_long) => Command::Refuse { why: too_long.to_string(), sink },
            };
            if commands.send(command).await.is_err() {
                return;
            }
        }
        if length == 0 {
            return;
        }
    }
}
