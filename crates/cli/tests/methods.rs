//! Other methods than calls, and what servers ask of clients: in every mode and both eras.
//!
//! The server is `tests/upstreams/asking.py`, which asks back and hands out states and tasks. Its log says what reached it.

mod support;

use serde_json::{Value, json};
use support::chain::{AnyClient, CONFIGURED, Chain, MODES, Setup};
use support::{LEGACY, MODERN, PATIENCE, Scratch, assert_verified, audit, request, text_of, until};

/// The gateway's code for what the policy does not allow.
const NOT_ALLOWED: i64 = -31003;

/// A client, a gateway of one mode, and the server behind it.
#[track_caller]
fn start(mode: &str, revision: &'static str, policy: &str) -> Chain {
    let scratch = Scratch::new();
    let arguments = vec![scratch.log().display().to_string()];
    let options = vec!["--audit-args".to_owned(), "full".to_owned()];
    Chain::start(scratch, Setup { mode, revision, policy, server: "asking", arguments, options, members: Value::Null })
}

/// Runs a test in every mode of a revision.
fn in_every_mode(revision: &'static str, policy: &str, test: impl Fn(&str, &mut Chain)) {
    for mode in MODES {
        let mut chain = start(mode, revision, policy);
        test(mode, &mut chain);
        assert_verified(&chain.scratch.state());
    }
}

const SERVERS_ASK_LITTLE: &str = "version: \"1\"\nserver_requests: {sampling: deny, elicitation: {url: deny}, roots: deny}\n";

#[test]
fn what_a_legacy_server_must_not_ask_for_is_answered_in_the_clients_place() {
    in_every_mode(LEGACY, SERVERS_ASK_LITTLE, |mode, chain| {
        for (what, method, rule) in [
            ("sampling", "sampling/createMessage", "/server_requests/sampling"),
            ("url", "elicitation/create", "/server_requests/elicitation/url"),
            ("roots", "roots/list", "/server_requests/roots"),
        ] {
            let messages = chain.exchange("1", "tools/call", json!({"name": "ask", "arguments": {"what": what}}));
            assert_eq!(messages.len(), 1, "{mode} {what}: the client is asked nothing: {messages:?}");
            let text = text_of(&messages[0]);
            assert!(text.contains("-31003") && text.contains("does not allow"), "{mode} {what}: {text}");
            let record = chain.records(method).pop().expect("a record");
            assert_eq!(
                (&record["outcome"], &record["reason"], &record["rule"]),
                (&json!("deny"), &json!("server-request-refused"), &json!(rule)),
                "{mode}: {record}"
            );
        }
    });
}

#[test]
fn what_a_server_may_ask_for_is_recorded() {
    let mut chain = start("run", LEGACY, SERVERS_ASK_LITTLE);
    let AnyClient::Lines(client) = &mut chain.client else { panic!("a stdio client") };
    client.send(request(LEGACY, "1", "tools/call", json!({"name": "ask", "arguments": {"what": "form"}})));
    let asked = client.message();
    assert_eq!(asked["method"], "elicitation/create");
    client.send(json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "decline"}}).to_string());
    assert!(text_of(&client.reply("1")).contains("decline"));
    let record = &chain.records("elicitation/create")[0];
    assert_eq!((&record["outcome"], &record["detail"]), (&json!("allow"), &json!("asked by the server")), "{record}");
}

