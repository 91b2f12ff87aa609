//! One line of results: what a tool returns, and what is expected to become of it.
//!
//! `tool {result} | "text"  # pass | change [name=count …] | withhold ["message"] [rule="name"] | shadow-change … |
//!  shadow-withhold …`; of a changed result, a string is a part of what is left.

use super::expectation::{Text, says};
use json::{Document, Strictness, quote};
use policy::{JudgedResult, ResultFindings};

/// A line of a `results` block.
#[derive(Clone, Debug)]
pub(crate) struct ResultLine {
    pub tool: String,
    result: Document,
    becomes: Becomes,
    /// Whether it is what sections in shadow mode would have done.
    shadow: bool,
    rule: Option<String>,
    /// What the client is told, or a part of what it gets.
    text: Option<String>,
    /// `aws-key=2`
    counts: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Becomes {
    Pass,
    Change,
    Withhold,
}

impl ResultLine {
    pub fn parse(text: &str) -> Result<ResultLine, String> {
        let mut rest = Text(text);
        let tool = rest.word()?;
        let result = match rest.0.chars().next() {
            Some('{') => rest.object()?,
            Some('"') => format!(r#"{{"content":[{{"type":"text","text":{}}}]}}"#, quote(&rest.string()?)),
            _ => return Err("a result is an object, or a text: `tool \"text\" # pass`".to_owned()),
        };
        let result = Document::parse(result, Strictness::Reply).map_err(|error| error.to_string())?;
        let expected = rest.0.strip_prefix('#').ok_or("a result needs what is expected of it: `# pass`")?;
        let mut rest = Text(expected.trim());
        let word = rest.word().map_err(|_| "what is expected is missing: write `pass`, `change` or `withhold`".to_owned())?;
        let (shadow, becomes) = word.strip_prefix("shadow-").map_or((false, &*word), |word| (true, word));
        let becomes = match becomes {
            "pass" => Becomes::Pass,
            "change" => Becomes::Change,
            "withhold" => Becomes::Withhold,
            _ => return Err(format!("`{word}` becomes of no result; expected `pass`, `change` or `withhold`")),
        };
        let mut line = ResultLine { tool, result, becomes, shadow, rule: None, text: None, counts: Vec::new() };
        while !rest.0.is_empty() {
            if rest.0.starts_with('"') {
                line.text = Some(rest.string()?);
            } else if let Some(after) = rest.0.strip_prefix("rule=") {
                rest = Text(after);
                line.rule = Some(rest.word()?);
            } else {
                line.counts.push(rest.word()?);
            }
        }
        Ok(line)
    }

    /// The result, to be judged.
    pub fn result(&self) -> json::Value<'_> {
        self.result.root()
    }

    /// Compares.
    pub fn check(&self, judged: &JudgedResult) -> Result<(), String> {
        let findings = if self.shadow { &judged.shadow } else { &judged.enforced };
        let got = shown(findings);
        let becomes = match (&findings.withheld, findings.changes.is_empty()) {
            (Some(_), _) => Becomes::Withhold,
            (None, false) => Becomes::Change,
            (None, true) => Becomes::Pass,
        };
        if becomes != self.becomes {
            return Err(format!("expected another thing to become of the result; got {got}"));
        }
        if let (Some(expected), Some(withheld)) = (&self.rule, &findings.withheld)
            && **expected != *withheld.rule
        {
            return Err(format!("expected the rule {expected:?}, got {got}"));
        }
        let counts: Vec<String> = findings.counts.iter().map(|(name, count)| format!("{name}={count}")).collect();
        if let Some(missing) = self.counts.iter().find(|count| !counts.contains(count)) {
            return Err(format!("expected {missing}, got {got}"));
        }
        let holds = |expected: &str| match &findings.withheld {
            Some(withheld) => says(expected, &withheld.message),
            None => changed(&self.result, findings).contains(expected),
        };
        match &self.text {
            Some(expected) if !holds(expected) => Err(format!("expected {expected:?}, got {got}")),
            _ => Ok(()),
        }
    }
}

/// The text of a result with what was found exchanged.
fn changed(result: &Document, findings: &ResultFindings) -> String {
    let text = mcp::Edit::new(result.text()).replace_each(findings.changes.clone()).finish();
    String::from_utf8_lossy(&text).into_owned()
}

fn shown(findings: &ResultFindings) -> String {
    match &findings.withheld {
        Some(withheld) => format!("withhold {:?} rule={:?}", withheld.message, &*withheld.rule),
        None if findings.changes.is_empty() => "pass".to_owned(),
        None => format!("change {}", findings.counted()),
    }
}
