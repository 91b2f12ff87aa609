//! What can be asked of the admin API.

use http::Method;
use store::DocumentKind;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Health,
    OpenApi,
    Status,
    ListApprovals,
    ShowApproval,
    Approve,
    Deny,
    ListRecords,
    ShowRecord,
    /// The documents of a kind: what stands in the file, and what the state keeps.
    List(DocumentKind),
    Show(DocumentKind),
    Put(DocumentKind),
    Remove(DocumentKind),
    History(DocumentKind),
    Restore(DocumentKind),
    Rotate,
    Reload,
}

impl Operation {
    /// Whether what is changed has versions, of which the request may name the one that it changes.
    pub fn changes_a_version(self) -> bool {
        matches!(self, Operation::Put(_) | Operation::Remove(_) | Operation::Restore(_))
    }
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Whoever reaches the listener: nothing of anybody's is told.
    Anybody,
    /// Who has a credential.
    Approvers,
    /// Who has one that is not for approvals only.
    Administrators,
}

/// A parameter of the query.
pub(crate) struct Parameter {
    pub name: &'static str,
    pub description: &'static str,
    /// Its JSON Schema.
    pub schema: &'static str,
}

/// One operation.
pub(crate) struct Route {
    pub method: Method,
    /// `{id}` stands for one part of the path.
    pub path: &'static str,
    pub operation: Operation,
    /// Its name in the OpenAPI document.
    pub name: &'static str,
    pub summary: &'static str,
    pub access: Access,
    pub parameters: &'static [Parameter],
    /// What it is sent: a media type, and the name of a schema.
    pub body: Option<(&'static str, &'static str)>,
    /// What it answers: the name of a schema in the OpenAPI document.
    pub answers: &'static str,
}

const TEXT: &str = r#"{"type":"string"}"#;
const JSON: &str = "application/json";

const VERSION: Parameter = Parameter {
    name: "version",
    description: "The number of the version to go back to; of several that are kept, `history` tells",
    schema: r#"{"type":"integer","minimum":1}"#,
};
const OVERLAP: Parameter = Parameter {
    name: "overlap",
    description: "For how long the token before stays good, such as `1h`; where it is not said, not at all",
    schema: TEXT,
};