#[test]
fn a_modern_reply_that_asks_for_what_it_must_not_is_withheld() {
    in_every_mode(MODERN, SERVERS_ASK_LITTLE, |mode, chain| {
        for (what, method) in [("sampling", "sampling/createMessage"), ("url", "elicitation/create"), ("roots", "roots/list")] {
            let reply = chain.call("1", "ask", json!({"what": what}));
            let error = &reply["error"];
            assert_eq!(error["code"], NOT_ALLOWED, "{mode} {what}: {reply}");
            assert_eq!(error["data"]["dev.callgate/decision"]["reason"], "server-request-refused", "{mode}: {reply}");
            let record = chain.records(method).pop().expect("a record");
            assert_eq!((&record["outcome"], &record["tool"]), (&json!("deny"), &json!("ask")), "{mode}: {record}");
        }
        // Also in a prompt, a resource, a task, and in an error of 2025-11-25.
        let url = json!({"name": "ask", "arguments": {"what": "url"}});
        assert_eq!(chain.ask("2", "prompts/get", url)["error"]["code"], NOT_ALLOWED, "{mode}");
        assert_eq!(chain.ask("3", "tasks/get", json!({"taskId": "x asking"}))["error"]["code"], NOT_ALLOWED, "{mode}");
        assert_eq!(chain.call("4", "ask", json!({"what": "error"}))["error"]["code"], NOT_ALLOWED, "{mode}");
        // What it may ask for passes, and so does the answer.
        let reply = chain.call("5", "ask", json!({"what": "form"}));
        assert_eq!(reply["result"]["requestState"], "state of ask", "{mode}: {reply}");
        let retry = json!({"name": "ask", "arguments": {"what": "form"}, "requestState": "state of ask",
            "inputResponses": {"q": {"action": "accept", "content": {"n": 150}}}});
        let reply = chain.ask("6", "tools/call", retry);
        assert!(text_of(&reply).contains("150"), "{mode}: {reply}");
    });
}

#[test]
fn without_a_word_servers_may_ask() {
    in_every_mode(MODERN, "version: \"1\"\ntools: {}\n", |mode, chain| {
        for what in ["form", "url", "sampling", "roots"] {
            let reply = chain.call("1", "ask", json!({"what": what}));
            assert_eq!(reply["result"]["resultType"], "input_required", "{mode} {what}: {reply}");
        }
        assert_eq!(chain.call("2", "ask", json!({"what": "error"}))["error"]["code"], -32042, "{mode}");
    });
}

#[test]
fn an_error_of_a_legacy_server_may_send_the_user_elsewhere_where_addresses_are_allowed() {
    for (policy, code) in [(OPEN, -32042), (SERVERS_ASK_LITTLE, NOT_ALLOWED)] {
        in_every_mode(LEGACY, policy, |mode, chain| {
            let reply = chain.call("1", "ask", json!({"what": "error"}));
            assert_eq!(reply["error"]["code"], code, "{mode}: {reply}");
            assert_eq!(reply.to_string().contains("evil.example"), code == -32042, "{mode}: {reply}");
            if code == NOT_ALLOWED {
                let record = chain.records("elicitation/create").pop().expect("a record");
                assert_eq!((&record["outcome"], &record["tool"]), (&json!("deny"), &json!("ask")), "{mode}: {record}");
            }
        });
    }
}

#[test]
fn by_default_everything_passes_and_what_does_something_is_recorded() {
    // What has no effect of the caller's choosing.
    const PLUMBING: [&str; 7] =
        ["initialize", "ping", "server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list"];
    for revision in [LEGACY, MODERN] {
        in_every_mode(revision, OPEN, |mode, chain| {
            let this = mcp::Revision::parse(revision).expect("it is one");
            let rows = mcp::METHODS.iter().filter(|row| row.is_request && row.from == mcp::Side::Client);
            let methods: Vec<_> =
                rows.filter(|row| (row.revisions.0..=row.revisions.1).contains(&this)).map(|row| row.name).collect();
            assert!(methods.len() > 12, "{methods:?}");
            for (number, method) in methods.iter().enumerate().filter(|(_, method)| **method != "initialize") {
                let params = match *method {
                    "tools/call" | "prompts/get" => json!({"name": "plain"}),
                    "resources/read" | "resources/subscribe" | "resources/unsubscribe" => json!({"uri": "file:///x"}),
                    "completion/complete" => {
                        json!({"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": ""}})
                    }
                    "logging/setLevel" => json!({"level": "info"}),
                    "subscriptions/listen" => json!({"notifications": {}}),
                    method if method.starts_with("tasks/") && method != "tasks/list" => json!({"taskId": "t"}),
                    _ => json!({}),
                };
                let reply = chain.ask(&number.to_string(), method, params);
                assert!(reply["result"].is_object(), "{mode} {revision} {method}: {reply}");
                assert!(!chain.requests(method).is_empty(), "{mode} {revision} {method} reaches the server");
            }
            let records = audit(&chain.scratch.state());
            for method in methods {
                let record = records.iter().find(|record| record["method"] == method && record["phase"] == "decided");
                assert_eq!(record.is_some(), !PLUMBING.contains(&method), "{mode} {revision} {method}: {records:?}");
                assert!(record.is_none_or(|record| record["outcome"] == "allow"), "{mode} {revision}: {record:?}");
            }
        });
    }
}

