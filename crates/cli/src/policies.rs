//! Policies and tool lists, from files.

use crate::failure::Failure;
use crate::terminal::{Paint, counted, tell, visible};
use gateway::PolicyFile;
use policy::{Problem, Severity, Tools};
use std::path::Path;

/// Reads a policy file whose errors end the command: they are printed to stderr, and the exit code is 3.
pub fn read(path: &Path) -> Result<PolicyFile, Failure> {
    let file = open(path)?;
    if file.policy().is_none() {
        print(&file, Severity::Error);
        let errors = count(file.problems(), Severity::Error);
        return Err(Failure::invalid(format!(
            "`{}` has {}",
            visible(&path.display().to_string()),
            counted(errors, "error", "errors")
        )));
    }
    Ok(file)
}

/// Reads a policy file, whatever is wrong with it.
pub fn open(path: &Path) -> Result<PolicyFile, Failure> {
    let shown = visible(&path.display().to_string());
    PolicyFile::read(path).map_err(|error| Failure::invalid(format!("cannot read the policy `{shown}`: {error}")))
}

/// Prints the problems of a policy that are at least so bad to stderr.
pub fn print(file: &PolicyFile, least: Severity) {
    for problem in file.problems().iter().filter(|problem| least == Severity::Warning || problem.severity == Severity::Error) {
        tell!("{}", problem.render(file.source(), Paint::stderr().is_on()));
    }
}

/// How many problems are so bad.
pub fn count<'p>(problems: impl IntoIterator<Item = &'p Problem>, severity: Severity) -> u64 {
    problems.into_iter().filter(|problem| problem.severity == severity).count() as u64
}

/// Reads a captured `tools/list`, where one was given.
pub fn tools(path: Option<&Path>) -> Result<Option<Tools>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let shown = visible(&path.display().to_string());
    let text = std::fs::read(path).map_err(|error| Failure::because(&format!("cannot read the tools in `{shown}`"), &error))?;
    let tools =
        gateway::read_tools(&text).map_err(|error| Failure::general(format!("cannot read the tools in `{shown}`: {error}")))?;
    Ok(Some(tools))
}
