//! What the suite needs: Node, the suite itself, a client, and the programs that it is run against.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::compare::Results;
use super::processes::Running;
use crate::workspace::{Workspace, cargo};

/// Everything in its place.
pub struct Kit {
    /// Where the packages are.
    packages: PathBuf,
    node: PathBuf,
    callgate: PathBuf,
    everything_server: PathBuf,
    /// A policy that allows every call.
    policy: PathBuf,
}

impl Kit {
    /// Installs and builds what is not there yet.
    ///
    /// # Errors
    /// What cannot be installed or built.
    pub fn ready(workspace: &Workspace) -> Result<Self, String> {
        let source = workspace.root.join("tests/conformance");
        let packages = workspace.target.join("tools").join("conformance");
        install(&source, &packages)?;
        // The debug builds: the suite waits far more than the programs compute, and these are built for other steps too.
        for package in ["callgate-cli", "everything-server"] {
            let built = cargo().args(["build", "-p", package]).current_dir(&workspace.root).status();
            if !built.map_err(|error| format!("cargo does not start: {error}"))?.success() {
                return Err(format!("{package} does not build"));
            }
        }
        Ok(Self {
            node: packages.join("node_modules/node/bin/node"),
            packages,
            callgate: workspace.callgate(),
            everything_server: workspace.target.join("debug").join("everything-server"),
            policy: source.join("policy.yaml"),
        })
    }

    /// A fresh place for the results of a way.
    pub fn results(&self, way: &str, revision: &str) -> PathBuf {
        self.packages.join("results").join(way).join(revision)
    }

    /// Starts the server that does everything, in these eras of the protocol.
    ///
    /// # Errors
    /// When it does not start.
    pub fn everything(&self, eras: &str) -> Result<Running, String> {
        let mut command = Command::new(&self.everything_server);
        Running::start(command.env("PORT", "0").env("ERAS", eras), "everything-server: ")
    }

    /// Starts a gateway before a server.
    ///
    /// # Errors
    /// When it does not start.
    pub fn serve_before(&self, url: &str) -> Result<Running, String> {
        self.serve_with(url, &[])
    }

    /// The same with further words.
    ///
    /// # Errors
    /// When it does not start.
    pub fn serve_with(&self, url: &str, words: &[&str]) -> Result<Running, String> {
        Running::start(self.serve().args(["--upstream", url]).args(words).env(TOKEN.0, TOKEN.1), GATEWAY)
    }

    /// Starts a gateway of a configuration whose one server is at `url`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn serve_configured(&self, url: &str) -> Result<Running, String> {
        let policy = self.policy.display();
        let config = format!(
            "listen: 127.0.0.1:0\nstate: 'memory:'\nservers:\n  {SERVER}: {{url: '{url}', policy: '{policy}', pin: 'off'}}\n\
             grants:\n  - {{name: suite, principal: 'service:suite', token: 'env:{}', servers: [{SERVER}]}}\n",
            TOKEN.0
        );
        let path = self.packages.join("callgate.yaml");
        fs::write(&path, config).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        let mut command = Command::new(&self.callgate);
        Running::start(command.args(["serve", "-c"]).arg(&path).env(TOKEN.0, &TOKEN.1["Bearer ".len()..]), GATEWAY)
    }

    /// Starts what shows the grant's token at all servers of a gateway, and knows its one server's tools by their own names:
    /// the suite can do neither.
    ///
    /// # Errors
    /// When it does not start.
    pub fn as_one(&self, url: &str) -> Result<Running, String> {
        let mut command = Command::new(&self.node);
        command.arg(self.packages.join(PREFIX)).args([url, &format!("{SERVER}__")]).env(TOKEN.0, TOKEN.1);
        Running::start(&mut command, "prefix listening on ")
    }

    /// Starts a gateway that starts the server that does everything, and speaks to it over stdio.
    ///
    /// # Errors
    /// When it does not start.
    pub fn serve_of(&self, eras: &str) -> Result<Running, String> {
        let mut command = self.serve();
        command.args(["--env", "ERAS", "--"]).arg(&self.everything_server).arg("--stdio").env("ERAS", eras);
        Running::start(&mut command, GATEWAY)
    }

    fn serve(&self) -> Command {
        let mut command = Command::new(&self.callgate);
        command.args(["serve", "--listen", "127.0.0.1:0", "--state", "memory:", "-p"]).arg(&self.policy);
        command
    }

    /// Runs all server scenarios that a revision requires, and those that it runs without scoring.
    ///
    /// # Errors
    /// When the suite does not run.
    pub fn required(&self, url: &str, revision: &str, into: &Path) -> Result<Results, String> {
        // An earlier run's results would be read with this one's.
        let _ = fs::remove_dir_all(into);
        self.suite(&["server", "--url", url, "--requirements", revision], into, &[])
    }

    /// Runs one server scenario.
    ///
    /// # Errors
    /// When the suite does not run.
    pub fn one(&self, url: &str, revision: &str, scenario: &str, into: &Path) -> Result<Results, String> {
        let into = into.join("again").join(scenario);
        let _ = fs::remove_dir_all(&into);
        let words = ["server", "--url", url, "--scenario", scenario, "--spec-version", revision, "--force"];
        self.suite(&words, &into, &[])
    }

    /// Runs one client scenario, with `between` the client and the suite.
    ///
    /// # Errors
    /// When the suite does not run.
    pub fn client(&self, revision: &str, between: &str, scenario: &str, into: &Path) -> Result<Results, String> {
        let into = into.join(scenario);
        let _ = fs::remove_dir_all(&into);
        let command = format!("{} {} {between}", self.node.display(), self.packages.join("client.mjs").display());
        let words = ["client", "--command", &command, "--scenario", scenario, "--spec-version", revision, "--force"];
        self.suite(&words, &into, &[("CALLGATE", &self.callgate), ("POLICY", &self.policy)])
    }

    fn suite(&self, words: &[&str], into: &Path, variables: &[(&str, &Path)]) -> Result<Results, String> {
        fs::create_dir_all(into).map_err(|error| format!("cannot make {}: {error}", into.display()))?;
        let log = into.join("suite.log");
        let output = File::create(&log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        let errors = output.try_clone().map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        let mut command = Command::new(&self.node);
        command.arg(self.packages.join("node_modules/@modelcontextprotocol/conformance/dist/index.js")).args(words);
        command.arg("-o").arg(into).envs(variables.iter().copied()).current_dir(&self.packages);
        // The status says whether scenarios failed; so do the results, and they say which.
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        command.status().map_err(|error| format!("{} does not start: {error}", self.node.display()))?;
        let results = Results::read(into)?;
        if results.is_empty() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("the suite has no results for `{}`:\n{said}", words.join(" ")));
        }
        Ok(results)
    }

    /// The scenarios of a revision that are about authorization, scored or not.
    ///
    /// # Errors
    /// When the suite's list cannot be read.
    pub fn about_authorization(&self, revision: &str) -> Result<Vec<String>, String> {
        Ok(authorizations(&self.requirements(revision)?).map(str::to_owned).collect())
    }

    fn requirements(&self, revision: &str) -> Result<String, String> {
        let list = format!("node_modules/@modelcontextprotocol/conformance/requirements/{revision}.yaml");
        let path = self.packages.join(list);
        fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    }

    /// The scored server scenarios of a revision that have no result.
    ///
    /// # Errors
    /// When the suite's list cannot be read.
    pub fn missing(&self, revision: &str, results: &Results) -> Result<Vec<String>, String> {
        let text = self.requirements(revision)?;
        let scored = scored_servers(&text);
        if scored.is_empty() {
            return Err(format!("the requirements of {revision} list no server scenarios"));
        }
        let missing = scored.into_iter().filter(|scenario| !results.has(scenario));
        Ok(missing.map(|scenario| format!("direct, {revision}, {scenario}: was not run")).collect())
    }
}

