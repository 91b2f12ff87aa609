//! The method table: which message goes where, in which direction.
//!
//! A method without a row is unknown: what happens to it is the policy's posture, never an accident of parsing. A method in
//! the wrong form (`tools/call` without an id) or from the wrong side is known to be wrong, and refused.
//!
//! Sources: `schema/<revision>/schema.ts`, and for 2026-07-28 tasks `seps/2663-tasks-extension.md`.

use crate::message::{Kind, Side};
use crate::revision::Revision;
use json::fold;

/// What is done with a message of a known method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Passes, within what the policy says of methods.
    Forward,
    /// Passes, and its result is filtered.
    Filter,
    /// Passes only by a decision.
    Enforce,
    /// Never passes.
    Refuse,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// The exact name.
    pub name: &'static str,
    /// Whether it is a request (else a notification).
    pub is_request: bool,
    /// Who may send it.
    pub from: Side,
    /// The first and the last revision that have it.
    pub revisions: (Revision, Revision),
    /// What is done with it.
    pub route: Route,
}

const V1: Revision = Revision::V2024_11_05;
const V3: Revision = Revision::V2025_06_18;
const V4: Revision = Revision::V2025_11_25;
const V5: Revision = Revision::V2026_07_28;

const fn request(name: &'static str, from: Side, first: Revision, last: Revision, route: Route) -> Method {
    Method { name, is_request: true, from, revisions: (first, last), route }
}

const fn notification(name: &'static str, from: Side, first: Revision, last: Revision) -> Method {
    Method { name, is_request: false, from, revisions: (first, last), route: Route::Forward }
}

/// Every method of every revision, by direction.
pub const METHODS: &[Method] = {
    use Route::{Enforce, Filter, Forward};
    use Side::{Client, Server};
    &[
        request("tools/call", Client, V1, V5, Enforce),
        request("tools/list", Client, V1, V5, Filter),
        request("initialize", Client, V1, V4, Forward),
        request("ping", Client, V1, V4, Forward),
        request("logging/setLevel", Client, V1, V4, Forward),
        request("completion/complete", Client, V1, V5, Forward),
        request("prompts/get", Client, V1, V5, Forward),
        request("prompts/list", Client, V1, V5, Forward),
        request("resources/list", Client, V1, V5, Forward),
        request("resources/templates/list", Client, V1, V5, Forward),
        request("resources/read", Client, V1, V5, Forward),
        request("resources/subscribe", Client, V1, V4, Forward),
        request("resources/unsubscribe", Client, V1, V4, Forward),
        request("tasks/get", Client, V4, V5, Forward),
        request("tasks/cancel", Client, V4, V5, Forward),
        request("tasks/result", Client, V4, V4, Forward),
        request("tasks/list", Client, V4, V4, Forward),
        request("tasks/update", Client, V5, V5, Forward),
        request("server/discover", Client, V5, V5, Forward),
        request("subscriptions/listen", Client, V5, V5, Forward),
        notification("notifications/cancelled", Client, V1, V5),
        notification("notifications/progress", Client, V1, V4),
        notification("notifications/initialized", Client, V1, V4),
        notification("notifications/roots/list_changed", Client, V1, V4),
        notification("notifications/tasks/status", Client, V4, V4),
        request("ping", Server, V1, V4, Forward),
        request("sampling/createMessage", Server, V1, V4, Forward),
        request("roots/list", Server, V1, V4, Forward),
        request("elicitation/create", Server, V3, V4, Forward),
        request("tasks/get", Server, V4, V4, Forward),
        request("tasks/result", Server, V4, V4, Forward),
        request("tasks/list", Server, V4, V4, Forward),
        request("tasks/cancel", Server, V4, V4, Forward),
        notification("notifications/cancelled", Server, V1, V5),
        notification("notifications/progress", Server, V1, V5),
        notification("notifications/message", Server, V1, V5),
        notification("notifications/resources/updated", Server, V1, V5),
        notification("notifications/resources/list_changed", Server, V1, V5),
        notification("notifications/tools/list_changed", Server, V1, V5),
        notification("notifications/prompts/list_changed", Server, V1, V5),
        notification("notifications/elicitation/complete", Server, V4, V4),
        notification("notifications/tasks/status", Server, V4, V4),
        notification("notifications/tasks", Server, V5, V5),
        notification("notifications/subscriptions/acknowledged", Server, V5, V5),
    ]
};

