//! The load generators: closed loop (the next call when the last one is answered) and open loop (calls at their times).
//!
//! In the open loop the time of a call counts from when it was due, not from when there was a connection free to send it: a
//! peer that stalls is charged for the calls that it kept waiting (Tene's "coordinated omission").

use crate::echo::{read_all, whole, write_all};
use crate::peers::Peer;
use crate::wire::{Era, FIRST_ID, HANDSHAKE, Site, Template, What, answered, line, post, post_handshake};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::process::{ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

/// What one run has measured.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Of each call, in nanoseconds, sorted.
    pub latencies: Vec<u64>,
    /// From the first call to the last answer.
    pub took: Duration,
}

impl Run {
    fn of(mut latencies: Vec<u64>, took: Duration) -> Run {
        latencies.sort_unstable();
        Run { latencies, took }
    }

    /// The latency that so many of a hundred calls stay below, in microseconds.
    pub fn percentile(&self, percent: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
        let at = ((percent / 100.0) * last as f64).round() as usize;
        self.latencies.get(at).map_or(0.0, |nanos| *nanos as f64 / 1e3)
    }

    /// Calls a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }
}

/// When calls are made.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As soon as an earlier one is answered.
    Closed,
    /// So many a second.
    Open(f64),
}

/// How long a call may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connections to one HTTP peer, the handshake done.
pub struct HttpLoad {
    address: SocketAddr,
    poll: Poll,
    connections: Vec<Connection>,
    template: Template,
    next: u64,
}

struct Connection {
    socket: TcpStream,
    read: Vec<u8>,
    write: Vec<u8>,
    /// The call under way, and from when its time counts.
    call: Option<(u64, Instant)>,
}

impl Connection {
    fn open(address: SocketAddr, number: usize, poll: &Poll) -> io::Result<Connection> {
        let socket = std::net::TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut socket = TcpStream::from_std(socket);
        poll.registry().register(&mut socket, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Connection { socket, read: Vec::new(), write: Vec::new(), call: None })
    }
}

impl HttpLoad {
    /// Opens so many connections to a peer, where it listens.
    pub fn connect(peer: &Peer, address: SocketAddr, era: Era, what: What, concurrency: usize) -> io::Result<HttpLoad> {
        let site = peer.site(address);
        let session = if era == Era::Legacy { handshake(address, &site)? } else { None };
        let poll = Poll::new()?;
        let mut connections = Vec::new();
        for number in 0..concurrency {
            connections.push(Connection::open(address, number, &poll)?);
        }
        Ok(HttpLoad { address, poll, connections, template: post(era, what, &site, session.as_deref()), next: FIRST_ID })
    }

    /// Makes `calls` calls.
    ///
    /// # Errors
    /// When a call fails, is denied, or is not answered in time.
    pub fn run(&mut self, calls: usize, pace: Pace) -> io::Result<Run> {
        // While others were measured this peer may have closed what was idle.
        for (number, connection) in self.connections.iter_mut().enumerate() {
            if read_all(&mut connection.socket, &mut connection.read).is_err() {
                *connection = Connection::open(self.address, number, &self.poll)?;
            }
        }
        let mut events = Events::with_capacity(256);
        let mut latencies = Vec::with_capacity(calls);
        let mut idle: VecDeque<usize> = (0..self.connections.len()).collect();
        let (mut sent, start) = (0usize, Instant::now());
        while latencies.len() < calls {
            let mut timeout = PATIENCE;
            while let Some(&free) = idle.front()
                && sent < calls
            {
                let now = Instant::now();
                let from = match pace {
                    Pace::Closed => now,
                    Pace::Open(rate) => {
                        let due = start + Duration::from_secs_f64(sent as f64 / rate);
                        if due > now {
                            timeout = due - now;
                            break;
                        }
                        due
                    }
                };
                idle.pop_front();
                let connection = &mut self.connections[free];
                self.template.write(self.next, &mut connection.write);
                connection.call = Some((self.next, from));
                self.next += 1;
                sent += 1;
                write_all(&mut connection.socket, &mut connection.write)?;
            }
            // The clock of `epoll_wait` ticks in milliseconds: what is nearer is waited for awake.
            let wait = if timeout < Duration::from_millis(2) { Duration::ZERO } else { timeout };
            self.poll.poll(&mut events, Some(wait))?;
            if events.is_empty() && timeout == PATIENCE {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "a call was not answered"));
            }
            for event in &events {
                let Token(number) = event.token();
                let connection = &mut self.connections[number];
                write_all(&mut connection.socket, &mut connection.write)?;
                read_all(&mut connection.socket, &mut connection.read)?;
                let Some((head, end)) = whole(&connection.read) else { continue };
                let Some((id, from)) = connection.call.take() else { return Err(unexpected(&connection.read)) };
                latencies.push(u64::try_from(from.elapsed().as_nanos()).unwrap_or(u64::MAX));
                if !connection.read.starts_with(b"HTTP/1.1 200") || answered(&connection.read[head..end]) != Some(id) {
                    return Err(unexpected(&connection.read));
                }
                connection.read.drain(..end);
                idle.push_back(number);
            }
        }
        Ok(Run::of(latencies, start.elapsed()))
    }
}

