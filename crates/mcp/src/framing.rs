//! Lines of stdio.
//!
//! One message a line, ended by LF. A line that is too long is thrown away and reported once; the next line is read as if
//! nothing had been. Only LF ends a line: CR, U+2028 and the like between or within messages do not, whatever other readers
//! think (what is *sent* as a line goes through [`crate::Message::for_line`]).

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use std::fmt;

/// Splits a stream of bytes into lines.
#[derive(Debug)]
pub struct Lines {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no LF.
    scanned: usize,
    max_bytes: usize,
    /// Whether the rest of a line that was too long is being thrown away.
    discarding: bool,
}

/// A line was longer than allowed, and has been thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The most that is allowed, in bytes.
    pub max_bytes: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a line of more than {} bytes", self.max_bytes)
    }
}

impl std::error::Error for TooLong {}

impl Lines {
    /// Takes lines of at most `max_bytes`, line end not counted.
    pub fn new(max_bytes: usize) -> Lines {
        Lines { buffer: BytesMut::new(), scanned: 0, max_bytes, discarding: false }
    }

    /// Takes in what has been read; then call [`Lines::next_line`] until it gives nothing.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Gives the next line without its line end (LF, or CR LF). Blank lines are skipped: they carry no message.
    ///
    /// A line that is too long gives one error as soon as that is known.
    pub fn next_line(&mut self) -> Option<Result<Bytes, TooLong>> {
        loop {
            let Some(end) = memchr(b'\n', &self.buffer[self.scanned..]).map(|at| at + self.scanned) else {
                self.scanned = self.buffer.len();
                // One more than the limit may be a CR that belongs to the line end.
                if self.discarding || self.buffer.len() > self.max_bytes + 1 {
                    self.buffer.clear();
                    self.scanned = 0;
                    return if std::mem::replace(&mut self.discarding, true) { None } else { Some(Err(self.too_long())) };
                }
                return None;
            };
            let line = self.buffer.split_to(end + 1).freeze();
            self.scanned = 0;
            if std::mem::take(&mut self.discarding) {
                continue;
            }
            if let Some(line) = self.line(line.slice(..end)) {
                return Some(line);
            }
        }
    }

    /// Gives what stands after the last LF when the stream has ended. A whole message may stand there.
    pub fn finish(&mut self) -> Option<Result<Bytes, TooLong>> {
        self.scanned = 0;
        let rest = self.buffer.split().freeze();
        if std::mem::take(&mut self.discarding) { None } else { self.line(rest) }
    }

    fn line(&self, mut line: Bytes) -> Option<Result<Bytes, TooLong>> {
        if line.ends_with(b"\r") {
            line.truncate(line.len() - 1);
        }
        match line {
            line if line.len() > self.max_bytes => Some(Err(self.too_long())),
            line if line.iter().all(u8::is_ascii_whitespace) => None,
            line => Some(Ok(line)),
        }
    }

    fn too_long(&self) -> TooLong {
        TooLong { max_bytes: self.max_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `chunks` and gives what comes out.
    fn lines<'c>(chunks: impl IntoIterator<Item = &'c [u8]>, max_bytes: usize) -> Vec<Result<Bytes, TooLong>> {
        let mut lines = Lines::new(max_bytes);
        let mut out = Vec::new();
        for chunk in chunks {
            lines.push(chunk);
            out.extend(std::iter::from_fn(|| lines.next_line()));
        }
        out.extend(lines.finish());
        out
    }

    #[track_caller]
    fn check(stream: &str, expected: &[Option<&str>]) {
        let got = lines([stream.as_bytes()], 4);
        let expected: Vec<_> =
            expected.iter().map(|line| line.map(|l| Bytes::from(l.to_owned())).ok_or(TooLong { max_bytes: 4 })).collect();
        assert_eq!(got, expected, "{stream:?}");
    }

    #[test]
    fn only_a_line_feed_ends_a_line() {
        check("a\nb\r\nc", &[Some("a"), Some("b"), Some("c")]);
        check("a\rb\n", &[Some("a\rb")]);
        check("\u{2028}a\n", &[Some("\u{2028}a")]);
        check("\n\r\n  \n\t\n", &[]);
    }

    #[test]
    fn a_line_that_is_too_long_is_thrown_away_and_the_next_one_read() {
        check("1234\n12345\nab\n", &[Some("1234"), None, Some("ab")]);
        check("1234\r\n12345\r\n123456", &[Some("1234"), None, None]);
        check("1234567890\nab", &[None, Some("ab")]);
    }

    #[test]
    fn a_line_that_is_too_long_takes_no_memory() {
        let mut lines = Lines::new(1 << 10);
        let mut errors = 0;
        for _ in 0..1000 {
            lines.push(&[b'x'; 1 << 16]);
            errors += std::iter::from_fn(|| lines.next_line()).count();
            assert!(lines.buffer.len() <= 1 << 10);
        }
        assert_eq!(errors, 1);
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut_it_reads_the_same(
            stream in "[ab\r\n ]{0,24}",
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
            max_bytes in 0usize..8,
        ) {
            let bytes = stream.as_bytes();
            let whole = lines([bytes], max_bytes);
            prop_assert_eq!(&lines(bytes.chunks(1), max_bytes), &whole);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            prop_assert_eq!(&lines(cuts.windows(2).map(|w| &bytes[w[0]..w[1]]), max_bytes), &whole);
        }
    }
}
