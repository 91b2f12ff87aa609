//! Clients that are hostile, slow or strange: a clear answer, nothing forwarded, and nobody else harmed.
//!
//! Raw sockets against the real binary. `bystander` is another client that works meanwhile; whatever the others do, its call
//! passes.

mod support;

use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::http::{Client, exchange, open, response};
use support::{HttpUpstream, MODERN, PATIENCE, Scratch, Served, call, lenient, request, text_of, tools_run, until};

const OPEN: &str = "version: \"1\"\ntools: {}\n";

struct Site {
    scratch: Scratch,
    gate: Served,
    _upstream: HttpUpstream,
}

impl Site {
    fn new() -> Site {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        let policy = scratch.policy(OPEN).display().to_string();
        let gate = Served::start(&["-p", &policy, "--state", &scratch.state(), "--upstream", &upstream.url()]);
        Site { scratch, gate, _upstream: upstream }
    }

    /// The request of a client that behaves, for a tool without arguments.
    fn post(&self, tool: &str) -> Vec<u8> {
        let client = Client::silent(&self.gate.address, MODERN);
        client.post(&client.headers("tools/call", Some(tool)), call(MODERN, "1", tool, json!({})).as_bytes())
    }

    /// The same with `more` header lines, another version or target, and so on.
    fn post_with(&self, tool: &str, change: impl Fn(String) -> String) -> Vec<u8> {
        change(String::from_utf8(self.post(tool)).expect("text")).into_bytes()
    }

    /// What the upstream has run, apart from bystanders' calls.
    fn ran(&self) -> Vec<String> {
        tools_run(&self.scratch.log()).into_iter().filter(|tool| tool != "read_file").collect()
    }

