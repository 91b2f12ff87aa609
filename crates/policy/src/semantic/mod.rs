//! Operators that parse what they judge: paths, hosts, networks, SQL, commands.
//!
//! A pattern on text is no guard for a language: `^SELECT` lets `SELECT 1; DROP TABLE t` pass, and `^/app/` lets
//! `/app/../etc/passwd`. These operators read the value as what it is, hold what they have read against a list of what is
//! allowed, and refuse to judge what does not parse, or what two readers could read differently. What cannot be judged
//! denies, whichever way the condition is turned.
//!
//! They see the text of an argument, and nothing else: not where a link on the server's disk leads, nor what a name
//! resolves to.

mod cidr;
mod command;
mod host;
mod path;
mod sql;

use crate::model::{Literal, SemanticOperator};
use json::{Kind, Value};

/// The operator of this name, if there is one, over what its `value` allows.
///
/// # Errors
/// What is wrong with the value, and what would do, both for the person who wrote it.
pub(crate) fn operator(name: &str, allowed: &Literal) -> Option<Result<Box<dyn SemanticOperator>, Mistake>> {
    fn boxed<O: SemanticOperator + 'static>(made: Result<O, Mistake>) -> Result<Box<dyn SemanticOperator>, Mistake> {
        made.map(|operator| Box::new(operator) as Box<dyn SemanticOperator>)
    }
    Some(match name {
        "path_within" => boxed(path::PathWithin::new(allowed)),
        "host_in" => boxed(host::HostIn::new(allowed)),
        "cidr_in" => boxed(cidr::CidrIn::new(allowed)),
        "sql_statement_in" => boxed(sql::SqlStatementIn::new(allowed)),
        "command_in" => boxed(command::CommandIn::new(allowed)),
        _ => return None,
    })
}

/// The names of all of them.
pub(crate) const NAMES: [&str; 5] = ["path_within", "host_in", "sql_statement_in", "command_in", "cidr_in"];

/// A `value` that an operator cannot work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// What is wrong: `` `a/../b` is no directory ``.
    pub message: String,
    /// What was expected.
    pub expected: &'static str,
}

impl Mistake {
    fn new(message: impl Into<String>, expected: &'static str) -> Mistake {
        Mistake { message: message.into(), expected }
    }
}

/// The strings of a value: one, or a list of them.
fn strings(allowed: &Literal, expected: &'static str) -> Result<Vec<String>, Mistake> {
    let texts: Option<Vec<String>> = match allowed {
        Literal::String(text) => Some(vec![text.clone()]),
        Literal::Array(all) => {
            let text = |literal: &Literal| match literal {
                Literal::String(text) => Some(text.clone()),
                _ => None,
            };
            all.iter().map(text).collect()
        }
        Literal::Null | Literal::Bool(_) | Literal::Number(_) | Literal::Object(_) => None,
    };
    match texts {
        Some(texts) if texts.is_empty() => Err(Mistake::new("the list is empty, and nothing would be allowed", expected)),
        Some(texts) => Ok(texts),
        None => Err(Mistake::new("this is no string and no list of strings", expected)),
    }
}

/// The text that is to be judged, of a length that can be.
fn text<'v>(value: Value<'v>) -> Result<std::borrow::Cow<'v, str>, String> {
    let text = value.as_str().ok_or("must be a string")?;
    if text.len() > LONGEST {
        return Err(format!("must be at most {LONGEST} bytes long"));
    }
    Ok(text)
}

/// `"a", "b"`, for messages.
fn listed(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().take(8).map(|text| json::quote(text)).collect();
    format!("{}{}", quoted.join(", "), if texts.len() > 8 { ", …" } else { "" })
}

/// Every string of a value that is one or a list of them.
fn words(value: Value<'_>) -> Result<Vec<String>, String> {
    let wrong = "must be a string or an array of strings";
    match value.kind() {
        Kind::Array => {
            value.elements().into_iter().flatten().map(|element| Ok(text(element).map_err(|_| wrong)?.into_owned())).collect()
        }
        _ => Err(wrong.to_owned()),
    }
}

/// The longest text that is judged, in bytes. What is longer is refused before any work is done.
const LONGEST: usize = 16 * 1024;
