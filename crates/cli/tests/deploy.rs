//! The files that operators start from: the unit and the container start what they say, with flags that exist.

mod support;

use support::{Scratch, Served, callgate, root};

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
fn the_container_starts_a_gateway_and_builds_what_there_is() {
    let file = read("deploy/Containerfile");
    let command = file.lines().find_map(|line| line.strip_prefix("CMD ")).expect("it starts something");
    check_starts(words(command));
    let version =
        read("Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = ").map(str::to_owned)).expect("one");
    assert!(file.contains(&format!("rust:{}-", version.trim_matches('"'))), "the image's Rust is not the one that is needed");
}