/// Every operation.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/healthz",
        operation: Operation::Health,
        name: "health",
        summary: "Whether state can be used: 200, or 503 with what is wrong",
        access: Access::Anybody,
        parameters: &[],
        body: None,
        answers: "Health",
    },
    Route {
        method: Method::GET,
        path: "/openapi.json",
        operation: Operation::OpenApi,
        name: "openapi",
        summary: "This document",
        access: Access::Anybody,
        parameters: &[],
        body: None,
        answers: "Document",
    },
    Route {
        method: Method::GET,
        path: "/v1/status",
        operation: Operation::Status,
        name: "status",
        summary: "Who is running, what was called and denied, and by which rules",
        access: Access::Approvers,
        parameters: &[],
        body: None,
        answers: "Status",
    },
    Route {
        method: Method::GET,
        path: "/v1/approvals",
        operation: Operation::ListApprovals,
        name: "listApprovals",
        summary: "Calls that wait for a person, the oldest first",
        access: Access::Approvers,
        parameters: &[
            Parameter {
                name: "state",
                description: "Which; `pending` where it is not said",
                schema: r#"{"enum":["pending","approved","denied","spent","expired","all"]}"#,
            },
            Parameter { name: "server", description: "Of this server only", schema: TEXT },
            Parameter { name: "grant", description: "Of this grant only", schema: TEXT },
            Parameter {
                name: "limit",
                description: "Only the last so many; 100 where it is not said",
                schema: r#"{"type":"integer","minimum":1,"maximum":1000}"#,
            },
        ],
        body: None,
        answers: "Approvals",
    },
    Route {
        method: Method::GET,
        path: "/v1/approvals/{id}",
        operation: Operation::ShowApproval,
        name: "showApproval",
        summary: "One approval, with the exact arguments",
        access: Access::Approvers,
        parameters: &[],
        body: None,
        answers: "Approval",
    },
    Route {
        method: Method::POST,
        path: "/v1/approvals/{id}/approve",
        operation: Operation::Approve,
        name: "approve",
        summary: "Let the call be made, once. Where several must say yes: yours is kept, and the answer says who is missing",
        access: Access::Approvers,
        parameters: &[],
        body: None,
        answers: "Approval",
    },
    Route {
        method: Method::POST,
        path: "/v1/approvals/{id}/deny",
        operation: Operation::Deny,
        name: "deny",
        summary: "Refuse the call, or take back an approval that was not used yet",
        access: Access::Approvers,
        parameters: &[],
        body: None,
        answers: "Approval",
    },
    Route {
        method: Method::GET,
        path: "/v1/audit",
        operation: Operation::ListRecords,
        name: "listRecords",
        summary: "Records of the audit log, the oldest first",
        access: Access::Approvers,
        parameters: &[
            Parameter { name: "server", description: "Of this server only", schema: TEXT },
            Parameter { name: "tool", description: "Of this tool only", schema: TEXT },
            Parameter { name: "grant", description: "Of this grant only", schema: TEXT },
            Parameter { name: "principal", description: "Of this principal only", schema: TEXT },
            Parameter { name: "rule", description: "By this rule only", schema: TEXT },
            Parameter { name: "outcome", description: "With this outcome only", schema: r#"{"enum":["allow","ask","deny"]}"# },
            Parameter {
                name: "after",
                description: "The next records after this number, instead of the last ones",
                schema: r#"{"type":"integer","minimum":0}"#,
            },
            Parameter {
                name: "limit",
                description: "So many; 100 where it is not said",
                schema: r#"{"type":"integer","minimum":1,"maximum":1000}"#,
            },
        ],
        body: None,
        answers: "Records",
    },
    Route {
        method: Method::GET,
        path: "/v1/audit/{id}",
        operation: Operation::ShowRecord,
        name: "showRecord",
        summary: "The records of one decision, by its id, or the one with this number",
        access: Access::Approvers,
        parameters: &[],
        body: None,
        answers: "Records",
    },
    Route {
        method: Method::POST,
        path: "/v1/reload",
        operation: Operation::Reload,
        name: "reload",
        summary: "Look at the configuration file, and at what the state keeps, now; with mistakes nothing changes",
        access: Access::Administrators,
        parameters: &[],
        body: None,
        answers: "Reloaded",
    },
    Route {
        method: Method::GET,
        path: "/v1/servers",
        operation: Operation::List(DocumentKind::Server),
        name: "listServers",
        summary: "Servers, of the file and of the state, and where clients find them",
        access: Access::Approvers,
        parameters: &[],
        body: None,
        answers: "Servers",
    },
    Route {
        method: Method::GET,
        path: "/v1/servers/{id}",
        operation: Operation::Show(DocumentKind::Server),
        name: "showServer",
        summary: "One server",
        access: Access::Approvers,
        parameters: &[],
        body: None,
        answers: "Server",
    },
    Route {
        method: Method::PUT,
        path: "/v1/servers/{id}",
        operation: Operation::Put(DocumentKind::Server),
        name: "putServer",
        summary: "Make or change a server; the answer says where clients find it",
        access: Access::Administrators,
        parameters: &[],
        body: Some((JSON, "ServerDocument")),
        answers: "Server",
    },
    Route {
        method: Method::DELETE,
        path: "/v1/servers/{id}",
        operation: Operation::Remove(DocumentKind::Server),
        name: "removeServer",
        summary: "Remove a server",
        access: Access::Administrators,
        parameters: &[],
        body: None,
        answers: "Removed",
    },
    Route {
        method: Method::GET,
        path: "/v1/servers/{id}/history",
        operation: Operation::History(DocumentKind::Server),
        name: "historyServer",
        summary: "The last hundred versions of a server, the latest first",
        access: Access::Approvers,
        parameters: &[],
        body: None,
        answers: "History",
    },
    Route {
        method: Method::POST,
        path: "/v1/servers/{id}/restore",
        operation: Operation::Restore(DocumentKind::Server),
        name: "restoreServer",
        summary: "Put an earlier version of a server in force again, as a new one",
        access: Access::Administrators,
        parameters: &[VERSION],
        body: None,
        answers: "Server",
    },
    Route {
        method: Method::GET,
        path: "/v1/policies",
        operation: Operation::List(DocumentKind::Policy),
        name: "listPolicies",
        summary: "Policies that the state keeps",
        access: Access::Approvers,
        parameters: &[],
        body: None,
        answers: "Policies",
    },
    Route {
        method: Method::GET,
        path: "/v1/policies/{id}",
        operation: Operation::Show(DocumentKind::Policy),
        name: "showPolicy",
        summary: "One policy",
        access: Access::Approvers,
        parameters: &[],
        body: None,
        answers: "Policy",
    },
    Route {
        method: Method::PUT,
        path: "/v1/policies/{id}",
        operation: Operation::Put(DocumentKind::Policy),
        name: "putPolicy",
        summary: "Make or change a policy",
        access: Access::Administrators,
        parameters: &[],
        body: Some(("application/yaml", "PolicyDocument")),
        answers: "Policy",
    },
    Route {
        method: Method::DELETE,
        path: "/v1/policies/{id}",
        operation: Operation::Remove(DocumentKind::Policy),
        name: "removePolicy",
        summary: "Remove a policy",
        access: Access::Administrators,
        parameters: &[],
        body: None,
        answers: "Removed",
    },
    Route {
        method: Method::GET,
        path: "/v1/policies/{id}/history",
        operation: Operation::History(DocumentKind::Policy),
        name: "historyPolicy",
        summary: "The last hundred versions of a policy, the latest first",
        access: Access::Approvers,
        parameters: &[],
        body: None,
        answers: "History",
    },
    Route {
        method: Method::POST,
        path: "/v1/policies/{id}/restore",
        operation: Operation::Restore(DocumentKind::Policy),
        name: "restorePolicy",
        summary: "Put an earlier version of a policy in force again, as a new one",
        access: Access::Administrators,
        parameters: &[VERSION],
        body: None,
        answers: "Policy",
    },
    Route {
        method: Method::GET,
        path: "/v1/grants",
        operation: Operation::List(DocumentKind::Grant),
        name: "listGrants",
        summary: "Grants, of the file and of the state",
        access: Access::Approvers,
        parameters: &[],
        body: None,
        answers: "Grants",
    },
    Route {
        method: Method::GET,
        path: "/v1/grants/{id}",
        operation: Operation::Show(DocumentKind::Grant),
        name: "showGrant",
        summary: "One grant",
        access: Access::Approvers,
        parameters: &[],
        body: None,
        answers: "Grant",
    },
    Route {
        method: Method::PUT,
        path: "/v1/grants/{id}",
        operation: Operation::Put(DocumentKind::Grant),
        name: "putGrant",
        summary: "Make or change a grant; the answer to a new one has its token, once",
        access: Access::Administrators,
        parameters: &[],
        body: Some((JSON, "GrantDocument")),
        answers: "Grant",
    },
    Route {
        method: Method::DELETE,
        path: "/v1/grants/{id}",
        operation: Operation::Remove(DocumentKind::Grant),
        name: "removeGrant",
        summary: "Revoke a grant, of the file too; it cannot be given back",
        access: Access::Administrators,
        parameters: &[],
        body: None,
        answers: "Removed",
    },
    Route {
        method: Method::GET,
        path: "/v1/grants/{id}/history",
        operation: Operation::History(DocumentKind::Grant),
        name: "historyGrant",
        summary: "The last hundred versions of a grant, the latest first",
        access: Access::Approvers,
        parameters: &[],
        body: None,
        answers: "History",
    },
    Route {
        method: Method::POST,
        path: "/v1/grants/{id}/restore",
        operation: Operation::Restore(DocumentKind::Grant),
        name: "restoreGrant",
        summary: "Put an earlier version of a grant in force again, as a new one",
        access: Access::Administrators,
        parameters: &[VERSION],
        body: None,
        answers: "Grant",
    },
    Route {
        method: Method::POST,
        path: "/v1/grants/{id}/rotate",
        operation: Operation::Rotate,
        name: "rotateGrant",
        summary: "Give a grant another token; the answer has it, once",
        access: Access::Administrators,
        parameters: &[OVERLAP],
        body: None,
        answers: "Grant",
    },
];

