//! The files that operators start from: the unit and the container start what they say, with flags that exist, and so does the
//! example of a cluster.

#[path = "../../store/tests/support/servers.rs"]
mod servers;

mod support;

use servers::Postgres;
use std::process::Command;
use support::http::Client;
use support::{MODERN, PATIENCE, Scratch, Served, callgate, root, until};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect("the file is there")
}

/// The words after `callgate` in a command line.
fn words(line: &str) -> Vec<String> {
    let words = line.split([' ', '[', ']', ',', '"']).filter(|word| !word.is_empty());
    words.skip_while(|word| word.contains('/') && !word.starts_with("/etc")).map(str::to_owned).collect()
}

/// Starts the gateway by `words`, with a configuration of ours in the place of the one they name.
#[track_caller]
fn check_starts(mut words: Vec<String>) {
    let scratch = Scratch::new();
    let policy = scratch.write("policy.yaml", "version: \"1\"\ndefault: deny\n");
    let config = format!(
        "listen: 127.0.0.1:0\nstate: \"sqlite:{}\"\nservers:\n  one: {{url: \"http://127.0.0.1:9/mcp\", policy: {}}}\ngrants: []\n",
        scratch.path("callgate.db").display(),
        policy.display()
    );
    let config = scratch.write("callgate.yaml", config);
    let named = words.iter_mut().find(|word| word.ends_with("callgate.yaml")).expect("it names a configuration");
    *named = config.display().to_string();
    let mut command = callgate();
    command.args(words);
    // It says that it listens, or the test fails.
    drop(Served::ready(command));
}

#[test]
fn the_unit_starts_a_gateway() {
    let unit = read("deploy/callgate.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("it starts something");
    check_starts(words(start));
}

#[test]
fn systemd_knows_every_line_of_the_unit() {
    let verify = |unit: &std::path::Path| {
        let output = Command::new("systemd-analyze").arg("verify").arg(unit).output().ok()?;
        Some(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let scratch = Scratch::new();
    let unit = read("deploy/callgate.service").replace("/usr/local/bin/callgate", env!("CARGO_BIN_EXE_callgate"));
    let Some(said) = verify(&scratch.write("callgate.service", &unit)) else {
        eprintln!("skipped: systemd is not installed");
        return;
    };
    assert!(!said.contains("callgate.service"), "{said}");
    let spoilt =
        verify(&scratch.write("callgate.service", unit.replace("LockPersonality", "LockPersonalty"))).unwrap_or_default();
    assert!(spoilt.contains("LockPersonalty"), "it would have said so: {spoilt}");
}

#[test]
fn the_gateways_of_the_example_of_a_cluster_are_one() {
    let Some(server) = Postgres::start() else { return };
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("policies")).expect("a directory");
    for policy in ["read.yaml", "write.yaml"] {
        scratch.write(&format!("policies/{policy}"), read(&format!("examples/cluster/policies/{policy}")));
    }
    // Whatever is free; two gateways on one machine would want the same ports.
    let ports = ["7420", "7421", "7422"].iter();
    let text = ports.fold(read("examples/cluster/callgate.yaml"), |text, port| text.replace(&format!("1:{port}"), "1:0"));
    assert_eq!(text.matches("127.0.0.1:0").count(), 3);
    let config = scratch.write("callgate.yaml", text).display().to_string();
    let command = |home: &str, words: &[&str]| {
        let mut command = callgate();
        command.args(words).env("CALLGATE_STATE", server.url()).env("XDG_DATA_HOME", scratch.path(home));
        let secrets = ["CALLGATE_SEAL", "ADMIN_TOKEN", "APPROVER_TOKEN", "WEBHOOK_SECRET", "UP_SEARCH", "UP_REPORTS", "UP_WIKI"];
        command.envs(secrets.map(|name| (name, format!("{name}-0123456789-0123456789-0123456789"))));
        command
    };
    let checked = command("one", &["check", &config]).output().expect("it runs");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && !said.contains("warning"), "{said}{}", String::from_utf8_lossy(&checked.stderr));
    let gateways = ["one", "two"].map(|home| Served::ready(command(home, &["serve", "-c", &config])));
    // What is given on one machine holds on both.
    let made = command("one", &["grants", "create", "bot", "--server", "search", "-c", &config]).output().expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let token = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    for gateway in &gateways {
        let status = |token: &str| {
            let bot = Client::silent(&gateway.address, MODERN).at("/mcp/wiki", token);
            bot.ask("1", "tools/list", serde_json::json!({})).status
        };
        assert_eq!(status("nobody's"), 401);
        // It is known, and its grant is not for that server.
        until(PATIENCE, || (status(&token) == 403).then_some(())).expect("the grant is known here");
        let said = gateway.stderr.lock().expect("no reader panics").clone();
        assert!(said.contains("administered on") && said.contains("metrics at"), "{said}");
    }
    drop(gateways);
    let verified = command("one", &["audit", "verify", "--state", "env:CALLGATE_STATE"]).output().expect("it runs");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    assert_eq!(server.sql("SELECT count(*) >= 2 FROM chains"), "t");
}

#[test]
fn the_container_starts_a_gateway_and_builds_what_there_is() {
    let file = read("deploy/Containerfile");
    let command = file.lines().find_map(|line| line.strip_prefix("CMD ")).expect("it starts something");
    check_starts(words(command));
    let version =
        read("Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = ").map(str::to_owned)).expect("one");
    assert!(file.contains(&format!("rust:{}-", version.trim_matches('"'))), "the image's Rust is not the one that is needed");
}