/// What the one server of a configuration is called.
pub const SERVER: &str = "everything";
/// What is shown there.
pub const HEADER: &str = "Authorization: env:CALLGATE_SUITE";
/// A variable, and what it holds where it is shown.
const TOKEN: (&str, &str) = ("CALLGATE_SUITE", "Bearer a-token-of-the-conformance-suite");

/// What puts its name before those of its tools.
const PREFIX: &str = "prefix.mjs";

/// What a gateway says before its URL.
const GATEWAY: &str = "callgate listening on ";

/// What is listed under `server:`.
fn scored_servers(requirements: &str) -> Vec<&str> {
    let listed = requirements.lines().skip_while(|line| *line != "server:").skip(1);
    listed.take_while(|line| line.starts_with("  - ")).filter_map(|line| line.strip_prefix("  - ")).collect()
}

/// What is listed anywhere, and is about authorization.
fn authorizations(requirements: &str) -> impl Iterator<Item = &str> {
    let listed = requirements.lines().filter_map(|line| line.trim().strip_prefix("- "));
    listed.map(|item| item.strip_prefix("scenario: ").unwrap_or(item)).filter(|scenario| scenario.starts_with("auth/"))
}

/// Installs the packages that tests/conformance pins, unless they are there.
fn install(source: &Path, packages: &Path) -> Result<(), String> {
    fs::create_dir_all(packages).map_err(|error| format!("cannot make {}: {error}", packages.display()))?;
    let copy =
        |name: &str| fs::copy(source.join(name), packages.join(name)).map_err(|error| format!("cannot copy {name}: {error}"));
    copy("client.mjs")?;
    copy(PREFIX)?;
    let lock = fs::read(source.join("package-lock.json")).map_err(|error| format!("cannot read package-lock.json: {error}"))?;
    let stamp = packages.join("installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    copy("package.json")?;
    copy("package-lock.json")?;
    println!("installing Node and the conformance suite (about half a minute, once)");
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--loglevel", "error"]).current_dir(packages).stdin(Stdio::null());
    let done = npm.status().map_err(|error| format!("npm does not start: {error}; `cargo xtask test tools` installs it"))?;
    if !done.success() {
        return Err(format!("npm could not install the packages of {}", source.display()));
    }
    fs::write(&stamp, lock).map_err(|error| format!("cannot write {}: {error}", stamp.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scored_scenarios_are_those_under_server() {
        let requirements = "# words\nserver:\n  - ping\n  - tools-list\n\nclient:\n  - initialize\n";
        assert_eq!(scored_servers(requirements), ["ping", "tools-list"]);
    }

    #[test]
    fn scenarios_about_authorization_are_scored_or_not() {
        let requirements =
            "client:\n  - initialize\n  - auth/basic\nnot_scored:\n  - scenario: auth/dpop\n    reason: extension\n";
        assert_eq!(authorizations(requirements).collect::<Vec<_>>(), ["auth/basic", "auth/dpop"]);
    }
}
