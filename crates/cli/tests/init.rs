//! `init`: from the configurations of clients to servers behind callgate, and back again byte for byte.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

mod support;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as Pipe};
use std::time::{Duration, Instant};
use support::stdio::Stdio;
use support::{LEGACY, PATIENCE, Scratch, callgate};

/// A home with three clients that have the demo's server, each in its own way of writing.
struct Home {
    scratch: Scratch,
    files: Vec<(PathBuf, String)>,
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Home {
    fn new() -> Home {
        let scratch = Scratch::new();
        let (program, lab) = (env!("CARGO_BIN_EXE_callgate"), scratch.path("lab.json"));
        let lab = lab.display();
        let cursor = format!(
            "{{\r\n  // mine\r\n  \"mcpServers\": {{\r\n    \"lab\": {{ \"command\": \"{program}\", \"args\": [\"demo-server\", \"{lab}\"], }},\r\n    \"gone\": {{\"command\": \"/no/such/program\"}},\r\n    \"off\": {{\"command\": \"x\", \"disabled\": true}}\r\n  }}\r\n}}"
        );
        let codex = format!("model = 'x' # best\n[mcp_servers.lab]\ncommand = '{program}'\nargs = ['demo-server', '{lab}']\n");
        let goose = format!(
            "extensions:\n  lab:\n    type: stdio\n    cmd: {program} # here\n    args:\n      - demo-server\n      - {lab}\n"
        );
        let mut home = Home { scratch, files: Vec::new() };
        for (name, text) in [(".cursor/mcp.json", cursor), (".codex/config.toml", codex), (".config/goose/config.yaml", goose)] {
            let path = home.scratch.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
            home.files.push((path, text));
        }
        home
    }

    fn command(&self) -> Command {
        let mut command = callgate();
        for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "CODEX_HOME"] {
            command.env_remove(name);
        }
        command.env("HOME", self.scratch.path("")).current_dir(self.scratch.path(""));
        command
    }

