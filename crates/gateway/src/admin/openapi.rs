//! The OpenAPI document of the admin API, made from its routes.

use super::routes::{Access, Operation, Parameter, ROUTES, Route};
use serde_json::{Map, Value, json};

/// The document: OpenAPI 3.1, as it is served at `/openapi.json`.
///
/// # Panics
/// Never: what it is made of is constant, and tested.
pub fn openapi() -> String {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Callgate admin API",
            "version": "1",
            "description": "Servers, policies, grants, approvals, status and the audit log of a running gateway. See docs/admin.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(),
        },
    });
    let mut text = serde_json::to_string_pretty(&document).expect("a value with string keys can be written");
    text.push('\n');
    text
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    if route.path.contains("{id}") {
        parameters.push(json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}));
    }
    parameters.extend(route.parameters.iter().map(parameter));
    if route.operation.changes_a_version() {
        let header = |name: &str, description: &str| json!({"name": name, "in": "header", "required": false, "description": description, "schema": {"type": "string"}});
        parameters.push(header("If-Match", "The `ETag` of the version that is changed, or `*`: 412 if it is another by now"));
        parameters.push(header("If-None-Match", "`*`: 412 if there is one already"));
    }
    let security = match route.access {
        Access::Anybody => json!([]),
        Access::Approvers | Access::Administrators => json!([{"token": []}]),
    };
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.summary,
        "security": security,
        "parameters": parameters,
        "responses": responses(route),
    });
    if let Some((media, schema)) = route.body {
        operation["requestBody"] = json!({"required": true, "content": {media: {"schema": reference(schema)}}});
    }
    operation
}

fn responses(route: &Route) -> Value {
    let answer = |description: &str, schema: &str| json!({"description": description, "content": {"application/json": {"schema": reference(schema)}}});
    let mut responses = json!({"200": answer("Done", route.answers)});
    if route.operation == Operation::Health {
        responses["503"] = answer("State cannot be used", "Health");
    }
    let mut refusals: Vec<(&str, &str)> = Vec::new();
    if route.access != Access::Anybody {
        refusals.push(("401", "No credential of an administrator"));
        refusals.push(("503", "State cannot be used"));
    }
    if !route.parameters.is_empty() || route.body.is_some() {
        refusals.push(("400", "A parameter or body that cannot be read"));
    }
    if route.path.contains("{id}") {
        refusals.push(("404", "There is no such thing"));
    }
    match route.operation {
        Operation::Approve | Operation::Deny => {
            refusals.push(("403", "Somebody else must approve it"));
            refusals.push(("409", "It is no longer open, or you have answered already"));
        }
        Operation::Put(_) | Operation::Remove(_) | Operation::Restore(_) => {
            if matches!(route.operation, Operation::Put(_) | Operation::Restore(_)) {
                responses["201"] = answer("Made", route.answers);
                refusals.push(("422", "It has mistakes: each is under `problems`"));
            }
            refusals.push(("403", "A credential that changes nothing"));
            refusals.push(("409", "It stands in the configuration file, or something else needs it as it is"));
            refusals.push(("412", "It is another version than `If-Match` says"));
        }
        Operation::Rotate => {
            refusals.push(("403", "A credential that changes nothing"));
            refusals.push(("409", "It is revoked, or its token stands in the configuration"));
        }
        Operation::Reload => {
            refusals.push(("403", "A credential that changes nothing"));
            refusals.push(("409", "It cannot be put in force"));
            refusals.push(("422", "The configuration has mistakes: each is under `problems`"));
        }
        _ => {}
    }
    for (status, description) in refusals {
        responses[status] = answer(description, "Error");
    }
    responses
}

