//! The server of a case: it notes whatever reaches it, and does what the case's script says.
//!
//! It is a hidden command of this binary, so that a case needs nothing else, and it is careless on purpose: no credentials, no
//! check of host or origin, any path. What it notes goes to a file, one JSON object a line: `line` is what a client sent,
//! `headers` came with it, `environment` is its own, `elsewhere` is what followed a redirect.

use crate::failure::{Failure, OK};
use catalogue::attacks::{Attack, Case, Server};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Plays the server of one case, on stdio or, with `over_http`, on a port of loopback that it prints.
pub fn serve(attack: &str, number: usize, log: &Path, over_http: bool) -> Result<u8, Failure> {
    // For as long as the process lives, which is that of one case.
    let attack: Option<&'static Attack> = catalogue::attacks::find_alone(attack).map(|attack| &*Box::leak(Box::new(attack)));
    let case = attack.and_then(|attack| attack.cases.get(number));
    let case = case.ok_or_else(|| Failure::usage("there is no such case"))?;
    let failed = |error: io::Error| Failure::because("the server of the case has failed", &error);
    let log = File::options().create(true).append(true).open(log).map_err(failed)?;
    let stand_in =
        Arc::new(StandIn { script: &case.server, log: Mutex::new(log), play: Mutex::default(), gathered: Condvar::new() });
    if case.server.notes_environment {
        let environment: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
        stand_in.note(&json!({"environment": environment.join("\n")})).map_err(failed)?;
    }
    if over_http { on_http(&stand_in, case) } else { on_stdio(&stand_in) }.map_err(failed)?;
    Ok(OK)
}

struct StandIn<'c> {
    script: &'c Server,
    log: Mutex<File>,
    play: Mutex<Play>,
    /// Tells those that wait that enough calls have come.
    gathered: Condvar,
}

#[derive(Default)]
struct Play {
    calls: u32,
    /// Calls that wait for others: their ids, and what is answered.
    held: Vec<(Value, String)>,
}

/// What a message is answered.
enum Answer {
    None,
    Now(Value),
    /// With the others, once they are there.
    Later(Value),
}

impl StandIn<'_> {
    /// Each in one append, so that several processes may share the file.
    fn note(&self, entry: &Value) -> io::Result<()> {
        let line = format!("{entry}\n");
        self.log.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
    }

    fn answer(&self, text: &str) -> Answer {
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            return Answer::Now(json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "no JSON"}}));
        };
        let (Some(id), Some(method)) = (message.get("id"), message.get("method").and_then(Value::as_str)) else {
            // Careless, not lost: whoever sent something with an id waits.
            let unknown = json!({"code": -32601, "message": "no method"});
            return match message.get("id").filter(|_| message.get("result").or(message.get("error")).is_none()) {
                Some(id) => Answer::Now(json!({"jsonrpc": "2.0", "id": id, "error": unknown})),
                None => Answer::None,
            };
        };
        let params = &message["params"];
        let mut result = match method {
            "initialize" => json!({
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {"listChanged": true}, "resources": {}},
                "serverInfo": {"name": "stand-in", "version": "1"},
            }),
            // Who takes calls of many at once is of the era in which one line is shared by all.
            "server/discover" if self.script.gathers > 0 => json!({
                "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {}},
                "ttlMs": 60000,
                "cacheScope": "public",
            }),
            "tools/list" => json!({"tools": self.tools(), "ttlMs": 60000, "cacheScope": "public"}),
            "tools/call" => {
                let mut play = self.play.lock().unwrap_or_else(PoisonError::into_inner);
                play.calls += 1;
                let did = format!("done: {}", params["arguments"]);
                if self.script.gathers > 0 {
                    play.held.push((id.clone(), did));
                    self.gathered.notify_all();
                    return Answer::Later(id.clone());
                }
                let returned = self.script.returns.iter().find(|(tool, _)| params["name"] == **tool);
                let returned = returned.and_then(|(_, result)| serde_json::from_str(result).ok());
                returned.unwrap_or_else(|| json!({"content": [{"type": "text", "text": did}]}))
            }
            _ => json!({}),
        };
        if is_modern(params) {
            result["resultType"] = json!("complete");
        }
        Answer::Now(json!({"jsonrpc": "2.0", "id": id, "result": result}))
    }

    fn tools(&self) -> Vec<Value> {
        let calls = self.play.lock().unwrap_or_else(PoisonError::into_inner).calls;
        let listed = match &self.script.becomes {
            Some((after, tools)) if calls >= *after => tools,
            _ => &self.script.tools,
        };
        listed.iter().filter_map(|tool| serde_json::from_str(tool).ok()).collect()
    }

    /// The answers of a careless proxy: by a map from ids, in which the last call with an id is the only one.
    fn all_held(&self, play: &Play) -> Option<Vec<Value>> {
        let enough = play.held.len() >= self.script.gathers as usize;
        enough.then(|| play.held.iter().map(|(id, _)| by_id(play, id)).collect())
    }
}

