//! Configurations of real clients, before and after: what is not about the server stays as it was, to the byte.

use clients::{CLIENTS, Client, Configuration, Machine, Platform, Target, Why, Wrapping};
use std::path::Path;

const BEFORE: [&str; 4] = ["/opt/callgate", "run", "-p", "/p/files.yaml"];

fn client(id: &str) -> &'static Client {
    CLIENTS.iter().find(|client| client.id == id).expect("the client is known")
}

fn parse(id: &str, file: &str, text: &str) -> Configuration {
    Configuration::parse(client(id), Path::new(file), text.to_owned()).expect("the configuration can be read")
}

/// Puts callgate before every server of a configuration.
#[track_caller]
fn check(id: &str, file: &str, text: &str, expected: &str) {
    let configuration = parse(id, file, text);
    let mut wrapping = Wrapping::of(&configuration);
    for server in &configuration.servers {
        wrapping.put(server, &BEFORE.map(str::to_owned)).unwrap_or_else(|why| panic!("{}: {why}", server.name));
    }
    let wrapped = wrapping.finish().expect("what comes out says what it should");
    assert_eq!(wrapped, expected);
    let again = parse(id, file, &wrapped);
    assert!(again.servers.iter().all(clients::Server::is_wrapped), "{wrapped}");
}

#[track_caller]
fn check_refused(id: &str, file: &str, text: &str, expected: Why) {
    let configuration = parse(id, file, text);
    let refused = Wrapping::of(&configuration).put(&configuration.servers[0], &BEFORE.map(str::to_owned));
    assert_eq!(refused, Err(expected), "{text}");
}

#[test]
fn comments_order_and_spacing_survive() {
    check(
        "cursor",
        "mcp.json",
        r#"{
  // what I use daily
  "mcpServers": {
    "files": {
      "env": { "LOG": "1" }, /* noisy */
      "command": "npx", // from npm
      "args": ["-y", "@modelcontextprotocol/server-filesystem", "/srv"],
    },
  },
  "theme":   "dark"
}
"#,
        r#"{
  // what I use daily
  "mcpServers": {
    "files": {
      "env": { "LOG": "1" }, /* noisy */
      "command": "/opt/callgate", // from npm
      "args": ["run", "-p", "/p/files.yaml", "--", "npx", "-y", "@modelcontextprotocol/server-filesystem", "/srv"],
    },
  },
  "theme":   "dark"
}
"#,
    );
}

#[test]
fn arguments_on_lines_of_their_own_stay_so() {
    check(
        "claude-desktop",
        "claude_desktop_config.json",
        "{\"mcpServers\": {\"a\": {\r\n  \"command\": \"uvx\",\r\n  \"args\": [\r\n    \"a\"\r\n  ]\r\n}}}",
        "{\"mcpServers\": {\"a\": {\r\n  \"command\": \"/opt/callgate\",\r\n  \"args\": [\r\n    \"run\",\r\n    \"-p\",\r\n    \"/p/files.yaml\",\r\n    \"--\",\r\n    \"uvx\",\r\n    \"a\"\r\n  ]\r\n}}}",
    );
}

#[test]
fn a_command_without_arguments_gets_some() {
    check(
        "cursor",
        "mcp.json",
        r#"{"mcpServers": {"a": {"command": "server"}}}"#,
        r#"{"mcpServers": {"a": {"args": ["run", "-p", "/p/files.yaml", "--", "server"], "command": "/opt/callgate"}}}"#,
    );
    check(
        "cursor",
        "mcp.json",
        "{\"mcpServers\": {\"a\": {\n\t\"args\": [],\n\t\"command\": \"server\"\n}}}",
        "{\"mcpServers\": {\"a\": {\n\t\"args\": [\"run\", \"-p\", \"/p/files.yaml\", \"--\", \"server\"],\n\t\"command\": \"/opt/callgate\"\n}}}",
    );
}

#[test]
fn zed_has_had_a_mapping_for_the_command() {
    check(
        "zed",
        "settings.json",
        r#"{"context_servers": {"a": {"source": "custom", "command": {"path": "a", "args": ["b"], "env": {}}}}}"#,
        r#"{"context_servers": {"a": {"source": "custom", "command": {"path": "/opt/callgate", "args": ["run", "-p", "/p/files.yaml", "--", "a", "b"], "env": {}}}}}"#,
    );
}