#[test]
fn what_nobody_knows_a_server_may_ask_for_under_default_allow_only() {
    const LISTED: &str = "version: \"1\"\ndefault: deny\ntools: {ask: {}}\n";
    for (policy, passes) in [
        ("version: \"1\"\ntools: {}\n".to_owned(), true),
        (LISTED.to_owned(), false),
        (format!("{LISTED}methods: {{\"x-odd/*\": allow}}\n"), true),
        ("version: \"1\"\nmethods: {x-odd/ask: deny}\n".to_owned(), false),
    ] {
        let mut chain = start("run", MODERN, &policy);
        let reply = chain.call("1", "ask", json!({"what": "odd"}));
        assert_eq!(reply.get("error").is_none(), passes, "{policy}: {reply}");
    }
}

#[test]
fn whoever_may_not_set_what_is_logged_may_not_do_so_in_a_request_either() {
    const KEY: &str = "io.modelcontextprotocol/logLevel";
    in_every_mode(MODERN, "version: \"1\"\nmethods: {logging/setLevel: deny}\n", |mode, chain| {
        for (method, mut params) in [("tools/call", json!({"name": "ask", "arguments": {}})), ("prompts/list", json!({}))] {
            params["_meta"] = json!({KEY: "debug"});
            let reply = chain.ask("1", method, params);
            assert_eq!(reply["error"]["code"], NOT_ALLOWED, "{mode} {method}: {reply}");
            let record = chain.records(method).pop().expect("a record");
            assert_eq!((&record["outcome"], &record["rule"]), (&json!("deny"), &json!("/methods/logging~1setLevel")), "{mode}");
            assert_eq!(chain.requests(method).len(), 0, "{mode} {method}");
        }
        assert!(chain.ask("2", "prompts/list", json!({}))["result"].is_object(), "{mode}");
    });
}

#[test]
fn a_method_that_is_denied_never_reaches_the_server() {
    const POLICY: &str = "version: \"1\"\nmethods: {prompts: deny, resources/read: deny, \"x/*\": deny, completion: allow}\n";
    for revision in [LEGACY, MODERN] {
        in_every_mode(revision, POLICY, |mode, chain| {
            for (method, params, rule) in [
                ("prompts/get", json!({"name": "p"}), "/methods/prompts"),
                ("prompts/list", json!({}), "/methods/prompts"),
                ("resources/read", json!({"uri": "file:///x"}), "/methods/resources~1read"),
                ("x/y", json!({}), "/methods/x~1*"),
            ] {
                let reply = chain.ask("1", method, params);
                assert_eq!(reply["error"]["code"], NOT_ALLOWED, "{mode} {method}: {reply}");
                let record = chain.records(method).pop().expect("a record");
                assert_eq!(
                    (&record["outcome"], &record["reason"], &record["rule"]),
                    (&json!("deny"), &json!("method-refused"), &json!(rule)),
                    "{mode}: {record}"
                );
                assert_eq!(chain.requests(method).len(), 0, "{mode} {method}");
            }
            let reply = chain.ask("2", "completion/complete", json!({"ref": {"type": "ref/prompt", "name": "p"}}));
            assert!(reply["result"].is_object(), "{mode}: {reply}");
            assert_eq!(text_of(&chain.call("3", "plain", json!({}))), "ran plain", "{mode}");
        });
    }
}

