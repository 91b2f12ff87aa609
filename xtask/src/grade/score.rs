//! How many grades are those that people gave.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use catalogue::{RiskClass, Signal, ToolRisk};

use super::labels::Label;

/// Grades counted against labels.
#[derive(Default)]
pub struct Score {
    /// By label, then by grade.
    matrix: BTreeMap<(RiskClass, RiskClass), usize>,
    pub right: usize,
    pub tools: usize,
    pub changers: usize,
    pub called_read: usize,
    levels: usize,
    /// By confidence: right, all.
    by_confidence: BTreeMap<u8, (usize, usize)>,
    servers: BTreeSet<String>,
    /// By signal: found and labelled, found and not, labelled and not found.
    signals: BTreeMap<&'static str, (usize, usize, usize)>,
}

impl Score {
    /// Counts one tool.
    pub fn count(&mut self, label: &Label, risk: &ToolRisk) {
        let is_right = label.classes.contains(&risk.class);
        let Some(first) = label.classes.first() else { return };
        let expected = if is_right { risk.class } else { *first };
        *self.matrix.entry((expected, risk.class)).or_default() += 1;
        self.tools += 1;
        self.right += usize::from(is_right);
        self.levels += usize::from(label.levels().contains(&risk.level));
        if !label.classes.contains(&RiskClass::Read) {
            self.changers += 1;
            self.called_read += usize::from(risk.class == RiskClass::Read);
        }
        let (right, all) = self.by_confidence.entry(risk.confidence).or_default();
        *right += usize::from(is_right);
        *all += 1;
        self.servers.insert(label.server.clone());
        for signal in Signal::ALL {
            let (found, labelled) = (risk.signals.contains(&signal), label.signals.contains(signal.name()));
            let counts = self.signals.entry(signal.name()).or_default();
            match (found, labelled) {
                (true, true) => counts.0 += 1,
                (true, false) if !label.either.contains(signal.name()) => counts.1 += 1,
                (false, true) => counts.2 += 1,
                _ => {}
            }
        }
    }

    /// The figures on two lines.
    pub fn figures(&self) -> String {
        format!(
            "{} of {} tools of {} servers have the class that people gave them: {}. {} have the level: {}.\n\
             Of {} tools that change something, {} are called Read: {}.",
            self.right,
            self.tools,
            self.servers.len(),
            percent(self.right, self.tools),
            self.levels,
            percent(self.levels, self.tools),
            self.changers,
            self.called_read,
            percent(self.called_read, self.changers)
        )
    }

    /// The figures, and what they are made of.
    pub fn tables(&self) -> String {
        let mut out = self.figures();
        let _ = writeln!(out, "\n\n| people said | {} |", RiskClass::ALL.map(RiskClass::name).join(" | "));
        let _ = writeln!(out, "|---|{}", "--:|".repeat(RiskClass::ALL.len()));
        for expected in RiskClass::ALL {
            let row = RiskClass::ALL.map(|graded| self.matrix.get(&(expected, graded)).copied().unwrap_or(0).to_string());
            let _ = writeln!(out, "| {expected} | {} |", row.join(" | "));
        }
        let _ = writeln!(out, "\n| confidence | tools | right |\n|--:|--:|--:|");
        for (confidence, (right, all)) in self.by_confidence.iter().rev() {
            let _ = writeln!(out, "| {confidence} | {all} | {} |", percent(*right, *all));
        }
        let _ = writeln!(out, "\n| signal | precision | recall | labelled |\n|---|--:|--:|--:|");
        for (signal, (both, found, missed)) in &self.signals {
            let _ = writeln!(
                out,
                "| `{signal}` | {} | {} | {} |",
                percent(*both, both + found),
                percent(*both, both + missed),
                both + missed
            );
        }
        out
    }
}

fn percent(part: usize, whole: usize) -> String {
    if whole == 0 { "–".to_owned() } else { format!("{:.1} %", 100.0 * part as f64 / whole as f64) }
}
