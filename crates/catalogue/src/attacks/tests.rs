use super::*;
use policy::{Outcome, Severity, Tools};
use std::collections::BTreeSet;
use std::sync::Arc;

#[test]
fn every_file_is_read_and_every_id_is_there_once() {
    assert!(all().len() > 140, "{} attacks", all().len());
    let ids: BTreeSet<&str> = all().iter().map(|attack| attack.id.as_str()).collect();
    assert_eq!(ids.len(), all().len());
}

#[test]
fn an_attack_read_alone_is_the_one_among_all() {
    for attack in all() {
        let alone = find_alone(&attack.id).unwrap();
        assert_eq!(format!("{alone:?}"), format!("{attack:?}"));
    }
    assert!(find_alone("nothing").is_none());
    assert!(find_alone("").is_none());
}

#[test]
fn every_attack_says_what_it_must() {
    for attack in all() {
        let id = &attack.id;
        assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{id}");
        assert!(!attack.sources.is_empty(), "{id} has no source");
        let read = |source: &AttackSource| matches!(source.seen, Seen::Full | Seen::Excerpt);
        assert!(attack.sources.iter().any(read) || !attack.cves.is_empty(), "{id}: none of its sources was read");
        assert!(!attack.classes.is_empty(), "{id} has no class");
        for name in &attack.classes {
            assert!(class(name).is_some(), "{id}: there is no class `{name}`");
        }
        for cve in &attack.cves {
            let numbers: Vec<&str> = cve.trim_start_matches("CVE-").split('-').collect();
            assert!(numbers.len() == 2 && numbers.iter().all(|part| part.parse::<u32>().is_ok()), "{id}: {cve}");
        }
        assert_eq!(attack.remains.is_some(), attack.reach != Reach::Stops, "{id}: what remains");
        assert_eq!(attack.controls.is_empty(), attack.reach == Reach::Cannot, "{id}: what stops it");
        assert!(attack.controls.iter().all(|used| used.control.is_ours()), "{id}: a control that Callgate does not have");
        assert!(attack.elsewhere.iter().all(|used| !used.control.is_ours()), "{id}: a control that Callgate has");
    }
}

#[test]
fn what_a_gateway_can_stop_has_a_case_that_can_fail() {
    for attack in all() {
        let id = &attack.id;
        assert_eq!(attack.cases.is_empty(), attack.reach == Reach::Cannot, "{id}: its cases");
        assert_eq!(attack.policy.is_some(), attack.reach != Reach::Cannot, "{id}: its policy");
        for case in &attack.cases {
            let guarded =
                |step: &Step| step.stopped.is_some() || step.keeps_from_client.is_some() || step.keeps_from_server.is_some();
            assert!(case.steps.iter().any(guarded), "{id}: `{}` demands nothing", case.title);
            assert_eq!(case.scene == Scene::Gateway, attack.configuration.is_some() && case.scene == Scene::Gateway, "{id}");
        }
    }
}

#[test]
fn every_attack_stands_in_each_framework_or_says_why_not() {
    let numbered = |id: &str, list: &str| {
        let number = id.strip_prefix(list).and_then(|number| number.parse::<u8>().ok());
        number.is_some_and(|number| (1..=10).contains(&number) && id == format!("{list}{number:02}"))
    };
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|digit| digit.is_ascii_digit());
    let technique = |id: &str, _: &str| {
        let (technique, sub) = id.strip_prefix("AML.T").map(|id| id.split_once('.').unwrap_or((id, "000"))).unwrap_or_default();
        digits(technique, 4) && digits(sub, 3)
    };
    for attack in all() {
        let Frameworks { atlas, mcp, llm, agentic } = &attack.frameworks;
        let note = attack.note.as_deref().unwrap_or_default();
        type Form<'f> = &'f dyn Fn(&str, &str) -> bool;
        let frameworks: [(&str, &Vec<String>, &str, Form<'_>); 4] = [
            ("MITRE ATLAS", atlas, "", &technique),
            ("OWASP Top 10 for MCP", mcp, "MCP", &numbered),
            ("OWASP Top 10 for LLM applications", llm, "LLM", &numbered),
            ("OWASP Top 10 for agentic applications", agentic, "ASI", &numbered),
        ];
        for (framework, ids, list, has_form) in frameworks {
            let wrong = ids.iter().find(|id| !has_form(id, list));
            assert_eq!(wrong, None, "{}: {framework} has no such id", attack.id);
            let why = format!("{framework} has no ");
            assert!(!ids.is_empty() || note.contains(&why), "{}: it is not in {framework}, and nobody says why", attack.id);
        }
    }
}

