//! Words and sentences.
//!
//! Names of tools and arguments are cut where their writers would have put a space; descriptions are cut into sentences
//! and words. Markup falls away, and what is left is lower case: the rules look at words, and quote the text itself.

use memchr::memmem;

/// Cuts a name at separators and where the case changes: `StartAHORun` is `start aho run`, `get-pull_request` is
/// `get pull request`.
pub(super) fn of_name(name: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let characters: Vec<char> = name.chars().take(LONGEST_NAME).collect();
    for (i, &c) in characters.iter().enumerate() {
        if !c.is_alphanumeric() {
            finish(&mut word, &mut words);
            continue;
        }
        let before = i.checked_sub(1).map(|before| characters[before]);
        let after = characters.get(i + 1);
        let rises = c.is_uppercase() && before.is_some_and(|before| before.is_lowercase() || before.is_ascii_digit());
        // The last capital of `AHORun` begins the next word.
        let ends_capitals =
            c.is_uppercase() && before.is_some_and(char::is_uppercase) && after.is_some_and(|after| after.is_lowercase());
        if rises || ends_capitals {
            finish(&mut word, &mut words);
        }
        word.extend(c.to_lowercase());
    }
    finish(&mut word, &mut words);
    words
}

fn finish(word: &mut String, words: &mut Vec<String>) {
    if !word.is_empty() {
        words.push(std::mem::take(word));
    }
}

/// One sentence, or one line of a list.
#[derive(Clone, Debug)]
pub(super) struct Sentence {
    /// As it stands in the text.
    pub text: String,
    /// Its words in lower case, commas and closing marks as words of their own.
    pub words: Vec<String>,
    /// Whether it is an item of a list.
    pub listed: bool,
}

impl Sentence {
    /// Whether these words stand next to each other in it.
    pub(super) fn has(&self, phrase: &str) -> bool {
        has_phrase(&self.words, phrase)
    }
}

/// Whether the words of `phrase`, which are parted by single spaces, stand next to each other among `words`.
pub(super) fn has_phrase(words: &[String], phrase: &str) -> bool {
    let length = phrase.split(' ').count();
    words.windows(length).any(|window| window.iter().zip(phrase.split(' ')).all(|(word, wanted)| word == wanted))
}

/// Cuts a description into sentences, at most [`MOST_SENTENCES`].
pub(super) fn sentences(text: &str) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim();
        let listed = is_item(trimmed);
        for piece in pieces(trimmed) {
            let words = of_text(piece);
            if !words.is_empty() {
                sentences.push(Sentence { text: piece.trim().to_owned(), words, listed });
            }
            if sentences.len() == MOST_SENTENCES {
                return sentences;
            }
        }
    }
    sentences
}

/// Whether a line begins as an item of a list does.
fn is_item(line: &str) -> bool {
    let numbered = line
        .split_once(['.', ')'])
        .is_some_and(|(number, _)| !number.is_empty() && number.len() < 3 && number.bytes().all(|b| b.is_ascii_digit()));
    numbered || line.starts_with(['-', '*', '•', '+'])
}

/// The sentences of one line: a full stop, an exclamation mark or a semicolon before a space ends one.
fn pieces(line: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let bytes = line.as_bytes();
    for i in 0..bytes.len() {
        let ends = match bytes[i] {
            b'.' | b'!' | b'?' => {
                bytes.get(i + 1).is_none_or(|next| next.is_ascii_whitespace()) && !is_abbreviation(&line[start..i])
            }
            b';' => true,
            _ => false,
        };
        if ends {
            pieces.push(&line[start..=i]);
            start = i + 1;
        }
    }
    pieces.push(&line[start..]);
    pieces
}

fn is_abbreviation(before: &str) -> bool {
    let last = before.rsplit([' ', '(', '\n']).next().unwrap_or_default();
    ["e.g", "i.e", "etc", "vs", "incl", "approx"].contains(&last) || (last.len() < 3 && last.bytes().all(|b| b.is_ascii_digit()))
}

