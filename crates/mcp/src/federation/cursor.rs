//! Where the next page of a list of many servers begins: at each server's own cursor.
//!
//! The cursor that a client gets holds those of the servers, and a seal that binds it to the list and to its holder: it is
//! taken back from nobody else. Nothing needs to be remembered for a list that is never read to its end.
//!
//! A seal is text without a dot; whoever makes them knows a key.

use crate::federation::lists::ListKind;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use json::{Document, Strictness, Value, quote};

/// A cursor that is taken back is at most so long.
const MAX_BYTES: usize = 64 * 1024;

/// The place of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Of which list.
    pub kind: ListKind,
    /// The servers whose lists go on, and their cursors as they have spelt them: JSON strings with their quotes.
    pub servers: Vec<(String, String)>,
}

impl Cursor {
    /// The text that clients get; `None` where no list goes on, there is no seal, or the text would be too long to be taken back.
    pub fn seal(&self, seal: impl FnOnce(&str) -> Option<String>) -> Option<String> {
        if self.servers.is_empty() {
            return None;
        }
        let places: Vec<_> = self.servers.iter().map(|(server, cursor)| format!("[{},{cursor}]", quote(server))).collect();
        let text = format!(r#"["{}",{}]"#, self.kind.method(), places.join(","));
        let sealed = format!("{}.{}", seal(&text)?, URL_SAFE_NO_PAD.encode(text));
        (sealed.len() <= MAX_BYTES).then_some(sealed)
    }

    /// Reads what a client hands back as the cursor of a list of `kind`; `None` for what was not given to this client.
    pub fn open(kind: ListKind, text: &str, seal: impl FnOnce(&str) -> Option<String>) -> Option<Cursor> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let (given, text) = text.split_once('.')?;
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let expected = seal(&text)?;
        // In one time, wherever they differ: else the seal could be found digit by digit.
        let differs = given.bytes().zip(expected.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b));
        if differs != 0 || given.len() != expected.len() {
            return None;
        }
        let document = Document::parse(text, Strictness::Reply).ok()?;
        let mut places = document.root().elements()?;
        if !places.next()?.says(kind.method()) {
            return None;
        }
        let servers = places.map(|place| {
            let mut parts = place.elements()?;
            let (server, cursor) = (parts.next()?.as_str()?, parts.next()?);
            cursor.as_str().map(|_| (server.into_owned(), cursor.raw().to_owned()))
        });
        Some(Cursor { kind, servers: servers.collect::<Option<_>>()? })
    }
}

/// A server's cursor as it has spelt it, where its list goes on.
pub(super) fn next_of(result: Value<'_>) -> Option<String> {
    let cursor = result.get("nextCursor")?;
    cursor.as_str().map(|_| cursor.raw().to_owned())
}
