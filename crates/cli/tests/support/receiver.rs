//! Somebody who is told things by HTTP: a collector, a receiver of webhooks. Takes everything.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was posted: the path and the body.
pub type Posted = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

pub struct Receiver {
    pub url: String,
    pub posted: Posted,
}

impl Receiver {
    pub fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let posted = Posted::default();
        let kept = posted.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let kept = kept.clone();
                std::thread::spawn(move || serve(connection, &kept));
            }
        });
        Receiver { url, posted }
    }

    pub fn bodies(&self, path: &str) -> Vec<Vec<u8>> {
        let posted = self.posted.lock().expect("no writer panics");
        posted.iter().filter(|(at, _)| at == path).map(|(_, body)| body.clone()).collect()
    }
}

fn serve(connection: TcpStream, kept: &Posted) {
    let mut reader = BufReader::new(connection);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a head");
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        let path = first.split(' ').nth(1).expect("a path").to_owned();
        kept.lock().expect("no reader panics").push((path, body));
        let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        if reader.get_mut().write_all(answer).is_err() {
            return;
        }
    }
}
