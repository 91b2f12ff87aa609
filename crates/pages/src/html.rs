//! Pages as HTML.

use crate::part::{Page, Part, Piece, anchor, is_secure, split};
use catalogue::{Level, RiskClass, Signal, visible};
use std::fmt::Write as _;

/// How links are written.
#[derive(Clone, Copy)]
pub(crate) struct Links<'s> {
    /// From the page up to the root: empty, `../`, `../../`.
    pub up: &'s str,
    /// What follows a page's path: nothing, or `.html` where pages are files.
    pub form: &'s str,
    /// The page's own path.
    pub own: &'s str,
    /// Whether a search can be answered.
    pub can_search: bool,
}

impl Links<'_> {
    fn to(&self, path: &str) -> String {
        let (page, rest) = split(path);
        match (page, self.form) {
            ("", _) => rest.to_owned(),
            ("index", "") if self.up.is_empty() => "./".to_owned(),
            ("index", "") => self.up.to_owned(),
            _ => format!("{}{page}{}{rest}", self.up, self.form),
        }
    }
}

/// The one way for a text into a page: what hides is shown, what means something to a browser is escaped.
pub(crate) fn escape(text: &str) -> String {
    let text = visible(text);
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

pub(crate) fn render(page: &Page, links: Links<'_>) -> String {
    let mut out = String::with_capacity(8 * 1024);
    let (title, summary, up) = (escape(&page.title), escape(&page.summary), links.up);
    let twin = |form: &str| format!("{up}{}{form}", links.own);
    let _ = write!(
        out,
        concat!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
            "<meta name=\"color-scheme\" content=\"light dark\">\n<title>{title} · Callgate catalog</title>\n",
            "<meta name=\"description\" content=\"{summary}\">\n<link rel=\"stylesheet\" href=\"{up}style.css\">\n",
            "<link rel=\"alternate\" type=\"application/json\" href=\"{json}\">\n",
            "<link rel=\"alternate\" type=\"text/markdown\" href=\"{md}\">\n<script src=\"{up}copy.js\" defer></script>\n</head>\n<body>\n",
            "<a class=\"skip\" href=\"#content\">To the content</a>\n<header><nav aria-label=\"Catalog\">",
            "<a class=\"brand\" href=\"{home}\">Callgate catalog</a> {sections}",
            "</nav></header>\n<main id=\"content\">\n<h1>{title}</h1>\n"
        ),
        title = title,
        summary = summary,
        up = up,
        json = twin(".json"),
        md = twin(".md"),
        home = links.to("index"),
        sections = sections(links),
    );
    for part in &page.parts {
        render_part(part, links, &mut out);
    }
    let _ = write!(
        out,
        concat!(
            "</main>\n<footer><p>Graded by what definitions say; a definition that lies is graded by its lie. This page as ",
            "<a href=\"{json}\">JSON</a> and <a href=\"{md}\">Markdown</a>.</p></footer>\n</body>\n</html>\n"
        ),
        json = twin(".json"),
        md = twin(".md"),
    );
    out
}

/// The parts of the site, with the one that is looked at marked.
fn sections(links: Links<'_>) -> String {
    let all = [("servers", "Servers"), ("high-risk", "High risk"), ("attacks", "Attacks"), ("search", "Search")];
    let section = |(path, name): &(&str, &str)| {
        let here = if links.own == *path { " aria-current=\"page\"" } else { "" };
        format!(" <a href=\"{}\"{here}>{name}</a>", links.to(path))
    };
    all.iter().filter(|(path, _)| *path != "search" || links.can_search).map(section).collect()
}

fn render_part(part: &Part, links: Links<'_>, out: &mut String) {
    let _ = match part {
        Part::Heading(level, text) => writeln!(out, "<h{level} id=\"{}\">{}</h{level}>", anchor(text), escape(text)),
        Part::Paragraph(pieces) => writeln!(out, "<p>{}</p>", line(pieces, links)),
        Part::List(items) => {
            let items: String = items.iter().map(|item| format!("<li>{}</li>\n", line(item, links))).collect();
            writeln!(out, "<ul>\n{items}</ul>")
        }
        Part::Facts(facts) => {
            let facts: String =
                facts.iter().map(|(name, said)| format!("<div><dt>{name}</dt><dd>{}</dd></div>\n", line(said, links))).collect();
            writeln!(out, "<dl>\n{facts}</dl>")
        }
        Part::Table { caption, heads, rows } => {
            table(caption, heads, rows, links, out);
            Ok(())
        }
        Part::Code { label, text } => writeln!(
            out,
            "<figure class=\"code\"><figcaption>{}</figcaption><pre tabindex=\"0\"><code>{}</code></pre></figure>",
            escape(label),
            escape(text)
        ),
        Part::Quote(text) => writeln!(out, "<blockquote><p class=\"said\" tabindex=\"0\">{}</p></blockquote>", escape(text)),
        Part::Chart(classes) => {
            chart(classes, out);
            Ok(())
        }
        Part::Question(question, answer) => {
            writeln!(out, "<details open><summary>{}</summary><p>{}</p></details>", escape(question), escape(answer))
        }
        Part::Folded(summary, parts) => {
            let _ = writeln!(out, "<details><summary>{}</summary>", escape(summary));
            parts.iter().for_each(|part| render_part(part, links, out));
            writeln!(out, "</details>")
        }
        Part::Search { text, class, level, signal } => {
            if links.can_search {
                let classes: Vec<&str> = RiskClass::ALL.map(RiskClass::name).to_vec();
                let levels: Vec<&str> = Level::ALL.map(Level::name).to_vec();
                let signals: Vec<&str> = Signal::ALL.map(Signal::name).to_vec();
                let choices = [
                    choice("class", &classes, class.map(RiskClass::name)),
                    choice("level", &levels, level.map(Level::name)),
                    choice("signal", &signals, signal.map(Signal::name)),
                ];
                let _ = writeln!(
                    out,
                    "<form role=\"search\" action=\"{}\" method=\"get\"><label>Words <input type=\"search\" name=\"q\" value=\"{}\"></label>{}<button>Search</button></form>",
                    links.to("search"),
                    escape(text),
                    choices.concat()
                );
            }
            Ok(())
        }
    };
}