/// What a request's method and path lead to.
pub(crate) enum Found {
    /// An operation, and what the path names.
    Route(&'static Route, Option<String>),
    /// Operations under other methods: these.
    OtherMethods(String),
    Nothing,
}

/// Finds what is asked for.
pub(crate) fn find(method: &Method, path: &str) -> Found {
    let mut others = Vec::new();
    for route in ROUTES {
        match matched(route.path, path) {
            Some(id) if route.method == *method => return Found::Route(route, id),
            Some(_) => others.push(route.method.as_str()),
            None => {}
        }
    }
    if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others.join(", ")) }
}

/// Whether a path is of this pattern; gives what stands for `{id}`.
fn matched(pattern: &str, path: &str) -> Option<Option<String>> {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    let mut id = None;
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return Some(id),
            (Some("{id}"), Some(part)) if !part.is_empty() => id = Some(super::unescaped(&part.replace('+', "%2B"))?),
            (Some(expected), Some(part)) if expected == part => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_one_operation() {
        let found = |method: Method, path: &str| match find(&method, path) {
            Found::Route(route, id) => Ok((route.operation, id)),
            Found::OtherMethods(methods) => Err(methods),
            Found::Nothing => Err(String::new()),
        };
        assert_eq!(found(Method::GET, "/v1/approvals"), Ok((Operation::ListApprovals, None)));
        assert_eq!(found(Method::GET, "/v1/approvals/a%20b"), Ok((Operation::ShowApproval, Some("a b".to_owned()))));
        assert_eq!(found(Method::POST, "/v1/approvals/k3/deny"), Ok((Operation::Deny, Some("k3".to_owned()))));
        assert_eq!(found(Method::GET, "/v1/approvals/k3/deny"), Err("POST".to_owned()));
        assert_eq!(found(Method::POST, "/v1/servers/a"), Err("GET, PUT, DELETE".to_owned()));
        for nothing in ["/", "/v1", "/v1/approvals/", "/v1/approvals/k3/deny/x", "/v1//approvals", "/mcp"] {
            assert_eq!(found(Method::GET, nothing), Err(String::new()), "{nothing}");
        }
    }
}
