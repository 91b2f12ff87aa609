//! Documented attacks, played against the program; and a policy tried against them.

mod support;

use serde_json::{Value, json};
use support::{Scratch, run};

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn every_attack_that_a_gateway_can_stop_is_stopped_and_gets_through_without() {
    let ran = run(&["attacks", "test", "--json", "--jobs", "4"], "");
    let report = json_of(&ran.stdout);
    let cases = report["cases"].as_array().expect("cases");
    let failed: Vec<&Value> = cases.iter().filter(|case| case["result"] != "held").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(cases.len() > 120, "{} cases", cases.len());
    assert!(report["out_of_reach"].as_array().expect("a list").iter().all(|attack| attack["why"].is_string()));
    assert_eq!(ran.code, 0);
}

#[test]
fn an_attack_is_shown_with_what_stops_it_and_where_it_is_documented() {
    let shown = run(&["attacks", "show", "fetch-mcp-ssrf"], "").stdout;
    for part in ["CVE-2025-65512", "op: host_in", "What remains", "https://", "OWASP MCP MCP"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let listed = run(&["attacks", "list", "--control", "none", "--json"], "").stdout;
    assert!(listed.lines().count() > 10);
    for line in listed.lines() {
        let attack = json_of(line);
        assert_eq!((&attack["reach"], &attack["controls"]), (&json!("cannot"), &json!([])));
    }
    assert_eq!(run(&["attacks", "show", "nothing"], "").code, 2);
    assert_eq!(run(&["attacks", "list", "--class", "nothing"], "").code, 2);
}

const TOOLS: &str = r#"{"server": "workbench", "tools": [
  {"name": "read_file", "description": "Read a file.", "inputSchema": {"type": "object", "required": ["path"],
    "properties": {"path": {"type": "string", "description": "Path of the file"}}}},
  {"name": "delete_volume", "description": "Delete a volume for good.", "inputSchema": {"type": "object"}}
]}"#;

#[test]
fn what_a_policy_lacks_is_said_in_lines_that_stop_it() {
    let scratch = Scratch::new();
    let tools = scratch.write("tools.json", TOOLS).display().to_string();
    let loose = "version: \"1\"\ndefault: deny\ntools:\n  read_file: {rate_limit: 30/minute}\n  delete_volume: {}\n";
    let policy = scratch.policy(loose).display().to_string();
    let ran = run(&["attacks", "test", "--policy", &policy, "--tools", &tools, "--json"], "");
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    let report = json_of(&ran.stdout);
    let open = |report: &Value| -> Vec<String> {
        let findings = report["findings"].as_array().expect("findings").iter();
        let open = findings.filter(|finding| finding["standing"] == "open");
        open.map(|finding| format!("{} {}", finding["attack"], finding["tool"])).collect()
    };
    let found = open(&report);
    for expected in [r#""filesystem-mcp-escaperoute" "read_file""#, r#""pocketos-railway-volume" "delete_volume""#] {
        assert!(found.contains(&expected.to_owned()), "{expected} is not in {found:?}");
    }
    let beyond = report["not_judged"].as_array().expect("what is not judged");
    assert!(beyond.iter().any(|one| one["attack"] == "rug-pull-silent-redefinition" && one["why"].is_string()), "{beyond:?}");
    let missing = report["missing"].as_str().expect("what is missing");
    let missing = scratch.write("missing.yaml", missing).display().to_string();
    assert_eq!(run(&["check", &missing, "--tools", &tools], "").code, 0);
    let ran = run(&["attacks", "test", "--policy", &policy, "--policy", &missing, "--tools", &tools, "--json"], "");
    assert_eq!(open(&json_of(&ran.stdout)), Vec::<String>::new());
    assert_eq!(ran.code, 0);
    // The text says the same.
    let ran = run(&["attacks", "test", "--policy", &policy, "--tools", &tools], "");
    assert!(ran.stdout.contains("path_within") && ran.stdout.contains("- \"delete_volume\""), "{}", ran.stdout);
    assert!(ran.stdout.contains("not judged here: ") && ran.stdout.contains("\n  pin "), "{}", ran.stdout);
    assert_eq!(run(&["attacks", "test", "--tools", &tools], "").code, 2);
}

#[test]
fn the_tools_may_be_those_of_a_lock_file() {
    let scratch = Scratch::new();
    let policy = scratch.policy("version: \"1\"\ndefault: allow\n").display().to_string();
    let tools = scratch.write("tools.json", TOOLS).display().to_string();
    let lock = scratch.path("callgate.lock").display().to_string();
    let tried = |source: [&str; 2]| run(&[&["attacks", "test", "--json", "--policy", &policy][..], &source].concat(), "");
    assert_eq!(run(&["pin", "--lock", &lock, "--tools", &tools], "").code, 0);
    let (captured, pinned) = (tried(["--tools", &tools]), tried(["--lock", &lock]));
    assert_eq!((captured.code, pinned.code), (4, 4), "{}", pinned.stderr);
    assert_eq!(pinned.stdout, captured.stdout);

    // Another server with one of the same tools, and one of its own: neither what both have nor what any server may ask is
    // found twice.
    let other = TOOLS.replace("workbench", "other").replace("delete_volume", "erase_volume");
    let other = scratch.write("other.json", other).display().to_string();
    assert_eq!(run(&["pin", "--lock", &lock, "--tools", &other], "").code, 0);
    let both = json_of(&tried(["--lock", &lock]).stdout);
    let found: Vec<String> = both["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|finding| format!("{} {} {}", finding["attack"], finding["tool"], finding["argument"]))
        .collect();
    assert!(found.iter().any(|one| one.contains("delete_volume")) && found.iter().any(|one| one.contains("erase_volume")));
    assert_eq!(found.iter().collect::<std::collections::HashSet<_>>().len(), found.len(), "{found:?}");

    let another = scratch.write("another.json", TOOLS.replace("workbench", "another").replace("Read a file.", "Read any file."));
    assert_eq!(run(&["pin", "--lock", &lock, "--tools", &another.display().to_string()], "").code, 0);
    let unclear = tried(["--lock", &lock]);
    assert!(unclear.code == 1 && unclear.stderr.contains("another tool `read_file`"), "{}", unclear.stderr);
    let empty = scratch.write("empty.lock", r#"{"version": 1, "servers": {"workbench": {"instructions": null}}}"#);
    let nothing = tried(["--lock", &empty.display().to_string()]);
    assert!(nothing.code == 1 && nothing.stderr.contains("pins no tools yet"), "{}", nothing.stderr);
    assert_eq!(run(&["attacks", "test", "--lock", &lock], "").code, 2);
    assert_eq!(run(&["attacks", "test", "--policy", &policy], "").code, 2);
}
