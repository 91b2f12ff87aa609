//! What the suite found, and whether that is what it found before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

/// What the suite found, by scenario.
#[derive(Default)]
pub struct Results {
    scenarios: BTreeMap<String, Vec<Check>>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Check {
    id: String,
    status: String,
    message: String,
}

/// A check that came out otherwise.
pub struct Change {
    /// Its scenario.
    pub scenario: String,
    check: String,
    was: String,
    is: String,
    message: String,
}

impl Results {
    /// Reads what the suite left: a directory for each scenario, named after it and the time; of scenarios whose name has a
    /// slash in it, below one that is called as what stands before that.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(directory: &Path) -> Result<Self, String> {
        let unreadable = |error| format!("cannot read {}: {error}", directory.display());
        let mut results = Self::default();
        for entry in fs::read_dir(directory).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Ok(text) = fs::read_to_string(path.join("checks.json")) else {
                let below = if path.is_dir() { Self::read(&path)? } else { Self::default() };
                results.scenarios.extend(below.scenarios.into_iter().map(|(below, checks)| (format!("{name}/{below}"), checks)));
                continue;
            };
            let listed: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            let checks = listed.as_array().into_iter().flatten().map(Check::read).collect();
            results.scenarios.insert(scenario(&name).to_owned(), checks);
        }
        Ok(results)
    }

    /// Keeps one of checks that are alike: of those that are made with every request, there are as many as there are requests.
    pub fn each_once(&mut self) {
        for checks in self.scenarios.values_mut() {
            let mut seen = BTreeSet::new();
            checks.retain(|check| seen.insert(check.clone()));
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.scenarios.is_empty()
    }

    /// Whether a scenario was run.
    pub fn has(&self, scenario: &str) -> bool {
        self.scenarios.contains_key(scenario)
    }

    /// How many scenarios there are.
    pub fn scenarios(&self) -> usize {
        self.scenarios.len()
    }

    /// How many checks there are, without the notes that the suite takes among them.
    pub fn checks(&self) -> usize {
        self.scenarios.values().flatten().filter(|check| check.status != NOTE).count()
    }

    /// Puts newer results in the place of older ones.
    pub fn take(&mut self, newer: &mut Self) {
        self.scenarios.append(&mut newer.scenarios);
    }

    /// Every check that fails, or warns.
    pub fn failures(&self, way: &str, revision: &str) -> Vec<String> {
        let all = self.scenarios.iter().flat_map(|(scenario, checks)| checks.iter().map(move |check| (scenario, check)));
        let failed = all.filter(|(_, check)| matches!(check.status.as_str(), "FAILURE" | "WARNING"));
        failed
            .map(|(scenario, check)| format!("{way}, {revision}, {scenario}, {}: {}: {}", check.id, check.status, check.message))
            .collect()
    }

    /// The statuses of each check of a scenario, in an order of their own: some scenarios do several things at a time.
    fn of(&self, scenario: &str) -> BTreeMap<&str, Vec<(&str, &str)>> {
        let mut found: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
        for check in self.scenarios.get(scenario).into_iter().flatten() {
            found.entry(&check.id).or_default().push((&check.status, &check.message));
        }
        for statuses in found.values_mut() {
            statuses.sort_unstable();
            // How often the suite took a note depends on how the bytes came.
            statuses.dedup_by(|one, other| one.0 == NOTE && other.0 == NOTE);
        }
        found
    }
}

impl Check {
    fn read(check: &Value) -> Self {
        let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
        Self { id: text("id"), status: text("status"), message: without_ports(&text("errorMessage")) }
    }
}

/// The status of what is no check, but a note.
const NOTE: &str = "INFO";

/// Every check that does not succeed.
pub fn shortcomings(results: &Results) -> Vec<Change> {
    let mut found = Vec::new();
    for scenario in results.scenarios.keys() {
        for (check, statuses_of) in results.of(scenario) {
            let short = statuses_of.iter().find(|(status, _)| matches!(*status, "FAILURE" | "WARNING"));
            if let Some((_, message)) = short {
                found.push(Change {
                    scenario: scenario.clone(),
                    check: check.to_owned(),
                    was: "SUCCESS".to_owned(),
                    is: statuses(Some(&statuses_of)),
                    message: (*message).to_owned(),
                });
            }
        }
    }
    found
}