/// The words of a text: lower case, without markup; `,` `:` `(` `)` and `|` stay as words.
pub(super) fn of_text(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        match c {
            '\'' | '’' if !word.is_empty() => word.push('\''),
            c if c.is_alphanumeric() || c == '_' => word.extend(c.to_lowercase()),
            '-' if !word.is_empty() => word.push('-'),
            _ => {
                close(&mut word, &mut words);
                if matches!(c, ',' | ':' | '(' | ')' | '|' | '/') {
                    words.push(c.to_string());
                }
            }
        }
        if words.len() >= MOST_WORDS {
            break;
        }
    }
    close(&mut word, &mut words);
    words
}

fn close(word: &mut String, words: &mut Vec<String>) {
    let cleaned = word.trim_matches(['\'', '-']);
    let cleaned = cleaned.strip_suffix("'s").unwrap_or(cleaned);
    if !cleaned.is_empty() {
        words.push(cleaned.to_owned());
    }
    word.clear();
}

/// Whether a word is one of a list, whose words are parted by spaces.
pub(super) fn is_one(word: &str, list: &str) -> bool {
    // Thousands of times for each tool: the list is not cut into words.
    let (word, list) = (word.as_bytes(), list.as_bytes());
    let is_edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_whitespace);
    let stands_alone = |at: usize| {
        let before = at.checked_sub(1).and_then(|before| list.get(before));
        is_edge(before) && is_edge(list.get(at + word.len()))
    };
    !word.is_empty() && memmem::find_iter(list, word).any(stands_alone)
}

/// The phrases of a list, which are parted by commas.
pub(super) fn phrases(list: &str) -> impl Iterator<Item = &str> + Clone {
    list.split(',').map(str::trim)
}

/// The singular of a noun, as far as its ending tells.
pub(super) fn singular(word: &str) -> String {
    let cut = |ending: &str, with: &str| word.strip_suffix(ending).map(|stem| format!("{stem}{with}"));
    if word.len() < 4 || word.ends_with("ss") || word.ends_with("us") || word.ends_with("is") {
        return word.to_owned();
    }
    cut("ies", "y")
        .or_else(|| cut("sses", "ss"))
        .or_else(|| cut("ches", "ch"))
        .or_else(|| cut("shes", "sh"))
        .or_else(|| cut("xes", "x"))
        .or_else(|| cut("s", ""))
        .unwrap_or_else(|| word.to_owned())
}

/// Whether a text has more sentences, or longer ones, than were read.
pub(super) fn are_cut(sentences: &[Sentence]) -> bool {
    sentences.len() >= MOST_SENTENCES || sentences.iter().any(|sentence| are_cut_short(&sentence.words))
}

/// Whether a text has more words than were read.
pub(super) fn are_cut_short(words: &[String]) -> bool {
    words.len() >= MOST_WORDS
}

const LONGEST_NAME: usize = 256;
const MOST_SENTENCES: usize = 400;
const MOST_WORDS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_where_a_reader_would() {
        for (name, expected) in [
            ("StartAHORun", "start aho run"),
            ("get_pull-request", "get pull request"),
            ("KendraListIndexesTool", "kendra list indexes tool"),
            ("envSet", "env set"),
            ("InfluxDBWriteLP", "influx db write lp"),
        ] {
            assert_eq!(of_name(name).join(" "), expected);
        }
    }

    #[test]
    fn a_list_holds_whole_words() {
        let list = "user group usergroup \
            role";
        for word in ["user", "group", "usergroup", "role"] {
            assert!(is_one(word, list), "{word}");
        }
        for word in ["", "use", "ser", "roles", "grouprole", "rol"] {
            assert!(!is_one(word, list), "{word}");
        }
        assert!(is_one("role", "parole role"));
    }

    #[test]
    fn sentences_end_where_they_do() {
        let found = sentences("Deletes a file, e.g. a.txt. It cannot be undone!\n- lists things");
        let texts: Vec<&str> = found.iter().map(|sentence| sentence.text.as_str()).collect();
        assert_eq!(texts, ["Deletes a file, e.g. a.txt.", "It cannot be undone!", "- lists things"]);
        assert!(found[1].has("cannot be undone"));
        assert!(found[2].listed);
    }

    #[test]
    fn a_plural_finds_its_singular() {
        for (plural, one) in
            [("entries", "entry"), ("boxes", "box"), ("status", "status"), ("runs", "run"), ("branches", "branch")]
        {
            assert_eq!(singular(plural), one);
        }
    }
}
