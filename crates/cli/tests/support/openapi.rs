//! Answers of the admin API, held to its own document: every route, status and member that is seen must stand there.

use super::http::Reply;
use super::root;
use serde_json::{Value, json};
use std::sync::OnceLock;

fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let text = std::fs::read(root().join("docs/admin.openapi.json")).expect("the document is there");
        let mut document: Value = serde_json::from_slice(&text).expect("the document is JSON");
        // What an audit record holds is documented elsewhere; everything else has no members besides those that are listed.
        let schemas = document["components"]["schemas"].as_object_mut().expect("it has schemas");
        schemas.iter_mut().filter(|(name, _)| *name != "Record").for_each(|(_, schema)| close(schema));
        document
    })
}

/// Allows an object no members but those that are named.
fn close(schema: &mut Value) {
    if schema["properties"].is_object() && schema.get("additionalProperties").is_none() {
        schema["additionalProperties"] = json!(false);
    }
    match schema {
        Value::Object(members) => members.values_mut().for_each(close),
        Value::Array(elements) => elements.iter_mut().for_each(close),
        _ => {}
    }
}

/// Whether a path is one of a template's, as `/v1/grants/ada` is of `/v1/grants/{id}`.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(path).all(|(named, is)| named.starts_with('{') || *named == is)
}

/// Asserts that an answer is one that the document has for this route, in the form that it says.
#[track_caller]
pub fn assert_documented(method: &str, path: &str, reply: &Reply) {
    let (at, status) = (path.split('?').next().expect("a path"), reply.status.to_string());
    let routes = document()["paths"].as_object().expect("it has paths");
    let route = routes.iter().find(|(template, _)| fits(template, at)).map(|(_, route)| &route[method.to_lowercase()]);
    let Some(route) = route.filter(|route| route.is_object()) else {
        assert!(matches!(reply.status, 401 | 404 | 405), "{method} {path} is not documented, and is answered {status}");
        return;
    };
    let response = &route["responses"][&status];
    assert!(response.is_object(), "{method} {path}: the document does not have the status {status}");
    let (kind, content) = response["content"].as_object().and_then(|all| all.iter().next()).expect("it has a body");
    assert_eq!(reply.header("content-type"), Some(kind.as_str()), "{method} {path} {status}");
    let mut schema = content["schema"].clone();
    schema["components"] = document()["components"].clone();
    let validator = jsonschema::validator_for(&schema).expect("the document holds schemas");
    let body: Value = serde_json::from_slice(&reply.body).expect("the body is JSON");
    let problems: Vec<String> =
        validator.iter_errors(&body).map(|problem| format!("{problem} at {}", problem.instance_path())).collect();
    assert!(problems.is_empty(), "{method} {path} {status}: {problems:?} in {body}");
}