fn unexpected(said: &[u8]) -> io::Error {
    let shown = String::from_utf8_lossy(&said[..said.len().min(600)]).into_owned();
    io::Error::other(format!("an answer that was not expected: {shown}"))
}

fn handshake(address: SocketAddr, site: &Site) -> io::Result<Option<String>> {
    let mut socket = std::net::TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut session: Option<String> = None;
    for body in HANDSHAKE {
        socket.write_all(&post_handshake(site, body, session.as_deref()))?;
        let mut said = Vec::new();
        let mut buffer = [0; 8192];
        while whole(&said).is_none() {
            let length = socket.read(&mut buffer)?;
            if length == 0 {
                return Err(unexpected(&said));
            }
            said.extend_from_slice(&buffer[..length]);
        }
        if !said.starts_with(b"HTTP/1.1 20") {
            return Err(unexpected(&said));
        }
        let text = String::from_utf8_lossy(&said).into_owned();
        let id = text
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("mcp-session-id:").map(str::trim).map(String::from));
        session = session.or(id);
    }
    Ok(session)
}

/// A line to one stdio peer, the handshake done.
pub struct LineLoad {
    to: ChildStdin,
    from: ChildStdout,
    template: Template,
    read: Vec<u8>,
    next: u64,
}

impl LineLoad {
    /// Takes a peer's streams.
    pub fn start(to: ChildStdin, from: ChildStdout, era: Era) -> io::Result<LineLoad> {
        let mut load = LineLoad { to, from, template: line(era, What::Call), read: Vec::new(), next: FIRST_ID };
        if era == Era::Legacy {
            load.to.write_all(format!("{}\n", HANDSHAKE[0]).as_bytes())?;
            while !load.read.contains(&b'\n') {
                load.fill()?;
            }
            load.read.clear();
            load.to.write_all(format!("{}\n", HANDSHAKE[1]).as_bytes())?;
        }
        Ok(load)
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        match self.from.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.read.extend_from_slice(&buffer[..length]);
                Ok(())
            }
        }
    }

    /// Makes `calls` calls, `depth` of them at a time. What is answered at once is asked for anew at once.
    ///
    /// # Errors
    /// When a call fails, is denied, or the peer ends.
    pub fn run(&mut self, calls: usize, depth: usize) -> io::Result<Run> {
        let first = self.next;
        let mut began = vec![Instant::now(); calls];
        let mut latencies = Vec::with_capacity(calls);
        let (mut sent, start) = (0, Instant::now());
        let mut out = Vec::new();
        while latencies.len() < calls {
            let now = Instant::now();
            while sent < calls && sent - latencies.len() < depth {
                self.template.write(first + sent as u64, &mut out);
                began[sent] = now;
                sent += 1;
            }
            self.to.write_all(&out)?;
            out.clear();
            self.fill()?;
            let now = Instant::now();
            let mut done = 0;
            while let Some(end) = self.read[done..].iter().position(|byte| *byte == b'\n') {
                let text = &self.read[done..done + end];
                let call = answered(text).and_then(|id| usize::try_from(id.checked_sub(first)?).ok());
                let Some(began) = call.and_then(|call| began.get(call)) else { return Err(unexpected(text)) };
                latencies.push(u64::try_from(now.duration_since(*began).as_nanos()).unwrap_or(u64::MAX));
                done += end + 1;
            }
            self.read.drain(..done);
        }
        self.next = first + calls as u64;
        Ok(Run::of(latencies, start.elapsed()))
    }
}
