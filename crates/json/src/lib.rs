//! Strict raw JSON.
//!
//! A text is parsed **once**, into a flat index over its own bytes; values are views into that index, so that what was
//! judged and what is forwarded are the same bytes. Nothing is rebuilt: member order, number texts, escapes and unknown
//! members survive because they are never taken apart.
//!
//! Readers of JSON differ in what they make of duplicate keys, of keys that differ by case, of huge numbers, lone
//! surrogates and byte-order marks. In a request every one of these is an error ([`Strictness::Request`]), because a
//! second reader that understands the text differently is a way around the policy.
//!
//! This crate knows nothing of MCP or policies.

mod decimal;
mod document;
mod fold;
mod parse;

pub use decimal::Decimal;
pub use document::{Document, Elements, Kind, Member, Members, Value, quote, quote_into};
pub use fold::{could_be_taken_for, fold, is_unprintable, same_folded};
pub use parse::{Error, Problem, Strictness};
