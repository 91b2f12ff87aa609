//! What people see: colour, tables, and hostile text made visible.

pub use gateway::visible;
use std::io::{IsTerminal, stderr, stdout};

/// Writes a line to stderr. A stderr that nobody reads any more is no reason to stop, and must not be one to panic.
macro_rules! tell {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($part)*);
    }};
}
pub(crate) use tell;

/// Colours, where they are wanted: on a terminal, and never with `NO_COLOR`.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// For stdout.
    pub fn stdout() -> Paint {
        Paint { on: stdout().is_terminal() && colours_wanted() }
    }

    /// For stderr.
    pub fn stderr() -> Paint {
        Paint { on: stderr().is_terminal() && colours_wanted() }
    }

    /// No colours.
    #[cfg(test)]
    pub fn off() -> Paint {
        Paint { on: false }
    }

    /// Whether there are colours.
    pub fn is_on(self) -> bool {
        self.on
    }

    /// Green: allowed, held, intact.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// Red: denied, failed, broken.
    pub fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// Yellow: asked, limited, a warning.
    pub fn warn(self, text: &str) -> String {
        self.with("33", text)
    }

    /// What matters less.
    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// What matters more.
    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    /// The colour of an outcome or result, by its word.
    pub fn outcome(self, word: &str, text: &str) -> String {
        match word {
            "allow" | "held" | "charged" | "approved" | "completed" => self.good(text),
            "deny" | "failed" | "error" | "denied" => self.bad(text),
            "ask" | "pending" | "matched" => self.warn(text),
            _ => text.to_owned(),
        }
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// https://no-color.org: set and not empty, whatever the value.
fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// On one line, visible, at most so many characters.
pub fn shortened(text: &str, most: usize) -> String {
    let text = visible(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    if text.chars().count() <= most {
        return text;
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Columns of text, each as wide as its widest cell; the last is not padded.
///
/// `paint` is given the column, the cell and its padded text, and may colour it.
pub fn table(heads: &[&str], rows: &[Vec<String>], paint: impl Fn(usize, &str, String) -> String) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(heads.get(column).map(|head| head.chars().count())).max().unwrap_or(0)
    };
    let columns = rows.iter().map(Vec::len).chain([heads.len()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |cells: &[String], painted: bool| {
        let last = cells.len().saturating_sub(1);
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let padded = if column == last { cell.clone() } else { format!("{cell:<width$}", width = widths[column]) };
            line.push_str(&if painted { paint(column, cell, padded) } else { padded });
            if column != last {
                line.push_str("  ");
            }
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    };
    let mut out = String::new();
    if !heads.is_empty() {
        let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
        out.push_str(&line(&heads, false));
    }
    for row in rows {
        out.push_str(&line(row, true));
    }
    out
}

/// `1 record`, `2 records`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_made_visible() {
        assert_eq!(visible("pay\u{202e}loc\u{200b}al\n\u{1b}[2J"), "pay\\u{202e}loc\\u{200b}al\\n\\u{1b}[2J");
        assert_eq!(visible("tag\u{e0041}\u{fe0f}\u{a0}"), "tag\\u{e0041}\\u{fe0f}\\u{a0}");
        assert_eq!(visible("Grüße, 世界 🧬"), "Grüße, 世界 🧬");
    }

    #[test]
    fn texts_are_shortened_to_one_line() {
        assert_eq!(shortened("  a\n  b\tc ", 10), "a b c");
        assert_eq!(shortened("abcdefgh", 5), "abcd…");
    }

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_blanks() {
        let rows = vec![vec!["a".to_owned(), "long".to_owned(), String::new()], vec!["bbb".into(), "x".into(), "end".into()]];
        let text = table(&["one", "two", "three"], &rows, |_, _, padded| padded);
        assert_eq!(text, "one  two   three\na    long\nbbb  x     end\n");
    }

    #[test]
    fn without_colours_text_stays_as_it_is() {
        assert_eq!(Paint::off().bad("denied"), "denied");
        assert_eq!(Paint { on: true }.bad("denied"), "\u{1b}[1;31mdenied\u{1b}[0m");
    }
}
