//! The protocol of Redis (RESP2), and a connection that waits no longer than it may.

use super::address::RedisAddress;
use crate::error::Fault;
use crate::tls;
use rustls::pki_types::ServerName;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Text(String),
    Number(i64),
    Nothing,
    Many(Vec<Reply>),
    /// It refuses; its words begin with a code.
    Refusal(String),
}

/// An open connection.
pub(crate) struct Connection {
    stream: BufReader<Stream>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

impl Connection {
    /// Connects and logs in.
    pub fn open(address: &RedisAddress, until: Instant) -> Result<Connection, Fault> {
        let unreachable = |error| Fault::Io("connecting", error);
        let places = (address.host.as_str(), address.port).to_socket_addrs().map_err(unreachable)?;
        let mut failure = std::io::Error::other("the host has no address");
        let mut socket = None;
        for place in places {
            match TcpStream::connect_timeout(&place, left(until)?) {
                Ok(connected) => {
                    socket = Some(connected);
                    break;
                }
                Err(error) => failure = error,
            }
        }
        let Some(socket) = socket else { return Err(unreachable(failure)) };
        socket.set_nodelay(true).map_err(unreachable)?;
        let stream = match address.tls {
            false => Stream::Plain(socket),
            true => {
                let name = ServerName::try_from(address.host.clone());
                let name = name.map_err(|_| Fault::State("its host is not a name that a certificate could have".to_owned()))?;
                let tls = rustls::ClientConnection::new(tls::client(address.roots.as_deref())?, name);
                let tls = tls.map_err(|error| Fault::State(format!("TLS cannot be used: {error}")))?;
                Stream::Tls(Box::new(rustls::StreamOwned::new(tls, socket)))
            }
        };
        let mut connection = Connection { stream: BufReader::new(stream) };
        let mut greeting: Vec<Vec<&str>> = Vec::new();
        match (&address.user, address.password()) {
            (Some(user), Some(password)) => greeting.push(vec!["AUTH", user, password]),
            (None, Some(password)) => greeting.push(vec!["AUTH", password]),
            (_, None) => {}
        }
        let database = address.database.to_string();
        if address.database > 0 {
            greeting.push(vec!["SELECT", &database]);
        }
        for command in greeting {
            connection.ask(&command, until)?;
        }
        Ok(connection)
    }

    /// Asks one thing; a refusal is a fault.
    pub fn ask(&mut self, words: &[&str], until: Instant) -> Result<Reply, Fault> {
        let mut command = Vec::new();
        write_command(&mut command, words);
        match self.send(&command, 1, until)?.pop() {
            Some(Reply::Refusal(words)) => Err(refused(&words)),
            reply => Ok(reply.unwrap_or(Reply::Nothing)),
        }
    }

    /// Sends commands in one go, and reads the answers to all of them.
    pub fn send(&mut self, commands: &[u8], count: usize, until: Instant) -> Result<Vec<Reply>, Fault> {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => Fault::Slow,
            _ => Fault::Io("talking to it", error),
        };
        let socket = self.stream.get_ref().socket();
        socket.set_write_timeout(Some(left(until)?)).map_err(failed)?;
        let stream = self.stream.get_mut();
        stream.write_all(commands).and_then(|()| stream.flush()).map_err(failed)?;
        let mut replies = Vec::with_capacity(count);
        for _ in 0..count {
            if self.stream.buffer().is_empty() {
                self.stream.get_ref().socket().set_read_timeout(Some(left(until)?)).map_err(failed)?;
            }
            replies.push(self.read(0, until).map_err(failed)?);
        }
        Ok(replies)
    }

    fn read(&mut self, depth: usize, until: Instant) -> std::io::Result<Reply> {
        let spoilt = || std::io::Error::new(std::io::ErrorKind::InvalidData, "what it says is not the protocol of Redis");
        if Instant::now() >= until {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        let mut line = Vec::new();
        (&mut self.stream).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok()).ok_or_else(spoilt)?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(spoilt)?;
        let number = || rest.parse::<i64>().map_err(|_| spoilt());
        Ok(match kind {
            "+" => Reply::Text(rest.to_owned()),
            "-" => Reply::Refusal(rest.to_owned()),
            ":" => Reply::Number(number()?),
            "$" => match usize::try_from(number()?) {
                Err(_) => Reply::Nothing,
                Ok(length) if length <= LONGEST_TEXT => {
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Reply::Text(String::from_utf8_lossy(&bytes).into_owned())
                }
                Ok(_) => return Err(spoilt()),
            },
            "*" => match usize::try_from(number()?) {
                Err(_) => Reply::Nothing,
                Ok(count) if count <= MOST_ITEMS && depth < 4 => {
                    Reply::Many((0..count).map(|_| self.read(depth + 1, until)).collect::<Result<_, _>>()?)
                }
                Ok(_) => return Err(spoilt()),
            },
            _ => return Err(spoilt()),
        })
    }
}

impl Reply {
    pub fn text(&self) -> Option<&str> {
        match self {
            Reply::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Many(items) => items,
            _ => &[],
        }
    }
}

/// Appends a command.
pub(crate) fn write_command<T: AsRef<[u8]>>(out: &mut Vec<u8>, words: &[T]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// What a refusal means.
pub(crate) fn refused(words: &str) -> Fault {
    let code = words.split(' ').next().unwrap_or_default();
    Fault::State(match code {
        "NOAUTH" | "WRONGPASS" => "it does not accept this user and password".to_owned(),
        "NOPERM" => "the user may not do what is needed: EVALSHA, SCRIPT LOAD, INFO and the keys `callgate:*`".to_owned(),
        "LOADING" => "it is starting".to_owned(),
        "READONLY" => "it is a replica; name the primary".to_owned(),
        "OOM" => "it is out of memory; raise `maxmemory`".to_owned(),
        "MISCONF" => "it cannot write to its disk".to_owned(),
        "BUSY" => "a script of somebody else's keeps it busy".to_owned(),
        // Its other words may repeat what was sent.
        code => format!("it refuses with `{}`", code.chars().filter(char::is_ascii_alphanumeric).take(20).collect::<String>()),
    })
}

fn left(until: Instant) -> Result<Duration, Fault> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(Fault::Slow) } else { Ok(left) }
}

const LONGEST_LINE: u64 = 64 << 10;
const LONGEST_TEXT: usize = 1 << 20;
const MOST_ITEMS: usize = 1 << 20;
