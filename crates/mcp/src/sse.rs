//! Server-sent events.
//!
//! The decoder reads a stream as the WHATWG algorithm does (<https://html.spec.whatwg.org/multipage/server-sent-events.html>),
//! and keeps every event's own bytes beside what it means, so that a gateway can pass an event on untouched, with its ids,
//! comments and white space, or put another in its place. The originals of all events, one after another, are the stream.

use bytes::{Bytes, BytesMut};
use std::fmt;

/// One event, or a comment or blank line between events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The bytes as they came, line ends included.
    pub original: Bytes,
    /// The `data` lines joined by LF; `None` where there is none: then nothing is dispatched. An empty text is an event that
    /// only sets the id (2025-11-25 primes streams so), and is not dispatched either.
    pub data: Option<Bytes>,
    /// The event's type; `None` for the default, `message`.
    pub name: Option<String>,
    /// The `id` field; an empty one resets the last event id.
    pub id: Option<String>,
    /// The `retry` field, in milliseconds.
    pub retry: Option<u64>,
}

impl Event {
    /// The data of an event of the type `message`, in which a JSON-RPC message stands.
    pub fn message(&self) -> Option<&Bytes> {
        self.data.as_ref().filter(|data| !data.is_empty() && self.name.as_deref().is_none_or(|name| name == "message"))
    }
}

/// An event was larger than allowed. The decoder gives nothing more: the stream must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// The most that is allowed, in bytes.
    pub max_bytes: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an event of more than {} bytes", self.max_bytes)
    }
}

impl std::error::Error for TooLarge {}

/// Splits a stream of bytes into events, however the bytes are cut.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    /// Where the current event's text begins: after an LF that belongs to the CR before it.
    begin: usize,
    /// Where the line that is being read begins, and how much of it is known to hold no line end.
    line: usize,
    scanned: usize,
    /// Whether the last CR was followed by LF. An event that ends with CR is given at once, so that a sender of bare CRs is
    /// not kept waiting, and with its LF where this sender writes CR LF, so that a reader of pairs is not.
    pairs: bool,
    /// Whether the previous event ended with a CR whose LF has not been looked for.
    after_cr: bool,
    at_start: bool,
    max_bytes: usize,
    failed: bool,
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

impl Decoder {
    /// Takes events of at most `max_bytes`, with all their lines.
    pub fn new(max_bytes: usize) -> Decoder {
        Decoder {
            buffer: BytesMut::new(),
            begin: 0,
            line: 0,
            scanned: 0,
            pairs: false,
            after_cr: false,
            at_start: true,
            max_bytes,
            failed: false,
        }
    }

    /// Takes in what has been read; then call [`Decoder::next_event`] until it gives nothing.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.failed {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Gives the next event that has ended.
    pub fn next_event(&mut self) -> Option<Result<Event, TooLarge>> {
        match self.end_of_event(false) {
            Some(end) => Some(self.take(end)),
            None if self.buffer.len() > self.max_bytes => Some(self.fail()),
            None => None,
        }
    }

    /// How much is kept of events that have not been given yet, in bytes.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Gives the last event, when the stream has ended right after it. One without a blank line behind it is lost, as the
    /// algorithm has it: it may be half of what was meant.
    pub fn finish(&mut self) -> Option<Result<Event, TooLarge>> {
        let end = self.end_of_event(true);
        let event = end.map(|end| self.take(end));
        self.buffer.clear();
        event
    }

