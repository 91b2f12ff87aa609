//! Configuration files, and what is wrong with them.

use crate::failure::Failure;
use crate::policies;
use crate::terminal::{Paint, counted, tell, visible};
use gateway::config::{Config, ConfigFile};
use policy::Severity;
use std::path::Path;

/// Reads a configuration whose errors end the command: they are printed to stderr, and the exit code is 3. Warnings are
/// printed too.
pub fn read(path: &Path) -> Result<Config, Failure> {
    let file = open(path)?;
    print(&file, Severity::Warning);
    let errors = policies::count(file.reports().iter().map(|report| &report.problem), Severity::Error);
    let shown = visible(&path.display().to_string());
    file.into_config().ok_or_else(|| Failure::invalid(format!("`{shown}` has {}", counted(errors, "error", "errors"))))
}

/// Reads a configuration, whatever is wrong with it.
pub fn open(path: &Path) -> Result<ConfigFile, Failure> {
    let shown = visible(&path.display().to_string());
    let variable = |name: &str| std::env::var(name).ok();
    ConfigFile::read(path, &variable)
        .map_err(|error| Failure::invalid(format!("cannot read the configuration `{shown}`: {error}")))
}

/// Prints problems that are at least so bad to stderr.
pub fn print(file: &ConfigFile, least: Severity) {
    for report in file.reports() {
        if least == Severity::Warning || report.problem.severity == Severity::Error {
            tell!("{}", report.render(Paint::stderr().is_on()));
        }
    }
}
