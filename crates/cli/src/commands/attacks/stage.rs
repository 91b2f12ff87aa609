//! One case, played twice: with callgate in between, where it must come out as it says, and without, where it must not.

use super::client::{Answer, HttpClient, StdioClient, request, token_of};
use catalogue::attacks::{Attack, Case, SERVER, Scene, Send, Step};
use serde_json::Value;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With callgate the attack was stopped; without, it was not.
    Held,
    /// Something got through that must not, or did not that must; in words.
    Leaked(String),
    /// It does not get through without callgate either: the case shows nothing.
    Idle(String),
}

/// Plays one case in a directory of its own, below `below`.
pub fn play(attack: &Attack, number: usize, case: &Case, below: &Path) -> Outcome {
    let stage = match Stage::set(attack, number, case, below) {
        Ok(stage) => stage,
        Err(why) => return Outcome::Leaked(format!("the case cannot be played: {why}")),
    };
    if let Err(why) = stage.guarded() {
        return Outcome::Leaked(why);
    }
    match stage.unguarded() {
        Ok(()) => Outcome::Held,
        Err(why) => Outcome::Idle(why),
    }
}

struct Stage<'c> {
    attack: &'c Attack,
    number: usize,
    case: &'c Case,
    program: PathBuf,
    directory: PathBuf,
}

