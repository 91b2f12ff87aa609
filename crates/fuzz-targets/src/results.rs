//! The filter of results.

use json::{Document, Strictness, Value};
use policy::{Policies, ResultFilter, Source};
use std::sync::LazyLock;

static FILTER: LazyLock<ResultFilter> = LazyLock::new(|| {
    let text = "version: \"1\"\nresults: {hidden_characters: escape, secrets: redact, redact: [{matches: s3cret}]}\n";
    let policy = policy::load(&Source::new("policy.yaml", text)).policy.expect("the policy is valid");
    Policies::from(policy).results_of_others()
});

/// The filter of results: what is left of a result is JSON with as many values, and holds nothing that was looked for; and where
/// nothing was found, nothing changes.
pub fn results(data: &[u8]) {
    let Ok(document) = Document::parse(data.to_vec(), Strictness::Reply) else { return };
    let findings = FILTER.judge(document.root()).enforced;
    if findings.withheld.is_some() {
        return;
    }
    let found = findings.counts.values().sum::<u64>();
    assert_eq!(found, findings.changes.len() as u64, "what is changed is counted");
    let text = mcp::Edit::new(document.text()).replace_each(findings.changes).finish();
    assert!(found > 0 || text == *document.text(), "nothing was found, and something is changed");
    let left = Document::parse(text, Strictness::Reply).expect("what is left is JSON");
    let (mut before, mut after) = (Vec::new(), Vec::new());
    strings(document.root(), true, &mut before);
    strings(left.root(), true, &mut after);
    assert_eq!(before.len(), after.len(), "a value is lost");
    for text in after {
        assert!(!text.contains("s3cret"), "{text:?} got through");
        assert_eq!(policy::first_hidden(&text), None, "something hides in {text:?}");
    }
}

/// All strings, keys and values, but the state that is the server's own.
fn strings(value: Value<'_>, is_root: bool, out: &mut Vec<String>) {
    out.extend(value.as_str().map(String::from));
    let asks = is_root && value.get("resultType").is_some_and(|kind| kind.says("input_required"));
    for member in value.members().into_iter().flatten() {
        if !(asks && member.key == "requestState" && member.value.as_str().is_some()) {
            out.push(member.key.into_owned());
            strings(member.value, false, out);
        }
    }
    value.elements().into_iter().flatten().for_each(|element| strings(element, false, out));
}
