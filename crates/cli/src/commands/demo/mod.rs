//! `demo`: a policy at work, live, without network or account.
//!
//! Everything is real but the service: the gateway is a child process of this binary, wrapped as a user would wrap a server;
//! the policy is the project's example; approvals and the audit log are used by their own commands. Each step knows what must
//! come of it, so that the demo fails where the gateway does.

mod client;
pub mod server;

use crate::failure::{Failure, OK};
use crate::terminal::{Paint, visible};
use client::{Client, Seen, Verdict};
use json::{Document, Strictness};
use std::fs::DirBuilder;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

pub(crate) const POLICY: &str = include_str!("../../../../../examples/healthomics/policies/genomics.yaml");

pub fn demo() -> Result<u8, Failure> {
    let stage = Stage::set()?;
    stage.say(&format!("{}\n", stage.paint.strong("callgate demo: what a genomics lab lets its agent do")))?;
    stage.fact("server", "a stand-in for AWS HealthOmics with 12 tools; it does whatever it is asked")?;
    stage.fact("policy", &stage.policy.display().to_string())?;
    stage.fact("started as", &format!("callgate run -p policy.yaml -- {SERVER}"))?;
    let mut client = Client::start(stage.gateway(), &stage.log)?;
    let mut play = Play { client: &mut client, stage: &stage, allowed: 0 };
    play.visible_tools()?;
    play.allowed_and_denied()?;
    play.limited()?;
    play.held()?;
    let allowed = play.allowed;
    client.end()?;
    stage.curtain(allowed)?;
    Ok(OK)
}

/// The directory of the demo, and how its lines are printed.
struct Stage {
    program: PathBuf,
    directory: PathBuf,
    policy: PathBuf,
    server: PathBuf,
    log: PathBuf,
    state: String,
    paint: Paint,
    /// On a terminal, lines come at the pace of a reader.
    pace: Duration,
}

impl Stage {
    fn set() -> Result<Stage, Failure> {
        let failed = |error: std::io::Error| Failure::because("cannot prepare the demo", &error);
        let program = std::env::current_exe().map_err(failed)?;
        let base = std::env::temp_dir();
        let directory =
            (0..100).map(|n| base.join(format!("callgate-demo-{}{}", std::process::id(), suffix(n)))).find_map(|path| {
                match DirBuilder::new().mode(0o700).create(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => None,
                    made => Some(made.map(|()| path)),
                }
            });
        let directory = directory.ok_or_else(|| Failure::general(format!("no room for a directory in {}", base.display())))?;
        let directory = directory.map_err(failed)?;
        let policy = directory.join("policy.yaml");
        let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&policy);
        written.and_then(|mut file| file.write_all(POLICY.as_bytes())).map_err(failed)?;
        Ok(Stage {
            program,
            state: format!("sqlite:{}", directory.join("callgate.db").display()),
            server: directory.join("server.json"),
            log: directory.join("callgate.log"),
            policy,
            directory,
            paint: Paint::stdout(),
            pace: if std::io::stdout().is_terminal() { Duration::from_millis(120) } else { Duration::ZERO },
        })
    }

    /// `callgate run`, as a user starts it.
    fn gateway(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("run").arg("-p").arg(&self.policy).args(["--state", &self.state, "--server", "genomics", "--"]);
        command.arg(&self.program).arg("demo-server").arg(&self.server);
        command
    }

    /// Runs another command of this binary to its end, and gives what it printed.
    fn command(&self, words: &[&str]) -> Result<String, Failure> {
        let ran = Command::new(&self.program).args(words).args(["--state", &self.state]).output();
        let ran = ran.map_err(|error| Failure::because("cannot start callgate for the demo", &error))?;
        if !ran.status.success() {
            let said = visible(String::from_utf8_lossy(&ran.stderr).trim());
            return Err(Failure::general(format!("`callgate {}` failed: {said}", words.join(" "))));
        }
        Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()?;
        std::thread::sleep(self.pace);
        Ok(())
    }

    fn chapter(&self, title: &str) -> Result<(), Failure> {
        self.say(&format!("\n{}", self.paint.strong(title)))
    }

    fn fact(&self, name: &str, value: &str) -> Result<(), Failure> {
        self.say(&format!("  {name:<10}  {value}"))
    }

    /// What became of a call, and below it, what the agent was told.
    fn line(&self, verdict: Verdict, tool: &str, what: &str, told: &str) -> Result<(), Failure> {
        let (word, colour): (_, fn(Paint, &str) -> String) = match verdict {
            Verdict::Allowed => ("allowed", Paint::good),
            Verdict::Denied => ("denied", Paint::bad),
            Verdict::Limited => ("limited", Paint::bad),
            Verdict::Hidden => ("hidden", Paint::bad),
            Verdict::Refused => ("refused", Paint::bad),
            Verdict::Held => ("held", Paint::warn),
        };
        self.say(&format!("  {}  {tool:<23}  {what}", colour(self.paint, &format!("{word:<10}"))))?;
        self.say(&format!("  {:<10}  {:<23}  {}", "", "", self.paint.dim(&format!("→ {}", visible(told)))))
    }

    /// What the server did, what is on record, and where all of it is.
    fn curtain(&self, allowed: usize) -> Result<(), Failure> {
        self.chapter("What reached the server")?;
        let state = std::fs::read_to_string(&self.server);
        let state = state.map_err(|error| Failure::because("cannot read the server's state", &error))?;
        let document = Document::parse(state, Strictness::Reply).map_err(|error| Failure::general(error.to_string()))?;
        let count = |name: &str| document.root().get(name).and_then(|list| list.elements()).map_or(0, Iterator::count);
        let (runs, calls) = (count("runs"), count("calls"));
        if calls != allowed {
            return Err(Failure::general(format!("{calls} calls reached the server, but {allowed} were allowed")));
        }
        self.fact("calls", &format!("{calls}, exactly those that were allowed: among them {runs} runs and 1 batch"))?;
        self.chapter("What is on record")?;
        let verified = self.command(&["audit", "verify"])?;
        self.fact("verified", verified.lines().next().unwrap_or_default())?;
        self.fact(
            "denied",
            &format!("{} records", self.command(&["audit", "list", "--outcome", "deny", "--json"])?.lines().count()),
        )?;
        self.chapter("Where everything is")?;
        self.fact("policy", &self.policy.display().to_string())?;
        self.fact("records", &format!("callgate audit list --state {}", self.state))?;
        self.fact("overview", &format!("callgate status --state {}", self.state))?;
        self.fact("server", &format!("{} (what it was made to do)", self.server.display()))?;
        self.fact("log", &self.log.display().to_string())?;
        self.fact("to remove", &format!("rm -r {}", self.directory.display()))?;
        self.chapter("Your own server")?;
        self.say(&format!("  callgate scan -o policy.yaml -- {EXAMPLE}"))?;
        self.say("  callgate check policy.yaml")?;
        self.say(&format!("  callgate run -p policy.yaml -- {EXAMPLE}"))?;
        self.say("  In a client's configuration, `callgate run -p /path/to/policy.yaml --` goes before the server's command.")
    }
}