/// Says what is done with a request or notification; `None` when its method is unknown (and for a response, which has none).
///
/// Names are compared by their exact bytes after decoding. A name that is not known but could be taken for one by a careless
/// reader (`TOOLS/CALL`, `tools/call ` with a space, `ｔools/call`) is refused, as are `rpc.…` (reserved by JSON-RPC), and a
/// known method in the wrong form or from the wrong side.
pub fn route(method: &str, kind: Kind, from: Side) -> Option<Route> {
    let is_request = match kind {
        Kind::Request => true,
        Kind::Notification => false,
        Kind::Response { .. } => return None,
    };
    let mut rows = METHODS.iter().filter(|row| row.name == method).peekable();
    if rows.peek().is_some() {
        let row = rows.find(|row| row.is_request == is_request && row.from == from);
        return Some(row.map_or(Route::Refuse, |row| row.route));
    }
    // Nothing is called so; a reader that stops at a NUL, or drops what it cannot show, would take it for something else.
    if method.is_empty() || method.chars().any(json::is_unprintable) {
        return Some(Route::Refuse);
    }
    let plain = plain(method);
    let imitates = plain.starts_with("rpc.") || METHODS.iter().any(|row| row.name.eq_ignore_ascii_case(&plain));
    imitates.then_some(Route::Refuse)
}

/// What is left of a method name after careless reading: folded, without white space, control and invisible characters, and
/// with single slashes.
fn plain(method: &str) -> String {
    let mut out = String::with_capacity(method.len());
    for c in fold(method).chars().filter(|c| !json::is_unprintable(*c) && !c.is_whitespace()) {
        if c != '/' || !(out.is_empty() || out.ends_with('/')) {
            out.push(c);
        }
    }
    if out.ends_with('/') {
        out.pop();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use Side::{Client, Server};

    #[track_caller]
    fn check(method: &str, kind: Kind, from: Side, expected: Option<Route>) {
        assert_eq!(route(method, kind, from), expected, "{method:?}");
    }

    #[test]
    fn calls_are_enforced_and_lists_filtered() {
        check("tools/call", Kind::Request, Client, Some(Route::Enforce));
        check("tools/list", Kind::Request, Client, Some(Route::Filter));
        check("resources/read", Kind::Request, Client, Some(Route::Forward));
        check("notifications/initialized", Kind::Notification, Client, Some(Route::Forward));
        check("sampling/createMessage", Kind::Request, Server, Some(Route::Forward));
    }

    #[test]
    fn a_call_without_an_id_is_refused() {
        check("tools/call", Kind::Notification, Client, Some(Route::Refuse));
        check("notifications/cancelled", Kind::Request, Client, Some(Route::Refuse));
    }

    #[test]
    fn the_wrong_direction_is_refused() {
        check("tools/call", Kind::Request, Server, Some(Route::Refuse));
        check("elicitation/create", Kind::Request, Client, Some(Route::Refuse));
        check("notifications/message", Kind::Notification, Client, Some(Route::Refuse));
    }

    #[test]
    fn imitations_of_a_method_are_refused() {
        for method in [
            "TOOLS/CALL",
            "tools/Call",
            "tools/call ",
            " tools/call",
            "tools//call",
            "tools/call/",
            "/tools/call",
            "tools/call\0",
            "tools/call\n",
            "tools/call\u{200b}",
            "ｔools/call",
            "tool\u{17f}/call",
            "rpc.discover",
            "RPC.x",
            "",
            "x/y\0",
        ] {
            check(method, Kind::Request, Client, Some(Route::Refuse));
        }
    }

    #[test]
    fn other_methods_are_unknown() {
        for method in ["x/y", "skills/list", "tools/cal", "tools", "notifications/custom", "rpcs"] {
            check(method, Kind::Request, Client, None);
            check(method, Kind::Notification, Server, None);
        }
    }

    #[test]
    fn no_row_stands_twice() {
        for (i, a) in METHODS.iter().enumerate() {
            assert!(a.revisions.0 <= a.revisions.1);
            assert!(METHODS[..i].iter().all(|b| (a.name, a.from, a.is_request) != (b.name, b.from, b.is_request)), "{}", a.name);
        }
    }
}