#[test]
fn every_class_has_an_attack() {
    for class in classes() {
        assert!(all().iter().any(|attack| attack.is_of(&class.name)), "nothing is of class `{}`", class.name);
    }
}

fn loaded(text: &str) -> policy::Loaded {
    policy::load(&Source::new("policy.yaml", text))
}

#[test]
fn every_policy_loads_without_a_problem() {
    for attack in all() {
        if let Some(text) = &attack.policy {
            assert_eq!(loaded(text).problems, [], "{}", attack.id);
        }
    }
}

#[test]
fn every_policy_fits_the_tools_of_its_cases() {
    for attack in all() {
        let Some(text) = &attack.policy else { continue };
        for case in attack.cases.iter().filter(|case| !case.server.tools.is_empty()) {
            let source = Source::new("policy.yaml", text.as_str());
            let tools = Tools::parse(format!("[{}]", case.server.tools.join(",")).as_bytes()).unwrap();
            let problems = policy::check_tools(&source, &policy::load(&source), &tools);
            // A server of a case lists what the case needs, and an argument that must not be there need not be declared.
            let named = |problem: &&policy::Problem| !problem.message.contains("lists no tool");
            let wrong = problems.iter().filter(named).find(|problem| problem.severity == Severity::Error);
            assert_eq!(wrong, None, "{}: {}", attack.id, case.title);
        }
    }
}

fn policies(text: &str) -> policy::Policies {
    let policy = loaded(text).policy.unwrap_or_else(|| panic!("this must load: {text}\n{:?}", loaded(text).problems));
    policy::Policies::all_of(vec![Arc::new(policy)])
}

fn at() -> jiff::Timestamp {
    "2026-01-15T10:30:00Z".parse().unwrap()
}

const TOOLS: &str = r##"[
  {"name": "read_file", "description": "Read a file.", "inputSchema": {"type": "object", "required": ["path"],
    "properties": {"path": {"type": "string", "description": "Path of the file"}}}},
  {"name": "fetch", "description": "Fetch a URL.", "inputSchema": {"type": "object", "required": ["url", "format"],
    "properties": {"url": {"type": "string", "description": "URL to fetch"}, "format": {"type": "string", "enum": ["text", "html"]}}}},
  {"name": "query", "description": "Run a SQL query.", "inputSchema": {"type": "object", "required": ["sql"],
    "properties": {"sql": {"type": "string", "description": "SQL statement to execute"}}}},
  {"name": "delete_volume", "description": "Delete a volume for good.", "inputSchema": {"type": "object"}},
  {"name": "start_run", "description": "Start a workflow run.", "inputSchema": {"type": "object"}},
  {"name": "fetch_many", "description": "Fetch URLs.", "inputSchema": {"type": "object", "properties": {
    "request": {"type": "object", "required": ["id", "url"], "properties": {"id": {"type": "integer"},
      "url": {"type": "string", "description": "URL to fetch"}}},
    "pages": {"type": "array", "items": {"$ref": "#/$defs/Page"}}},
    "$defs": {"Page": {"type": "object", "properties": {"url": {"type": "string", "description": "URL to fetch"}}}}}},
  {"name": "port_forward", "description": "Forward a port.", "inputSchema": {"type": "object",
    "properties": {"resourceName": {"type": "string"}, "names": {"type": "array", "items": {"type": "string"}}}}}
]"##;

fn open(findings: &[Finding]) -> Vec<String> {
    let open = findings.iter().filter(|finding| matches!(finding.standing, Standing::Open(_)));
    open.map(|finding| format!("{} {:?} {:?}", finding.attack.id, finding.tool, finding.argument)).collect()
}

#[test]
fn nothing_is_stopped_by_a_policy_that_allows_everything() {
    let tools = Tools::parse(TOOLS.as_bytes()).unwrap();
    let findings = judge("server", &tools, &policies("version: \"1\"\ndefault: allow\n"), at());
    assert!(findings.len() > 20);
    assert_eq!(open(&findings).len(), findings.len());
}