fn table(caption: &str, heads: &[&str], rows: &[Vec<Vec<Piece>>], links: Links<'_>, out: &mut String) {
    let columns: Vec<&str> = (0..heads.len()).map(|column| kind_of_column(rows, column)).collect();
    let heads: String =
        heads.iter().zip(&columns).map(|(head, kind)| format!("<th scope=\"col\"{kind}>{}</th>", escape(head))).collect();
    // A wide table scrolls by itself, with the keyboard too.
    let _ = write!(
        out,
        "<div class=\"wide\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table><caption>{caption}</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n",
        caption = escape(caption)
    );
    for row in rows {
        out.push_str("<tr>");
        for (cell, kind) in row.iter().zip(&columns) {
            let _ = write!(out, "<td{kind}>{}</td>", line(cell, links));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

/// Numbers stand one under the other, and prose has room.
fn kind_of_column(rows: &[Vec<Vec<Piece>>], column: usize) -> &'static str {
    let cells = || rows.iter().filter_map(|row| row.get(column));
    let is_number = |cell: &Vec<Piece>| match cell.as_slice() {
        [Piece::Text(text)] => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    let is_prose = |cell: &Vec<Piece>| matches!(cell.as_slice(), [Piece::Text(text)] if text.len() > 40);
    match (cells().all(is_number), cells().any(is_prose)) {
        (true, _) => " class=\"number\"",
        (_, true) => " class=\"prose\"",
        _ => "",
    }
}

fn choice(name: &str, values: &[&str], chosen: Option<&str>) -> String {
    let option = |value: &&str| {
        let selected = if chosen == Some(*value) { " selected" } else { "" };
        format!("<option{selected}>{value}</option>")
    };
    let options: String = values.iter().map(option).collect();
    format!("<label>{name} <select name=\"{name}\"><option value=\"\">any</option>{options}</select></label>")
}

fn line(pieces: &[Piece], links: Links<'_>) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => escape(text),
        Piece::Code(text) => format!("<code>{}</code>", escape(text)),
        Piece::Link(text, path) => format!("<a href=\"{}\">{}</a>", escape(&links.to(path)), escape(text)),
        Piece::Away(text, address) if is_secure(address) => {
            format!("<a href=\"{}\" rel=\"noreferrer\">{}</a>", escape(address), escape(text))
        }
        Piece::Away(text, _) => escape(text),
        Piece::Badge(badge) => {
            let more =
                if badge.more.is_empty() { String::new() } else { format!(" <span class=\"level\">· {}</span>", badge.more) };
            format!("<span class=\"badge {}\">{}{more}</span>", badge.tone, badge.word)
        }
    };
    pieces.iter().map(piece).collect()
}

/// Bars, with the numbers beside them: nothing is told by colour or length alone.
fn chart(classes: &[u64; 5], out: &mut String) {
    let most = classes.iter().copied().max().unwrap_or(0).max(1);
    let said: Vec<String> = RiskClass::ALL.iter().zip(classes).map(|(class, count)| format!("{count} {class}")).collect();
    let _ = write!(
        out,
        "<svg class=\"chart\" viewBox=\"0 0 480 150\" width=\"480\" height=\"150\" role=\"img\" aria-label=\"Tools by class: {}\">",
        said.join(", ")
    );
    for (i, (class, count)) in RiskClass::ALL.iter().zip(classes).enumerate() {
        let (y, width) = (i * 30, count * 300 / most);
        let _ = write!(
            out,
            "<text x=\"0\" y=\"{}\">{class}</text><rect class=\"{class}\" x=\"100\" y=\"{}\" width=\"{width}\" height=\"18\" rx=\"2\"/><text x=\"{}\" y=\"{}\">{count}</text>",
            y + 18,
            y + 4,
            108 + width,
            y + 18
        );
    }
    out.push_str("</svg>\n");
}

/// The one style sheet. Contrasts are at least 4.5 to 1, in both schemes.
pub(crate) const STYLE: &str = include_str!("style.css");
/// What copies a policy, where there is script.
pub(crate) const SCRIPT: &str = include_str!("copy.js");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_become_markup_and_what_hides_is_shown() {
        assert_eq!(escape("<script>'&\"\u{202e}"), "&lt;script&gt;&#39;&amp;&quot;\\u{202e}");
    }
}