/// A process of the case, gone when this is. What it has started sees its input end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl<'c> Stage<'c> {
    fn set(attack: &'c Attack, number: usize, case: &'c Case, below: &Path) -> Result<Stage<'c>, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let directory = below.join(format!("{}-{number}", attack.id));
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&directory);
        made.map_err(|error| error.to_string())?;
        let stage = Stage { attack, number, case, program, directory };
        stage.write("policy.yaml", attack.policy.as_deref().unwrap_or_default())?;
        Ok(stage)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.path(name));
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| error.to_string())
    }

    /// The words that start the server of the case; what reaches it stands in `log`.
    fn server_words(&self, log: &str) -> Vec<String> {
        let (program, log) = (self.program.display().to_string(), self.path(log).display().to_string());
        vec![program, "attack-server".into(), self.attack.id.clone(), self.number.to_string(), log]
    }

    /// With callgate in between.
    fn guarded(&self) -> Result<(), String> {
        let log = "guarded.log";
        let at_url = self.case.server.is_at_url;
        let server = if at_url { Some(self.start_http_server(log)?) } else { None };
        let url = server.as_ref().map(|(_, port)| format!("http://127.0.0.1:{port}/mcp"));
        let answers = if self.case.scene.is_over_http() {
            let (gateway, authority) = self.start_serve(log, url.as_deref())?;
            let answers = self.over_http(&mut HttpClient::new(authority))?;
            drop(gateway);
            answers
        } else {
            let mut command = Command::new(&self.program);
            command.args(["run", "--state", "memory:", "--server", "case", "-p"]).arg(self.path("policy.yaml"));
            if self.case.is_pinned {
                command.arg("--lock").arg(self.path("callgate.lock"));
            }
            match &url {
                Some(url) => command.args(["--upstream", url]),
                None => command.arg("--").args(self.server_words(log)),
            };
            let mut gateway = self.start(&mut command, "callgate.log", Stdio::piped())?;
            self.on_stdio(&mut gateway.0)?
        };
        drop(server);
        self.stopped(&answers, &self.read(log)?)
    }

    /// Without callgate, straight at the server.
    fn unguarded(&self) -> Result<(), String> {
        let log = "unguarded.log";
        let answers = if self.case.scene.is_over_http() || self.case.server.is_at_url {
            let (server, port) = self.start_http_server(log)?;
            let mut client = HttpClient::new(format!("127.0.0.1:{port}"));
            client.follows = true;
            let answers = self.over_http(&mut client)?;
            drop(server);
            answers
        } else {
            let words = self.server_words(log);
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            let mut server = self.start(&mut command, "server.log", Stdio::piped())?;
            self.on_stdio(&mut server.0)?
        };
        self.let_through(&answers, &self.read(log)?)
    }

    fn start(&self, command: &mut Command, stderr: &str, stdout: Stdio) -> Result<Running, String> {
        let failed = |error: std::io::Error| format!("it does not start: {error}");
        let stderr = File::create(self.path(stderr)).map_err(failed)?;
        command.stdin(Stdio::piped()).stdout(stdout).stderr(stderr).current_dir(&self.directory);
        command.env("ADA_TOKEN", token_of("ada")).env("EVE_TOKEN", token_of("eve"));
        // What a child must not inherit.
        command.env("OTHER_SERVICE_KEY", "key-of-another-service").env("NODE_OPTIONS", "--require=/tmp/preloaded.js");
        command.spawn().map(Running).map_err(failed)
    }

    fn start_http_server(&self, log: &str) -> Result<(Running, u16), String> {
        let words = self.server_words(log);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("--http");
        let mut server = self.start(&mut command, "server.log", Stdio::piped())?;
        let mut line = String::new();
        let stdout = server.0.stdout.take().ok_or("there is no stdout")?;
        BufReader::new(stdout).read_line(&mut line).map_err(|error| error.to_string())?;
        let port = line.trim().rsplit(' ').next().and_then(|port| port.parse().ok());
        port.map(|port| (server, port)).ok_or_else(|| "the server of the case does not start".to_owned())
    }

    /// `callgate serve`, ready, and where.
    fn start_serve(&self, log: &str, url: Option<&str>) -> Result<(Running, String), String> {
        let mut command = Command::new(&self.program);
        command.arg("serve");
        if self.case.scene == Scene::Gateway {
            self.write("callgate.yaml", &self.configuration(log, url))?;
            command.arg("-c").arg(self.path("callgate.yaml"));
        } else {
            command.args(["--listen", "127.0.0.1:0", "--state", "memory:", "-p"]).arg(self.path("policy.yaml"));
            command.arg("--").args(self.server_words(log));
        }
        let mut gateway = self.start(&mut command, "callgate.log", Stdio::null())?;
        let end = Instant::now() + PATIENCE;
        loop {
            let said = std::fs::read_to_string(self.path("callgate.log")).unwrap_or_default();
            if let Some(authority) = said.split_once("listening on http://").and_then(|(_, rest)| rest.split_once("/mcp")) {
                return Ok((gateway, authority.0.to_owned()));
            }
            if Instant::now() > end || matches!(gateway.0.try_wait(), Ok(Some(_))) {
                return Err(format!("callgate does not serve: {}", crate::terminal::shortened(&said, 300)));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The attack's configuration, with the server of the case in its place.
    fn configuration(&self, log: &str, url: Option<&str>) -> String {
        let words: Vec<String> = self.server_words(log).iter().map(|word| json::quote(word)).collect();
        let text = self.attack.configuration.as_deref().unwrap_or_default();
        let text = text.replace(&format!("[{SERVER}]"), &format!("[{}]", words.join(", ")));
        text.replace(&format!("http://{SERVER}/mcp"), url.unwrap_or_default())
    }

    /// Takes all steps on a child's streams.
    fn on_stdio(&self, child: &mut Child) -> Result<Answers, String> {
        let mut client = StdioClient::start(child)?;
        let mut answers = Answers::default();
        for step in &self.case.steps {
            let each = (0..step.times).map(|_| client.take(&step.send)).collect::<Result<Vec<_>, _>>();
            answers.steps.push(each.map_err(|why| format!("{}: {why}", described(step)))?);
        }
        answers.everything = client.end().to_owned();
        Ok(answers)
    }

    /// Takes all steps over HTTP; those that the server gathers, at once.
    fn over_http(&self, client: &mut HttpClient) -> Result<Answers, String> {
        let mut answers = Answers::default();
        let each = |client: &mut HttpClient, step: &Step| {
            let each = (0..step.times).map(|_| client.take(step)).collect::<Result<Vec<_>, _>>();
            each.map_err(|why| format!("{}: {why}", described(step)))
        };
        let gathers = self.case.server.gathers as usize;
        let first_call = self.case.steps.iter().position(counts).unwrap_or(0);
        let (before, rest) = self.case.steps.split_at(if gathers > 0 { first_call } else { 0 });
        let (at_once, after) = rest.split_at(gathers.min(rest.len()));
        for step in before {
            answers.steps.push(each(client, step)?);
        }
        let shared = &*client;
        let posted = std::thread::scope(|scope| {
            let posts: Vec<_> = at_once.iter().map(|step| scope.spawn(|| shared.post(step, None))).collect();
            posts.into_iter().map(|post| post.join().unwrap_or_else(|_| Err("the client has failed".into()))).collect::<Vec<_>>()
        });
        for answer in posted {
            answers.steps.push(vec![answer?]);
        }
        for step in after {
            answers.steps.push(each(client, step)?);
        }
        Ok(answers)
    }

    /// What the server has noted.
    fn read(&self, log: &str) -> Result<Noted, String> {
        let text = std::fs::read_to_string(self.path(log)).unwrap_or_default();
        let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).map_err(|error| error.to_string()));
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        let lines = entries.iter().filter_map(|entry| entry["line"].as_str()).filter(|line| !line.is_empty());
        Ok(Noted { messages: lines.filter(|line| !is_routine(line)).map(str::to_owned).collect(), text })
    }

    /// With callgate, everything must have come out as the case says.
    fn stopped(&self, answers: &Answers, noted: &Noted) -> Result<(), String> {
        let mut expected = Vec::new();
        for (step, each) in self.case.steps.iter().zip(&answers.steps) {
            let last = each.len().saturating_sub(1);
            for (i, answer) in each.iter().enumerate() {
                match step.stopped.as_deref().filter(|_| i == last) {
                    Some(stopped) if !answer.says(stopped) => {
                        return Err(format!(
                            "{} must be refused with {stopped}, and was answered {}",
                            described(step),
                            answer.shown()
                        ));
                    }
                    // The call is made, and what it returns is kept back.
                    Some("result-withheld") if counts(step) => expected.push(canonical(&step.send)),
                    None if answer.is_refused() => {
                        return Err(format!("{} must pass, and was answered {}", described(step), answer.shown()));
                    }
                    None if counts(step) => expected.push(canonical(&step.send)),
                    _ => {}
                }
            }
            if let Some(text) = step.keeps_from_client.as_deref().filter(|text| self.reaches_client(answers, each, text)) {
                return Err(format!("`{text}` has reached the client"));
            }
            if let Some(text) = step.keeps_from_server.as_deref().filter(|text| noted.text.contains(text)) {
                return Err(format!("`{text}` has reached the server"));
            }
        }
        let is_by_script = self.case.server.answers.is_none() && !self.case.server.redirects;
        let mut reached: Vec<String> = noted.messages.iter().map(|line| canonical_line(line)).collect();
        if self.case.server.gathers > 0 {
            // Those come in any order.
            expected.sort();
            reached.sort();
        }
        if is_by_script && reached != expected {
            return Err(format!("the server was reached by {reached:?}, and should have been by {expected:?}"));
        }
        Ok(())
    }

    /// Without callgate, all of it must have got through.
    fn let_through(&self, answers: &Answers, noted: &Noted) -> Result<(), String> {
        let sent: usize = self.case.steps.iter().filter(|step| counts(step)).map(|step| step.times as usize).sum();
        if noted.messages.len() != sent {
            return Err(format!("{} of {sent} messages reach the server", noted.messages.len()));
        }
        let (mut leaks, mut tight) = (0, None);
        for (step, each) in self.case.steps.iter().zip(&answers.steps) {
            let client = step.keeps_from_client.as_deref().map(|text| (text, self.reaches_client(answers, each, text)));
            let server = step.keeps_from_server.as_deref().map(|text| (text, noted.text.contains(text)));
            for (text, has_leaked) in client.into_iter().chain(server) {
                if has_leaked {
                    leaks += 1;
                } else {
                    tight = Some(text);
                }
            }
        }
        match tight {
            // Of calls that are mixed up, one gets what is another's; which one is chance.
            Some(text) if self.case.server.gathers == 0 || leaks == 0 => Err(format!("`{text}` gets nowhere")),
            _ => Ok(()),
        }
    }

    /// On stdio all that comes is one client's; over HTTP an answer is of who has asked.
    fn reaches_client(&self, answers: &Answers, each: &[Answer], text: &str) -> bool {
        answers.everything.contains(text) || each.iter().any(|answer| answer.text.contains(text))
    }
}