fn by_id(play: &Play, id: &Value) -> Value {
    let last = play.held.iter().rev().find(|(known, _)| known == id).map(|(_, did)| did.as_str());
    let content = json!([{"type": "text", "text": last.unwrap_or_default()}]);
    json!({"jsonrpc": "2.0", "id": id, "result": {"content": content, "resultType": "complete"}})
}

fn is_modern(params: &Value) -> bool {
    params["_meta"].get("io.modelcontextprotocol/protocolVersion").is_some()
}

fn on_stdio(stand_in: &StandIn<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        stand_in.note(&json!({"line": line}))?;
        let is_call = serde_json::from_str::<Value>(&line).is_ok_and(|message| message["method"] == "tools/call");
        if let Some((method, params)) = stand_in.script.asks.as_ref().filter(|_| is_call) {
            let params: Value = serde_json::from_str(params).unwrap_or_default();
            writeln!(out, "{}", json!({"jsonrpc": "2.0", "id": "asked", "method": method, "params": params}))?;
        }
        match stand_in.answer(&line) {
            Answer::None => {}
            Answer::Now(answer) => writeln!(out, "{answer}")?,
            Answer::Later(_) => {
                let play = stand_in.play.lock().unwrap_or_else(PoisonError::into_inner);
                for answer in stand_in.all_held(&play).into_iter().flatten() {
                    writeln!(out, "{answer}")?;
                }
            }
        }
        out.flush()?;
    }
    Ok(())
}

fn on_http(stand_in: &Arc<StandIn<'static>>, case: &'static Case) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let elsewhere = TcpListener::bind("127.0.0.1:0")?;
    let other = elsewhere.local_addr()?;
    {
        let stand_in = stand_in.clone();
        std::thread::spawn(move || {
            for connection in elsewhere.incoming().flatten() {
                if let Ok((head, _)) = read_request(&connection) {
                    let _ = stand_in.note(&json!({"elsewhere": head}));
                }
                let _ = write_response(&connection, 200, &[], "{}");
            }
        });
    }
    // Whoever has started it ends it by closing its stdin.
    std::thread::spawn(|| {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    println!("listening {}", listener.local_addr()?.port());
    io::stdout().flush()?;
    for connection in listener.incoming().flatten() {
        let stand_in = stand_in.clone();
        std::thread::spawn(move || {
            let _ = exchange(&stand_in, &case.server, &connection, &format!("http://{other}/elsewhere"));
        });
    }
    Ok(())
}

fn exchange(stand_in: &StandIn<'_>, script: &Server, connection: &TcpStream, elsewhere: &str) -> io::Result<()> {
    let (head, body) = read_request(connection)?;
    stand_in.note(&json!({"headers": head, "line": body}))?;
    if script.redirects {
        return write_response(connection, 307, &[("Location".to_owned(), elsewhere.to_owned())], "");
    }
    if let Some((status, headers)) = &script.answers {
        return write_response(connection, *status, headers, "");
    }
    let session = [("Mcp-Session-Id".to_owned(), "stand-in".to_owned())];
    if !head.starts_with("POST ") {
        return write_response(connection, 405, &[], "");
    }
    let answer = match stand_in.answer(&body) {
        Answer::None => return write_response(connection, 202, &[], ""),
        Answer::Now(answer) => answer,
        Answer::Later(id) => {
            let play = stand_in.play.lock().unwrap_or_else(PoisonError::into_inner);
            let waits = |play: &mut Play| play.held.len() < script.gathers as usize;
            let waited = stand_in.gathered.wait_timeout_while(play, PATIENCE, waits);
            by_id(&waited.unwrap_or_else(PoisonError::into_inner).0, &id)
        }
    };
    let headers: &[(String, String)] = if body.contains("\"initialize\"") { &session } else { &[] };
    write_response(connection, 200, headers, &answer.to_string())
}

/// The head of a request as it came, and its body.
fn read_request(connection: &TcpStream) -> io::Result<(String, String)> {
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(connection.take(MOST));
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<u64>().ok())?
    });
    let mut body = Vec::new();
    reader.take(length.unwrap_or(0)).read_to_end(&mut body)?;
    Ok((head, String::from_utf8_lossy(&body).into_owned()))
}

fn write_response(mut connection: &TcpStream, status: u16, headers: &[(String, String)], body: &str) -> io::Result<()> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    );
    connection.write_all(text.as_bytes())
}

/// A request of a case is a few hundred bytes.
const MOST: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);
