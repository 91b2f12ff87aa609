//! The bypass corpus before servers on the SDKs of TypeScript, Python and Rust: what each of them really runs is what the
//! audit log says was allowed, with those arguments, and nothing more.
//!
//! `bypass.rs` asks what *any* careless reader might have run, of a stand-in that tells. Here are the readers that people
//! use. They need `tests/clients/setup.sh`, whose directory `CALLGATE_CLIENTS` names: `cargo xtask test readers` sees to it.

mod support;

use serde_json::{Map, Value};
use std::path::PathBuf;
use std::process::Command;
use support::corpus::cases_for;
use support::rig::{Mode, Rig, Server, shown};
use support::{LEGACY, MODERN, Scratch, root};

// ---------------------------------------------------------------- the readers

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sdk {
    TypeScript,
    Python,
    Rust,
}

impl Sdk {
    /// The reader on this SDK; `scratch` is where it finds the list of tools.
    fn server(self, scratch: &Scratch) -> Server {
        let file = |path: &str| root().join(path).display().to_string();
        let installed = PathBuf::from(std::env::var("CALLGATE_CLIENTS").expect("CALLGATE_CLIENTS: `cargo xtask test readers`"));
        let inside = |path: &str| installed.join(path).display().to_string();
        let mut program = match self {
            // `env`, because `serve` hands a child only the bare essentials.
            Sdk::TypeScript => vec![
                "/usr/bin/env".to_owned(),
                format!("CALLGATE_CLIENTS={}", installed.display()),
                inside("node/node"),
                file("tests/upstreams/sdk_reader.mjs"),
            ],
            Sdk::Python => vec![inside("python/bin/python"), file("tests/upstreams/sdk_reader.py")],
            // Beside our own binary: `cargo build -p rmcp-reader` leaves it there.
            Sdk::Rust => vec![PathBuf::from(env!("CARGO_BIN_EXE_callgate")).with_file_name("rmcp-reader").display().to_string()],
        };
        let list = Command::new(std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned()))
            .args([file("tests/upstreams/lenient.py"), "--print-tools".to_owned()])
            .output()
            .expect("python3 is installed");
        program.extend(["--tools".to_owned(), scratch.write("tools.json", list.stdout).display().to_string()]);
        Server { program, kind: "ran" }
    }
}

// ---------------------------------------------------------------- what was allowed, and what was run

/// A call, in a form in which two readers' spellings of one value are equal.
#[derive(Clone, Debug, PartialEq)]
struct Ran {
    tool: String,
    arguments: Value,
}

impl Ran {
    /// Whether this record is of that call. Of arguments longer than 64 KiB it has only a digest.
    fn is(&self, ran: &Ran) -> bool {
        let digest = self.arguments["hmac"].is_string() && self.arguments["bytes"].as_f64() > Some(65_536.0);
        self.tool == ran.tool && (digest || self.arguments == ran.arguments)
    }
}

/// Numbers as the doubles that these SDKs make of them; no arguments are the same as none.
fn plain(value: &Value, sdk: Sdk) -> Value {
    match value {
        Value::Number(number) => {
            serde_json::Number::from_f64(number.as_f64().unwrap_or(0.0) + 0.0).map_or(Value::Null, Value::Number)
        }
        Value::Array(items) => items.iter().map(|item| plain(item, sdk)).collect(),
        Value::Object(members) => {
            // The TypeScript SDK leaves this key out of what it hands to a tool: it runs less than was allowed, not more.
            let kept = members.iter().filter(|(key, _)| sdk != Sdk::TypeScript || *key != "__proto__");
            Value::Object(kept.map(|(key, value)| (key.clone(), plain(value, sdk))).collect())
        }
        other => other.clone(),
    }
}

fn call(tool: &Value, arguments: &Value, sdk: Sdk) -> Ran {
    let none = Value::Object(Map::new());
    let arguments = if arguments.is_null() { &none } else { arguments };
    Ran { tool: tool.as_str().unwrap_or_default().to_owned(), arguments: plain(arguments, sdk) }
}