fn parameter(parameter: &Parameter) -> Value {
    let schema: Value = serde_json::from_str(parameter.schema).expect("every schema of a parameter is JSON");
    json!({"name": parameter.name, "in": "query", "required": false, "description": parameter.description, "schema": schema})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let time = json!({"type": "string", "format": "date-time"});
    let maybe = |kind: &str| json!({"type": [kind, "null"]});
    let items = |of: &str| json!({"type": "object", "required": ["items"], "properties": {"items": {"type": "array", "items": reference(of)}}});
    json!({
        "Health": {"type": "object", "required": ["status"], "properties": {"status": {"enum": ["ok", "store-unavailable"]}}},
        "Document": {"type": "object", "description": "An OpenAPI document."},
        "Error": {"type": "object", "required": ["error"], "properties": {"error": {
            "type": "object", "required": ["code", "message"], "properties": {
                "code": {"enum": ["bad-request", "unauthorized", "forbidden", "not-asked", "not-found", "method-not-allowed", "conflict", "in-use",
                    "other-version", "invalid", "busy", "store-unavailable"]},
                "message": text,
                "problems": {"type": "array", "items": reference("Problem")},
            },
        }}},
        "Approvals": items("Approval"),
        "Approval": {"type": "object", "required": ["id", "state", "tool", "server", "grant", "principal"], "properties": {
            "id": text,
            "state": {"enum": ["pending", "approved", "denied", "spent", "expired"]},
            "server": text, "grant": text, "principal": text, "tool": text,
            "arguments": {"description": "Exactly as they came; null once nothing is left to decide, or where they are too long."},
            "arguments_too_long": {"description": "In their place: their length and a keyed digest.", "type": ["object", "null"]},
            "arguments_shown": {"description": "Their text, with hidden characters made visible. Show this to people.", "type": "string"},
            "rule": text, "policy": text, "created": time, "expires": time,
            "needs": {"description": "Who must say yes, all of these. Without any, one person.", "type": "array", "items": {
                "type": "object", "required": ["count", "of"], "properties": {
                    "count": {"type": "integer"}, "of": {"description": "Empty: anybody.", "type": "array", "items": text},
                },
            }},
            "still_needs": {"description": "How many more must say yes.", "type": "integer"},
            "approved_by": {"type": "array", "items": {"type": "object", "required": ["by", "at"], "properties": {"by": text, "at": time}}},
            "decided": maybe("string"), "decided_by": maybe("string"), "spent_by": maybe("string"),
        }},
        "Records": items("Record"),
        "Record": {"type": "object", "description": "A record of the audit log: docs/audit.md.", "properties": {"seq": {"type": "integer"}, "hash": text}},
        "Status": {"type": "object", "properties": {
            "state": text, "records": {"type": "integer"}, "waiting": {"type": "integer"},
            "instances": {"type": "array", "items": {"type": "object"}}, "servers": {"type": "array", "items": {"type": "object"}},
            "gateway": {"description": "This gateway's servers as they are now.", "type": "object", "properties": {
                "servers": {"type": "array", "items": reference("Standing")},
            }},
        }},
        "Standing": {"type": "object", "required": ["server", "standing", "pins_pending"], "properties": {
            "server": text, "standing": {"enum": ["unknown", "well", "slow", "away"]}, "why": maybe("string"),
            "pins_pending": {"description": "Definitions that nobody has accepted yet.", "type": "integer"},
            "processes": {"type": ["object", "null"], "properties": {
                "living": {"type": "integer"}, "started": {"type": "integer"}, "ended": {"type": "integer"},
                "last_end": maybe("string"), "paused_ms": {"type": "integer"},
                "stderr": {"description": "The last lines. Not ours, and not to be trusted.", "type": "array", "items": text},
            }},
        }},
        "Problem": {"type": "object", "required": ["severity", "code", "message"], "properties": {
            "severity": {"enum": ["error", "warning"]}, "code": text, "message": text, "file": text, "line": {"type": "integer"},
            "column": {"type": "integer"}, "end_line": {"type": "integer"}, "end_column": {"type": "integer"},
            "help": {"description": "How to mend it.", "type": ["string", "null"]},
        }},
        "ServerDocument": {"type": "object", "description": "As under `servers` in a configuration file: docs/configuration.md. `policy` may be `state:NAME`."},
        "PolicyDocument": {"type": "string", "description": "A policy in any form: docs/policy."},
        "GrantDocument": {"type": "object", "description": "As under `grants` in a configuration file, without `token`; `name` may be left out."},
        "Servers": items("Server"),
        "Server": with_common(json!({
            "url": {"description": "Where clients find it.", "type": "string"}, "in_force": {"type": "boolean"},
            "target": {"enum": ["http", "command", null]}, "grants": {"type": "array", "items": text},
            "standing": {"anyOf": [reference("Standing"), {"type": "null"}]}, "document": maybe("object"),
        })),
        "Policies": items("Policy"),
        "Policy": with_common(json!({
            "revision": {"description": "By which records name it.", "type": ["string", "null"]}, "text": text,
            "used_by": {"type": "object", "properties": {
                "servers": {"type": "array", "items": text}, "grants": {"type": "array", "items": text},
            }},
        })),
        "Grants": items("Grant"),
        "Grant": with_common(json!({
            "state": {"enum": ["active", "expired", "revoked", "left-out"]}, "principal": text,
            "servers": {"type": "array", "items": text}, "expires": {"type": ["string", "null"], "format": "date-time"},
            "labels": {"type": "object"}, "url": {"description": "All its servers as one.", "type": "string"},
            "urls": {"description": "Each of its servers.", "type": "object"}, "document": maybe("object"),
            "token": {"description": "Its token, where it has just been made: it is told once.", "type": "string"},
        })),
        "Removed": {"type": "object", "properties": {"name": text, "removed": {"type": "boolean"}}},
        "Reloaded": {"type": "object", "required": ["reloaded", "needs_restart"], "properties": {
            "reloaded": {"type": "boolean"},
            "needs_restart": {"description": "Sections that have changed, and are taken up when it is started anew.",
                "type": "array", "items": text},
        }},
        "History": items("Version"),
        "Version": {"type": "object", "required": ["version", "removed", "at", "by"], "properties": {
            "version": {"type": "integer"}, "removed": {"type": "boolean"}, "at": time, "by": text, "digest": maybe("string"),
            "document": maybe("object"), "text": maybe("string"),
        }},
    })
}

/// A schema of these properties and of those that servers, policies and grants have in common.
fn with_common(properties: Value) -> Value {
    let mut all = json!({
        "name": {"type": "string"},
        "source": {"enum": ["file", "state"]},
        "version": {"description": "Its `ETag`; null of what stands in the file.", "type": ["integer", "null"]},
        "digest": {"description": "The SHA-256 of what was given.", "type": ["string", "null"]},
        "changed": {"type": ["string", "null"], "format": "date-time"},
        "changed_by": {"type": ["string", "null"]},
        "problems": {"type": "array", "items": reference("Problem")},
    });
    if let (Some(all), Value::Object(own)) = (all.as_object_mut(), properties) {
        all.extend(own);
    }
    json!({"type": "object", "required": ["name", "source"], "properties": all})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere_and_every_name_is_used_once() {
        let document: Value = serde_json::from_str(&openapi()).unwrap();
        let text = document.to_string();
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        let mut names: Vec<&str> = ROUTES.iter().map(|route| route.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROUTES.len());
    }
}