/// Every check that is not what it was.
pub fn changes(base: &Results, results: &Results) -> Vec<Change> {
    let mut found = Vec::new();
    let scenarios: BTreeSet<&String> = base.scenarios.keys().chain(results.scenarios.keys()).collect();
    for scenario in scenarios {
        let (was, is) = (base.of(scenario), results.of(scenario));
        let checks: BTreeSet<&str> = was.keys().chain(is.keys()).copied().collect();
        for check in checks {
            let (was, is) = (was.get(check), is.get(check));
            if was != is {
                let message = is.into_iter().flatten().map(|(_, message)| *message).find(|message| !message.is_empty());
                found.push(Change {
                    scenario: scenario.clone(),
                    check: check.to_owned(),
                    was: statuses(was),
                    is: statuses(is),
                    message: message.unwrap_or_default().to_owned(),
                });
            }
        }
    }
    found
}

fn statuses(found: Option<&Vec<(&str, &str)>>) -> String {
    let Some(found) = found else { return "absent".to_owned() };
    found.iter().map(|(status, _)| *status).collect::<Vec<_>>().join(", ")
}

/// What is known to come out otherwise, and why: tests/conformance/exceptions.json.
pub struct Exceptions {
    listed: Vec<Exception>,
    /// Scenarios that are not run at all: the way, the revision, the scenario.
    left_out: Vec<[String; 3]>,
}

struct Exception {
    way: String,
    revision: String,
    scenario: String,
    /// The id of a check.
    check: String,
    /// What it comes out as.
    becomes: String,
    used: bool,
}

impl Exceptions {
    /// Reads the list.
    ///
    /// # Errors
    /// When it cannot be read, or an entry lacks something.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let listed: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let listed = listed.as_array().ok_or(format!("{} is no list", path.display()))?;
        let (mut exceptions, mut left_out) = (Vec::new(), Vec::new());
        for entry in listed {
            let text = |key: &str| {
                let value = entry[key].as_str().filter(|value| !value.is_empty());
                value.map(str::to_owned).ok_or(format!("{}: an entry has no `{key}`: {entry}", path.display()))
            };
            text("because")?;
            if entry["checks"] == "not run" {
                for way in entry["ways"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    left_out.push([way.to_owned(), text("revision")?, text("scenario")?]);
                }
                continue;
            }
            let checks = entry["checks"].as_object().filter(|checks| !checks.is_empty());
            let checks = checks.ok_or(format!("{}: an entry names no `checks`: {entry}", path.display()))?;
            for way in entry["ways"].as_array().into_iter().flatten() {
                for (check, becomes) in checks {
                    exceptions.push(Exception {
                        way: way.as_str().unwrap_or_default().to_owned(),
                        revision: text("revision")?,
                        scenario: text("scenario")?,
                        check: check.clone(),
                        becomes: becomes.as_str().unwrap_or_default().to_owned(),
                        used: false,
                    });
                }
            }
        }
        Ok(Self { listed: exceptions, left_out })
    }

    /// A finding for each scenario of `all` that is neither run nor listed as left out, and for each that is listed and run, or
    /// listed and none.
    pub fn unaccounted(&self, way: &str, revision: &str, all: &[String], run: &[&str]) -> Vec<String> {
        let is_listed = |scenario: &str| self.left_out.iter().any(|left| left[..] == [way, revision, scenario]);
        let forgotten = all.iter().filter(|scenario| !run.contains(&scenario.as_str()) && !is_listed(scenario));
        let forgotten = forgotten.map(|scenario| format!("{way}, {revision}, {scenario}: is neither run nor listed as not run"));
        let listed = self.left_out.iter().filter(|left| left[..2] == [way, revision]).map(|left| &left[2]);
        let idle = listed.filter(|scenario| run.contains(&scenario.as_str()) || !all.contains(scenario));
        forgotten
            .chain(idle.map(|scenario| format!("{way}, {revision}, {scenario}: is listed as not run: remove the entry")))
            .collect()
    }

    /// The changes that are not listed.
    pub fn unlisted<'c>(&self, way: &str, revision: &str, changes: &'c [Change]) -> Vec<&'c Change> {
        let listed = |change: &Change| self.listed.iter().any(|exception| exception.covers(way, revision, change));
        let mut open: Vec<&Change> = changes.iter().filter(|change| !listed(change)).collect();
        open.dedup_by(|one, other| one.scenario == other.scenario);
        open
    }

    /// How many changes are listed, and a finding for each that is not.
    pub fn sort(&mut self, way: &str, revision: &str, changes: Vec<Change>) -> (usize, Vec<String>) {
        let (mut listed, mut findings) = (0, Vec::new());
        for change in changes {
            match self.listed.iter_mut().find(|exception| exception.covers(way, revision, &change)) {
                Some(exception) => {
                    exception.used = true;
                    listed += 1;
                }
                None => findings.push(format!(
                    "{way}, {revision}, {}, {}: {} where it should be {}. {}",
                    change.scenario, change.check, change.is, change.was, change.message
                )),
            }
        }
        (listed, findings)
    }

    /// A finding for each entry that no change needed.
    pub fn unused(&self, way: &str, revision: &str) -> Vec<String> {
        let of_this = self.listed.iter().filter(|exception| exception.way == way && exception.revision == revision);
        of_this
            .filter(|exception| !exception.used)
            .map(|exception| {
                format!(
                    "{way}, {revision}, {}, {}: is listed in exceptions.json and does not become {}: remove the entry",
                    exception.scenario, exception.check, exception.becomes
                )
            })
            .collect()
    }
}

