//! What a server says of itself, on its way to a client: lists of tools and prompts, and instructions.
//!
//! Each definition is judged ([`crate::pins`]) before the client sees it, and calls and prompts by the definition that was
//! seen last. What is left out, or let through with a warning, is logged and recorded, once.

use super::{Expected, Gate};
use crate::enforcer::{Caller, Noted};
use crate::pins::{Objection, Section};
use crate::tools::{Lack, Place, ToolFacts, section_of};
use bytes::Bytes;
use json::Value;
use mcp::headers::Mirrored;
use mcp::tools::{REPEATED, Tool, ToolList, Unreadable};
use mcp::{Edit, Id, Kind, Message};
use policy::{Decision, Policies, Treatment};
use std::sync::Arc;
use tracing::warn;

impl Gate {
    /// What has to be asked of the server before a request can be judged, or its reply.
    pub fn lacks(&self, message: &Message) -> Option<Lack> {
        if message.kind() != Kind::Request {
            return None;
        }
        let pinned = self.enforcer.definitions().are_pinned();
        let name = || Some(message.params()?.get("name")?.as_str()?.into_owned());
        let (section, name) = match message.method()? {
            "tools/call" => {
                let tool = name()?;
                let repeats = self.over_http && crate::refusal::is_modern(message);
                let policies = self.policies();
                // An approval is for one definition of the tool.
                let judges = || policies.needs_schema(&tool) || policies.may_ask(&tool) || policies.needs_class(&tool);
                let needed = pinned || repeats || judges();
                (Section::Tools, Some(tool).filter(|_| needed)?)
            }
            "prompts/get" if pinned => (Section::Prompts, name()?),
            // What is to be pinned is pinned as a whole.
            "tools/list" if pinned => return self.whole(Section::Tools),
            "prompts/list" if pinned => return self.whole(Section::Prompts),
            _ => return None,
        };
        (!self.schemas.tools.is_settled(section, Some(&name))).then_some(Lack { section, name: Some(name) })
    }

    fn whole(&self, section: Section) -> Option<Lack> {
        (!self.schemas.tools.is_settled(section, None)).then_some(Lack { section, name: None })
    }

    /// Why a prompt must not be got.
    pub(super) fn prompt_denied(&self, message: &Message, policies: &Policies) -> Option<Decision> {
        if message.method() != Some("prompts/get") {
            return None;
        }
        let name = message.params()?.get("name")?.as_str()?;
        let facts = self.schemas.tools.known(Section::Prompts, &name);
        let objection = self.enforcer.objection(facts.as_deref(), policies).filter(|objection| !objection.shows())?;
        Some(Decision {
            rule: Some(objection.rule().into()),
            ..Decision::deny(objection.reason, objection.message(Section::Prompts))
        })
    }

    /// A page of a list as the client may see it. `edit` is one of `reply`.
    pub(super) fn filter(&self, reply: &Message, edit: Edit<'_>, client_id: &Id, expected: &Expected) -> Bytes {
        let server = self.enforcer.server();
        let (section, what) = match expected.method.as_str() {
            "prompts/list" => (Section::Prompts, "prompts"),
            _ => (Section::Tools, "tools"),
        };
        match reply.result().map(|result| section_of(section, result)) {
            Some(Ok(list)) => {
                for Unreadable { name, problem } in list.unreadable() {
                    warn!(server, name = name.as_deref(), why = problem, "left something out of the list of {what}");
                }
                let Caller { principal, grant, session, .. } = &self.caller;
                let reader = format!("{principal}\n{grant}\n{}", session.as_deref().unwrap_or_default());
                let place = Place { reader: &reader, cursor: expected.cursor.as_deref() };
                let learnt = self.schemas.tools.learn(section, &list, place);
                for (tool, _) in list.tools().zip(&learnt).filter(|(_, facts)| facts.is_none()) {
                    warn!(server, name = &*tool.name, why = REPEATED, "left something out of the list of {what}");
                }
                self.shown(section, &list, &learnt, edit, expected.modern).finish()
            }
            // What no reader takes for a list of prompts shows none.
            Some(Err(_)) if section == Section::Prompts && !names_prompts(reply) => edit.finish(),
            unreadable => {
                let why = unreadable.and_then(Result::err).map(|why| why.to_string()).unwrap_or_default();
                warn!(server, why, "withheld a list of {what}");
                let message = format!("the server's list of {what} cannot be read");
                mcp::reply::error(Some(client_id), mcp::reply::INTERNAL_ERROR, &message, None)
            }
        }
    }

