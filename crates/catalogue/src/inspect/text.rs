//! Text as a model reads it: sentences, in plain lower-case letters, whatever they were disguised as.

use super::walk::{Said, Spot};
use super::{Flaw, Suspicion, Weight, flaw};
use policy::visible;
use unicode_security::skeleton;

/// One sentence of a text.
pub(super) struct Sentence<'t> {
    /// As it stands.
    pub text: &'t str,
    /// In lower case, without what cannot be seen, quotes and emphasis; white space is single spaces.
    pub plain: String,
}

/// The sentences of a text. Lines are joined where a sentence goes on; items of a list are sentences of their own.
pub(super) fn sentences(text: &str) -> Vec<Sentence<'_>> {
    let mut found = Vec::new();
    let mut begin = 0;
    for (at, c) in text.char_indices() {
        let after = &text[at + c.len_utf8()..];
        let ends = match c {
            '.' | '!' | '?' | '。' => after.starts_with(char::is_whitespace) && !is_abbreviation(&text[begin..at]),
            '\n' => begins_anew(after),
            _ => false,
        };
        if ends {
            push(&text[begin..at + c.len_utf8()], &mut found);
            begin = at + c.len_utf8();
        }
    }
    push(&text[begin..], &mut found);
    found
}

fn push<'t>(text: &'t str, found: &mut Vec<Sentence<'t>>) {
    let text = text.trim();
    if !text.is_empty() {
        found.push(Sentence { text, plain: plain(text) });
    }
}

fn is_abbreviation(before: &str) -> bool {
    let last = before.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    let is_number_of_item = before.trim() == last && last.bytes().all(|byte| byte.is_ascii_digit());
    is_number_of_item || matches!(last, "e.g" | "i.e" | "etc" | "vs" | "cf")
}

/// Whether a line does not go on with the sentence of the line before: empty, an item, a heading, markup.
fn begins_anew(rest: &str) -> bool {
    let line = rest.lines().next().unwrap_or_default().trim_start();
    let item = line.trim_start_matches(|c: char| c.is_ascii_digit());
    line.is_empty() || line.starts_with(['-', '*', '•', '#', '<', '|']) || item.len() < line.len() && item.starts_with(['.', ')'])
}

/// A text in lower case and as it looks: letters of other scripts as those of ours that they look like.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '`' | '*' | '“' | '”' | '«' | '»' => {}
            '’' | '‘' => out.push('\''),
            c if c.is_whitespace() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c if c.is_ascii() => out.push(c.to_ascii_lowercase()),
            c if json::is_unprintable(c) => {}
            c => match looks_like(c) {
                Some(letter) => out.push(letter),
                None => out.extend(c.to_lowercase()),
            },
        }
    }
    out
}

/// The ASCII letter that a letter of another script looks like.
fn looks_like(c: char) -> Option<char> {
    let mut lower = c.to_lowercase();
    let lower = lower.next().filter(|_| lower.next().is_none())?;
    let mut looks = skeleton(lower.encode_utf8(&mut [0; 4])).collect::<Vec<char>>().into_iter();
    let first = looks.next().filter(char::is_ascii_alphanumeric)?;
    looks.next().is_none().then(|| first.to_ascii_lowercase())
}

/// The letter that an invisible tag character stands for.
pub(super) fn of_tag(c: char) -> Option<char> {
    let code = u32::from(c).checked_sub(0xe0000).filter(|code| (0x20..0x7f).contains(code))?;
    char::from_u32(code)
}

/// Words in which letters of ours stand beside ones of another script that look like ours.
pub(super) fn disguised(said: &Said<'_>) -> Option<Flaw> {
    if said.text.is_ascii() {
        return None;
    }
    let mixed = |word: &&str| {
        let foreign = |c: char| matches!(c, '\u{370}'..='\u{52f}' | '\u{13a0}'..='\u{13ff}' | '\u{ff21}'..='\u{ff5a}');
        // A formula has single letters of Greek; a word that was tampered with has letters of ours around.
        word.chars().any(|c| c.is_ascii_alphabetic())
            && word.chars().any(|c| foreign(c) && looks_like(c).is_some())
            && !word.chars().any(|c| foreign(c) && looks_like(c).is_none())
            && word.chars().filter(|c| c.is_alphabetic()).count() > 2
    };
    let word = said.text.split(|c: char| !c.is_alphanumeric() && c != '_').find(mixed)?;
    let weight = if matches!(said.spot, Spot::Name | Spot::Key) { Weight::Hostile } else { Weight::Dangerous };
    let why = format!("it looks like `{}`, and is not", plain(word));
    Some(flaw(said, Suspicion::DisguisedLetters, weight, word, why))
}

/// Visible, on one line, and short enough for a list.
pub(super) fn shortened(text: &str) -> String {
    let text = visible(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

const LONGEST: usize = 240;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_go_over_lines_and_end_at_items() {
        let text = "Adds two\nnumbers, e.g. 1 and 2. Fast!\n\n- first\n  goes on\n2. second\n<b>x</b>";
        let texts: Vec<String> = sentences(text).into_iter().map(|sentence| sentence.plain).collect();
        assert_eq!(texts, ["adds two numbers, e.g. 1 and 2.", "fast!", "- first goes on", "2. second", "<b>x</b>"]);
    }

    #[test]
    fn disguises_fall_away() {
        assert_eq!(plain("Dо N\u{200b}OT “tell” ｔhe *user*"), "do not tell the user");
        assert_eq!(plain("Grüße 世界"), "grüße 世界");
    }
}