#[test]
fn claude_code_keeps_servers_of_projects_too() {
    let text = r#"{"mcpServers": {"a": {"command": "a", "args": ["1"]}}, "projects": {"/p.q": {"mcpServers": {"b": {"command": "b", "args": ["2"]}}}, "/r": {}}}"#;
    let wrapped = r#"{"mcpServers": {"a": {"command": "/opt/callgate", "args": ["run", "-p", "/p/files.yaml", "--", "a", "1"]}}, "projects": {"/p.q": {"mcpServers": {"b": {"command": "/opt/callgate", "args": ["run", "-p", "/p/files.yaml", "--", "b", "2"]}}}, "/r": {}}}"#;
    check("claude-code", ".claude.json", text, wrapped);
}

#[test]
fn codex_writes_toml() {
    check(
        "codex",
        "config.toml",
        "model = \"o\"  # best\n\n[mcp_servers.files]\ncommand = \"npx\" # npm\nargs = [\"-y\", \"x\"]\n\n[mcp_servers.files.env]\nA = 'b'\n\n[mcp_servers.bare]\ncommand = 'bare'\n",
        "model = \"o\"  # best\n\n[mcp_servers.files]\ncommand = \"/opt/callgate\" # npm\nargs = [\"run\", \"-p\", \"/p/files.yaml\", \"--\", \"npx\", \"-y\", \"x\"]\n\n[mcp_servers.files.env]\nA = 'b'\n\n[mcp_servers.bare]\nargs = [\"run\", \"-p\", \"/p/files.yaml\", \"--\", \"bare\"]\ncommand = \"/opt/callgate\"\n",
    );
}

#[test]
fn goose_writes_yaml() {
    check(
        "goose",
        "config.yaml",
        "GOOSE_MODEL: m # mine\nextensions:\n  developer:\n    type: builtin\n    enabled: true\n  files:\n    cmd: npx   # npm\n    args:\n      - -y\n      - '@x/é'\n    enabled: true\n    envs: {}\n  bare:\n    type: stdio\n    cmd: bare\n  flow: {type: stdio, cmd: flow, args: [a]}\n",
        "GOOSE_MODEL: m # mine\nextensions:\n  developer:\n    type: builtin\n    enabled: true\n  files:\n    cmd: \"/opt/callgate\"   # npm\n    args:\n      - \"run\"\n      - \"-p\"\n      - \"/p/files.yaml\"\n      - \"--\"\n      - \"npx\"\n      - -y\n      - '@x/é'\n    enabled: true\n    envs: {}\n  bare:\n    type: stdio\n    args: [\"run\", \"-p\", \"/p/files.yaml\", \"--\", \"bare\"]\n    cmd: \"/opt/callgate\"\n  flow: {type: stdio, cmd: \"/opt/callgate\", args: [\"run\", \"-p\", \"/p/files.yaml\", \"--\", \"flow\", a]}\n",
    );
}

