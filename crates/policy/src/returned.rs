//! Which sections `results:` hold for an answer.
//!
//! All that fit hold together: those of the tool as its rules do (the best entries, then those of every tool), that of the
//! file, and those of each policy. Where nobody knows what is answered, every section holds.

use crate::model::{Mode, Policy};
use crate::policies::Policies;
use crate::results::{ResultFilter, Results};
use crate::risk::RiskClass;
use std::sync::Arc;

impl Policy {
    /// The sections for the results of a tool, each with its effective mode. The class as in [`crate::Call::class`].
    pub(crate) fn results_for(&self, tool: &str, class: Option<RiskClass>) -> impl Iterator<Item = (Mode, &Arc<Results>)> {
        let of_entries = self.entries_for(tool, class);
        self.results_of_all().chain(of_entries.filter_map(|entry| Some((self.mode.max(entry.mode), entry.results.as_ref()?))))
    }

    /// The section for everything that comes back.
    fn results_of_all(&self) -> impl Iterator<Item = (Mode, &Arc<Results>)> {
        self.results.iter().map(|results| (self.mode, results))
    }

    /// All of them.
    fn all_results(&self) -> impl Iterator<Item = (Mode, &Arc<Results>)> {
        let of_entries = self.entries.iter().filter_map(|entry| Some((self.mode.max(entry.mode), entry.results.as_ref()?)));
        self.results_of_all().chain(of_entries)
    }

    /// Whether it says anything of results.
    pub(crate) fn judges_results(&self) -> bool {
        self.all_results().next().is_some()
    }
}

impl Policies {
    /// What holds for the result of a tool of this class: of one whose class is not known, what is said of any.
    pub fn results_of_tool(&self, tool: &str, class: Option<RiskClass>) -> ResultFilter {
        self.filter(|policy, filter| policy.results_for(tool, class).for_each(|section| filter.add(section)))
    }

    /// What holds for whatever a server answers that is no result of a tool.
    pub fn results_of_others(&self) -> ResultFilter {
        self.filter(|policy, filter| policy.results_of_all().for_each(|section| filter.add(section)))
    }

    /// What holds where nobody knows of which tool something is: every section.
    pub fn results_of_any(&self) -> ResultFilter {
        self.filter(|policy, filter| policy.all_results().for_each(|section| filter.add(section)))
    }

    fn filter(&self, add: impl Fn(&Policy, &mut ResultFilter)) -> ResultFilter {
        let mut filter = ResultFilter::default();
        if self.judge_results() {
            self.each().iter().for_each(|policy| add(policy, &mut filter));
        }
        filter
    }
}

impl ResultFilter {
    fn add(&mut self, (mode, results): (Mode, &Arc<Results>)) {
        let sections = match mode {
            Mode::Enforce => &mut self.enforced,
            Mode::Shadow => &mut self.shadow,
        };
        sections.push(results.clone());
    }
}
