//! A server with all that its pages tell of it.

use catalogue::{Flaw, Inspection, Introduction, Profile, Recommendation, Subject, inspect};
use collection::{Collection, CollectionError, Server, Tool};
use json::Document;
use std::cell::OnceCell;

/// A server, and what it listed.
pub(crate) struct Known {
    pub server: Server,
    pub tools: Vec<Tool>,
    prompts: Document,
    inspection: OnceCell<Option<Inspection>>,
}

impl Known {
    pub(crate) fn of(collection: &Collection, server: Server) -> Result<Known, CollectionError> {
        let (tools, prompts) = (collection.tools(&server)?, collection.prompts(&server)?);
        Ok(Known { server, tools, prompts, inspection: OnceCell::new() })
    }

    /// What is found in all that it says, and its grade; `None` where it could not be asked.
    pub(crate) fn inspection(&self) -> Option<&Inspection> {
        let inspected = || {
            let facts = &self.server.facts;
            let introduction = Introduction {
                name: facts.name.clone(),
                origin: Some(&facts.package).filter(|package| !package.is_empty()).into_iter().cloned().collect(),
                instructions: facts.instructions.clone(),
                tools: self.tools.iter().map(|tool| tool.definition.root()).collect(),
                prompts: self.prompts.root().elements().into_iter().flatten().collect(),
            };
            if facts.problem.is_some() { None } else { inspect(&[introduction]).pop() }
        };
        self.inspection.get_or_init(inspected).as_ref()
    }

    /// What is found in one of its tools, the worst first.
    pub(crate) fn flaws_of(&self, tool: &Tool) -> impl Iterator<Item = &Flaw> {
        let found = self.inspection().map_or(&[][..], |inspection| &inspection.findings);
        found.iter().filter(|flaw| matches!(&flaw.subject, Some(Subject::Tool(name)) if *name == tool.name))
    }

    /// What is recommended for some of its tools.
    pub(crate) fn recommendation<'t>(&self, tools: impl IntoIterator<Item = &'t Tool>) -> Recommendation {
        let graded = tools.into_iter().map(|tool| (tool.definition.root(), tool.risk.clone()));
        Recommendation::of_graded(&self.server.facts.name, graded, Profile::Recommended)
    }
}
