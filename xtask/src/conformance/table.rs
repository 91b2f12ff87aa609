//! The table of docs/verification.md, held to what was just run.

use std::fs;
use std::path::Path;

use super::compare::Results;

/// A line of the table.
pub struct Row {
    way: &'static str,
    says: &'static str,
    revision: String,
    scenarios: usize,
    /// How many checks were made.
    pub checks: usize,
    listed: usize,
}

const BEGIN: &str = "<!-- written by `cargo xtask conformance --write` -->\n";
const END: &str = "<!-- until here -->";

impl Row {
    /// The line for a way.
    pub fn new(way: &'static str, says: &'static str, revision: &str, results: &Results, listed: usize) -> Self {
        let (scenarios, checks) = (results.scenarios(), results.checks());
        Self { way, says, revision: revision.to_owned(), scenarios, checks, listed }
    }

    fn line(&self) -> String {
        let Self { way, says, revision, scenarios, checks, listed } = self;
        format!("| {way} | {says} | {revision} | {scenarios} | {checks} | {listed} |")
    }
}

/// Writes the table, or compares the lines that were run with it.
///
/// # Errors
/// When the page cannot be read or written, or has no place for the table.
pub fn hold(page: &Path, rows: &[Row], write: bool) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(page).map_err(|error| format!("cannot read {}: {error}", page.display()))?;
    let missing = || format!("{} has no place for the table of conformance", page.display());
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (table, after) = rest.split_once(END).ok_or_else(missing)?;
    if write {
        let mut table =
            String::from("| way | through | revision | scenarios | checks | listed as different |\n|---|---|---|--:|--:|--:|\n");
        rows.iter().for_each(|row| table.push_str(&format!("{}\n", row.line())));
        let text = format!("{before}{BEGIN}{table}{END}{after}");
        fs::write(page, text).map_err(|error| format!("cannot write {}: {error}", page.display()))?;
        return Ok(Vec::new());
    }
    let stale = rows.iter().map(Row::line).filter(|line| !table.lines().any(|kept| kept == line));
    Ok(stale.map(|line| format!("docs/verification.md does not say `{line}`: `cargo xtask conformance --write`")).collect())
}