#[test]
fn the_lines_that_are_missing_stop_every_attack_that_applies() {
    let tools = Tools::parse(TOOLS.as_bytes()).unwrap();
    let findings = judge("server", &tools, &policies("version: \"1\"\ndefault: allow\n"), at());
    let missing = missing_policy(&findings).unwrap();
    let again = judge("server", &tools, &policies(&missing), at());
    assert_eq!(open(&again), Vec::<String>::new(), "{missing}");
    assert_eq!(missing_policy(&again), None);
    for line in ["path_within", "host_in", "sql_statement_in", "sampling: deny", "delete_volume", "10/minute"] {
        assert!(missing.contains(line), "{line} is not in\n{missing}");
    }
}

#[test]
fn each_command_line_of_a_list_is_bounded_and_the_words_of_a_command_are_one() {
    let rule_for = |argument: &str| {
        let list = format!(
            r#"[{{"name": "run", "description": "Executes commands in a shell.", "inputSchema": {{"type": "object", "required": ["{argument}"],
            "properties": {{"{argument}": {{"type": "array", "items": {{"type": "string"}}, "description": "Shell command to execute"}}}}}}}}]"#
        );
        let tools = Tools::parse(list.as_bytes()).unwrap();
        missing_policy(&judge("acme", &tools, &policies("version: \"1\"\ndefault: allow\n"), at())).unwrap_or_default()
    };
    for (argument, path) in [("commands", "args.commands[*]"), ("command", "args.command")] {
        let expected = format!("{{path: \"{path}\", op: command_in");
        assert!(rule_for(argument).contains(&expected), "{}", rule_for(argument));
    }
}

#[test]
fn what_lies_deeper_in_a_schema_is_attacked_too() {
    let tools = Tools::parse(TOOLS.as_bytes()).unwrap();
    let fetches = |rules: &str| {
        let policy = format!("version: \"1\"\ntools: {{fetch_many: {{rules: [{rules}]}}}}\n");
        let findings = judge("server", &tools, &policies(&policy), at()).into_iter();
        let found = findings.filter(|one| one.attack.id == "fetch-mcp-ssrf" && one.tool.as_deref() == Some("fetch_many"));
        let is_open = |one: Finding| (one.argument.unwrap(), matches!(one.standing, Standing::Open(_)));
        found.map(is_open).collect::<Vec<_>>()
    };
    let open = |request: bool, pages: bool| vec![("request.url".to_owned(), request), ("pages[*].url".to_owned(), pages)];
    assert_eq!(fetches(""), open(true, true));
    let one = "{name: hosts, conditions: [{path: args.request.url, op: host_in, value: [docs.example], optional: true}]}";
    assert_eq!(fetches(one), open(false, true));
    let beside = "{name: ids, conditions: [{path: args.request.id, op: eq, value: 2, optional: true}]}";
    assert_eq!(fetches(beside), open(false, true), "what is required beside it is given, and refused");
}

#[test]
fn what_no_list_of_tools_shows_is_said() {
    let told: Vec<(&Attack, String)> = not_judged().collect();
    assert!(told.iter().all(|(attack, _)| attack.ways.is_empty() && attack.reach != Reach::Cannot));
    let judged = all().iter().filter(|attack| !attack.ways.is_empty()).count();
    let beyond = all().iter().filter(|attack| attack.reach == Reach::Cannot && attack.ways.is_empty()).count();
    assert_eq!(told.len() + judged + beyond, all().len());
    let (_, why) = told.iter().find(|(attack, _)| attack.id == "rug-pull-silent-redefinition").unwrap();
    assert!(why.contains("pin (definitions are held against those that were accepted)"), "{why}");
}

#[test]
fn a_denial_for_another_reason_stops_nothing() {
    let tools = Tools::parse(TOOLS.as_bytes()).unwrap();
    let fetches = |policy: &str| {
        let findings = judge("server", &tools, &policies(policy), at());
        let found = findings.into_iter().find(|finding| finding.attack.id == "fetch-mcp-ssrf").unwrap();
        (found.tool.unwrap(), found.standing)
    };
    let with = |rule: &str| format!("version: \"1\"\ntools: {{fetch: {{rules: [{rule}]}}}}\n");
    // What is refused for its format is refused with any URL.
    let format = with("{name: format, conditions: [{path: args.format, op: eq, value: html}]}");
    assert_eq!(fetches(&format), ("fetch".into(), Standing::Unclear { rule: "format".into() }));
    let host = with("{name: hosts, conditions: [{path: args.url, op: host_in, value: [docs.example]}]}");
    assert_eq!(fetches(&host), ("fetch".into(), Standing::Stopped { rule: "hosts".into(), reason: "condition-failed" }));
    // One spelling of the inside is not all of them.
    let list = with("{name: hosts, conditions: [{path: args.url, op: not_regex, value: '169\\.254'}]}");
    assert!(matches!(fetches(&list).1, Standing::Open(Missing::Rule(..))));
}