#[test]
fn a_method_that_nobody_knows_passes_where_it_is_allowed_by_name() {
    let policy = "version: \"1\"\ndefault: deny\ntools: {plain: {}}\nmethods: {x/known: allow}\n";
    let mut chain = start("run", LEGACY, policy);
    assert!(chain.ask("1", "x/known", json!({}))["result"].is_object());
    assert_eq!(chain.ask("2", "x/unknown", json!({}))["error"]["code"], -32601);
    assert_eq!(chain.requests("x/unknown").len(), 0);
}

#[test]
fn notifications_that_are_denied_are_dropped() {
    for (policy, expected) in [("methods: {notifications/message: deny}", 1), ("tools: {}", 2)] {
        in_every_mode(LEGACY, &format!("version: \"1\"\n{policy}\n"), |mode, chain| {
            let messages = chain.exchange("1", "tools/call", json!({"name": "chatty"}));
            assert_eq!(messages.len(), expected, "{mode} {policy}: {messages:?}");
        });
    }
}

#[test]
fn in_shadow_mode_methods_pass_and_say_what_would_have_been() {
    let policy = "version: \"1\"\nmode: shadow\nmethods: {prompts: deny}\nserver_requests: {sampling: deny}\n";
    let mut chain = start("run", MODERN, policy);
    assert!(chain.ask("1", "prompts/get", json!({"name": "p"}))["result"].is_object());
    let record = &chain.records("prompts/get")[0];
    assert_eq!((&record["outcome"], &record["shadow"]["rule"]), (&json!("allow"), &json!("/methods/prompts")), "{record}");
    assert_eq!(chain.call("2", "ask", json!({"what": "sampling"}))["result"]["resultType"], "input_required");
    let strange = json!({"name": "plain", "requestState": "never issued"});
    assert_eq!(text_of(&chain.ask("3", "tools/call", strange)), "ran plain");
}

// ---------------------------------------------------------------- to whom things belong

const OPEN: &str = "version: \"1\"\ntools: {}\n";

#[test]
fn a_state_goes_on_only_with_the_call_it_was_issued_for() {
    in_every_mode(MODERN, OPEN, |mode, chain| {
        let begun = chain.call("1", "ask", json!({"what": "form"}));
        assert_eq!(begun["result"]["requestState"], "state of ask", "{mode}: {begun}");
        let before = chain.reached().len();
        for (method, params, why) in [
            ("tools/call", json!({"name": "plain", "arguments": {"what": "form"}}), "another tool"),
            ("tools/call", json!({"name": "ask", "arguments": {"what": "url"}}), "other arguments"),
            ("prompts/get", json!({"name": "ask", "arguments": {"what": "form"}}), "a prompt"),
            ("resources/read", json!({"uri": "ask"}), "a resource"),
        ] {
            let mut params = params;
            params["requestState"] = json!("state of ask");
            let reply = chain.ask("2", method, params);
            assert_eq!(reply["error"]["code"], -32602, "{mode} {why}: {reply}");
            assert_eq!(reply["error"]["data"]["dev.callgate/decision"]["reason"], "unknown-state", "{mode} {why}: {reply}");
        }
        let tampered = json!({"name": "ask", "arguments": {"what": "form"}, "requestState": "state of ask, changed"});
        assert_eq!(chain.ask("3", "tools/call", tampered)["error"]["code"], -32602, "{mode}");
        assert_eq!(chain.reached().len(), before, "{mode}: none of them reaches the server");
        let records = audit(&chain.scratch.state());
        assert!(!records.iter().any(|record| record.to_string().contains("state of ask")), "{mode}: no state is kept whole");
        // Members in another order, and an escape, are the same call; and the state arrives as it left.
        let retry = json!({"requestState": "state of ask", "name": "ask", "arguments": {"what": "form"}, "inputResponses": {}});
        let reply = chain.ask("4", "tools/call", retry);
        assert!(text_of(&reply).starts_with("answered"), "{mode}: {reply}");
    });
}

