//! A client, a gateway in one of its modes, and a server behind it: one of `tests/upstreams`, whose log says what reached it.

use super::http::{Client, Stream};
use super::stdio::Stdio;
use super::{HttpUpstream, PATIENCE, Scratch, Served, audit, callgate, names, request, root, until};
use serde_json::{Value, json};

/// Before one server.
pub const MODES: [&str; 4] = ["run", "bridge", "serve", "serve before a command"];
/// Under a configuration: at the path of the server, and at that of all of them.
pub const CONFIGURED: [&str; 2] = ["configured", "federated"];

const TOKEN: &str = "a-token-of-the-tests-long-enough-to-be-one";

pub enum AnyClient {
    Lines(Stdio),
    Http(Client),
}

/// What stands behind the gateway, and how the gateway stands before it.
pub struct Setup<'s> {
    pub mode: &'s str,
    pub revision: &'static str,
    pub policy: &'s str,
    /// The name of the server, and of its script in `tests/upstreams`.
    pub server: &'s str,
    /// What the script is given; `--http` comes after it where it is to be reached so.
    pub arguments: Vec<String>,
    /// Further options of `run` and `serve`.
    pub options: Vec<String>,
    /// Further members of the server in a configuration.
    pub members: Value,
}

pub struct Chain {
    pub client: AnyClient,
    pub revision: &'static str,
    pub scratch: Scratch,
    /// Everything that the client was sent.
    pub seen: String,
    /// Before each name, where there could be other servers.
    prefix: String,
    // In the order in which they are to end.
    served: Option<Served>,
    _upstream: Option<HttpUpstream>,
}

impl Chain {
    #[track_caller]
    pub fn start(scratch: Scratch, setup: Setup<'_>) -> Chain {
        let Setup { mode, revision, policy, server, arguments, options, members } = setup;
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = root().join(format!("tests/upstreams/{server}.py")).display().to_string();
        let command: Vec<String> = [python, script].into_iter().chain(arguments).collect();
        let (policy, state) = (scratch.policy(policy).display().to_string(), scratch.state());
        if CONFIGURED.contains(&mode) {
            let served = configured(&scratch, server, &command, members);
            let path = if mode == "federated" { "/mcp".to_owned() } else { format!("/mcp/{server}") };
            let client = Client::silent(&served.address, revision).at(&path, TOKEN).shake_hands();
            let prefix = if mode == "federated" { format!("{server}__") } else { String::new() };
            let (client, served) = (AnyClient::Http(client), Some(served));
            return Chain { client, revision, scratch, seen: String::new(), prefix, served, _upstream: None };
        }
        let over_http = mode == "bridge" || mode == "serve";
        let with_http = || HttpUpstream::start_command(command.iter().cloned().chain(["--http".to_owned()]).collect());
        let upstream = over_http.then(with_http);
        let url = upstream.as_ref().map(HttpUpstream::url).unwrap_or_default();
        let mut words = vec!["-p", &policy, "--state", &state, "--server", server];
        words.extend(options.iter().map(String::as_str));
        if over_http {
            words.extend(["--upstream", &url]);
        } else {
            words.push("--");
            words.extend(command.iter().map(String::as_str));
        }
        let (client, served) = if mode == "run" || mode == "bridge" {
            let mut run = callgate();
            run.arg("run").args(&words);
            let mut client = Stdio::spawn(run);
            client.begin(revision);
            (AnyClient::Lines(client), None)
        } else {
            let gate = Served::start(&words);
            (AnyClient::Http(Client::begin(&gate.address, revision)), Some(gate))
        };
        Chain { client, revision, scratch, seen: String::new(), prefix: String::new(), served, _upstream: upstream }
    }

    /// Ends the gateway, and leaves what it has written.
    pub fn end(self) -> Scratch {
        let Chain { client, served, scratch, .. } = self;
        drop((client, served));
        scratch
    }

    /// Sends a request; gives everything that the client is sent up to its answer, the answer last.
    #[track_caller]
    pub fn exchange(&mut self, id: &str, method: &str, mut params: Value) -> Vec<Value> {
        if let Some(name) = params["name"].as_str().filter(|_| !self.prefix.is_empty()) {
            params["name"] = json!(format!("{}{name}", self.prefix));
        }
        let expected: Value = serde_json::from_str(id).expect("the id is JSON");
        let messages = match &mut self.client {
            AnyClient::Lines(client) => {
                assert!(client.send(request(self.revision, id, method, params)), "nobody reads: {}", client.said());
                let mut messages = vec![client.message()];
                while messages.last().is_some_and(|last| last["id"] != expected || last.get("method").is_some()) {
                    messages.push(client.message());
                }
                messages
            }
            AnyClient::Http(client) => {
                let name = ["name", "uri", "taskId"].iter().find_map(|key| params[key].as_str()).map(str::to_owned);
                let headers = client.headers(method, name.as_deref());
                let reply = client.send(&headers, request(self.revision, id, method, params).as_bytes()).expect("an answer");
                assert_eq!(reply.status, 200, "{reply:?}");
                reply.messages()
            }
        };
        self.seen.extend(messages.iter().map(Value::to_string));
        messages
    }