    /// Finds the end of the first event in the buffer: behind a blank line, or behind a comment that stands alone.
    fn end_of_event(&mut self, at_end_of_stream: bool) -> Option<usize> {
        if self.after_cr {
            let first = *self.buffer.first()?;
            self.pairs = first == b'\n';
            self.begin = usize::from(self.pairs);
            (self.line, self.scanned, self.after_cr) = (self.begin, self.begin, false);
        }
        loop {
            let Some(at) = self.buffer[self.scanned..].iter().position(|b| matches!(b, b'\r' | b'\n')) else {
                self.scanned = self.buffer.len();
                return None;
            };
            let at = self.scanned + at;
            self.scanned = at;
            let line = self.without_mark(&self.buffer[self.line..at]);
            let ends = line.is_empty() || (self.line == self.begin && line.starts_with(b":"));
            let mut next = at + 1;
            if self.buffer[at] == b'\r' {
                match self.buffer.get(next) {
                    // The LF, if one comes, is skipped before the next event.
                    _ if ends && !self.pairs => {
                        self.after_cr = true;
                        return Some(next);
                    }
                    Some(byte) => {
                        self.pairs = *byte == b'\n';
                        next += usize::from(self.pairs);
                    }
                    None if ends && at_end_of_stream => return Some(next),
                    None => return None,
                }
            }
            if ends {
                return Some(next);
            }
            (self.line, self.scanned) = (next, next);
        }
    }

    fn take(&mut self, end: usize) -> Result<Event, TooLarge> {
        if end > self.max_bytes {
            return self.fail();
        }
        let original = self.buffer.split_to(end).freeze();
        let mut begin = std::mem::take(&mut self.begin);
        (self.line, self.scanned) = (0, 0);
        if std::mem::take(&mut self.at_start) && original.starts_with(BYTE_ORDER_MARK) {
            begin = BYTE_ORDER_MARK.len();
        }
        Ok(parse(original, begin))
    }

    fn fail(&mut self) -> Result<Event, TooLarge> {
        self.failed = true;
        self.buffer = BytesMut::new();
        (self.begin, self.line, self.scanned, self.after_cr) = (0, 0, 0, false);
        Err(TooLarge { max_bytes: self.max_bytes })
    }

    /// One byte-order mark may stand at the very beginning of the stream.
    fn without_mark<'l>(&self, line: &'l [u8]) -> &'l [u8] {
        if self.at_start && self.line == 0 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line }
    }
}

/// Reads the fields of one whole event, whose text begins at `begin`.
fn parse(original: Bytes, begin: usize) -> Event {
    let (mut data, mut name, mut id, mut retry): (Option<Bytes>, Option<String>, _, _) = (None, None, None, None);
    let mut at = begin;
    while at < original.len() {
        let end = original[at..].iter().position(|b| matches!(b, b'\r' | b'\n')).map_or(original.len(), |length| at + length);
        let line = original.slice(at..end);
        at = end + if original[end..].starts_with(b"\r\n") { 2 } else { 1 };
        let (field, value) = match line.iter().position(|b| *b == b':') {
            Some(colon) if line[colon + 1..].starts_with(b" ") => (&line[..colon], line.slice(colon + 2..)),
            Some(colon) => (&line[..colon], line.slice(colon + 1..)),
            None => (&line[..], Bytes::new()),
        };
        match field {
            b"data" => {
                data = Some(match data {
                    None => value,
                    Some(before) => [&before[..], b"\n", &value[..]].concat().into(),
                });
            }
            b"event" => name = Some(String::from_utf8_lossy(&value).into_owned()).filter(|name| !name.is_empty()),
            b"id" if !value.contains(&0) => id = Some(String::from_utf8_lossy(&value).into_owned()),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                retry = std::str::from_utf8(&value).ok().and_then(|digits| digits.parse().ok());
            }
            _ => {}
        }
    }
    Event { original, data, name, id, retry }
}