#[test]
fn whoever_declares_no_tasks_hears_of_that_before_a_task_is_unknown() {
    const TASKS: &str = "io.modelcontextprotocol/tasks";
    for mode in CONFIGURED {
        let chain = start(mode, MODERN, OPEN);
        let AnyClient::Http(client) = &chain.client else { panic!("an HTTP client") };
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let text = request(MODERN, "1", method, json!({"taskId": "nobody's", "inputResponses": {}}));
            let declaring = text.replacen(r#""elicitation":{}"#, &format!(r#""extensions":{{"{TASKS}":{{}}}}"#), 1);
            assert_ne!(text, declaring);
            let send = |text: &str| client.send(&client.headers(method, Some("nobody's")), text.as_bytes()).expect("an answer");
            let (without, with) = (send(&text), send(&declaring));
            let error = &without.reply("1")["error"];
            assert_eq!((without.status, &error["code"]), (400, &json!(-32021)), "{mode} {method}: {without:?}");
            assert_eq!(error["data"], json!({"requiredCapabilities": {"extensions": {TASKS: {}}}}), "{mode} {method}");
            assert_eq!((with.status, &with.reply("1")["error"]["code"]), (200, &json!(-32602)), "{mode} {method}: {with:?}");
            assert!(chain.requests(method).is_empty(), "{mode}: the server hears of neither");
            let refused = audit(&chain.scratch.state()).into_iter().filter(|record| record["method"] == method).count();
            assert_eq!(refused, 2, "{mode} {method}: both are on record");
        }
    }
}

#[test]
fn answers_to_a_server_are_in_the_record() {
    in_every_mode(MODERN, OPEN, |mode, chain| {
        chain.call("1", "later", json!({"id": "t 7"}));
        let answers = json!({"q": {"action": "accept", "content": {"secret_plan": 42}}});
        chain.ask("2", "tasks/update", json!({"taskId": "t 7", "inputResponses": answers}));
        let record = &chain.records("tasks/update")[0];
        assert_eq!((&record["tool"], &record["arguments"]), (&json!("later"), &answers), "{mode}: {record}");
        chain.call("3", "ask", json!({}));
        chain.ask(
            "4",
            "tools/call",
            json!({"name": "ask", "arguments": {}, "requestState": "state of ask", "inputResponses": answers}),
        );
        let records = chain.records("tools/call");
        let kept = |record: &&Value| record["detail"].as_str().is_some_and(|detail| detail.contains("secret_plan"));
        assert!(records.iter().any(|record| kept(&record)), "{mode}: {records:?}");
    });
}

#[test]
fn a_task_tells_in_the_record_how_its_call_ended() {
    let mut chain = start("run", MODERN, OPEN);
    chain.call("1", "later", json!({"id": "t done"}));
    chain.ask("2", "tasks/get", json!({"taskId": "t done"}));
    let finished = || chain.records("tasks/get").into_iter().find(|record| record["phase"] == "finished");
    let record = until(PATIENCE, finished).expect("its end is recorded");
    assert_eq!((&record["reply"], &record["tool"]), (&json!("tool_error"), &json!("later")), "{record}");
    let begun = chain.records("tasks/get").into_iter().find(|record| record["phase"] == "decided").expect("its beginning, too");
    assert_eq!(record["id"], begun["id"], "both are of one request");
}

#[test]
fn a_subscription_is_left_without_what_its_client_may_not_have() {
    let policy = "version: \"1\"\nmethods: {resources/subscribe: deny}\n";
    in_every_mode(MODERN, policy, |mode, chain| {
        let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///a", "file:///b"], "taskIds": ["t 1"]});
        let messages = chain.exchange("1", "subscriptions/listen", json!({"notifications": wanted}));
        let arrived = &chain.requests("subscriptions/listen")[0]["params"]["notifications"];
        let expected = json!({"toolsListChanged": true, "resourceSubscriptions": [], "taskIds": ["t 1"]});
        assert_eq!(*arrived, expected, "{mode}: {messages:?}");
        let record = &chain.records("subscriptions/listen")[0];
        assert_eq!(record["detail"], "left out: resources", "{mode}: {record}");
    });
}