    fn shown<'t>(
        &self,
        section: Section,
        list: &ToolList<'_>,
        learnt: &[Option<Arc<ToolFacts>>],
        mut edit: Edit<'t>,
        modern: bool,
    ) -> Edit<'t> {
        let policies = self.policies();
        let mut facts = learnt.iter();
        let mut escaped: Vec<Value<'_>> = Vec::new();
        let judged: Vec<bool> = list
            .tools()
            .map(|tool| {
                let Some(facts) = facts.next().and_then(Option::as_ref) else { return false };
                let objection = self.enforcer.objection(Some(facts), &policies);
                let needs_class = section == Section::Tools && policies.needs_class(&tool.name);
                let class = needs_class.then(|| facts.class(self.enforcer.definitions()));
                let listed =
                    section == Section::Prompts || (policies.lists(&tool.name, class) && !(modern && self.is_invalid(tool)));
                if let Some(objection) = objection.as_ref().filter(|_| listed) {
                    self.note(section, facts, objection);
                }
                let shows = listed && objection.as_ref().is_none_or(Objection::shows);
                if shows && objection.is_some_and(|objection| objection.escape) {
                    escaped.push(tool.definition);
                }
                shows
            })
            .collect();
        for definition in escaped {
            for hidden in catalogue::hidden_in(definition, usize::MAX).iter().filter_map(|hidden| hidden.text) {
                edit = edit.replace(hidden.span(), catalogue::shown_token(hidden));
            }
        }
        let mut judged = judged.into_iter();
        list.keep(edit, |_| judged.next().unwrap_or(false))
    }

    /// 2026-07-28, streamable HTTP: a client must leave out a tool whose annotations for headers are invalid.
    fn is_invalid(&self, tool: &Tool<'_>) -> bool {
        self.over_http && tool.input_schema.is_some_and(|schema| Mirrored::of(schema).is_err())
    }

    /// Tells the operator what was found out about a definition, once.
    fn note(&self, section: Section, facts: &ToolFacts, objection: &Objection) {
        if objection.treatment == Treatment::Allow {
            return;
        }
        let name = facts.name();
        if !self.enforcer.definitions().is_news(&format!(
            "{section:?} {} {} {}",
            facts.digest(),
            name,
            objection.treatment.as_str()
        )) {
            return;
        }
        let (method, tool) = match section {
            Section::Tools => ("tools/list", Some(name.to_owned())),
            Section::Prompts => ("prompts/list", None),
        };
        let detail = match section {
            Section::Tools => objection.why.clone(),
            Section::Prompts => format!("prompt `{}`: {}", catalogue::visible(name), objection.why),
        };
        self.tell(method, tool, detail, objection);
    }

    fn tell(&self, method: &'static str, tool: Option<String>, detail: String, objection: &Objection) {
        let server = self.enforcer.server();
        let treatment = objection.treatment.as_str();
        warn!(server, tool, method, treatment, why = detail, "a definition is not what was accepted");
        let decision = match objection.treatment {
            Treatment::Allow | Treatment::Warn => Decision { reason: objection.reason, ..Decision::allow() },
            Treatment::Ask | Treatment::Deny => Decision::deny(objection.reason, ""),
        };
        let decision = Decision { rule: Some(objection.rule().into()), message: None, ..decision };
        // It concerns the server, whoever asks.
        let caller = Caller { session: None, ..self.caller.clone() };
        self.enforcer.leave_definition(method, &decision, Noted { tool, detail: Some(detail), arguments: None }, &caller);
    }

    /// The first words of a server, `result`, without instructions that nobody has accepted. `edit` is one of the reply.
    pub(super) fn greeting(&self, method: &str, result: Value<'_>, mut edit: Edit<'_>) -> Bytes {
        let said: Vec<Value<'_>> = result
            .members()
            .into_iter()
            .flatten()
            .filter(|member| member.key == KEY || json::could_be_taken_for(&member.key, &[KEY]).is_some())
            .map(|member| member.value)
            .collect();
        let text = match said.as_slice() {
            [] => None,
            [one] if one.is_null() => None,
            // What readers would understand differently, or not as text, is judged as it stands.
            [one] if result.get(KEY).is_some() => {
                Some(one.as_str().map_or_else(|| one.raw().to_owned(), |text| text.into_owned()))
            }
            several => Some(several.iter().map(|value| value.raw()).collect::<Vec<_>>().join("\n")),
        };
        let is_plain = said.len() <= 1 && said.iter().all(|value| value.is_null() || value.as_str().is_some());
        let policies = self.policies();
        let objection = self.enforcer.definitions().judge_instructions(text.as_deref()).under(policies.definitions());
        let shadow = policies.is_shadow();
        if objection.treatment != Treatment::Allow {
            let news = format!(
                "instructions {} {}",
                catalogue::digest_of(text.as_deref().unwrap_or_default()),
                objection.treatment.as_str()
            );
            if self.enforcer.definitions().is_news(&news) {
                let method = if method == "initialize" { "initialize" } else { "server/discover" };
                self.tell(method, None, format!("instructions: {}", objection.why), &objection);
            }
        }
        if !shadow && (!objection.shows() || !is_plain) {
            for value in said {
                edit = edit.replace(value.span(), "\"\"");
            }
        } else if let (true, Some(value)) = (objection.escape && !shadow, said.first()) {
            edit = edit.replace(value.span(), catalogue::shown_token(*value));
        }
        edit.finish()
    }
}

fn names_prompts(reply: &Message) -> bool {
    let mut members = reply.result().and_then(Value::members).into_iter().flatten();
    members.any(|member| member.key == "prompts" || json::could_be_taken_for(&member.key, &["prompts"]).is_some())
}

/// The member in which a server tells the model how to use it.
const KEY: &str = "instructions";
