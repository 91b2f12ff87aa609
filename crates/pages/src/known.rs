//! A server with all that its pages tell of it.

use catalogue::{Flaw, Inspection, Introduction, Subject, inspect};
use collection::{Collection, CollectionError, Server, Tool};
use json::{Document, Strictness, quote};

/// A server, and what it listed.
pub(crate) struct Known {
    pub server: Server,
    pub tools: Vec<Tool>,
    prompts: Document,
}

impl Known {
    pub(crate) fn of(collection: &Collection, server: Server) -> Result<Known, CollectionError> {
        Ok(Known { tools: collection.tools(&server)?, prompts: collection.prompts(&server)?, server })
    }

    /// What is found in all that it says, and its grade; `None` where it could not be asked.
    pub(crate) fn inspection(&self) -> Option<Inspection> {
        let facts = &self.server.facts;
        let introduction = Introduction {
            name: facts.name.clone(),
            origin: Some(&facts.package).filter(|package| !package.is_empty()).into_iter().cloned().collect(),
            instructions: facts.instructions.clone(),
            tools: self.tools.iter().map(|tool| tool.definition.root()).collect(),
            prompts: self.prompts.root().elements().into_iter().flatten().collect(),
        };
        if facts.problem.is_some() { None } else { inspect(&[introduction]).pop() }
    }

    /// What is found in one of its tools, the worst first.
    pub(crate) fn flaws_of(&self, tool: &Tool) -> Vec<Flaw> {
        // Of the others only the names make a difference, and to read hundreds of definitions takes its time.
        let named = |name: &str| Document::parse(format!("{{\"name\":{}}}", quote(name)), Strictness::Reply).ok();
        let others: Vec<Document> =
            self.tools.iter().filter(|other| other.id != tool.id).filter_map(|other| named(&other.name)).collect();
        let tools = [tool.definition.root()].into_iter().chain(others.iter().map(Document::root)).collect();
        let introduction = Introduction { name: self.server.facts.name.clone(), tools, ..Introduction::default() };
        let found = inspect(&[introduction]).into_iter().flat_map(|inspection| inspection.findings);
        found.filter(|flaw| matches!(&flaw.subject, Some(Subject::Tool(name)) if *name == tool.name)).collect()
    }
}
