//! The OpenAPI document of the admin API, made from its routes.

use super::routes::{Access, Parameter, ROUTES, Route};
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
            "description": "Approvals, status and the audit log of a running gateway. See docs/approvals.md.",
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
    let answer = |description: &str, schema: &str| json!({"description": description, "content": {"application/json": {"schema": reference(schema)}}});
    let mut responses = json!({"200": answer("Done", route.answers)});
    if route.operation == super::routes::Operation::Health {
        responses["503"] = answer("State cannot be used", "Health");
    }
    let mut refusals: Vec<(&str, &str)> = Vec::new();
    if route.access == Access::Administrators {
        refusals.push(("401", "No credential of an administrator"));
        refusals.push(("503", "State cannot be used"));
    }
    if !route.parameters.is_empty() {
        refusals.push(("400", "A parameter that is not one"));
    }
    if route.path.contains("{id}") {
        refusals.push(("404", "There is no such thing"));
    }
    if route.method == http::Method::POST {
        refusals.push(("403", "Somebody else must approve it"));
        refusals.push(("409", "It is no longer open, or you have answered already"));
    }
    for (status, description) in refusals {
        responses[status] = answer(description, "Error");
    }
    let security = match route.access {
        Access::Anybody => json!([]),
        Access::Administrators => json!([{"token": []}]),
    };
    json!({
        "operationId": route.name,
        "summary": route.summary,
        "security": security,
        "parameters": parameters,
        "responses": responses,
    })
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
                "code": {"enum": ["bad-request", "unauthorized", "forbidden", "not-asked", "not-found", "method-not-allowed", "conflict", "store-unavailable"]},
                "message": text,
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
        }},
    })
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
