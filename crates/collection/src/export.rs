//! What is in a catalog, as JSON.
//!
//! A capture that is exported can be taken in again. Facts are what may be passed on of other people's servers: names,
//! parameters, classes and digests, but none of their texts.

use crate::error::CollectionError;
use crate::graded::minified;
use crate::read::{Collection, Server};
use json::quote;

/// A server with everything that it said, as one JSON object: a capture, with the grade of each tool beside its definition.
///
/// `{"server", "package", "version", "registry", "flags", "env", "serverInfo", "protocolVersion", "instructions", "isolation",
/// "capturedAt", "problem", "digest", "tools": […], "prompts": […], "risks": […]}`; what is not known is left out.
///
/// # Errors
/// When the catalog cannot be read.
pub fn capture_json(collection: &Collection, server: &Server) -> Result<String, CollectionError> {
    let mut members = about(server);
    let facts = &server.facts;
    members.extend(facts.instructions.as_deref().map(|text| format!("\"instructions\":{}", quote(text))));
    if facts.problem.is_none() {
        let tools = collection.tools(server)?;
        let definitions: Vec<String> = tools.iter().map(|tool| minified(tool.definition.root())).collect();
        let risks: Vec<String> = tools.iter().map(|tool| tool.risk.to_json(&facts.name, &tool.name)).collect();
        members.push(format!("\"tools\":[{}]", definitions.join(",")));
        members.push(format!("\"prompts\":{}", minified(collection.prompts(server)?.root())));
        members.push(format!("\"risks\":[{}]", risks.join(",")));
    }
    Ok(format!("{{{}}}", members.join(",")))
}

/// The facts of a server as one JSON object: what [`capture_json`] gives without its texts, and of each tool `{"tool",
/// "digest", "risk", "level", "confidence", "signals", "parameters": […]}`.
///
/// # Errors
/// When the catalog cannot be read.
pub fn facts_json(collection: &Collection, server: &Server) -> Result<String, CollectionError> {
    let mut members = about(server);
    if server.facts.problem.is_none() {
        let tools = collection.tools(server)?;
        let tools = tools.iter().map(|tool| {
            let definition = tool.definition.root();
            let properties = definition.get("inputSchema").and_then(|schema| schema.get("properties")?.members());
            let parameters: Vec<String> = properties.into_iter().flatten().map(|property| quote(&property.key)).collect();
            let signals: Vec<String> = tool.risk.signals.iter().map(|signal| quote(signal.name())).collect();
            format!(
                "{{\"tool\":{},\"digest\":\"{}\",\"risk\":\"{}\",\"level\":\"{}\",\"confidence\":{},\"signals\":[{}],\"parameters\":[{}]}}",
                quote(&tool.name),
                catalogue::digest(definition),
                tool.risk.class,
                tool.risk.level,
                tool.risk.confidence,
                signals.join(","),
                parameters.join(",")
            )
        });
        let tools: Vec<String> = tools.collect();
        members.push(format!("\"tools\":[{}]", tools.join(",")));
    }
    Ok(format!("{{{}}}", members.join(",")))
}

/// What both tell. Why a server did not answer is a text of ours with words of its own in it; it stays with the facts, shortened
/// as it was recorded.
fn about(server: &Server) -> Vec<String> {
    let facts = &server.facts;
    let list = |texts: &[String]| texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(",");
    let mut members = vec![format!("\"server\":{}", quote(&facts.name)), format!("\"package\":{}", quote(&facts.package))];
    if !facts.version.is_empty() {
        members.push(format!("\"version\":{}", quote(&facts.version)));
    }
    members.push(format!("\"registry\":\"{}\"", facts.registry));
    members.push(format!("\"flags\":[{}]", list(&facts.flags)));
    members.push(format!("\"env\":[{}]", list(&facts.environment)));
    members.extend(facts.reported_name.as_deref().map(|name| format!("\"serverInfo\":{{\"name\":{}}}", quote(name))));
    members.extend(facts.revision.as_deref().map(|revision| format!("\"protocolVersion\":{}", quote(revision))));
    members.push(format!("\"isolation\":\"{}\"", facts.isolation));
    members.push(format!("\"capturedAt\":\"{}\"", facts.captured_at));
    members.extend(facts.problem.as_deref().map(|problem| format!("\"problem\":{}", quote(problem))));
    members.push(format!("\"digest\":\"{}\"", server.digest));
    members
}
