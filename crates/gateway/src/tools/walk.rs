//! What the pages of a list have said before, for whoever reads them one after the other.
//!
//! A server could say one thing of a name on one page and another on the next. A page is known again by who asks for it and
//! by the cursor that leads to it; what is kept of it are hashes, under a key that no server knows. Servers that give their
//! lists whole cost nothing here.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// So many names are kept all together, about 50 bytes each. Past them all are forgotten.
const MAX_NAMES: usize = 20_000;

/// Who reads a page, and the cursor by which it was asked for; none for the first page.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub reader: &'a str,
    pub cursor: Option<&'a str>,
}

/// What the pages before one have said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// There are none.
    Nothing,
    /// So many of this walk.
    Known { walk: u64, pages: usize },
    /// There are some, but what they have said is not known any more.
    Forgotten,
}

/// What the pages before say of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    /// The very same.
    Same,
    /// Something else.
    Other,
}

/// What was said of one name.
struct Word {
    text: u64,
    /// On which page, from 0.
    page: usize,
    is_disputed: bool,
}

#[derive(Default)]
pub(super) struct Walks {
    key: RandomState,
    /// How one goes on at each place.
    places: HashMap<u64, Before>,
    walks: HashMap<u64, HashMap<u64, Word>>,
    next: u64,
    names: usize,
}

impl Walks {
    /// What has been said before a place.
    pub fn before(&self, place: Place<'_>) -> Before {
        let found = place.cursor.map(|cursor| self.places.get(&self.key.hash_one((place.reader, cursor))));
        found.map_or(Before::Nothing, |found| found.copied().unwrap_or(Before::Forgotten))
    }

    /// What the pages before have said of a name, where this one says `text`.
    pub fn said(&self, before: Before, name: &str, text: &str) -> Said {
        match self.word(before, name) {
            None => Said::Nothing,
            Some(word) if word.text == self.key.hash_one(text) => Said::Same,
            Some(_) => Said::Other,
        }
    }

    /// Whether a name stands on one of the pages before, and nothing else was said of it.
    pub fn is_settled(&self, before: Before, name: &str) -> bool {
        self.word(before, name).is_some_and(|word| !word.is_disputed)
    }

    fn word(&self, before: Before, name: &str) -> Option<&Word> {
        let Before::Known { walk, pages } = before else { return None };
        self.walks.get(&walk)?.get(&self.key.hash_one(name)).filter(|word| word.page < pages)
    }

    /// Remembers what a page says for whoever goes on at `next`: each name with its definition and whether it is disputed.
    pub fn go_on<'p>(&mut self, before: Before, next: Place<'_>, names: impl Iterator<Item = (&'p str, &'p str, bool)>) {
        let (walk, page) = match before {
            Before::Nothing => {
                self.next += 1;
                (self.next, 0)
            }
            Before::Known { walk, pages } => (walk, pages),
            Before::Forgotten => return,
        };
        let words = self.walks.entry(walk).or_default();
        let known = words.len();
        for (name, text, is_disputed) in names {
            let text = self.key.hash_one(text);
            let word = words.entry(self.key.hash_one(name)).or_insert(Word { text, page, is_disputed });
            word.is_disputed |= is_disputed;
            // A page that is read again may say something else by now.
            if word.page >= page {
                (word.text, word.page) = (text, page);
            }
        }
        self.names += words.len() - known + 1;
        if self.names > MAX_NAMES {
            // Whoever is in the middle of a list goes on as somebody of whom nothing is known.
            (self.places, self.walks, self.names) = (HashMap::new(), HashMap::new(), 0);
        } else if let Some(cursor) = next.cursor {
            self.places.insert(self.key.hash_one((next.reader, cursor)), Before::Known { walk, pages: page + 1 });
        }
    }

    /// How many names are kept.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.walks.values().map(HashMap::len).sum()
    }
}
