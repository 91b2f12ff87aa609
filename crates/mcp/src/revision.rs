//! Protocol revisions.
//!
//! A revision answers questions; nobody else compares dates.

use std::fmt;

/// A revision of the protocol that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(u8);

/// The two ways in which the protocol keeps state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Era {
    /// Up to 2025-11-25: an `initialize` handshake, and sessions over HTTP.
    Legacy,
    /// From 2026-07-28: no handshake, every request says in `_meta` what it needs.
    Modern,
}

const NAMES: [&str; 5] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"];

impl Revision {
    /// The first revision; HTTP with a separate event stream.
    pub const V2024_11_05: Revision = Revision(0);
    /// Streamable HTTP, batches.
    pub const V2025_03_26: Revision = Revision(1);
    /// No batches, `MCP-Protocol-Version`, elicitation.
    pub const V2025_06_18: Revision = Revision(2);
    /// The last one with a handshake; experimental tasks.
    pub const V2025_11_25: Revision = Revision(3);
    /// Stateless.
    pub const V2026_07_28: Revision = Revision(4);
    /// Every revision we know, oldest first.
    pub const ALL: [Revision; 5] =
        [Revision::V2024_11_05, Revision::V2025_03_26, Revision::V2025_06_18, Revision::V2025_11_25, Revision::V2026_07_28];

    /// Reads a revision's name, exactly as the protocol spells it; `None` for one that we do not know.
    pub fn parse(name: &str) -> Option<Revision> {
        NAMES.iter().position(|known| *known == name).map(|index| Revision::ALL[index])
    }

    /// The revision's name: `2025-06-18`.
    pub fn as_str(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    /// How the revision keeps state.
    pub fn era(self) -> Era {
        if self >= Revision::V2026_07_28 { Era::Modern } else { Era::Legacy }
    }

    /// Whether one body or line may be an array of messages.
    ///
    /// 2025-03-26 §Batching: servers MUST accept arrays. 2025-06-18 removed them; 2024-11-05 does not speak of them.
    pub fn has_batches(self) -> bool {
        self == Revision::V2025_03_26
    }

    /// Whether requests over HTTP carry `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*`, which must agree with the body.
    pub fn mirrors_headers(self) -> bool {
        self.era() == Era::Modern
    }

    /// Whether clients send `MCP-Protocol-Version` over HTTP (after the handshake, where there is one).
    pub fn has_version_header(self) -> bool {
        self >= Revision::V2025_06_18
    }

    /// Whether every result must say its `resultType`.
    pub fn needs_result_type(self) -> bool {
        self.era() == Era::Modern
    }

    /// Whether servers over streamable HTTP may open sessions (`Mcp-Session-Id`, GET stream, DELETE, resuming).
    pub fn has_sessions(self) -> bool {
        self.era() == Era::Legacy && self >= Revision::V2025_03_26
    }

    /// Whether servers over streamable HTTP may close a stream before its end, once it has an event with an id, for the client
    /// to come back for the rest (2025-11-25 §Sending Messages to the Server, SEP-1699). Clients of earlier revisions need not
    /// bear an event without data.
    pub fn has_polling(self) -> bool {
        self == Revision::V2025_11_25
    }

    /// Whether servers may send requests of their own, and clients responses.
    pub fn has_server_requests(self) -> bool {
        self.era() == Era::Legacy
    }

    /// Whether closing a response stream over HTTP cancels its request; before, the client may come back for it.
    pub fn closing_cancels(self) -> bool {
        self.era() == Era::Modern
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_nothing_else_is_a_revision() {
        for revision in Revision::ALL {
            assert_eq!(Revision::parse(revision.as_str()), Some(revision));
        }
        for name in ["", "2025-06-19", "2025-06-18 ", "draft", "2026-07-28-rc"] {
            assert_eq!(Revision::parse(name), None, "{name}");
        }
    }

    #[test]
    fn batches_live_in_one_revision_only() {
        let with: Vec<_> = Revision::ALL.into_iter().filter(|r| r.has_batches()).map(Revision::as_str).collect();
        assert_eq!(with, ["2025-03-26"]);
    }

    #[test]
    fn the_modern_era_has_neither_sessions_nor_server_requests() {
        let modern = Revision::V2026_07_28;
        assert_eq!(modern.era(), Era::Modern);
        assert!(!modern.has_sessions() && !modern.has_server_requests());
        assert!(modern.mirrors_headers() && modern.needs_result_type() && modern.closing_cancels());
        assert_eq!(Revision::V2025_11_25.era(), Era::Legacy);
    }
}