    /// Calls a tool whose server asks back; `answer` says to each question what the client sends. Gives the questions, and the
    /// answer to the call.
    #[track_caller]
    pub fn converse(&mut self, id: &str, params: Value, answer: impl Fn(&Value) -> Vec<Value>) -> (Vec<Value>, Value) {
        let mut stream = match &mut self.client {
            AnyClient::Lines(client) => {
                client.send(request(self.revision, id, "tools/call", params));
                None
            }
            AnyClient::Http(client) => Some(Stream::post(client, id, "tools/call", params)),
        };
        let mut questions = Vec::new();
        loop {
            let message = match (&mut stream, &self.client) {
                (Some(stream), _) => stream.next(),
                (None, AnyClient::Lines(client)) => client.message(),
                (None, AnyClient::Http(_)) => unreachable!("a client over HTTP has a stream"),
            };
            if message.get("method").is_none() {
                return (questions, message);
            }
            for said in answer(&message) {
                match &mut self.client {
                    AnyClient::Lines(client) => assert!(client.send(said.to_string()), "nobody reads: {}", client.said()),
                    AnyClient::Http(client) => {
                        let headers = client.headers(said["method"].as_str().unwrap_or("response"), None);
                        let taken = client.send(&headers, said.to_string().as_bytes()).expect("an answer");
                        // A notification that the policy denies is dropped, and over HTTP its sender is told.
                        let is_dropped = taken.status == 403 && said.get("id").is_none();
                        assert!(taken.status == 202 || is_dropped, "{taken:?}");
                    }
                }
            }
            questions.push(message);
        }
    }

    #[track_caller]
    pub fn ask(&mut self, id: &str, method: &str, params: Value) -> Value {
        self.exchange(id, method, params).pop().expect("an answer")
    }

    #[track_caller]
    pub fn call(&mut self, id: &str, tool: &str, arguments: Value) -> Value {
        self.ask(id, "tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// The names of the tools as the server gives them.
    #[track_caller]
    pub fn list(&mut self, id: &str) -> Vec<String> {
        let listed = names(&self.ask(id, "tools/list", json!({})));
        listed.iter().map(|name| name.strip_prefix(&self.prefix).expect("its server stands before it").to_owned()).collect()
    }

    /// Calls a tool without arguments, which must be denied for this reason.
    #[track_caller]
    pub fn is_denied(&mut self, id: &str, tool: &str, reason: &str) {
        let reply = self.call(id, tool, json!({}));
        assert_eq!(reply["result"]["_meta"]["dev.callgate/decision"]["reason"], reason, "{reply}");
    }

    /// Every message that reached the server.
    pub fn reached(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.scratch.log()).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Those of one method.
    pub fn requests(&self, method: &str) -> Vec<Value> {
        self.reached().into_iter().filter(|message| message["method"] == method).collect()
    }

    /// How often a tool was really called.
    pub fn calls(&self, tool: &str) -> usize {
        self.requests("tools/call").iter().filter(|message| message["params"]["name"] == tool).count()
    }

    /// The records of this method, once there is one.
    #[track_caller]
    pub fn records(&self, method: &str) -> Vec<Value> {
        let of_method =
            || audit(&self.scratch.state()).into_iter().filter(|record| record["method"] == method).collect::<Vec<_>>();
        until(PATIENCE, || Some(of_method()).filter(|records| !records.is_empty())).unwrap_or_default()
    }
}

fn configured(scratch: &Scratch, server: &str, command: &[String], members: Value) -> Served {
    scratch.write("token", TOKEN);
    let mut of_server = json!({"command": command, "policy": "policy.yaml"});
    for (key, value) in members.as_object().into_iter().flatten() {
        of_server[key] = value.clone();
    }
    let config = json!({
        "listen": "127.0.0.1:0",
        "state": scratch.state(),
        "servers": {server: of_server},
        "grants": [{"name": "ada", "principal": "person:ada", "token": "file:token", "servers": [server]}],
    });
    Served::configured(&scratch.write("callgate.yaml", config.to_string()), &[])
}
