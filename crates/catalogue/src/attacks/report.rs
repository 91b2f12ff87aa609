//! An attack for programs: as JSON, and its policy as `policy.json`.

use super::{Attack, Use, reading};
use json::{Document, Kind, Strictness, Value, quote};
use policy::{Reader, Source, Vocabulary};

impl Attack {
    /// Everything about it as one line of JSON. `cases` has their titles and scenes; `policy_json` is [`Attack::policy_json`].
    pub fn to_json(&self) -> String {
        let or_null = |text: Option<&str>| text.map_or("null".to_owned(), quote);
        let uses = |uses: &[Use]| {
            let one = |used: &Use| format!(r#"{{"control":"{}","how":{}}}"#, used.control, quote(&used.how));
            format!("[{}]", uses.iter().map(one).collect::<Vec<_>>().join(","))
        };
        let cases =
            self.cases.iter().map(|case| format!(r#"{{"title":{},"scene":"{}"}}"#, quote(&case.title), case.scene.name()));
        let sources =
            self.sources.iter().map(|source| format!(r#"{{"url":{},"seen":"{}"}}"#, quote(&source.url), source.seen.name()));
        let frameworks = &self.frameworks;
        let members = [
            ("id", quote(&self.id)),
            ("title", quote(&self.title)),
            ("date", quote(&self.date)),
            ("affected", quote(&self.affected)),
            ("classes", texts(&self.classes)),
            ("happened", quote(&self.happened)),
            ("cves", texts(&self.cves)),
            ("reach", quote(self.reach.name())),
            ("remains", or_null(self.remains.as_deref())),
            ("controls", uses(&self.controls)),
            ("elsewhere", uses(&self.elsewhere)),
            ("note", or_null(self.note.as_deref())),
            ("policy", or_null(self.policy.as_deref())),
            ("policy_json", or_null(self.policy_json().as_deref())),
            ("configuration", or_null(self.configuration.as_deref())),
            ("cases", format!("[{}]", cases.collect::<Vec<_>>().join(","))),
            (
                "frameworks",
                format!(
                    r#"{{"mitre_atlas":{},"owasp_mcp_top10":{},"owasp_llm_2025":{},"owasp_agentic_2026":{}}}"#,
                    texts(&frameworks.atlas),
                    texts(&frameworks.mcp),
                    texts(&frameworks.llm),
                    texts(&frameworks.agentic)
                ),
            ),
            ("sources", format!("[{}]", sources.collect::<Vec<_>>().join(","))),
        ];
        let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    }

    /// The policy as `policy.json`: the same members, laid out for a person. `None` where it has none.
    pub fn policy_json(&self) -> Option<String> {
        let source = Source::new("policy.yaml", self.policy.as_deref()?);
        let root = Reader::new(&source, &Vocabulary { synonyms: &[], places: &[] }).root()?;
        let document = Document::parse(reading::json_of(&root), Strictness::Reply).ok()?;
        Some(laid_out(document.root(), 0) + "\n")
    }
}

fn texts(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(","))
}

/// A value on one line where it fits into one, else its parts on lines of their own. `depth` counts steps of two blanks.
fn laid_out(value: Value<'_>, depth: usize) -> String {
    let line = in_line(value);
    let (open, close, parts): (_, _, Vec<String>) = match value.kind() {
        _ if depth > 0 && line.len() + 2 * depth <= WIDTH => return line,
        Kind::Object => {
            let member = |member: json::Member<'_>| format!("{}: {}", quote(&member.key), laid_out(member.value, depth + 1));
            ('{', '}', value.members().into_iter().flatten().map(member).collect())
        }
        Kind::Array => ('[', ']', value.elements().into_iter().flatten().map(|one| laid_out(one, depth + 1)).collect()),
        _ => return line,
    };
    let (inner, outer) = ("  ".repeat(depth + 1), "  ".repeat(depth));
    format!("{open}\n{inner}{}\n{outer}{close}", parts.join(&format!(",\n{inner}")))
}

fn in_line(value: Value<'_>) -> String {
    match value.kind() {
        Kind::Object => {
            let member = |member: json::Member<'_>| format!("{}: {}", quote(&member.key), in_line(member.value));
            let members: Vec<String> = value.members().into_iter().flatten().map(member).collect();
            if members.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", members.join(", ")) }
        }
        Kind::Array => {
            let elements: Vec<String> = value.elements().into_iter().flatten().map(in_line).collect();
            format!("[{}]", elements.join(", "))
        }
        _ => value.raw().to_owned(),
    }
}

const WIDTH: usize = 100;
