//! The image that `deploy/Containerfile` makes, run as its first lines say: not a step of the suite, because it builds the
//! binary once more, and wants Podman.

use crate::workspace::Workspace;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Builds the image, unless `words` begin with `--no-build`, and runs it with a root that cannot be written, the further words
/// going to `podman run`. It must answer a call as the account without rights, end at once when it is asked to, and have the
/// call on record when it is started again.
///
/// # Errors
/// What is not as it should be, or what Podman says.
pub fn check(workspace: &Workspace, words: &[&str]) -> Result<String, String> {
    let (build, flags) = match words {
        ["--no-build", flags @ ..] => (false, flags),
        flags => (true, flags),
    };
    if build {
        let mut build = Command::new("podman");
        build.args(["build", "-t", IMAGE, "-f", "deploy/Containerfile", "."]).current_dir(&workspace.root);
        let status = build.status().map_err(|error| format!("podman does not start: {error}"))?;
        if !status.success() {
            return Err("the image cannot be built".to_owned());
        }
    }
    let scratch = workspace.target.join("container");
    std::fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let upstream = Upstream::start(workspace, &scratch)?;
    configure(&scratch, upstream.port)?;
    let _ = podman(&["rm", "-f", "-v", NAME]);
    let _ = podman(&["volume", "rm", VOLUME]);
    let (mounted, state) = (format!("{}:/etc/callgate:ro", scratch.display()), format!("{VOLUME}:/var/lib/callgate"));
    let token = format!("CI_TOKEN={TOKEN}");
    let mut run = vec!["run", "-d", "--name", NAME, "--network=host", "--read-only", "-e", &token, "-v", &mounted, "-v", &state];
    run.extend(flags);
    run.push(IMAGE);
    podman(&run)?;
    let checked = drive();
    let logged = podman(&["logs", NAME]);
    let _ = podman(&["rm", "-f", "-v", NAME]);
    let _ = podman(&["volume", "rm", VOLUME]);
    checked.map_err(|problem| format!("{problem}\n{}", logged.unwrap_or_default()))
}

fn drive() -> Result<String, String> {
    call()?;
    let account = podman(&["exec", NAME, "id", "-u"])?;
    if account.trim() != "7420" {
        return Err(format!("it runs as {account}"));
    }
    if podman(&["exec", NAME, "touch", "/etc/passwd"]).is_ok() {
        return Err("it can write what is the image's".to_owned());
    }
    let begun = Instant::now();
    podman(&["stop", "-t", "30", NAME])?;
    let took = begun.elapsed();
    let code = podman(&["inspect", NAME, "--format", "{{.State.ExitCode}}"])?;
    if code.trim() != "0" || took > Duration::from_secs(6) {
        return Err(format!("asked to stop, it ended with code {} after {took:.1?}", code.trim()));
    }
    podman(&["start", NAME])?;
    call()?;
    let listed = podman(&["exec", NAME, "callgate", "audit", "list", "--json", "--state", STATE])?;
    let decided = |line: &&str| serde_json::from_str::<Value>(line).is_ok_and(|event| event["phase"] == "decided");
    let calls = listed.lines().filter(decided).count();
    if calls != 2 {
        return Err(format!("{calls} calls are on record, and not 2:\n{listed}"));
    }
    podman(&["exec", NAME, "callgate", "audit", "verify", "--state", STATE])?;
    Ok(format!("the image answers, without rights, and ends {} ms after it is asked to", took.as_millis()))
}

fn configure(scratch: &Path, upstream: u16) -> Result<(), String> {
    let config = format!(
        "listen: 0.0.0.0:{PORT}\nhosts: [127.0.0.1]\nstate: {STATE}\n\
         lock: /var/lib/callgate/callgate.lock\n\
         servers:\n  one: {{url: \"http://127.0.0.1:{upstream}/mcp\", policy: policy.yaml}}\n\
         grants:\n  - {{name: ci, principal: \"service:ci\", token: env:CI_TOKEN, servers: [one]}}\n"
    );
    let policy = "version: \"1\"\ndefault: deny\ntools: {echo: {rate_limit: 10/minute}}\n";
    for (name, text) in [("callgate.yaml", config.as_str()), ("policy.yaml", policy)] {
        std::fs::write(scratch.join(name), text).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// One call, as soon as the gateway listens.
fn call() -> Result<(), String> {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hello"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let request = format!(
        "POST /mcp/one HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n\
         Mcp-Method: tools/call\r\nMcp-Name: echo\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let until = Instant::now() + Duration::from_secs(30);
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", PORT)) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > until => return Err(format!("it does not listen: {error}")),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    let mut answer = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(|error| error.to_string())?;
    stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer)).map_err(|error| error.to_string())?;
    match answer.starts_with("HTTP/1.1 200 ") && answer.contains("hello") {
        true => Ok(()),
        false => Err(format!("the call is answered: {answer}")),
    }
}

/// What Podman prints, on either stream: the container's own words come on both.
fn podman(words: &[&str]) -> Result<String, String> {
    let output = Command::new("podman").args(words).output().map_err(|error| format!("podman does not start: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout) + &text(&output.stderr)),
        false => Err(format!("podman {}: {}", words.join(" "), text(&output.stderr).trim())),
    }
}

/// The stand-in for a server, on this machine.
struct Upstream {
    child: Child,
    port: u16,
}

impl Upstream {
    fn start(workspace: &Workspace, scratch: &Path) -> Result<Upstream, String> {
        let mut command = Command::new("python3");
        command.arg("tests/upstreams/lenient.py").args(["--http", "0", "--log"]).arg(scratch.join("upstream.log"));
        command.current_dir(&workspace.root).stdout(Stdio::piped());
        let child = command.spawn().map_err(|error| format!("python3 does not start: {error}"))?;
        // Whatever comes of it, it is ended.
        let mut upstream = Upstream { child, port: 0 };
        let mut line = String::new();
        if let Some(out) = upstream.child.stdout.take() {
            BufReader::new(out).read_line(&mut line).map_err(|error| error.to_string())?;
        }
        let port = line.split_whitespace().last().and_then(|port| port.parse().ok());
        upstream.port = port.ok_or(format!("the stand-in says `{}`", line.trim()))?;
        Ok(upstream)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const IMAGE: &str = "callgate";
const NAME: &str = "callgate-checked";
const VOLUME: &str = "callgate-checked";
const STATE: &str = "sqlite:/var/lib/callgate/callgate.db";
/// Of the host, on which the container listens.
const PORT: u16 = 17420;
/// Of the one grant there.
const TOKEN: &str = "of-one-call-to-a-stand-in-on-this-machine";
