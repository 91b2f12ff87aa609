//! What the policy says of a message by its method: one answer for every transport, the policy book and the server's
//! requests wherever they stand.

use mcp::{Kind, Route, Side};
use policy::{Decision, Policies, Posture, Reason};

/// Judges a message that is no call of a tool by its method, as `explain` shows it: what servers ask for comes from the
/// server, all else from the client. `mode` is that of an elicitation.
pub fn explain_method(policy: &Policies, method: &str, mode: Option<&str>) -> Decision {
    let kind = if method.starts_with("notifications/") { Kind::Notification } else { Kind::Request };
    let rows = || mcp::METHODS.iter().filter(|row| row.name == method);
    let by_server = rows().next().is_some() && rows().all(|row| row.from == Side::Server);
    judge_method(policy, method, kind, if by_server { Side::Server } else { Side::Client }, mode)
}

/// Judges a request or notification that is no call of a tool. A denial by the policy names its rule; one without a rule is
/// of a method that is known to be wrong, or that nobody knows under `default: deny`.
///
/// `mode` is that of an elicitation.
pub(crate) fn judge_method(policy: &Policies, method: &str, kind: Kind, from: Side, mode: Option<&str>) -> Decision {
    let is_question = from == Side::Server && kind == Kind::Request;
    let by_name = || if is_question { policy.server_request_decision(method, mode) } else { None };
    let decided = || by_name().or_else(|| policy.method_decision(method));
    let refused = |why: &str| Decision::deny(Reason::MethodRefused, why);
    match mcp::route(method, kind, from) {
        Some(Route::Forward | Route::Filter) => decided().unwrap_or_else(Decision::allow),
        Some(Route::Enforce | Route::Refuse) => refused("this method is not let through"),
        None => decided().unwrap_or_else(|| match policy.posture() {
            Posture::Allow => Decision::allow(),
            Posture::Deny => refused("this method is unknown, and the policy denies what it does not name"),
        }),
    }
}
