//! Changing a text without rebuilding it.

use bytes::{Bytes, BytesMut};
use std::borrow::Cow;
use std::ops::Range;

/// Replacements of byte ranges in one text; every byte outside them stays as it is.
///
/// Ranges are spans of [`json::Value`]s of that text, and must not overlap.
#[derive(Debug)]
pub struct Edit<'t> {
    text: &'t Bytes,
    changes: Vec<(Range<usize>, Cow<'t, str>)>,
}

impl<'t> Edit<'t> {
    /// Begins with no change.
    pub fn new(text: &'t Bytes) -> Edit<'t> {
        Edit { text, changes: Vec::new() }
    }

    /// Puts `replacement` in the place of `range`.
    pub fn replace(mut self, range: Range<usize>, replacement: impl Into<Cow<'t, str>>) -> Edit<'t> {
        self.changes.push((range, replacement.into()));
        self
    }

    /// Puts each replacement in the place of its range.
    pub fn replace_each(mut self, changes: impl IntoIterator<Item = (Range<usize>, String)>) -> Edit<'t> {
        self.changes.extend(changes.into_iter().map(|(range, replacement)| (range, replacement.into())));
        self
    }

    /// Takes `range` out.
    pub fn remove(self, range: Range<usize>) -> Edit<'t> {
        self.replace(range, "")
    }

    /// Gives the changed text; the same buffer where nothing was changed.
    ///
    /// # Panics
    /// When two ranges overlap or one lies outside the text: a programming mistake that must not reach the wire.
    pub fn finish(mut self) -> Bytes {
        if self.changes.is_empty() {
            return self.text.clone();
        }
        self.changes.sort_by_key(|(range, _)| range.start);
        let mut out = BytesMut::with_capacity(self.text.len() + self.changes.iter().map(|(_, with)| with.len()).sum::<usize>());
        let mut at = 0;
        for (range, with) in &self.changes {
            assert!(at <= range.start && range.start <= range.end, "edits do not overlap");
            out.extend_from_slice(&self.text[at..range.start]);
            out.extend_from_slice(with.as_bytes());
            at = range.end;
        }
        out.extend_from_slice(&self.text[at..]);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_change_their_ranges_and_nothing_else() {
        let text = Bytes::from_static(b"abcdef");
        assert_eq!(Edit::new(&text).replace(4..5, "EE").remove(1..3).finish(), "adEEf");
        assert_eq!(Edit::new(&text).replace(0..0, ">").replace(6..6, "<").finish(), ">abcdef<");
        assert_eq!(Edit::new(&text).finish(), text);
    }

    #[test]
    #[should_panic(expected = "edits do not overlap")]
    fn overlapping_edits_are_a_mistake() {
        Edit::new(&Bytes::from_static(b"abcdef")).remove(0..3).remove(2..4).finish();
    }
}