#[test]
fn asking_a_person_and_hiding_stop_what_cannot_be_undone() {
    let tools = Tools::parse(TOOLS.as_bytes()).unwrap();
    let deletes = |policy: &str| {
        let findings = judge("server", &tools, &policies(policy), at());
        findings.into_iter().find(|finding| finding.attack.id == "pocketos-railway-volume").unwrap().standing
    };
    let reason = |standing: Standing| match standing {
        Standing::Stopped { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(deletes("version: \"1\"\nhide: [delete_volume]\n")), "hidden");
    assert_eq!(reason(deletes("version: \"1\"\ndefault: deny\ntools: {fetch: {}}\n")), "default-deny");
    assert_eq!(reason(deletes("version: \"1\"\ntools: {delete_volume: {action: require_approval}}\n")), "approval-required");
    // A pace is no protection against one deletion, nor is a rule that is only tried out.
    for policy in [
        "version: \"1\"\ntools: {delete_volume: {rate_limit: 1/hour}}\n",
        "version: \"1\"\nmode: shadow\nhide: [delete_volume]\n",
    ] {
        assert_eq!(deletes(policy), Standing::Open(Missing::Hidden("delete_volume".into())), "{policy}");
    }
}

/// The policy of an attack, with one of its parts taken out: each rule of each tool, `hide`, `methods`, `server_requests`.
fn mutants(text: &str) -> Vec<(String, String)> {
    let source = Source::new("policy.yaml", text);
    let mut reader = policy::Reader::new(&source, &policy::Vocabulary { synonyms: &[], places: &[] });
    let root = reader.root().unwrap();
    let json: serde_json::Value = serde_json::from_str(&reading::json_of(&root)).unwrap();
    let mut found = Vec::new();
    for key in ["hide", "methods", "server_requests", "all_tools"] {
        if json.get(key).is_some() {
            let mut mutant = json.clone();
            mutant.as_object_mut().unwrap().remove(key);
            found.push((key.to_owned(), mutant));
        }
    }
    for (tool, entry) in json["tools"].as_object().into_iter().flatten() {
        for i in 0..entry["rules"].as_array().map_or(0, Vec::len) {
            let mut mutant = json.clone();
            let rule = mutant["tools"][tool]["rules"].as_array_mut().unwrap().remove(i);
            found.push((format!("{tool}: {}", rule["name"]), mutant));
        }
        for key in ["action", "results"].into_iter().filter(|key| entry.get(key).is_some()) {
            let mut mutant = json.clone();
            mutant["tools"][tool].as_object_mut().unwrap().remove(key);
            found.push((format!("{tool}: {key}"), mutant));
        }
        for key in ["withhold", "redact", "hidden_characters", "secrets"] {
            if entry["results"].get(key).is_some() {
                let mut mutant = json.clone();
                mutant["tools"][tool]["results"].as_object_mut().unwrap().remove(key);
                found.push((format!("{tool}: results: {key}"), mutant));
            }
        }
    }
    // What was hidden or unlisted must not be held by the posture alone.
    found
        .into_iter()
        .map(|(name, mut mutant)| {
            if name == "hide" {
                mutant["default"] = "allow".into();
            }
            (name, mutant.to_string())
        })
        .collect()
}

/// What a policy says of every call and method of the cases on stdio, where it alone decides.
fn outcomes(attack: &Attack, policy: &str) -> Vec<(String, Outcome)> {
    let policies = policies(policy);
    let mut out = Vec::new();
    for case in attack.cases.iter() {
        let tools = Tools::parse(format!("[{}]", case.server.tools.join(",")).as_bytes()).unwrap();
        if let Some((method, _)) = &case.server.asks {
            for mode in [None, Some("url")] {
                let denied = policies.server_request_decision(method, mode);
                out.push((format!("{method} {mode:?}"), denied.map_or(Outcome::Allow, |denied| denied.outcome)));
            }
        }
        for (tool, result) in &case.server.returns {
            let document = json::Document::parse(result.clone(), json::Strictness::Reply).unwrap();
            let findings = policies.results_of_tool(tool, None).judge(document.root()).enforced;
            let outcome = if findings == Default::default() { Outcome::Allow } else { Outcome::Deny };
            out.push((format!("{tool} returns {result}"), outcome));
        }
        for step in &case.steps {
            let (tool, arguments) = match &step.send {
                Send::Call(tool, arguments) => (tool, arguments),
                Send::Method(method, _) => {
                    let denied = policies.method_decision(method);
                    out.push((method.clone(), denied.map_or(Outcome::Allow, |denied| denied.outcome)));
                    continue;
                }
                Send::Raw(_) => continue,
            };
            let document = json::Document::parse(arguments.clone(), json::Strictness::Request).unwrap();
            let schema = tools.get(tool).map_or(policy::Schema::Unjudged, |tool| policy::Schema::Known(&tool.schema));
            let call = policy::Call { tool, class: None, arguments: Some(document.root()), schema, at: at(), explained: false };
            let plan = policies.evaluate(&call);
            // What a call takes, and whether it may be repeated, is for a store to judge; that it is asked is seen here.
            let what = format!("{tool} {arguments} {} {}", plan.charges.len(), plan.once.is_some());
            out.push((what, plan.decision.outcome));
        }
    }
    out
}

#[test]
fn a_policy_as_json_decides_what_it_decides_as_yaml() {
    for attack in all() {
        let Some(text) = &attack.policy else { continue };
        let json = attack.policy_json().unwrap();
        assert!(json.starts_with("{\n  \"version\": \"1\",\n"), "{json}");
        assert_eq!(policy::load(&Source::new("policy.json", json.as_str())).problems, [], "{}", attack.id);
        assert_eq!(outcomes(attack, &json), outcomes(attack, text), "{}", attack.id);
    }
}

#[test]
fn an_attack_is_told_as_json() {
    for attack in all() {
        let told: serde_json::Value = serde_json::from_str(&attack.to_json()).unwrap();
        assert_eq!(told["id"], attack.id.as_str());
        assert_eq!(told["sources"].as_array().unwrap().len(), attack.sources.len());
        assert_eq!(told["policy"].as_str(), attack.policy.as_deref());
        assert_eq!(told["frameworks"]["owasp_llm_2025"].as_array().unwrap().len(), attack.frameworks.llm.len());
    }
}

/// The policy with the posture turned, where a case of its attack is stopped by that.
fn without_posture(attack: &Attack, text: &str) -> Option<(String, String)> {
    let by_posture = |step: &Step| step.stopped.as_deref() == Some("default-deny");
    let is_shown = attack.cases.iter().flat_map(|case| &case.steps).any(by_posture);
    is_shown.then(|| ("default".to_owned(), text.replace("default: deny", "default: allow")))
}

#[test]
fn no_rule_of_a_policy_can_be_taken_away_unnoticed() {
    let (mut unnoticed, mut shown, mut policies) = (Vec::new(), 0, 0);
    for attack in all() {
        let Some(text) = &attack.policy else { continue };
        let whole = outcomes(attack, text);
        let mut mutants = mutants(text);
        // Where a grant of a configuration bounds more than the policy, it is that which decides.
        mutants.extend(without_posture(attack, text).filter(|(_, mutant)| outcomes(attack, mutant) != whole));
        (shown, policies) = (shown + usize::from(!mutants.is_empty()), policies + 1);
        let idle = mutants.into_iter().filter(|(_, mutant)| outcomes(attack, mutant) == whole);
        unnoticed.extend(idle.map(|(name, _)| format!("{}: `{name}`", attack.id)));
    }
    assert_eq!(unnoticed, Vec::<String>::new(), "these make no difference to the cases of their attacks");
    // The others are what a policy alone does not decide.
    let page = include_str!("../../../../docs/attacks.md");
    let said = format!("of {shown} of the {policies} policies");
    assert!(page.contains(&said), "docs/attacks.md does not say `{said}`");
}
