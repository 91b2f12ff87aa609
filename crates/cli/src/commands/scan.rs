//! `scan`: a server's tools, as a policy to begin with.
//!
//! What a server says about itself is not to be trusted, and the policy will be read by people and models. How the tools are
//! graded and treated is the catalogue's to say; here the server is asked, and what it says is written where it was wanted.

use crate::arguments::{PolicyForm, Scan};
use crate::commands::block_on;
use crate::commands::gate;
use crate::failure::{Failure, OK};
use crate::terminal::{counted, tell, visible};
use catalogue::{Profile, Recommendation, RiskClass};
use gateway::Listing;
use json::{Document, Strictness, Value};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

pub fn scan(arguments: Scan) -> Result<u8, Failure> {
    let (upstream, name) = gate::given(&arguments.upstream, arguments.timeout)?;
    let listing = block_on(async {
        let listed = gateway::list_tools(&upstream, arguments.timeout).await;
        listed.map_err(|error| Failure::because("cannot list the tools", &error))
    })?;
    let profile = arguments.profile.profile();
    let text = match (arguments.json, arguments.by_risk) {
        (true, _) => listing.to_capture(&name) + "\n",
        (false, true) => catalogue::policy_by_risk(&name, &roots(&parsed(&listing)), profile),
        (false, false) => written(&recommendation(&name, &listing, profile), arguments.format),
    };
    match &arguments.output {
        None => std::io::stdout().write_all(text.as_bytes())?,
        Some(path) => {
            write_new(path, &text)?;
            let shown = visible(&path.display().to_string());
            let tools = counted(listing.tools.len() as u64, "tool", "tools");
            let next = if arguments.json { String::new() } else { format!("; edit it, then: callgate check {shown}") };
            tell!("{tools} of `{name}` written to {shown}{next}");
        }
    }
    Ok(OK)
}

/// Writes a policy to a file that does not exist yet: never over one that somebody has edited.
pub(super) fn write_new(path: &Path, policy: &str) -> Result<(), Failure> {
    let shown = visible(&path.display().to_string());
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(policy.as_bytes()));
    written.map_err(|error| Failure::because(&format!("cannot write `{shown}`"), &error))
}

/// What a server can do, in a line: `3 tools: 2 Read, 1 Execute`.
pub(super) fn summary(recommended: &Recommendation) -> String {
    let classes: Vec<RiskClass> = recommended.tools().map(|tool| tool.class).collect();
    let count = |class: RiskClass| classes.iter().filter(|of| **of == class).count();
    let counts = RiskClass::ALL.map(|class| (class, count(class)));
    let counts: Vec<String> =
        counts.iter().filter(|(_, count)| *count > 0).map(|(class, count)| format!("{count} {class}")).collect();
    let tools = counted(classes.len() as u64, "tool", "tools");
    if counts.is_empty() { tools } else { format!("{tools}: {}", counts.join(", ")) }
}

/// What is recommended for a server: what is not listed is refused, and each tool treated by its grade.
pub(super) fn recommendation(name: &str, listing: &Listing, profile: Profile) -> Recommendation {
    Recommendation::of(name, &roots(&parsed(listing)), profile)
}

/// The policy in one of its forms.
pub(super) fn written(recommended: &Recommendation, form: PolicyForm) -> String {
    match form {
        PolicyForm::Yaml => recommended.yaml(),
        PolicyForm::Json => recommended.json(),
    }
}

fn parsed(listing: &Listing) -> Vec<Document> {
    listing.tools.iter().filter_map(|tool| Document::parse(tool.to_owned(), Strictness::Reply).ok()).collect()
}

fn roots(documents: &[Document]) -> Vec<Value<'_>> {
    documents.iter().map(Document::root).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Source, Tools};

    fn listing(tools: &[&str]) -> Listing {
        let tools = tools.iter().map(|tool| (*tool).to_owned()).collect();
        Listing { server_name: None, revision: "2025-11-25".into(), instructions: None, tools, prompts: Vec::new() }
    }

    /// Loads the policy of a listing, which must be without a single problem.
    #[track_caller]
    fn check(tools: &[&str]) -> String {
        let listing = listing(tools);
        let text = recommendation("files", &listing, Profile::Recommended).yaml();
        let source = Source::new("policy.yaml", text.clone());
        let loaded = policy::load(&source);
        assert_eq!(loaded.problems, [], "{text}");
        let problems = policy::check_tools(&source, &loaded, &Tools::parse(listing.to_capture("files").as_bytes()).unwrap());
        assert_eq!(problems, [], "{text}");
        text
    }

    #[test]
    fn every_tool_is_listed_with_its_parameters() {
        let text = check(&[
            r#"{"name":"read_file","description":"Reads a file.\n\nAll of it.","annotations":{"readOnlyHint":true},
                "inputSchema":{"required":["path"],"properties":{"path":{"type":"string","description":"Where"},
                "head":{"anyOf":[{"type":"integer"},{"type":"null"}]},"mode":{"type":"string","enum":["a","b"]},"x":{}}}}"#,
            r#"{"name":"off","inputSchema":{}}"#,
        ]);
        let expected = r#"  # Reads a file. All of it.
  #   path  string, required: Where
  #   head  integer or null
  #   mode  string, one of 2
  #   x     any
  # Read, low; path, untrusted-content
  #   gives information: "read_file" (R16)
  "read_file": {}
    # Fill in, and take away the marks and the `{}`:
    # rules:
    #   - {name: where, conditions: [{path: args.path, op: path_within, value: ["/srv/FILL-IN"]}]}

  # Execute, high, in doubt
  #   nothing says what it does: in doubt, not a read: "off" (R22)
  "off":
    rate_limit: 10/minute
    validate: {required_args: true}
"#;
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn a_hostile_server_writes_nothing_but_comments() {
        let text = check(&[
            "{\"name\":\"a\",\"description\":\"x\\n  evil: {}\\u2028hide: []\\u0000\\u202e\\ud83d\\ude00\u{85}y\"}",
            "{\"name\":\"b\\\": {}\\\\\",\"inputSchema\":{\"properties\":{\"p\\nq: 1\":{\"type\":\"st\\nring\"}}}}",
            r#"{"name":"*"}"#,
            r#"{"name":"delete_?"}"#,
            r#"{"name":"hid\u200bden"}"#,
        ]);
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.is_empty());
        let named = lines.skip(4).filter(|line| !line.starts_with("    "));
        assert_eq!(named.collect::<Vec<_>>(), [r#"  "a":"#, r#"  "b\": {}\\":"#], "{text}");
        assert!(text.contains("# hid\\u{200b}den cannot be listed"), "{text}");
    }

    #[test]
    fn what_is_summed_up_is_what_the_policy_treats() {
        let tools = [
            r#"{"name":"list_files","description":"Lists files."}"#,
            r#"{"name":"delete_file","description":"Deletes a file for good."}"#,
        ];
        let recommended = recommendation("files", &listing(&tools), Profile::Recommended);
        assert_eq!(summary(&recommended), "2 tools: 1 Read, 1 Destructive");
    }

    #[test]
    fn a_server_without_tools_gives_a_policy_all_the_same() {
        let text = recommendation("none", &listing(&[]), Profile::Recommended).yaml();
        assert!(policy::load(&Source::new("policy.yaml", text)).policy.is_some());
    }
}
