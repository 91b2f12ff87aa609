//! What callgate costs: builds the binary as it is shipped, and the program that measures it, and starts that.

use crate::workspace::{Workspace, cargo};
use std::process::Command;

/// Measures. `words` go to the program that measures; `--help` is one of them.
///
/// # Errors
/// When something does not build, or a measurement fails.
pub fn run(workspace: &Workspace, words: &[&str]) -> Result<(), String> {
    // A quick run shows that everything works, not how fast it is: what the tests have built will do.
    let (profile, directory) = if words.contains(&"--quick") { ("dev", "debug") } else { ("release", "release") };
    let mut build = cargo();
    build.args(["build", "--profile", profile, "-p", "callgate-cli", "-p", "callgate-bench"]).current_dir(&workspace.root);
    let built = build.status().map_err(|error| format!("cargo does not start: {error}"))?;
    if !built.success() {
        return Err("the build has failed".to_owned());
    }
    let program = workspace.target.join(directory).join("callgate-bench");
    let status = Command::new(&program).args(words).current_dir(&workspace.root).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("the measurement has failed".to_owned()),
        Err(error) => Err(format!("{}: {error}", program.display())),
    }
}

/// Measures each kind of state.
///
/// # Errors
/// When it does not build, or a measurement fails.
pub fn stores(workspace: &Workspace, words: &[&str]) -> Result<(), String> {
    let profile = if words.contains(&"--quick") { "dev" } else { "release" };
    let mut run = cargo();
    run.args(["run", "-q", "--profile", profile, "-p", "callgate-store", "--example", "stores", "--"]).args(words);
    match run.current_dir(&workspace.root).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("the measurement has failed".to_owned()),
        Err(error) => Err(format!("cargo does not start: {error}")),
    }
}