fn suffix(n: u32) -> String {
    if n == 0 { String::new() } else { format!("-{n}") }
}

/// The script.
struct Play<'s> {
    client: &'s mut Client,
    stage: &'s Stage,
    /// How many calls were let through.
    allowed: usize,
}

impl Play<'_> {
    fn visible_tools(&mut self) -> Result<(), Failure> {
        self.stage.chapter("What the agent sees")?;
        let shown = self.client.tools()?;
        let all = policy::Tools::parse(server::TOOLS.as_bytes()).map_err(Failure::general)?;
        let hidden: Vec<&str> = all.names().filter(|name| !shown.iter().any(|shown| shown == name)).collect();
        if hidden.len() != 3 {
            return Err(Failure::general(format!("3 tools should be hidden, but these are: {}", hidden.join(", "))));
        }
        self.stage.fact("tools", &format!("{} of {}; the policy hides the others:", shown.len(), all.names().count()))?;
        for name in hidden {
            self.stage.say(&format!("  {}  {name}", self.stage.paint.bad("hidden    ")))?;
        }
        Ok(())
    }

    fn allowed_and_denied(&mut self) -> Result<(), Failure> {
        self.stage.chapter("What it may do, and what not")?;
        let run = |changes: &[(&str, &str)]| run_arguments("sample-1", changes);
        self.step("ListAHOWorkflows", r#"{"aws_profile":"lab"}"#, "with the lab's credentials", Verdict::Allowed)?;
        self.step("StartAHORun", &run(&[]), "into the lab's bucket", Verdict::Allowed)?;
        let profile = run(&[("aws_profile", "\"admin\"")]);
        self.step("StartAHORun", &profile, "with the credentials of `admin`", Verdict::Denied)?;
        let elsewhere = run(&[("output_uri", "\"s3://elsewhere/results/\"")]);
        self.step("StartAHORun", &elsewhere, "results to s3://elsewhere/", Verdict::Denied)?;
        self.step("StartAHORun", &run(&[("role_arn", "")]), "without the required `role_arn`", Verdict::Denied)?;
        let misspelt = run(&[("run_group", "\"small\"")]);
        self.step("StartAHORun", &misspelt, "`run_group` for `run_group_id`", Verdict::Denied)?;
        let twice = run(&[("aws_profile\":\"admin\",\"aws_profile", "\"lab\"")]);
        self.step("StartAHORun", &twice, "`aws_profile` twice: `admin` and `lab`", Verdict::Refused)?;
        let group = r#"{"run_group_id":"77","max_runs":100000,"aws_profile":"lab"}"#;
        self.step("UpdateAHORunGroup", group, "raise its own bounds", Verdict::Denied)?;
        self.step("DeleteAHOConfiguration", r#"{"name":"vpc"}"#, "though it was never shown", Verdict::Hidden)
    }

    fn limited(&mut self) -> Result<(), Failure> {
        self.stage.chapter("How often: ten runs a minute")?;
        for n in 2..=10 {
            let seen = self.client.call("StartAHORun", &run_arguments(&format!("sample-{n}"), &[]))?;
            self.expect(&seen, Verdict::Allowed, "StartAHORun")?;
        }
        self.stage.line(Verdict::Allowed, "StartAHORun", "nine more", "runs 1000002 to 1000010 started")?;
        self.step("StartAHORun", &run_arguments("sample-11", &[]), "the eleventh", Verdict::Limited)
    }

    fn held(&mut self) -> Result<(), Failure> {
        self.stage.chapter("What a person must agree to")?;
        let batch = concat!(
            r#"{"workflow_id":"5531","role_arn":"arn:aws:iam::111122223333:role/omics","output_uri":"s3://lab-results/batch/","#,
            r#""batch_run_settings":{"samples":96},"aws_profile":"lab"}"#
        );
        self.step("StartAHORunBatch", batch, "96 runs at once", Verdict::Held)?;
        let waiting = self.stage.command(&["approvals", "list", "--json"])?;
        let first = waiting.lines().next().unwrap_or_default().to_owned();
        let approval = Document::parse(first, Strictness::Reply).ok();
        let id = approval.as_ref().and_then(|approval| approval.root().get("id")?.as_str());
        let id = id.ok_or_else(|| Failure::general("no approval waits for an answer"))?;
        self.stage.command(&["approvals", "approve", &id])?;
        let you = self.stage.paint.warn("you       ");
        self.stage.say(&format!("  {you}  callgate approvals approve {id}"))?;
        self.step("StartAHORunBatch", batch, "the same call again", Verdict::Allowed)?;
        self.step("StartAHORunBatch", batch, "and once more: one yes is for one call", Verdict::Held)
    }

    /// Makes a call and shows what became of it, which must be as the script says.
    fn step(&mut self, tool: &str, arguments: &str, what: &str, expected: Verdict) -> Result<(), Failure> {
        let seen = self.client.call(tool, arguments)?;
        self.expect(&seen, expected, tool)?;
        self.stage.line(seen.verdict, tool, what, &seen.text)
    }

    fn expect(&mut self, seen: &Seen, expected: Verdict, tool: &str) -> Result<(), Failure> {
        self.allowed += usize::from(seen.verdict == Verdict::Allowed);
        if seen.verdict == expected {
            return Ok(());
        }
        let log = self.stage.log.display();
        let (got, text) = (seen.verdict, visible(&seen.text));
        Err(Failure::general(format!("`{tool}` should be {expected:?} and was {got:?}: {text} (see {log})").to_lowercase()))
    }
}

/// The arguments of a run that the policy allows, with changes: another value, a further member, or none (an empty value).
fn run_arguments(name: &str, changes: &[(&str, &str)]) -> String {
    let name = json::quote(name);
    let mut members = vec![
        ("workflow_id", "\"5531\""),
        ("role_arn", "\"arn:aws:iam::111122223333:role/omics\""),
        ("name", &*name),
        ("output_uri", "\"s3://lab-results/demo/\""),
        ("aws_profile", "\"lab\""),
    ];
    for (changed, value) in changes {
        // A key that brings another along replaces the one it ends with.
        members.retain(|(member, _)| !changed.ends_with(member));
        if !value.is_empty() {
            members.push((changed, value));
        }
    }
    let members: Vec<String> = members.iter().map(|(member, value)| format!("\"{member}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

const SERVER: &str = "callgate demo-server";
const EXAMPLE: &str = "npx -y @modelcontextprotocol/server-filesystem /srv/shared";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_changed_as_the_script_says() {
        assert!(run_arguments("s", &[]).ends_with(r#""aws_profile":"lab"}"#));
        assert!(!run_arguments("s", &[("role_arn", "")]).contains("role_arn"));
        let twice = run_arguments("s", &[("aws_profile\":\"admin\",\"aws_profile", "\"lab\"")]);
        assert!(twice.ends_with(r#""aws_profile":"admin","aws_profile":"lab"}"#), "{twice}");
    }
}
