//! Configuration files, and what is wrong with them.

use crate::failure::Failure;
use crate::policies;
use crate::terminal::{Paint, counted, tell, visible};
use gateway::Watched;
use gateway::config::{Config, ConfigFile};
use policy::Severity;
use std::path::Path;

/// Reads a configuration whose errors end the command: they are printed to stderr, and the exit code is 3. Warnings are
/// printed too. Gives what is needed to notice later changes as well.
pub fn read(path: &Path) -> Result<(Config, Watched), Failure> {
    let file = open(path)?;
    let watched = Watched::new(path, &file);
    print(&file, Severity::Warning);
    let errors = policies::count(file.reports().iter().map(|report| &report.problem), Severity::Error);
    let shown = visible(&path.display().to_string());
    let config = file.into_config();
    config
        .map(|config| (config, watched))
        .ok_or_else(|| Failure::invalid(format!("`{shown}` has {}", counted(errors, "error", "errors"))))
}

/// Reads a configuration, whatever is wrong with it.
pub fn open(path: &Path) -> Result<ConfigFile, Failure> {
    let shown = visible(&path.display().to_string());
    ConfigFile::read(path, &variable)
        .map_err(|error| Failure::invalid(format!("cannot read the configuration `{shown}`: {error}")))
}

/// The value of a variable of our environment.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prints problems that are at least so bad to stderr.
pub fn print(file: &ConfigFile, least: Severity) {
    for report in file.reports() {
        if least == Severity::Warning || report.problem.severity == Severity::Error {
            tell!("{}", report.render(Paint::stderr().is_on()));
        }
    }
}
