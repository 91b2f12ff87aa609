//! The servers behind what is measured: they read, answer at once, and do nothing else.

use crate::wire::Echo;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

/// Answers lines on standard input, for as long as there are any.
pub fn stdio(echo: &Echo) -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut waiting = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut out = Vec::new();
    loop {
        let length = input.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        waiting.extend_from_slice(&buffer[..length]);
        let mut done = 0;
        while let Some(end) = waiting[done..].iter().position(|byte| *byte == b'\n') {
            let before = out.len();
            echo.answer(&waiting[done..done + end], &mut out);
            if out.len() > before {
                out.push(b'\n');
            }
            done += end + 1;
        }
        waiting.drain(..done);
        output.write_all(&out)?;
        output.flush()?;
        out.clear();
    }
}

struct Connection {
    socket: TcpStream,
    read: Vec<u8>,
    write: Vec<u8>,
}

/// Serves HTTP until it is killed. Prints the address once it listens.
pub fn http(echo: &Echo, address: SocketAddr) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, Token(0), Interest::READABLE)?;
    println!("{}", listener.local_addr()?);
    let mut connections: HashMap<Token, Connection> = HashMap::new();
    let mut next = 1;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == Token(0) {
                while let Ok((mut socket, _)) = listener.accept() {
                    let _ = socket.set_nodelay(true);
                    let token = Token(next);
                    next += 1;
                    poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
                    connections.insert(token, Connection { socket, read: Vec::new(), write: Vec::new() });
                }
            } else if let Some(connection) = connections.get_mut(&event.token())
                && connection.go_on(echo).is_err()
            {
                connections.remove(&event.token());
            }
        }
    }
}

impl Connection {
    fn go_on(&mut self, echo: &Echo) -> io::Result<()> {
        read_all(&mut self.socket, &mut self.read)?;
        while let Some((head, end)) = whole(&self.read) {
            let mut body = Vec::new();
            let opened = echo.answer(&self.read[head..end], &mut body);
            let is_post = self.read.starts_with(b"POST");
            let status = match (is_post, body.is_empty()) {
                (false, _) => "405 Method Not Allowed",
                (true, true) => "202 Accepted",
                (true, false) => "200 OK",
            };
            let session = if opened { "mcp-session-id: 0123456789abcdef\r\n" } else { "" };
            write!(
                self.write,
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{session}content-length: {}\r\n\r\n",
                body.len()
            )?;
            self.write.extend_from_slice(&body);
            self.read.drain(..end);
        }
        write_all(&mut self.socket, &mut self.write)
    }
}

/// Reads what there is. A closed connection is an error.
pub fn read_all(socket: &mut TcpStream, into: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 64 * 1024];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                into.extend_from_slice(&buffer[..length]);
                // Less than there was room for: that was all of it.
                if length < buffer.len() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Writes what goes; what does not stays.
pub fn write_all(socket: &mut TcpStream, from: &mut Vec<u8>) -> io::Result<()> {
    while !from.is_empty() {
        match socket.write(from) {
            Ok(length) => drop(from.drain(..length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Where the body of the first whole message begins and ends, if there is one.
pub fn whole(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let mut length = 0;
    for line in bytes[..head].split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        if line[..colon].eq_ignore_ascii_case(b"content-length") {
            length = std::str::from_utf8(&line[colon + 1..]).ok()?.trim().parse().ok()?;
        }
    }
    (bytes.len() >= head + length).then_some((head, head + length))
}

/// Carries bytes between our standard streams and a child's, as the least that a process between two can do.
pub fn pipe(words: &[String]) -> io::Result<()> {
    let mut child = std::process::Command::new(&words[0])
        .args(&words[1..])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let (mut to, mut from) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        let mut input = io::stdin().lock();
        while let Ok(length @ 1..) = input.read(&mut buffer) {
            if to.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 64 * 1024];
    let mut output = std::fs::File::from(rustix::io::dup(io::stdout())?);
    while let length @ 1.. = from.read(&mut buffer)? {
        output.write_all(&buffer[..length])?;
    }
    child.wait().map(drop)
}
