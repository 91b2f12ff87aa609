//! Requests of a server's that its client has not answered.

use mcp::Id;
use std::collections::VecDeque;

/// More questions than anybody has open at once; of a server that never stops asking, the newest are kept.
const MOST: usize = 1_024;

/// What a server has asked and waits for; bounded. A response to anything else is none.
#[derive(Debug, Default)]
pub(crate) struct Unanswered(VecDeque<Id>);

impl Unanswered {
    /// Remembers a question. Past so many the oldest is forgotten: an answer to it is then refused, and those to newer ones
    /// still pass.
    pub fn ask(&mut self, id: &Id) {
        self.0.retain(|asked| asked != id);
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(id.clone());
    }

    /// Whether `id` was asked and not answered yet; from here on it is.
    pub fn answer(&mut self, id: &Id) -> bool {
        let at = self.0.iter().position(|asked| asked == id);
        at.and_then(|at| self.0.remove(at)).is_some()
    }

    /// Whether `id` was asked and not answered yet.
    pub fn holds(&self, id: &Id) -> bool {
        self.0.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_once() {
        let mut unanswered = Unanswered::default();
        unanswered.ask(&Id::from(1));
        unanswered.ask(&Id::from(1));
        assert!(unanswered.holds(&Id::from(1)));
        assert!(unanswered.answer(&Id::from(1)));
        assert!(!unanswered.answer(&Id::from(1)) && !unanswered.holds(&Id::from(1)));
    }

    #[test]
    fn past_the_bound_the_oldest_is_forgotten() {
        let mut unanswered = Unanswered::default();
        let last = MOST as u64;
        (0..=last).for_each(|number| unanswered.ask(&Id::from(number)));
        assert!(!unanswered.holds(&Id::from(0)));
        assert!(unanswered.answer(&Id::from(1)) && unanswered.answer(&Id::from(last)));
    }
}
