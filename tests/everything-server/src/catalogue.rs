//! What the server offers, as data: `catalogue.json`, in the words of the protocol.

use rmcp::model::{Prompt, Resource, ResourceTemplate, Tool};
use serde_json::Value;

/// Everything that can be listed, in the order in which it is listed.
pub struct Catalogue {
    /// The tools.
    pub tools: Vec<Tool>,
    /// The prompts.
    pub prompts: Vec<Prompt>,
    /// The resources.
    pub resources: Vec<Resource>,
    /// The templates of resources.
    pub templates: Vec<ResourceTemplate>,
}

impl Catalogue {
    /// Reads the catalogue that was compiled in.
    pub fn new() -> Self {
        let mut all: Value = serde_json::from_str(include_str!("catalogue.json")).expect("catalogue.json is JSON");
        Self {
            tools: list(all["tools"].take()),
            prompts: list(all["prompts"].take()),
            resources: list(all["resources"].take()),
            templates: list(all["templates"].take()),
        }
    }
}

fn list<T: serde::de::DeserializeOwned>(listed: Value) -> Vec<T> {
    serde_json::from_value(listed).expect("catalogue.json keeps to the protocol")
}

/// A picture of one red pixel, in base64.
pub const IMAGE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg==";

/// A sound of no samples, in base64.
pub const AUDIO: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_can_be_read() {
        assert!(!Catalogue::new().tools.is_empty());
    }
}
