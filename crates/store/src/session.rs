//! A connection to PostgreSQL, for one thread that waits.
//!
//! Whoever asks for something sets a moment until which it may take; everything has to be done by then. A connection on
//! which anything failed is not used again: what the server has done of it is not known.

use crate::address::ServerAddress;
use crate::error::Fault;
use crate::tls;
use crate::value::Value;
use rustls::pki_types::ServerName;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Socket, Statement};

/// An open connection.
pub(crate) struct Session {
    client: Client,
    statements: RefCell<HashMap<String, Statement>>,
    until: Cell<Instant>,
    // Last, so that it outlives what runs on it.
    runtime: Runtime,
}

impl Session {
    /// Connects.
    pub fn open(address: &ServerAddress, until: Instant) -> Result<Session, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Fault::Io("starting", error))?;
        let config = address.config();
        let client = runtime.block_on(by(until, async {
            let client = match address.tls() {
                false => {
                    let (client, connection) = config.connect(NoTls).await?;
                    tokio::spawn(connection);
                    client
                }
                true => {
                    let (client, connection) = config.connect(Tls(tls::client(address.roots())?)).await?;
                    tokio::spawn(connection);
                    client
                }
            };
            client.batch_execute(SETTINGS).await?;
            Ok(client)
        }))?;
        Ok(Session { client, statements: RefCell::default(), until: Cell::new(until), runtime })
    }

    /// Sets until when everything has to be done from now on.
    pub fn allow(&self, until: Instant) {
        self.until.set(until);
    }

    /// Whether the server has closed the connection, as far as is known.
    pub fn is_closed(&self) -> bool {
        // Only here the connection's own work goes on between calls.
        self.runtime.block_on(async {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        });
        self.client.is_closed()
    }

    /// Does what gives no rows; gives how many it has changed.
    pub fn execute(&self, text: &str, values: &[Value<'_>]) -> Result<u64, Fault> {
        let statement = self.statement(text)?;
        sendable(values)?;
        self.wait(async { Ok(self.client.execute_raw(&statement, values).await?) })
    }

    /// All rows of an answer.
    pub fn query(&self, text: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Fault> {
        let statement = self.statement(text)?;
        sendable(values)?;
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        self.wait(async { Ok(self.client.query(&statement, &values).await?) })
    }

    /// Does statements without placeholders, separated by `;`.
    pub fn batch(&self, text: &str) -> Result<(), Fault> {
        self.wait(async { Ok(self.client.batch_execute(text).await?) })
    }

    /// Prepares a statement, once. Its placeholders are `?1`, `?2`.
    pub fn statement(&self, text: &str) -> Result<Statement, Fault> {
        if let Some(statement) = self.statements.borrow().get(text) {
            return Ok(statement.clone());
        }
        let translated = text.replace('?', "$");
        let statement = self.wait(async { Ok(self.client.prepare(&translated).await?) })?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= MOST_STATEMENTS {
            statements.clear();
        }
        statements.insert(text.to_owned(), statement.clone());
        Ok(statement)
    }

    /// The client, for what is sent in one go: see [`Session::wait`].
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Waits for an answer, until the moment that was set.
    pub fn wait<T>(&self, future: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        self.runtime.block_on(by(self.until.get(), future))
    }
}

async fn by<T>(until: Instant, future: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout_at(until.into(), future).await.unwrap_or(Err(Fault::Slow))
}

/// A text with a zero byte cannot be kept, and must not spoil the work of others.
fn sendable(values: &[Value<'_>]) -> Result<(), Fault> {
    match values.iter().any(|value| matches!(value, Value::Text(text) if text.contains('\0'))) {
        true => Err(unkept()),
        false => Ok(()),
    }
}

/// What is said of a text that PostgreSQL cannot keep.
pub(crate) fn unkept() -> Fault {
    let problem = Fault::State("a name in it holds the character U+0000, which PostgreSQL cannot keep".to_owned());
    Fault::Refused(problem.at("this call"))
}

/// Times are bounded on the server as well, so that what a gateway has given up does not hold up others. A commit is on the
/// server's disk before it is answered, whatever the server's own setting: a restart must not forget what was counted.
const SETTINGS: &str = "SET application_name = 'callgate'; SET search_path = callgate; SET statement_timeout = 1500; \
    SET lock_timeout = 1400; SET idle_in_transaction_session_timeout = 3000; SET client_min_messages = warning; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
const MOST_STATEMENTS: usize = 200;

/// TLS by rustls. Channel binding is not offered; the certificate is verified instead.
struct Tls(Arc<rustls::ClientConfig>);

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = std::io::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, std::io::Error> {
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        Ok(Handshake(self.0.clone(), name))
    }
}

struct Handshake(Arc<rustls::ClientConfig>, ServerName<'static>);

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted, std::io::Error>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let Handshake(config, name) = self;
        Box::pin(async move { Ok(Encrypted(tokio_rustls::TlsConnector::from(config).connect(name, socket).await?)) })
    }
}

struct Encrypted(tokio_rustls::client::TlsStream<Socket>);

impl tokio_postgres::tls::TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
