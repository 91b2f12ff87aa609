//! Rust source with everything blanked that is not code: comments, string and character literals, test modules.
//!
//! Not a parser. It keeps every byte's place (a blanked byte becomes a space, newlines stay), so that what is found in
//! the result can be reported by line.

/// The code of a file, of the same length, without comments, literals and `#[cfg(test)]` items.
pub fn code(source: &str) -> String {
    without_tests(without_literals(source))
}

fn without_literals(source: &str) -> String {
    let mut scan = Scan { rest: source, out: String::with_capacity(source.len()) };
    while let Some(next) = scan.rest.chars().next() {
        let rest = scan.rest;
        if rest.starts_with("//") {
            scan.blank(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            scan.blank(block_comment(rest));
        } else if let Some(length) = string(rest).filter(|_| !scan.inside_word()) {
            scan.blank(length);
        } else if next == '\'' {
            scan.blank_or_keep(character(rest));
        } else {
            scan.keep(next.len_utf8());
        }
    }
    scan.out
}

struct Scan<'s> {
    rest: &'s str,
    out: String,
}

impl Scan<'_> {
    fn keep(&mut self, length: usize) {
        let (kept, rest) = self.rest.split_at(length);
        self.out.push_str(kept);
        self.rest = rest;
    }

    fn blank(&mut self, length: usize) {
        let (blanked, rest) = self.rest.split_at(length);
        self.out.extend(blanked.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        self.rest = rest;
    }

    fn blank_or_keep(&mut self, literal: Option<usize>) {
        match literal {
            Some(length) => self.blank(length),
            None => self.keep(1),
        }
    }

    /// Whether the last kept character belongs to a word, so that an `r` or `b` here is not a literal's prefix.
    fn inside_word(&self) -> bool {
        self.out.ends_with(|last: char| last.is_alphanumeric() || last == '_')
    }
}

/// The length of the (nested) block comment that starts here.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of the string literal that starts here, raw and byte strings included.
fn string(text: &str) -> Option<usize> {
    let unprefixed = text.trim_start_matches(['b', 'c']);
    let prefix = text.len() - unprefixed.len();
    if prefix > 1 {
        return None;
    }
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let body = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = body.find(&end).map_or(body.len(), |at| at + end.len());
        return Some(prefix + 1 + hashes + 1 + length);
    }
    let body = unprefixed.strip_prefix('"')?;
    let mut escaped = false;
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(prefix + 1 + at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

/// The length of the character literal that starts here; `None` for a lifetime.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    if let Some(escape) = body.strip_prefix('\\') {
        // The escaped character itself may be a quote.
        let first = escape.chars().next()?.len_utf8();
        return escape[first..].find('\'').map(|at| 2 + first + at + 1);
    }
    let first = body.chars().next()?.len_utf8();
    body[first..].starts_with('\'').then_some(1 + first + 1)
}

/// Blanks every item under `#[cfg(test)]`, up to its closing brace or semicolon.
fn without_tests(code: String) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code.as_str();
    while let Some(at) = rest.find(MARK) {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let length = MARK.len() + item_length(&item[MARK.len()..]);
        out.extend(item[..length].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        rest = &item[length..];
    }
    out.push_str(rest);
    out
}

fn item_length(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at + 1,
            b'}' => depth -= 1,
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::code;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        let found = code(source);
        assert_eq!(found.split_whitespace().collect::<Vec<_>>().join(" "), expected);
        assert_eq!(found.lines().count(), source.lines().count(), "lines keep their numbers");
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        check("a // crate::x\n/* crate::y /* z */ */ b", "a b");
        check(r##"a "crate::x \" y" b r#"crate::"z"# c b"q" d"##, "a b c d");
        check(r"a '\'' b '/' c 'x' d", "a b c d");
    }

    #[test]
    fn lifetimes_and_words_that_end_in_a_prefix_are_code() {
        check("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
        check("for x in bar {}", "for x in bar {}");
    }

    #[test]
    fn test_modules_are_not_code() {
        check("use a;\n#[cfg(test)]\nmod tests { use b; fn f() { {} } }\nuse c;", "use a; use c;");
        check("#[cfg(test)]\nmod tests;\nuse c;", "use c;");
    }
}