#[test]
fn a_task_of_the_legacy_era_goes_through() {
    in_every_mode(LEGACY, OPEN, |mode, chain| {
        let made = chain.ask("1", "tools/call", json!({"name": "later", "arguments": {"id": "task 1"}, "task": {"ttl": 1000}}));
        assert_eq!(made["result"]["task"]["taskId"], "task 1", "{mode}: {made}");
        let listed = chain.ask("2", "tasks/list", json!({}));
        assert_eq!(listed["result"]["tasks"].as_array().map(Vec::len), Some(2), "{mode}: {listed}");
        let reply = chain.ask("3", "tasks/result", json!({"taskId": "task 1"}));
        assert!(reply["result"].is_object(), "{mode}: {reply}");
    });
}

/// What a client says that makes a task of a sample, and tells how that goes.
fn with_tasks(question: &Value) -> Vec<Value> {
    let task = json!({"taskId": "of the client", "status": "working"});
    let answer = |result: Value| json!({"jsonrpc": "2.0", "id": question["id"], "result": result});
    match question["method"].as_str().unwrap_or_default() {
        "sampling/createMessage" => {
            let told = json!({"jsonrpc": "2.0", "method": "notifications/tasks/status", "params": task});
            vec![told, answer(json!({"task": task}))]
        }
        "tasks/list" => vec![answer(json!({"tasks": [task]}))],
        "tasks/result" => {
            vec![answer(json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "said it"}}))]
        }
        _ => vec![answer(task)],
    }
}

#[test]
fn a_server_asks_after_a_task_of_the_client_as_far_as_the_policy_allows() {
    const ASKED: [&str; 4] = ["tasks/get", "tasks/list", "tasks/result", "tasks/cancel"];
    const DENIES: &str = "version: \"1\"\nmethods: {tasks: deny, notifications/tasks/status: deny}\n";
    for (policy, is_allowed) in [(OPEN, true), (DENIES, false)] {
        in_every_mode(LEGACY, policy, |mode, chain| {
            let (questions, reply) = chain.converse("1", json!({"name": "ask", "arguments": {"what": "task"}}), with_tasks);
            let methods: Vec<_> = questions.iter().map(|question| question["method"].as_str().unwrap_or_default()).collect();
            let expected: Vec<_> =
                ["sampling/createMessage"].into_iter().chain(ASKED.into_iter().filter(|_| is_allowed)).collect();
            assert_eq!(methods, expected, "{mode}: {reply}");
            assert_eq!(questions[0]["params"]["task"]["ttl"], 60_000, "{mode}");
            let said = text_of(&reply).strip_prefix("answered ").unwrap_or_else(|| panic!("{mode}: {reply}"));
            let answers: Vec<Value> = serde_json::from_str(said).expect("a list");
            if is_allowed {
                assert_eq!(answers[0]["taskId"], "of the client", "{mode}: {said}");
                assert_eq!(answers[2]["content"]["text"], "said it", "{mode}: {said}");
            } else {
                assert!(answers.iter().all(|answer| answer["code"] == NOT_ALLOWED), "{mode}: {said}");
            }
            assert_eq!(chain.requests("notifications/tasks/status").len(), usize::from(is_allowed), "{mode}");
            for method in ASKED {
                let record = chain.records(method).pop().expect("a record");
                let (outcome, rule) = if is_allowed { ("allow", Value::Null) } else { ("deny", json!("/methods/tasks")) };
                assert_eq!((&record["outcome"], &record["rule"]), (&json!(outcome), &rule), "{mode} {method}: {record}");
            }
        });
    }
}