#[test]
fn continue_reads_every_file_of_a_directory() {
    let place = scratch::Scratch::new();
    std::fs::create_dir_all(place.path(".continue/mcpServers")).expect("a directory");
    place.write(".continue/mcpServers/web.yaml", "name: web\nmcpServers:\n  - {name: browser, command: npx, args: [x]}\n");
    place.write(".continue/mcpServers/from-elsewhere.json", r#"{"mcpServers": {"files": {"command": "serve"}}}"#);
    place.write(".continue/mcpServers/notes.txt", "mcpServers: [");
    let (home, project) = (place.path("home"), Some(place.path("")));
    let machine = Machine { platform: Platform::Linux, home, config: None, app_data: None, codex: None, project };
    let read = Configuration::of(client("continue"), &machine).into_iter().map(|read| read.expect("it can be read"));
    let names: Vec<String> = read.flat_map(|configuration| configuration.servers).map(|server| server.name).collect();
    assert_eq!(names, ["browser", "files"]);
}

#[test]
fn continue_has_a_list() {
    check(
        "continue",
        "config.yaml",
        "mcpServers:\n  - name: a\n    command: uvx\n    args:\n    - a\n  - command: b\n    name: b\n",
        "mcpServers:\n  - name: a\n    command: \"/opt/callgate\"\n    args:\n    - \"run\"\n    - \"-p\"\n    - \"/p/files.yaml\"\n    - \"--\"\n    - \"uvx\"\n    - a\n  - args: [\"run\", \"-p\", \"/p/files.yaml\", \"--\", \"b\"]\n    command: \"/opt/callgate\"\n    name: b\n",
    );
}

#[test]
fn opencode_has_one_list_for_the_command() {
    check(
        "opencode",
        "opencode.json",
        r#"{"mcp": {"a": {"type": "local", "command": ["npx", "a"]}, "b": {"type": "remote", "url": "https://b.example/mcp"}}}"#,
        r#"{"mcp": {"a": {"type": "local", "command": ["/opt/callgate", "run", "-p", "/p/files.yaml", "--", "npx", "a"]}, "b": {"type": "local", "command": ["/opt/callgate", "run", "-p", "/p/files.yaml", "--upstream", "https://b.example/mcp"]}}}"#,
    );
}

#[test]
fn the_headers_of_an_http_server_go_into_the_environment() {
    check(
        "vscode",
        "mcp.json",
        r#"{
  "inputs": [{"id": "token"}],
  "servers": {
    "github": {
      "type": "http",
      "url": "https://api.example/mcp",
      "headers": { "Authorization": "Bearer ${input:token}", "X-Toolsets": "repos" }
    }
  }
}"#,
        r#"{
  "inputs": [{"id": "token"}],
  "servers": {
    "github": {
      "type": "stdio",
      "command": "/opt/callgate",
      "args": ["run", "-p", "/p/files.yaml", "--upstream", "https://api.example/mcp", "--header", "Authorization: env:CALLGATE_HEADER_1", "--header", "X-Toolsets: env:CALLGATE_HEADER_2"],
      "env": { "CALLGATE_HEADER_1": "Bearer ${input:token}", "CALLGATE_HEADER_2": "repos" }
    }
  }
}"#,
    );
}

#[test]
fn what_cannot_be_changed_safely_is_left() {
    check_refused("cursor", "mcp.json", r#"{"mcpServers": {"a": {"command": "callgate", "args": ["run"]}}}"#, Why::Wrapped);
    check_refused("cursor", "mcp.json", r#"{"mcpServers": {"a": {"url": "u", "auth": {}}}}"#, Why::LogsIn("auth".into()));
    let toml = "[mcp_servers.a]\nurl = 'u'\nbearer_token_env_var = 'T'";
    check_refused("codex", "config.toml", toml, Why::LogsIn("bearer_token_env_var".into()));
    let both = r#"{"mcpServers": {"a": {"url": "u", "headers": {"A": "b"}, "env": {"C": "d"}}}}"#;
    check_refused("cursor", "mcp.json", both, Why::HeadersAndEnvironment);
}

#[test]
fn a_file_that_readers_could_differ_about_is_not_read() {
    for (file, text) in [
        ("mcp.json", r#"{"mcpServers": {"a": {"command": "a"}, "a": {"command": "b"}}}"#),
        ("mcp.json", r#"{"mcpServers": {"#),
        ("config.yaml", "a: &x 1\nb: *x\n"),
        ("config.toml", "a = 1\na = 2\n"),
    ] {
        let read = Configuration::parse(client("cursor"), Path::new(file), text.to_owned());
        assert!(read.is_err(), "{text}");
    }
}

#[test]
fn what_a_client_does_not_use_is_said() {
    let configuration = parse(
        "cline",
        "cline_mcp_settings.json",
        "\u{feff}{\"mcpServers\": {\"a\": {\"command\": \"a\", \"disabled\": true}, \"b\": {\"command\": \"b\", \"env\": {\"T\": \"${env:T}\"}}}}",
    );
    assert!(configuration.servers[0].disabled && !configuration.servers[1].disabled);
    assert_eq!(configuration.servers[1].variable(), Some("${env:T}"));
    assert_eq!(configuration.servers[1].target, Target::Command { command: vec!["b".into()] });
}
