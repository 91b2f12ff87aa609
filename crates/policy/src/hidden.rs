//! Characters that hide: what a model reads and a person does not see, or sees as something else.
//!
//! Honest text has a few of them too: an emoji is followed by a selector or held together by joiners, and some scripts need
//! joiners between letters. Those pass where they stand as they should; anywhere else, or twice, they can carry a message
//! of their own.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A character that hides, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The byte at which it stands.
    pub at: usize,
    /// The character.
    pub character: char,
    /// What it does.
    pub kind: HiddenKind,
}

/// What a character that hides does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiddenKind {
    /// It does something to a terminal: control characters, of which ANSI sequences are made.
    Control,
    /// It turns the direction of text.
    Bidirectional,
    /// It is not seen: of no width, a filler, a joiner that joins nothing, a break that is none.
    Invisible,
    /// It is a tag: a second alphabet that nobody sees.
    Tag,
    /// It chooses between forms of a character that has none, and can so carry bytes.
    Selector,
    /// It looks different everywhere, or nowhere like anything.
    PrivateUse,
}

impl HiddenKind {
    /// In words: `turns the direction of text`.
    pub fn as_str(self) -> &'static str {
        match self {
            HiddenKind::Control => "a control character",
            HiddenKind::Bidirectional => "a character that turns the direction of text",
            HiddenKind::Invisible => "an invisible character",
            HiddenKind::Tag => "an invisible tag character",
            HiddenKind::Selector => "a variation selector that selects nothing",
            HiddenKind::PrivateUse => "a character of no public meaning",
        }
    }
}

/// The first character of `text` that hides.
///
/// ```
/// assert!(policy::first_hidden("Reads a file.\n⚠️ Grüße 👩‍👩‍👧").is_none());
/// assert_eq!(policy::first_hidden("pay\u{202e}lap").unwrap().at, 3);
/// ```
pub fn first_hidden(text: &str) -> Option<Hidden> {
    if text.bytes().all(is_plain) {
        return None;
    }
    all_hidden(text).next()
}

/// All of them, in the order of the text.
pub(crate) fn all_hidden(text: &str) -> impl Iterator<Item = Hidden> {
    Scan::of(text).filter_map(|(at, character, kind)| kind.map(|kind| Hidden { at, character, kind }))
}

/// The text with every character that hides written out: `\u{202e}`. Line breaks and tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    if first_hidden(text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for (_, character, kind) in Scan::of(text) {
        match kind {
            Some(_) => write!(out, "\\u{{{:x}}}", u32::from(character)).expect("a string takes what it is given"),
            None => out.push(character),
        }
    }
    Cow::Owned(out)
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t')
}

/// Goes through a text with what stands around each character in view.
struct Scan<'t> {
    text: &'t str,
    at: usize,
    /// What came before, without what belongs to it (selectors, joiners).
    base: Option<char>,
    before: Option<char>,
    /// How much of a flag's tags is left.
    tags: usize,
}