    #[track_caller]
    fn bystander(&self) {
        let begun = Instant::now();
        let reply = exchange(&self.gate.address, &self.post("read_file")).expect("an answer");
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

/// Header lines put in before the others.
fn with(lines: &'static str) -> impl Fn(String) -> String {
    move |text| text.replacen("\r\n", &format!("\r\n{lines}\r\n"), 1)
}

/// Another first line.
fn line(first: &'static str) -> impl Fn(String) -> String {
    move |text| text.replacen("POST /mcp HTTP/1.1", first, 1)
}

/// Sends `bytes`, and checks the status of the first answer (0: the connection ends without one), that no more than `runs` has
/// run, and that nobody else has come to harm.
#[track_caller]
fn check(site: &Site, what: &str, bytes: &[u8], statuses: &[u16], runs: &[&str]) {
    let before = site.ran().len();
    let reply = exchange(&site.gate.address, bytes);
    let status = reply.as_ref().map_or(0, |reply| reply.status);
    assert!(statuses.contains(&status), "{what}: {status}, not {statuses:?}: {reply:?}");
    site.bystander();
    assert_eq!(site.ran()[before..], *runs, "{what}");
}

#[test]
fn what_two_readers_would_take_for_different_requests_is_refused_or_read_as_one() {
    let site = Site::new();
    let smuggled = String::from_utf8(site.post("delete_repo")).expect("text");
    let (_, body) = smuggled.split_once("\r\n\r\n").expect("a head and a body");
    let host = format!("Host: {}", site.gate.address);
    let head = format!(
        "POST /mcp HTTP/1.1\r\n{host}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         MCP-Protocol-Version: {MODERN}\r\nMcp-Method: tools/call\r\nMcp-Name: delete_repo\r\n"
    );
    let sized = |lines: &str| format!("{head}{lines}\r\n\r\n{body}").into_bytes();
    let length = body.len();
    let refused = |what: &str, bytes: Vec<u8>| check(&site, what, &bytes, &[400, 501, 431, 413, 0], &[]);

    // Two lengths: the chunks end at once, and what follows is no second request.
    let after = format!("0\r\n\r\n{smuggled}");
    for lines in ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5"] {
        refused(lines, format!("{head}{lines}\r\n\r\n{after}").into_bytes());
        let whole = lines.replace('5', &after.len().to_string());
        refused(&whole, format!("{head}{whole}\r\n\r\n{after}").into_bytes());
    }
    for lines in [
        format!("Content-Length: {length}\r\nContent-Length: {}", length - 1),
        format!("Content-Length: {length}, {}", length - 1),
        format!("Content-Length: +{length}"),
        format!("Content-Length: 0x{length:x}"),
        format!("Content-Length: -{length}"),
        format!("Content-Length : {length}"),
        format!("Content-Length: {length}\r\n folded: yes"),
        format!(" Content-Length: {length}"),
        format!("Content-Length: {length}\r\nX-A: a\rb"),
        format!("Content-Length: {length}\r\nX-A: a\0b"),
        format!("Content-Length: {length}\r\nX\u{e4}: a"),
        "Content-Length: 18446744073709551616".to_owned(),
    ] {
        refused(&lines, sized(&lines));
    }
    let chunks = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let chunked = |lines: &str, chunks: &str| format!("{head}{lines}\r\n\r\n{chunks}").into_bytes();
    for coding in [
        "identity",
        "xchunked",
        "chunked, identity",
        "gzip, chunked",
        "gzip",
        "\x0bchunked",
        "chunked\r\nTransfer-Encoding: chunked",
    ] {
        refused(coding, chunked(&format!("Transfer-Encoding: {coding}"), &chunks));
    }
    let extension = format!("{length:x};{}\r\n{body}\r\n0\r\n\r\n", "x".repeat(1 << 20));
    for (what, chunks) in [
        ("an endless chunk extension", extension),
        ("a chunk length that overflows", format!("fffffffffffffffff{length:x}\r\n{body}\r\n0\r\n\r\n")),
        ("a negative chunk length", format!("-{length:x}\r\n{body}\r\n0\r\n\r\n")),
        ("a chunk that is longer than it says", format!("5\r\n{body}\r\n0\r\n\r\n")),
        ("chunks that never end", format!("{length:x}\r\n{body}\r\n")),
    ] {
        // The last is cut off by the test's own closing of the connection.
        if what != "chunks that never end" {
            refused(what, chunked("Transfer-Encoding: chunked", &chunks));
        }
    }
    // A trailer changes nothing about a head that has been judged.
    let trailer = format!("{length:x}\r\n{body}\r\n0\r\nMcp-Name: echo\r\nContent-Length: 3\r\n\r\n");
    check(&site, "a trailer", &chunked("Transfer-Encoding: chunked", &trailer), &[200, 400], &["delete_repo"]);
    // Lines that end with LF alone are read as lines, and as one request.
    let bare = String::from_utf8(sized(&format!("Content-Length: {length}"))).expect("text").replace("\r\n", "\n");
    check(&site, "bare LF", bare.as_bytes(), &[200], &["delete_repo"]);
    // The body of a request that was refused by its head is no request either.
    let inside = format!("{head}Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len());
    check(&site, "a request as the body of a refused one", inside.as_bytes(), &[415], &[]);
    let inside = format!("POST /nowhere HTTP/1.1\r\n{host}\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len());
    check(&site, "a request as the body of one to nowhere", inside.as_bytes(), &[404], &[]);
}

#[test]
fn heads_have_bounds() {
    let site = Site::new();
    let many = "X-Many: 1\r\n".repeat(150);
    let long = format!("X-Long: {}\r\n", "x".repeat(100_000));
    for (what, lines) in [("many headers", many), ("a long header", long)] {
        let bytes = site.post_with("echo", |text| text.replacen("Host:", &format!("{lines}Host:"), 1));
        check(&site, what, &bytes, &[431], &[]);
    }
    let target = format!("/mcp?{}", "x".repeat(70_000));
    let bytes = site.post_with("echo", |text| text.replacen("/mcp", &target, 1));
    check(&site, "a long target", &bytes, &[414, 431], &[]);
    check(&site, "a first line without end", "x".repeat(200_000).as_bytes(), &[400, 431, 0], &[]);
}

#[test]
fn a_header_that_decides_something_stands_once() {
    let site = Site::new();
    for lines in [
        "Host: evil.example",
        "Content-Type: application/json",
        "Content-Type: text/plain",
        "MCP-Protocol-Version: 2025-11-25",
        "Mcp-Method: tools/list",
        "Mcp-Name: read_file",
        "mcp-name: echo",
        "Authorization: Bearer a\r\nAuthorization: Bearer b",
        "Mcp-Session-Id: a\r\nMcp-Session-Id: b",
        "Last-Event-ID: a\r\nLast-Event-ID: b",
        "Origin: http://localhost\r\nOrigin: http://localhost",
    ] {
        check(&site, lines, &site.post_with("echo", with(lines)), &[400], &[]);
    }
}

#[test]
fn no_request_becomes_another_protocol_method_host_or_path() {
    let site = Site::new();
    for lines in ["Connection: Upgrade\r\nUpgrade: websocket", "Upgrade: TLS/1.3", "Upgrade: h2c\r\nUpgrade: websocket"] {
        check(&site, lines, &site.post_with("echo", with(lines)), &[400], &[]);
    }
    for lines in ["X-HTTP-Method-Override: DELETE", "X-HTTP-Method: GET", "X-Method-Override: PUT"] {
        check(&site, lines, &site.post_with("echo", with(lines)), &[400], &[]);
    }
    // What some clients offer with every request is ignored: it is answered as HTTP/1.1, and never by a 101.
    let h2c =
        site.post_with("echo", with("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"));
    check(&site, "h2c", &h2c, &[200], &["echo"]);
    check(&site, "HTTP/2 with prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400, 505, 0], &[]);
    for first in [
        "POST http://evil.example/mcp HTTP/1.1",
        "POST /mcp/../x HTTP/1.1",
        "POST /x/../mcp HTTP/1.1",
        "POST //mcp HTTP/1.1",
        "POST /mcp/ HTTP/1.1",
        "POST /mcp%2f HTTP/1.1",
        "POST /%6dcp HTTP/1.1",
        "POST /mcp%00 HTTP/1.1",
        "POST /MCP HTTP/1.1",
        "POST /mcp;a=b HTTP/1.1",
        "POST \\mcp HTTP/1.1",
        "POST mcp HTTP/1.1",
        "POST * HTTP/1.1",
        "CONNECT evil.example:80 HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "TRACE /mcp HTTP/1.1",
        "PUT /mcp HTTP/1.1",
        "post /mcp HTTP/1.1",
        "POST /mcp HTTP/2.0",
        "POST /mcp HTTP/1.2",
        "POST /mcp",
        "POST  /mcp HTTP/1.1",
        "POST /mcp  HTTP/1.1",
        "POST\t/mcp HTTP/1.1",
    ] {
        check(&site, first, &site.post_with("echo", line(first)), &[400, 403, 404, 405, 505, 0], &[]);
    }
    // An old version is a version; a query is nobody's.
    check(&site, "HTTP/1.0", &site.post_with("echo", line("POST /mcp HTTP/1.0")), &[200], &["echo"]);
    let no_host = site.post_with("echo", |text| {
        let host = format!("Host: {}\r\n", site.gate.address);
        text.replacen("HTTP/1.1", "HTTP/1.0", 1).replacen(&host, "", 1)
    });
    check(&site, "HTTP/1.0 without a host", &no_host, &[403], &[]);
    check(&site, "a query", &site.post_with("echo", line("POST /mcp?path=//evil.example HTTP/1.1")), &[200], &["echo"]);
}

#[test]
fn bodies_that_are_not_plain_utf8_json_of_a_sane_size_are_refused() {
    let site = Site::new();
    let client = Client::silent(&site.gate.address, MODERN);
    let headers = client.headers("tools/call", Some("echo"));
    let valid = call(MODERN, "1", "echo", json!({}));
    let post = |body: &[u8]| client.post(&headers, body);
    let nested = |depth: usize| {
        valid.replace(r#""arguments":{}"#, &format!(r#""arguments":{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth)))
    };
    assert_ne!(nested(1), valid);
    let utf16: Vec<u8> = valid.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (what, body) in [
        ("a byte-order mark", [b"\xef\xbb\xbf", valid.as_bytes()].concat()),
        ("UTF-16", utf16.clone()),
        (
            "bytes that are not UTF-8",
            valid.replace("echo", "e\u{1}ho").into_bytes().into_iter().map(|b| if b == 1 { 0xff } else { b }).collect(),
        ),
        ("an overlong slash", [valid.as_bytes(), b"\xc0\xaf"].concat()),
        ("nothing", Vec::new()),
        ("white space", b" \r\n\t ".to_vec()),
        ("200 levels", nested(200).into_bytes()),
        ("a million levels", nested(1_000_000).into_bytes()),
        ("a million open brackets", vec![b'['; 1_000_000]),
        ("two messages", [valid.as_bytes(), valid.as_bytes()].concat()),
        ("a gzip stream that does not say so", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00".to_vec()),
    ] {
        check(&site, what, &post(&body), &[400], &[]);
    }
    for (what, lines) in [
        ("gzip", "Content-Encoding: gzip"),
        ("deflate", "Content-Encoding: deflate"),
        ("br", "Content-Encoding: br"),
        ("zstd", "Content-Encoding: zstd"),
        ("x-gzip", "Content-Encoding: x-gzip"),
        ("two encodings", "Content-Encoding: identity, gzip"),
        ("an encoding that is not one", "Content-Encoding: \"\""),
    ] {
        check(&site, what, &site.post_with("echo", with(lines)), &[415], &[]);
    }
    for charset in ["utf-16le", "utf-16", "utf-7", "iso-8859-1", "utf-8\"; charset=\"utf-16", "", "utf-8, utf-16"] {
        let kind = format!("Content-Type: application/json; charset=\"{charset}\"");
        let bytes = site.post_with("echo", |text| text.replacen("Content-Type: application/json", &kind, 1));
        check(&site, charset, &bytes, &[415], &[]);
    }
    // Too long: by its own word, and in fact.
    let too_long = 4 * 1024 * 1024 + 1;
    let declared = site.post_with("echo", |text| {
        let (head, _) = text.split_once("Content-Length").expect("it has one");
        format!("{head}Content-Length: {too_long}\r\n\r\n")
    });
    let padded = |length: usize| format!("{}{}", " ".repeat(length - valid.len()), valid);
    check(&site, "too long", &post(padded(too_long).as_bytes()), &[413], &[]);
    check(&site, "just not too long", &post(padded(too_long - 1).as_bytes()), &[200], &["echo"]);
    let chunks = format!("{too_long:x}\r\n{}\r\n0\r\n\r\n", padded(too_long));
    let chunked = site.post_with("echo", |text| {
        let (head, _) = text.split_once("Content-Length").expect("it has one");
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}")
    });
    check(&site, "too long, in chunks", &chunked, &[413], &[]);
    drop(open(&site.gate.address, &declared));
    site.bystander();
}

#[test]
fn a_body_is_asked_for_only_once_its_head_is_accepted() {
    let site = Site::new();
    let expecting = |change: &dyn Fn(String) -> String| {
        let text = String::from_utf8(site.post_with("echo", with("Expect: 100-continue"))).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        (change(format!("{head}\r\n\r\n")), body.to_owned())
    };
    let first_line = |head: &str| {
        let mut stream = open(&site.gate.address, head.as_bytes());
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("an answer");
        (String::from_utf8_lossy(&status).into_owned(), stream)
    };
    let (head, body) = expecting(&|head| head);
    let (status, mut stream) = first_line(&head);
    assert_eq!(status, "HTTP/1.1 100");
    stream.write_all(body.as_bytes()).expect("it is read");
    let mut rest = b"HTTP/1.1 100".chain(&mut stream);
    assert_eq!(text_of(&response(&mut rest).expect("an answer").reply("1")), "{}");
    let (head, _) = expecting(&|head| head.replacen("application/json", "text/plain", 1));
    assert_eq!(first_line(&head).0, "HTTP/1.1 415");
    let (head, _) = expecting(&|head| head.replacen(&site.gate.address, "evil.example", 1));
    assert_eq!(first_line(&head).0, "HTTP/1.1 403");
}

#[test]
fn requests_in_one_breath_are_answered_in_order_and_each_is_judged() {
    let site = Site::new();
    let numbered = |id: &str, tool: &str| {
        let client = Client::silent(&site.gate.address, MODERN);
        client.post(&client.headers("tools/call", Some(tool)), call(MODERN, id, tool, json!({"n": id})).as_bytes())
    };
    let mut breath = Vec::new();
    for number in 0..5 {
        breath.extend(numbered(&number.to_string(), "echo"));
    }
    breath.extend(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    let mut stream = open(&site.gate.address, &breath);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is settable");
    // Byte by byte, so that no response takes of the next.
    let one = |stream: &mut TcpStream| {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a response");
            text.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&text).to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        let mut body = vec![0; length.expect("a length")];
        stream.read_exact(&mut body).expect("a body");
        (head, String::from_utf8_lossy(&body).into_owned())
    };
    for number in 0..5 {
        let (_, body) = one(&mut stream);
        assert!(body.contains(&format!("\"id\":{number}")), "{number}: {body}");
    }
    assert!(one(&mut stream).0.starts_with("http/1.1 404"));
    assert_eq!(site.ran().len(), 5);
}

#[test]
fn clients_that_do_not_send_or_do_not_read_hold_up_nobody() {
    let site = Site::new();
    let mut held = Vec::new();
    let post = String::from_utf8(site.post("echo")).expect("text");
    let (head, _) = post.split_once("Content-Length").expect("it has one");
    for number in 0..100 {
        let bytes = match number % 4 {
            0 => "POST /m".to_owned(),
            1 => format!("{head}Content-Length: 4000000\r\n\r\n{{"),
            2 => format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\n{{  \r\n"),
            _ => String::new(),
        };
        held.push(open(&site.gate.address, bytes.as_bytes()));
    }
    // Whoever asks for much and reads nothing of it.
    let client = Client::silent(&site.gate.address, MODERN);
    for _ in 0..4 {
        let text = call(MODERN, "1", "big", json!({"mb": 8}));
        held.push(open(&site.gate.address, &client.post(&client.headers("tools/call", Some("big")), text.as_bytes())));
    }
    until(PATIENCE, || (site.ran().len() == 4).then_some(())).expect("they run");
    for _ in 0..5 {
        site.bystander();
    }
    assert_eq!(site.ran().len(), 4, "half a request is none");
    drop(held);
    site.bystander();
}

/// All bodies together may hold 256 MiB beyond 64 KiB of each (docs/wire.md, §Bounds): sixty-odd that are nearly as long as one
/// may be. Whoever asks for more is refused, not kept waiting, and ordinary messages need none of it.
#[test]
fn unfinished_bodies_hold_only_so_much_memory_all_together() {
    const LONG: usize = 3_900 * 1024;
    let site = Site::new();
    let pid = site.gate.child.id();
    let before = resident(pid);
    let post = String::from_utf8(site.post("echo")).expect("text");
    let (head, _) = post.split_once("Content-Length").expect("it has one");
    let body = vec![b' '; LONG];
    let mut held: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = open(&site.gate.address, format!("{head}Content-Length: {}\r\n\r\n", LONG + 1).as_bytes());
            // Whoever is refused may find the connection closed.
            let _ = stream.write_all(&body);
            stream
        })
        .collect();
    for stream in &held {
        stream.set_nonblocking(true).expect("it is ours");
    }
    let has_answer = |stream: &TcpStream| stream.peek(&mut [0]).is_ok();
    let refused = |held: &[TcpStream]| held.iter().filter(|stream| has_answer(stream)).count();
    until(PATIENCE, || (refused(&held) >= 30).then_some(())).unwrap_or_else(|| panic!("only {} are refused", refused(&held)));
    site.bystander();
    let (refused, kilobytes) = (refused(&held), resident(pid) - before);
    eprintln!("{refused} of 100 bodies of {LONG} bytes are refused; the others hold {} MB", kilobytes / 1024);
    assert!((30..=45).contains(&refused), "{refused}");
    assert!(kilobytes < 350 * 1024 && resident(pid) < 450 * 1024, "{kilobytes} kB");
    for stream in held.iter_mut().filter(|stream| has_answer(stream)) {
        stream.set_nonblocking(false).expect("it is ours");
        assert_eq!(response(stream).expect("an answer").status, 503);
    }
    drop(held);
    // What has gone gives its part back.
    until(PATIENCE, || {
        let padded = format!("{}{}", " ".repeat(LONG), call(MODERN, "1", "echo", json!({})));
        let client = Client::silent(&site.gate.address, MODERN);
        let headers = client.headers("tools/call", Some("echo"));
        (exchange(&site.gate.address, &client.post(&headers, padded.as_bytes()))?.status == 200).then_some(())
    })
    .expect("there is room again");
}

#[test]
fn more_connections_than_there_are_descriptors_for_are_turned_away() {
    let scratch = Scratch::new();
    let policy = scratch.policy(OPEN).display().to_string();
    let child = lenient(&scratch.log(), &["--stdio"]);
    // 200 descriptors: half of them for connections.
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg("ulimit -n 200; exec \"$0\" \"$@\"").arg(env!("CARGO_BIN_EXE_callgate")).env("NO_COLOR", "1");
    let mut arguments = vec!["-p", &policy, "--state", "memory:", "--"];
    arguments.extend(child.iter().map(String::as_str));
    let gate = Served::start_with(command, &arguments);
    let client = Client::silent(&gate.address, MODERN);
    let echo = client.post(&client.headers("tools/call", Some("echo")), call(MODERN, "1", "echo", json!({})).as_bytes());
    let mut early = open(&gate.address, &echo);
    assert_eq!(response(&mut early).expect("an answer").status, 200);

    let idle: Vec<_> = (0..150).map(|_| TcpStream::connect(&gate.address).expect("the backlog takes it")).collect();
    let busy = || exchange(&gate.address, &echo).is_none_or(|reply| reply.status == 503);
    until(PATIENCE, || busy().then_some(())).expect("one too many is told so");
    early.write_all(&echo).expect("an open connection goes on");
    assert_eq!(response(&mut early).expect("an answer").status, 200);
    drop(idle);
    until(PATIENCE, || (!busy()).then_some(())).expect("and there is room again");
}

/// Kilobytes of resident memory.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").count()
}

#[test]
fn ten_thousand_idle_streams_cost_little_and_hold_up_nobody() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the hard limit is ours");
    let wanted = 10_000;
    // One for each stream on either side, and some for all else.
    let needed = 11_000;
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        eprintln!("skipped: the hard limit of descriptors is below {needed}: {limit:?}");
        return;
    }
    let scratch = Scratch::new();
    let policy = scratch.policy(OPEN).display().to_string();
    let child = lenient(&scratch.log(), &["--stdio", "--quiet"]);
    let mut arguments = vec!["-p", &policy, "--state", "memory:", "--"];
    arguments.extend(child.iter().map(String::as_str));
    let gate = Served::start(&arguments);
    let pid = gate.child.id();
    let client = Client::silent(&gate.address, MODERN);
    let echo = client.post(&client.headers("tools/call", Some("echo")), call(MODERN, "1", "echo", json!({"n": 1})).as_bytes());
    // The stand-in, which takes one message after the other, may have ten thousand cancellations before it.
    let bystander = || {
        let mut stream = open(&gate.address, &echo);
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout is settable");
        assert_eq!(text_of(&response(&mut stream).expect("an answer").reply("1")), r#"{"n":1}"#);
    };
    bystander();
    let (memory, files) = (resident(pid), descriptors(pid));
    let headers = client.headers("subscriptions/listen", None);
    let begun = Instant::now();
    let streams: Vec<_> = (0..wanted)
        .map(|number| {
            let params = json!({"notifications": {"toolsListChanged": true}});
            let listen = request(MODERN, &number.to_string(), "subscriptions/listen", params);
            open(&gate.address, &client.post(&headers, listen.as_bytes()))
        })
        .collect();
    for mut stream in &streams {
        let mut status = [0; 12];
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout is settable");
        stream.read_exact(&mut status).expect("the server says that it is heard");
        assert_eq!(&status, b"HTTP/1.1 200");
    }
    let each = resident(pid).saturating_sub(memory) * 1024 / wanted;
    eprintln!("{wanted} idle streams within {:?}: {each} bytes each", begun.elapsed());
    bystander();
    assert!(each < 64 * 1024, "{each} bytes a stream");
    drop(streams);
    until(Duration::from_secs(60), || (descriptors(pid) <= files + 10).then_some(())).expect("what is closed is let go");
    bystander();
}