/// Gives an event as text. Line ends in `data` begin a new `data` line (CR and CR LF read back as LF, which is the same
/// white space to JSON); in `id` and `name` they, and NUL, are left out.
pub fn encode(data: &[u8], id: Option<&str>, name: Option<&str>) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 32);
    for (field, value) in [("id", id), ("event", name)] {
        if let Some(value) = value {
            let value: String = value.chars().filter(|c| !matches!(c, '\r' | '\n' | '\0')).collect();
            out.extend_from_slice(format!("{field}: {value}\n").as_bytes());
        }
    }
    let mut rest = data;
    loop {
        let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(rest.len());
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&rest[..end]);
        out.extend_from_slice(b"\n");
        if end == rest.len() {
            break;
        }
        rest = &rest[end + if rest[end..].starts_with(b"\r\n") { 2 } else { 1 }..];
    }
    out.extend_from_slice(b"\n");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `chunks` and gives what comes out.
    fn decode<'c>(chunks: impl IntoIterator<Item = &'c [u8]>, max_bytes: usize) -> Vec<Result<Event, TooLarge>> {
        let mut decoder = Decoder::new(max_bytes);
        let mut out = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            out.extend(std::iter::from_fn(|| decoder.next_event()));
        }
        out.extend(decoder.finish());
        out
    }

    /// The events that are dispatched, as (type, data, id).
    #[track_caller]
    fn check(stream: &str, expected: &[(&str, &str, Option<&str>)]) {
        let events: Vec<_> = decode([stream.as_bytes()], 1 << 20).into_iter().map(Result::unwrap).collect();
        let got: Vec<_> = events
            .iter()
            .filter_map(|e| {
                let data = std::str::from_utf8(e.data.as_ref().filter(|d| !d.is_empty())?).unwrap();
                Some((e.name.as_deref().unwrap_or("message"), data, e.id.as_deref()))
            })
            .collect();
        assert_eq!(got, expected, "{stream:?}");
    }

    #[test]
    fn events_are_read_as_the_algorithm_has_it() {
        check("data: a\n\n", &[("message", "a", None)]);
        check("data:a\ndata:  b\ndata\n\n", &[("message", "a\n b\n", None)]);
        check("event: e\nid: 7\ndata: a\n\ndata: b\n\n", &[("e", "a", Some("7")), ("message", "b", None)]);
        check("event: e\nevent:\ndata: a\n\n", &[("message", "a", None)]);
        check("data: a\r\n\r\ndata: b\r\rdata: c\n\n", &[("message", "a", None), ("message", "b", None), ("message", "c", None)]);
        check("data: a\r\ndata: b\rdata: c\n\r\n", &[("message", "a\nb\nc", None)]);
        check(": comment\ndata: a\n: another\n\n", &[("message", "a", None)]);
        check("\u{feff}data: a\n\n", &[("message", "a", None)]);
        check("data: a\n\n\u{feff}data: b\n\n", &[("message", "a", None)]);
        check("Data: a\n data: b\nunknown: c\ndata:d\n\n", &[("message", "d", None)]);
        check("id: a\0b\ndata: c\n\n", &[("message", "c", None)]);
    }

    #[test]
    fn an_event_without_a_blank_line_behind_it_is_lost() {
        check("data: a", &[]);
        check("data: a\n", &[]);
        check("data: a\r\n\r", &[("message", "a", None)]);
        check("data: a\r\r", &[("message", "a", None)]);
    }

    #[test]
    fn events_without_data_are_kept_for_their_bytes() {
        let events: Vec<_> =
            decode([&b"id: 1\ndata:\nretry: 3000\n\n: ping\n\nretry: x\n\n"[..]], 99).into_iter().flatten().collect();
        assert_eq!(
            events.iter().map(|e| &e.original[..]).collect::<Vec<_>>().concat(),
            b"id: 1\ndata:\nretry: 3000\n\n: ping\n\nretry: x\n\n"
        );
        assert_eq!(
            (events[0].id.as_deref(), events[0].retry, events[0].data.as_deref()),
            (Some("1"), Some(3000), Some(&b""[..]))
        );
        assert!(events.iter().all(|e| e.message().is_none()));
        assert_eq!(events.last().unwrap().retry, None);
    }

    #[test]
    fn only_events_of_the_default_type_hold_messages() {
        let events: Vec<_> =
            decode([&b"event: endpoint\ndata: /x\n\nevent: message\ndata: {}\n\n"[..]], 99).into_iter().flatten().collect();
        assert_eq!(events[0].message(), None);
        assert_eq!(events[1].message().unwrap(), "{}");
    }

    #[test]
    fn a_keep_alive_is_given_at_once() {
        let mut decoder = Decoder::new(99);
        decoder.push(b":\n");
        assert_eq!(decoder.next_event().unwrap().unwrap().original, ":\n");
        decoder.push(b":\r");
        assert_eq!(decoder.next_event().unwrap().unwrap().original, ":\r");
        decoder.push(b"\ndata: a\r\n\r\n");
        let event = decoder.next_event().unwrap().unwrap();
        assert_eq!((&event.original[..], event.message().unwrap()), (&b"\ndata: a\r\n\r\n"[..], &Bytes::from("a")));
    }

    #[test]
    fn an_event_that_is_too_large_ends_the_reading() {
        for stream in [&b"data: 1234567890\n\ndata: a\n\n"[..], b"data: 1234567890", b"data: 1\ndata: 2\ndata: 3\ndata: 4"] {
            assert_eq!(decode([stream], 15), [Err(TooLarge { max_bytes: 15 })]);
        }
        assert!(decode([&b"data: 123456789\n\n"[..]], 17)[0].is_ok());
    }

    #[test]
    fn a_megabyte_on_one_line_is_one_event() {
        let text = "x".repeat(2 << 20);
        let stream = encode(text.as_bytes(), None, None);
        let events = decode(stream.chunks(16 << 10), 4 << 20);
        assert_eq!(events[0].as_ref().unwrap().message().unwrap(), &text);
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut_it_reads_the_same(
            stream in r"(\u{feff}|data|:|: |\r|\n|\r\n|\n\n|\r\n\r\n|id|retry|event|[a7 ]){0,24}",
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
            max_bytes in 8usize..64,
        ) {
            let bytes = stream.as_bytes();
            let whole = decode([bytes], max_bytes);
            prop_assert_eq!(&decode(bytes.chunks(1), max_bytes), &whole);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            prop_assert_eq!(&decode(cuts.windows(2).map(|w| &bytes[w[0]..w[1]]), max_bytes), &whole);
            let originals = whole.iter().flatten().map(|e| &e.original[..]).collect::<Vec<_>>().concat();
            prop_assert!(bytes.starts_with(&originals));
        }

        /// The oracle reads whole texts the plain way: normalise line ends, split, gather.
        #[test]
        fn what_is_dispatched_is_what_the_plain_algorithm_dispatches(
            stream in r"(\u{feff}|data|data: |:|: |\r|\n|\r\n|\n\n|\r\n\r\n|id: |event: |[a7 ]){0,24}",
        ) {
            let text = stream.strip_prefix('\u{feff}').unwrap_or(&stream).replace("\r\n", "\n").replace('\r', "\n");
            let mut expected = Vec::new();
            let (mut data, mut name): (String, &str) = (String::new(), "");
            let complete = text.rfind('\n').map_or("", |at| &text[..at + 1]);
            for line in complete.split_terminator('\n') {
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match field {
                    "" if line.is_empty() => {
                        if !data.is_empty() && data != "\n" {
                            expected.push((name.to_owned(), data[..data.len() - 1].to_owned()));
                        }
                        (data, name) = (String::new(), "");
                    }
                    "data" => data += &format!("{value}\n"),
                    "event" => name = value,
                    _ => {}
                }
            }
            let got: Vec<_> = decode([stream.as_bytes()], 1 << 20).into_iter().flatten().filter_map(|e| {
                let data = e.data.filter(|d| !d.is_empty())?;
                Some((e.name.unwrap_or_default(), String::from_utf8(data.to_vec()).unwrap()))
            }).collect();
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn what_is_encoded_reads_back(data in "[ -~é\n]{1,40}", name in proptest::option::of("[a-z]{1,8}"), id in proptest::option::of("[ -~]{1,8}")) {
            let events = decode([&encode(data.as_bytes(), id.as_deref(), name.as_deref())[..]], 1 << 10);
            prop_assert_eq!(events.len(), 1);
            let event = events[0].as_ref().unwrap();
            prop_assert_eq!(event.data.as_ref().unwrap(), &data);
            prop_assert_eq!((&event.name, &event.id), (&name, &id));
        }
    }
}