impl<'t> Scan<'t> {
    fn of(text: &'t str) -> Scan<'t> {
        Scan { text, at: 0, base: None, before: None, tags: 0 }
    }

    fn kind(&self, c: char, rest: &str) -> Option<HiddenKind> {
        let next = rest.chars().next();
        match c {
            '\n' | '\r' | '\t' => None,
            c if c.is_control() => Some(HiddenKind::Control),
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                Some(HiddenKind::Bidirectional)
            }
            '\u{200c}' | '\u{200d}' => {
                let joins_letters = self.base.is_some_and(needs_joiners) && next.is_some_and(needs_joiners);
                let joins_pictures = c == '\u{200d}' && self.base.is_some_and(is_picture) && next.is_some_and(is_picture);
                let once = self.before != Some('\u{200c}') && self.before != Some('\u{200d}');
                (!(once && (joins_letters || joins_pictures))).then_some(HiddenKind::Invisible)
            }
            // One selector after a sign that has two forms: `⚠` and U+FE0F.
            '\u{fe0e}' | '\u{fe0f}' => {
                let selects = self.before.is_some_and(|before| is_picture(before) || matches!(before, '#' | '*' | '0'..='9'));
                (!selects).then_some(HiddenKind::Selector)
            }
            '\u{fe00}'..='\u{fe0d}' | '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{e0100}'..='\u{e01ef}' => {
                Some(HiddenKind::Selector)
            }
            '\u{e0000}'..='\u{e007f}' => (self.tags == 0).then_some(HiddenKind::Tag),
            '\u{ad}'
            | '\u{34f}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' => Some(HiddenKind::Invisible),
            '\u{e000}'..='\u{f8ff}' | '\u{e0080}'..='\u{e00ff}' | '\u{e01f0}'..='\u{10ffff}' => Some(HiddenKind::PrivateUse),
            _ => None,
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = (usize, char, Option<HiddenKind>);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.text[self.at..];
        let c = rest.chars().next()?;
        let after = &rest[c.len_utf8()..];
        let kind = self.kind(c, after);
        let at = self.at;
        self.at += c.len_utf8();
        self.tags = match c {
            '\u{1f3f4}' => FLAGS.iter().find(|flag| after.starts_with(**flag)).map_or(0, |flag| flag.chars().count()),
            _ => self.tags.saturating_sub(1),
        };
        if !matches!(c, '\u{fe0e}' | '\u{fe0f}' | '\u{200c}' | '\u{200d}' | '\u{1f3fb}'..='\u{1f3ff}') {
            self.base = Some(c);
        }
        self.before = Some(c);
        Some((at, c, kind))
    }
}

/// The tags of the three flags that have their own (Unicode's `emoji-sequences.txt`, RGI_Emoji_Tag_Sequence).
const FLAGS: [&str; 3] = [
    "\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
    "\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
    "\u{e0067}\u{e0062}\u{e0077}\u{e006c}\u{e0073}\u{e007f}",
];

/// Signs and pictures: what has a coloured form, or could.
fn is_picture(c: char) -> bool {
    matches!(c, '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{20e3}' | '\u{2100}'..='\u{27bf}' | '\u{2900}'..='\u{2bff}'
        | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}' | '\u{1f000}'..='\u{1faff}')
}

/// Scripts whose letters are joined and kept apart by characters of no width: Arabic to Khmer.
fn needs_joiners(c: char) -> bool {
    let of_such_a_script = matches!(c, '\u{600}'..='\u{8ff}' | '\u{900}'..='\u{dff}' | '\u{1000}'..='\u{109f}'
        | '\u{1780}'..='\u{17ff}' | '\u{1800}'..='\u{18af}');
    // Marks count: a virama stands before the joiner.
    of_such_a_script && !c.is_numeric() && !matches!(c, '\u{61c}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_honest_text_needs_passes() {
        for text in [
            "plain\n\ttext\r\n",
            "Grüße, 世界",
            "⚠️ IMPORTANT ▶️ 1️⃣",
            "👩‍👩‍👧 👩🏽‍💻 ❤️‍🔥",
            "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "a\u{a0}b",
        ] {
            assert_eq!(first_hidden(text), None, "{text:?}");
            assert_eq!(visible(text), text);
        }
    }

    #[test]
    fn what_hides_is_found_and_shown() {
        use HiddenKind::{Bidirectional, Control, Invisible, PrivateUse, Selector, Tag};
        for (text, kind, shown) in [
            ("a\u{1b}[8m", Control, "a\\u{1b}[8m"),
            ("a\u{7}", Control, "a\\u{7}"),
            ("a\u{9b}31m", Control, "a\\u{9b}31m"),
            ("a\u{202e}b", Bidirectional, "a\\u{202e}b"),
            ("a\u{2066}b", Bidirectional, "a\\u{2066}b"),
            ("a\u{200b}b", Invisible, "a\\u{200b}b"),
            ("a\u{200d}b", Invisible, "a\\u{200d}b"),
            ("👩\u{200d}\u{200d}👧", Invisible, "👩\\u{200d}\\u{200d}👧"),
            ("a\u{ad}b", Invisible, "a\\u{ad}b"),
            ("a\u{e0041}\u{e0042}", Tag, "a\\u{e0041}\\u{e0042}"),
            ("🏴\u{e0041}", Tag, "🏴\\u{e0041}"),
            ("a\u{fe0f}", Selector, "a\\u{fe0f}"),
            ("⚠\u{fe0f}\u{fe0f}", Selector, "⚠\u{fe0f}\\u{fe0f}"),
            ("a\u{e0101}", Selector, "a\\u{e0101}"),
            ("\u{e000}", PrivateUse, "\\u{e000}"),
        ] {
            assert_eq!(first_hidden(text).map(|hidden| hidden.kind), Some(kind), "{text:?}");
            if !text.starts_with("👩") {
                assert_eq!(visible(text), shown, "{text:?}");
            }
        }
    }

    #[test]
    fn ends_of_lines_and_paragraphs_hide_nothing() {
        assert_eq!(first_hidden("one\u{2028}two\u{2029}three"), None);
    }

    #[test]
    fn a_message_in_tags_after_a_flag_is_found() {
        let text = "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}\u{e0041}";
        assert_eq!(first_hidden(text).map(|hidden| hidden.character), Some('\u{e0041}'));
    }
}
