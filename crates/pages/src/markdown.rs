//! Pages as Markdown, for readers without a browser.

use crate::part::{Page, Part, Piece, is_secure, split};
use catalogue::{RiskClass, visible};
use std::fmt::Write as _;

pub(crate) fn render(page: &Page, up: &str) -> String {
    let mut out = format!("# {}\n\n{}\n", escape(&page.title), escape(&page.summary));
    render_parts(&page.parts, up, &mut out);
    out
}

fn render_parts(parts: &[Part], up: &str, out: &mut String) {
    for part in parts {
        out.push('\n');
        let _ = match part {
            Part::Heading(level, text) => writeln!(out, "{} {}", "#".repeat(usize::from(*level)), escape(text)),
            Part::Paragraph(pieces) => writeln!(out, "{}", line(pieces, up)),
            Part::List(items) => {
                let items: String = items.iter().map(|item| format!("- {}\n", line(item, up))).collect();
                write!(out, "{items}")
            }
            Part::Facts(facts) => {
                let facts: String = facts.iter().map(|(name, said)| format!("- **{name}:** {}\n", line(said, up))).collect();
                write!(out, "{facts}")
            }
            Part::Table { caption, heads, rows } => {
                let _ = write!(out, "{}\n\n| {} |\n|{}\n", escape(caption), heads.join(" | "), "---|".repeat(heads.len()));
                for row in rows {
                    let cells: Vec<String> = row.iter().map(|cell| line(cell, up)).collect();
                    let _ = writeln!(out, "| {} |", cells.join(" | "));
                }
                Ok(())
            }
            Part::Code { label, text } => {
                // A fence that the text cannot end.
                let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
                let fence = "`".repeat(longest.max(2) + 1);
                writeln!(out, "{}:\n\n{fence}\n{}\n{fence}", escape(label), visible(text).trim_end())
            }
            Part::Quote(text) => {
                let lines: String = text.lines().map(|line| format!("> {}\n", escape(line))).collect();
                write!(out, "{lines}")
            }
            Part::Chart(classes) => {
                let said: Vec<String> =
                    RiskClass::ALL.iter().zip(classes).map(|(class, count)| format!("{count} {class}")).collect();
                writeln!(out, "{}", said.join(", "))
            }
            Part::Question(question, answer) => writeln!(out, "**{}** {}", escape(question), escape(answer)),
            Part::Folded(summary, parts) => {
                let _ = writeln!(out, "**{}**", escape(summary));
                render_parts(parts, up, out);
                Ok(())
            }
            Part::Search { .. } => Ok(()),
        };
    }
}

/// On one line, visible, and without a mark that Markdown or HTML would take for its own.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in visible(text).chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '!' | '&' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

fn line(pieces: &[Piece], up: &str) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => escape(text),
        Piece::Code(text) => escape(text),
        Piece::Link(text, path) => {
            let place = match split(path) {
                ("", rest) => rest.to_owned(),
                (page, rest) => format!("{up}{page}.md{rest}"),
            };
            format!("[{}]({place})", escape(text))
        }
        Piece::Away(text, address) if is_secure(address) => {
            format!("[{}](<{}>)", escape(text), address.replace(['<', '>', '\n'], ""))
        }
        Piece::Away(text, _) => escape(text),
        Piece::Badge(badge) if badge.more.is_empty() => format!("**{}**", badge.word),
        Piece::Badge(badge) => format!("**{}**, {}", badge.word, badge.more),
    };
    pieces.iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_texts() {
        assert_eq!(escape("a|b\n# [x](y) <b>\u{200b}"), "a\\|b \\# \\[x\\](y) \\<b\\>\\\\u{200b}");
    }
}