impl Exception {
    fn covers(&self, way: &str, revision: &str, change: &Change) -> bool {
        let named = self.way == way && self.revision == revision && self.scenario == change.scenario;
        named && self.check == change.check && self.becomes == change.is
    }
}

/// `server-ping-2026-11-21T11-26-57-952Z` without what is before and after the name of the scenario.
fn scenario(directory: &str) -> &str {
    let name = directory.rsplit_once('T').map_or(directory, |(before, _)| before);
    let end = name.len().saturating_sub("-2026-11-21".len());
    let name = name.get(..end).unwrap_or(name);
    name.strip_prefix("server-").unwrap_or(name)
}

/// Each run has ports of its own.
fn without_ports(message: &str) -> String {
    let mut parts = message.split("127.0.0.1:");
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str("127.0.0.1:PORT");
        masked.push_str(part.trim_start_matches(|next: char| next.is_ascii_digit()));
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(found: &[(&str, &str)]) -> Results {
        let check =
            |(id, status): &(&str, &str)| Check { id: (*id).to_owned(), status: (*status).to_owned(), message: String::new() };
        Results { scenarios: BTreeMap::from([("ping".to_owned(), found.iter().map(check).collect())]) }
    }

    #[track_caller]
    fn differ(one: &[(&str, &str)], other: &[(&str, &str)], expected: &[&str]) {
        let found = changes(&results(one), &results(other));
        let told: Vec<String> = found.iter().map(|change| format!("{}: {} → {}", change.check, change.was, change.is)).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_check_that_comes_out_otherwise_is_a_change_and_so_is_one_that_is_gone() {
        differ(&[("a", "SUCCESS"), ("b", "SUCCESS")], &[("a", "FAILURE")], &["a: SUCCESS → FAILURE", "b: SUCCESS → absent"]);
        differ(&[("a", "SUCCESS"), ("a", "SUCCESS")], &[("a", "SUCCESS")], &["a: SUCCESS, SUCCESS → SUCCESS"]);
    }

    #[test]
    fn what_does_not_succeed_falls_short() {
        let found = shortcomings(&results(&[("a", "SUCCESS"), ("b", "WARNING"), ("b", "SUCCESS"), ("c", "INFO")]));
        let told: Vec<_> = found.iter().map(|change| (change.check.as_str(), change.is.as_str())).collect();
        assert_eq!(told, [("b", "SUCCESS, WARNING")]);
    }

    #[test]
    fn every_scenario_is_run_or_listed_with_the_reason_why_not() {
        let left_out = vec![["user", "day", "dpop"].map(str::to_owned), ["user", "day", "gone"].map(str::to_owned)];
        let exceptions = Exceptions { listed: Vec::new(), left_out };
        let all = ["basic", "dpop", "new"].map(str::to_owned);
        let found = exceptions.unaccounted("user", "day", &all, &["basic"]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("new: is neither") && found[1].contains("gone: is listed"), "{found:?}");
    }

    #[test]
    fn the_order_of_checks_and_the_number_of_notes_do_not_matter() {
        differ(&[("a", "SUCCESS"), ("b", "FAILURE")], &[("b", "FAILURE"), ("a", "SUCCESS")], &[]);
        differ(&[("a", "INFO"), ("a", "INFO")], &[("a", "INFO")], &[]);
    }

    #[test]
    fn the_name_of_a_scenario_is_between_the_role_and_the_time() {
        assert_eq!(scenario("server-server-stateless-2026-11-21T11-26-57-952Z"), "server-stateless");
        assert_eq!(scenario("tools_call-2026-11-21T11-26-57-952Z"), "tools_call");
        assert_eq!(scenario("server-completion-complete-2026-11-21T11-26-57-952Z"), "completion-complete");
    }

    #[test]
    fn ports_are_no_difference() {
        assert_eq!(without_ports("at http://127.0.0.1:39411/mcp"), "at http://127.0.0.1:PORT/mcp");
    }
}