#[derive(Default)]
struct Answers {
    /// For each step, one for each time that it was sent.
    steps: Vec<Vec<Answer>>,
    /// All that came on a line.
    everything: String,
}

struct Noted {
    /// What was sent by clients, without the handshake and lists.
    messages: Vec<String>,
    /// The file.
    text: String,
}

/// Whether the server must or must not be reached by it. Lists are asked for by gateways too.
fn counts(step: &Step) -> bool {
    !matches!(&step.send, Send::Method(method, _) if method == "tools/list")
}

/// Whether a message is of the protocol's own, and nothing else: no member more that another reader might go by.
fn is_routine(line: &str) -> bool {
    let Ok(Value::Object(message)) = serde_json::from_str::<Value>(line) else { return false };
    let Some(method) = message.get("method").and_then(Value::as_str) else {
        return message.get("Method").is_none() && message.get("METHOD").is_none();
    };
    let plain = message.keys().all(|key| matches!(key.as_str(), "jsonrpc" | "id" | "method" | "params"));
    let routine =
        method.starts_with("notifications/") || matches!(method, "initialize" | "ping" | "tools/list" | "server/discover");
    plain && routine
}

/// A step's message, as it must reach the server: its method and its parameters.
fn canonical(send: &Send) -> String {
    let (method, params) = request(send);
    canonical_parts(&method, serde_json::from_str(&params).unwrap_or_default())
}

fn canonical_line(line: &str) -> String {
    match serde_json::from_str::<Value>(line) {
        Ok(message) => canonical_parts(message["method"].as_str().unwrap_or_default(), message["params"].clone()),
        Err(_) => line.to_owned(),
    }
}

fn canonical_parts(method: &str, mut params: Value) -> String {
    if let Some(params) = params.as_object_mut() {
        params.remove("_meta");
        params.sort_keys();
    }
    format!("{method} {params}")
}

fn described(step: &Step) -> String {
    let said = match &step.send {
        Send::Call(tool, arguments) => format!("the call of `{tool}` with {arguments}"),
        Send::Method(method, params) => format!("`{method}` with {params}"),
        Send::Raw(text) => format!("the message {text}"),
    };
    crate::terminal::shortened(&said, 200)
}

const PATIENCE: Duration = Duration::from_secs(30);
