//! Audit records as people see them, and the times they ask for.

use crate::terminal::{Paint, table, visible};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use json::{Document, Strictness};
use store::Row;

/// Prints records as a table with these heads; `heads` is false for rows that go on with a table.
pub fn table_of(rows: &[Row], paint: Paint, heads: bool) -> String {
    let names = ["SEQ", "AT", "SERVER", "TOOL", "PHASE", "OUTCOME", "WHY", "RULE"];
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let heads: &[&str] = if heads { &names } else { &[] };
    table(heads, &cells, |column, cell, padded| if column == 5 { paint.outcome(cell, &padded) } else { padded })
}

/// The widths of a table do not change while it goes on, so they are fixed.
pub fn line_of(row: &Row, paint: Paint) -> String {
    let cells = cells(row);
    let [seq, at, server, tool, phase, outcome, why, rule] = &cells[..] else { return String::new() };
    let outcome = paint.outcome(outcome, &format!("{outcome:<7}"));
    let line = format!("{seq:>6}  {at}  {server:<16}  {tool:<24}  {phase:<8}  {outcome}  {why:<18}  {rule}");
    line.trim_end().to_owned()
}

fn cells(row: &Row) -> Vec<String> {
    let Ok(document) = Document::parse(row.body.clone(), Strictness::Reply) else {
        return vec![
            row.seq.to_string(),
            "(spoilt)".into(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            visible(&row.body),
        ];
    };
    let text = |name: &str| {
        let value = document.root().get(name).and_then(|value| value.as_str());
        value.map(|text| visible(&text)).unwrap_or_default()
    };
    let tool = [text("tool"), text("method")].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    let why = [text("reason"), text("reply")].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    vec![row.seq.to_string(), text("at"), text("server"), tool, text("phase"), text("outcome"), why, text("rule")]
}

/// Prints one record, a member a line.
pub fn details_of(row: &Row) -> String {
    let Ok(document) = Document::parse(row.body.clone(), Strictness::Reply) else {
        return format!("record {} is spoilt: {}\n", row.seq, visible(&row.body));
    };
    let mut rows = Vec::new();
    for member in document.root().members().into_iter().flatten().filter(|member| !member.value.is_null()) {
        let value = member.value.as_str().map_or_else(|| visible(member.value.raw()), |text| visible(&text));
        rows.push(vec![visible(&member.key), value]);
    }
    rows.push(vec!["hash".to_owned(), visible(&row.hash)]);
    table(&[], &rows, |_, _, padded| padded)
}

/// A moment as people write it, in milliseconds since the Unix epoch: RFC 3339, a date (UTC), or so long before `now`.
///
/// # Errors
/// One sentence that says what is expected.
pub fn moment(text: &str, now: i64) -> Result<i64, String> {
    if let Some(span) = policy::parse_span(text) {
        return Ok(now.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)));
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.as_millisecond());
    }
    let date = text.parse::<Date>().ok().and_then(|date| date.to_zoned(TimeZone::UTC).ok());
    let date = date.map(|date| date.timestamp().as_millisecond());
    date.ok_or_else(|| format!("`{text}` is no time; write `2026-01-15T10:30:00Z`, `2026-01-15`, or so long ago: `1h`, `7d`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_three_forms() {
        let now = "2026-01-15T10:30:00Z".parse::<Timestamp>().unwrap().as_millisecond();
        assert_eq!(moment("2026-01-15T11:30:00+01:00", 0).unwrap(), now);
        assert_eq!(moment("1h", now).unwrap(), now - 3_600_000);
        assert_eq!(moment("2026-01-15", now).unwrap(), now - 37_800_000);
        for wrong in ["", "yesterday", "-1h", "2026-13-01", "10:30"] {
            assert!(moment(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hostile_names_do_nothing_to_the_terminal() {
        let body = r#"{"seq":1,"at":"2026-01-15T10:30:00.000Z","tool":"a\u001b[2Jb\u202e","outcome":"deny"}"#;
        let row = Row { seq: 1, body: body.into(), hash: "ff".into() };
        for text in [table_of(std::slice::from_ref(&row), Paint::off(), true), line_of(&row, Paint::off()), details_of(&row)] {
            assert!(text.contains("a\\u{1b}[2Jb\\u{202e}"), "{text}");
            assert!(!text.contains(['\u{1b}', '\u{202e}']));
        }
    }

    #[test]
    fn a_spoilt_record_is_shown_as_what_it_is() {
        let row = Row { seq: 7, body: "{\u{1b}".into(), hash: String::new() };
        assert!(table_of(&[row], Paint::off(), true).contains("(spoilt)"));
    }
}