    fn init(&self, arguments: &[&str]) -> Ran {
        let output = self.command().arg("init").args(arguments).stdin(Pipe::null()).output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn assert_as_before(&self) {
        for (path, text) in &self.files {
            assert_eq!(std::fs::read(path).unwrap(), text.as_bytes(), "{}", path.display());
        }
    }

    fn read(&self, file: usize) -> String {
        std::fs::read_to_string(&self.files[file].0).unwrap()
    }
}

fn policy_of(home: &Home) -> PathBuf {
    let policies = home.scratch.path(".config/callgate/policies");
    let mut found: Vec<_> = std::fs::read_dir(policies).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(found.len(), 1, "one server in three clients is one server: {found:?}");
    found.remove(0)
}

/// The command of the first server in Cursor's configuration, once it has been changed.
fn wrapped(home: &Home) -> Vec<String> {
    let text = home.read(0).replace("// mine", "").replace("], }", "] }");
    let read: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let server = &read["mcpServers"]["lab"];
    let arguments = server["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned());
    std::iter::once(server["command"].as_str().unwrap().to_owned()).chain(arguments).collect()
}

#[test]
fn a_dry_run_shows_everything_and_changes_nothing() {
    let home = Home::new();
    let ran = home.init(&["--dry-run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for shown in ["Cursor", "Codex", "Goose", "12 tools", "its client does not use it", "cannot be started", "  - ", "  + "] {
        assert!(ran.stdout.contains(shown), "{shown}: {}", ran.stdout);
    }
    // Each tool once, with its class, its level and what becomes of it.
    let told: Vec<Vec<&str>> = ran.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let of = |tool: &str| told.iter().filter(|words| words.first() == Some(&tool)).collect::<Vec<_>>();
    let [deleted] = of("DeleteAHOConfiguration")[..] else { panic!("{}", ran.stdout) };
    assert_eq!((deleted[1], &deleted[3..6]), ("Destructive", &["it", "is", "hidden"][..]), "{}", ran.stdout);
    assert!(!ran.stdout.contains("default: deny"), "{}", ran.stdout);

    // The policies themselves where they are wanted, and for programs.
    let whole = home.init(&["--dry-run", "--show-policies"]).stdout;
    assert!(whole.contains("    default: deny\n") && whole.contains("      - \"DeleteAHOConfiguration\"\n"), "{whole}");
    let json: Value = serde_json::from_str(&home.init(&["--dry-run", "--json"]).stdout).unwrap();
    let server = json["servers"].as_array().unwrap().iter().find(|server| server["policy"].is_string()).unwrap();
    let text = server["policy_text"].as_str().unwrap();
    assert!(whole.contains(&text.lines().map(|line| format!("    {line}\n")).collect::<String>()), "{text}");
    assert_eq!(server["policy_is"], "new");
    let grades = server["grades"].as_array().unwrap();
    assert_eq!(grades.len() as u64, server["tools"].as_u64().unwrap());
    let summary = ran.stdout.lines().find(|line| line.contains("12 tools: ")).unwrap();
    for class in ["Read", "Write", "Execute", "Destructive", "Financial"] {
        let count = grades.iter().filter(|grade| grade["risk"] == class).count();
        assert_eq!(summary.contains(&format!(" {count} {class}")), count > 0, "{summary}");
    }
    home.assert_as_before();
    assert!(!home.scratch.path(".config/callgate").exists());
}

#[test]
fn a_policy_that_is_there_is_shown_and_stays() {
    let home = Home::new();
    assert_eq!(home.init(&["--yes"]).code, 0);
    assert_eq!(home.init(&["--undo"]).code, 0);
    let policy = policy_of(&home);
    let again = home.init(&["--dry-run"]).stdout;
    assert!(again.contains("(is there already)"), "{again}");

    std::fs::write(&policy, "version: \"1\"\ndefault: allow\n").unwrap();
    let ran = home.init(&["--dry-run", "--show-policies"]);
    assert!(ran.stdout.contains("says something else: it stays"), "{}", ran.stdout);
    assert!(ran.stdout.contains("    default: allow\n") && !ran.stdout.contains("default: deny"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("it is hidden"), "what is proposed is not what will hold: {}", ran.stdout);
    assert_eq!(home.init(&["--yes"]).code, 0);
    assert_eq!(std::fs::read_to_string(&policy).unwrap(), "version: \"1\"\ndefault: allow\n");

    // Behind a policy with errors nothing starts.
    assert_eq!(home.init(&["--undo"]).code, 0);
    std::fs::write(&policy, "tools: [\n").unwrap();
    let ran = home.init(&["--yes"]);
    assert!(ran.stdout.contains("is there already and has errors"), "{}", ran.stdout);
    home.assert_as_before();
}

#[test]
fn a_server_that_never_answers_holds_up_none_of_the_others() {
    let home = Home::new();
    let (path, text) = &home.files[0];
    let hangs = r#""hangs": {"command": "tail", "args": ["-f", "/dev/null"]}, "hangs too": {"command": "tail", "args": ["-f", "/dev/zero"]},"#;
    std::fs::write(path, text.replace("\"gone\"", &format!("{hangs} \"gone\""))).unwrap();
    let start = Instant::now();
    let ran = home.init(&["--dry-run", "--timeout", "8s"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("12 tools") && ran.stdout.contains("not answered within 8s"), "{}", ran.stdout);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    // Without a word about it, none has longer than that either.
    let help = home.init(&["--help"]).stdout;
    assert!(help.contains("[default: 20s]"), "{help}");
}

#[test]
fn every_server_of_the_clients_gets_a_policy_in_each_profile_and_form() {
    let home = Home::new();
    let recommend = |more: &[&str]| {
        let mut command = home.command();
        command.args(["catalog", "recommend", "--clients"]).args(more);
        let output = command.stdin(Pipe::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let tools = support::root().join("crates/cli/src/commands/demo/tools.json");
    for profile in ["strict", "recommended", "permissive"] {
        for form in ["yaml", "json"] {
            let directory = home.scratch.path(&format!("{profile}-{form}"));
            let words = ["--profile", profile, "--format", form, "-o", directory.to_str().unwrap()];
            let (code, said) = recommend(&words);
            assert_eq!(code, Some(1), "one of them does not start: {said}");
            assert!(said.contains("(Cursor) is left out: its client does not use it"), "{said}");
            let written: Vec<PathBuf> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
            let [policy] = written.as_slice() else { panic!("one server in three clients is one server: {written:?}") };
            let checked = callgate().arg("check").arg(policy).arg("--tools").arg(&tools).output().unwrap();
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
            // Never over one that somebody may have edited.
            let text = std::fs::read(policy).unwrap();
            assert!(recommend(&words).1.contains("has no new policy: cannot write"));
            assert_eq!(std::fs::read(policy).unwrap(), text);
        }
    }
    assert_eq!(recommend(&[]).0, Some(2), "there is no place for them");
    home.assert_as_before();
}

#[test]
fn nothing_is_changed_without_consent() {
    let home = Home::new();
    let ran = home.init(&["--client", "cursor"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("--yes"), "{}", ran.stderr);
    home.assert_as_before();
}

#[test]
fn servers_go_through_callgate_and_back() {
    let home = Home::new();
    let ran = home.init(&["--yes", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let said: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(said["changes"].as_array().unwrap().len(), 3, "{said}");

    // What each client now starts is callgate, and behind it the same server under the proposed policy.
    assert!(home.read(0).contains("\r\n  // mine\r\n"));
    assert!(home.read(1).contains("model = 'x' # best\n"));
    assert!(home.read(2).contains("# here\n"));
    let policy = policy_of(&home);
    let checked = callgate().arg("check").arg(&policy).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let words = wrapped(&home);
    let mut command = home.command();
    command.args(&words[1..]);
    let mut client = Stdio::spawn(command);
    client.begin(LEGACY);
    let listed = client.ask(LEGACY, "1", "tools/list", json!({}));
    assert!(!listed["result"]["tools"].as_array().unwrap().is_empty(), "{listed}");
    client.close_stdin();
    assert!(client.ended(PATIENCE).is_some());

    // A second time there is nothing left to do.
    let again = home.init(&["--yes"]);
    assert!(again.code == 0 && again.stdout.contains("it goes through callgate already"), "{}{}", again.stdout, again.stderr);

    let undone = home.init(&["--undo"]);
    assert_eq!(undone.code, 0, "{}", undone.stderr);
    home.assert_as_before();
    assert!(policy.exists(), "a policy may have been edited: it stays");
}

#[test]
fn what_was_changed_since_is_not_overwritten() {
    let home = Home::new();
    assert_eq!(home.init(&["--yes"]).code, 0);
    let edited = home.read(1) + "# edited\n";
    std::fs::write(&home.files[1].0, &edited).unwrap();
    let undone = home.init(&["--undo"]);
    assert_eq!(undone.code, 1, "{}", undone.stderr);
    assert_eq!(home.read(1), edited);
    assert_eq!(home.read(0), home.files[0].1);
    let kept = undone.stderr.lines().find_map(|line| line.split(" is in ").nth(1)).expect("it says where");
    assert_eq!(std::fs::read_to_string(Path::new(kept)).unwrap(), home.files[1].1);
}