/// What was run that no record allows, and what a record says was completed and was not run.
fn problems(ran: &[Value], records: &[Value], sdk: Sdk) -> Vec<String> {
    let calls =
        |phase: &'static str| records.iter().filter(move |record| record["method"] == "tools/call" && record["phase"] == phase);
    let completed = |id: &Value| calls("finished").any(|record| record["id"] == *id && record["reply"] == "completed");
    let mut allowed: Vec<(Ran, bool)> = calls("decided")
        .filter(|record| record["outcome"] == "allow")
        .map(|record| (call(&record["tool"], &record["arguments"], sdk), completed(&record["id"])))
        .collect();
    let mut problems = Vec::new();
    for entry in ran {
        let this = call(&entry["tool"], &entry["arguments"], sdk);
        match allowed.iter().position(|(allowed, _)| allowed.is(&this)) {
            Some(at) => drop(allowed.remove(at)),
            None => problems.push(format!("RAN what no record allows: {this:?}")),
        }
    }
    for (call, _) in allowed.into_iter().filter(|(_, completed)| *completed) {
        problems.push(format!("on record as completed, and never run: {call:?}"));
    }
    problems
}

fn check(sdk: Sdk, mode: Mode, revision: &'static str) {
    let scratch = Scratch::new();
    let server = sdk.server(&scratch);
    let (mut found, mut sent, mut run) = (Vec::new(), 0, 0);
    for (policy, cases) in cases_for(mode, revision) {
        let mut rig = Rig::new(mode, revision, &policy, server.clone());
        // What was answered is judged in `bypass.rs`; here, only that there is still somebody who answers.
        let dead: Vec<_> =
            cases.iter().map(|case| rig.judge(case).into_iter().find(|problem| problem.contains("next call"))).collect();
        let (ran, recorded) = rig.finish();
        let none = Vec::new();
        for (number, case) in cases.iter().enumerate() {
            let (ran, recorded) = (ran.get(&number).unwrap_or(&none), recorded.get(&number).unwrap_or(&none));
            let problems = problems(ran, recorded, sdk).into_iter().chain(dead[number].clone());
            let id = case["id"].as_str().expect("an id");
            found.extend(problems.map(|problem| format!("{id} [{sdk:?} {mode:?} {revision} {policy}] {}", shown(&problem))));
            run += ran.len();
        }
        sent += cases.len();
    }
    println!("{sdk:?} {mode:?} {revision}: {sent} cases, {run} calls run, all of them on record as allowed");
    assert!(found.is_empty(), "{} problems in {sent} cases:\n{}", found.len(), found.join("\n"));
    assert!(run > 0, "the reader ran nothing at all: it proves nothing");
}

macro_rules! readers {
    ($($name:ident: $sdk:ident $mode:ident $revision:ident;)*) => {
        $(#[test] #[ignore = "needs tests/clients/setup.sh: `cargo xtask test readers`"] fn $name() {
            check(Sdk::$sdk, Mode::$mode, $revision);
        })*
    };
}

readers! {
    typescript_runs_what_is_on_record_behind_run: TypeScript Run LEGACY;
    typescript_runs_what_is_on_record_behind_serve: TypeScript Serve LEGACY;
    python_runs_what_is_on_record_behind_run: Python Run LEGACY;
    python_runs_what_is_on_record_behind_run_stateless: Python Run MODERN;
    python_runs_what_is_on_record_behind_serve: Python Serve LEGACY;
    python_runs_what_is_on_record_behind_serve_stateless: Python Serve MODERN;
    rust_runs_what_is_on_record_behind_run: Rust Run LEGACY;
    rust_runs_what_is_on_record_behind_run_stateless: Rust Run MODERN;
    rust_runs_what_is_on_record_behind_serve: Rust Serve LEGACY;
    rust_runs_what_is_on_record_behind_serve_stateless: Rust Serve MODERN;
}
