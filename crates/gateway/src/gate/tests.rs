//! Two callers before one server: what is issued to the one is no use to the other.

use super::{Expected, Gate, Judged};
use crate::enforcer::{Caller, Enforcer, Facts, MOST_NAMED};
use crate::ownership::Whose;
use crate::tools::{LiveTools, Schemas};
use bytes::Bytes;
use mcp::{Id, Message, Side};
use policy::{Policy, Reason, Source, load};
use serde_json::{Value, json};
use std::sync::Arc;
use store::{Answer, ArgumentsMode, Options, StateUrl, Store};

struct Rig {
    enforcer: Arc<Enforcer>,
}

impl Rig {
    fn new(policy: &str) -> Rig {
        Rig::on(Store::open(StateUrl::Memory, Options::default()).unwrap(), Rig::policy(policy))
    }

    /// Another gateway before the same server, with another policy.
    fn beside(&self, policy: &str) -> Rig {
        Rig::on(self.enforcer.store().clone(), Rig::policy(policy))
    }

    fn policy(text: &str) -> Arc<Policy> {
        let loaded = load(&Source::new("p.yaml", format!("version: \"1\"\n{text}\n")));
        Arc::new(loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.problems)))
    }

    fn on(store: Store, policy: Arc<Policy>) -> Rig {
        let enforcer = Enforcer::new(store, "s", ArgumentsMode::Full, policy);
        enforcer.stand_before("the one server".to_owned());
        Rig { enforcer }
    }

    /// Judges a call of `pay` under this definition of the tool; gives the reason, and the approval that is asked for.
    async fn pay(&self, definition: Option<&str>) -> (Reason, Option<String>) {
        let document = json::Document::parse(r#"{"amount":1}"#.to_owned(), json::Strictness::Request).unwrap();
        let facts = Facts { definition: definition.map(str::to_owned), ..Facts::of("pay", Some(document.root())) };
        let caller = Caller::local(None);
        let decided = self.enforcer.decide(facts, &self.enforcer.policies(&caller), &caller).await;
        (decided.decision.reason, decided.waiting.map(|waiting| waiting.approval.id))
    }

    fn gate(&self, who: &str) -> Gate {
        let schemas = Schemas { tools: Arc::<LiveTools>::default(), ask: Arc::new(|_| Box::pin(async { None })) };
        let caller = match who {
            "local" => Caller::local(None),
            who => Caller { principal: who.into(), grant: format!("{who}'s"), ..Caller::default() },
        };
        Gate {
            enforcer: self.enforcer.clone(),
            caller,
            schemas,
            over_http: false,
            stateless: false,
            elicits: false,
            opens_urls: false,
        }
    }

    /// Sends a request that passes; gives what the client is told where this is the server's reply.
    async fn settle(&self, method: &str, params: Value, reply: &Value) -> Value {
        let gate = self.gate("ada");
        let text = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let message = Message::parse(text, Side::Client).unwrap();
        let expected = gate.expects(&message);
        let Judged::Pass(permit) = gate.judge(message).await else { panic!("it is allowed") };
        let reply = Message::parse(reply.to_string(), Side::Server).unwrap();
        let told = gate.settle(Expected { ticket: permit.into_ticket(), ..expected }, &reply, &Id::from(1)).await;
        serde_json::from_slice(&told).unwrap()
    }

    /// Sends a request; where it passes, the server answers `result`. Gives what the client is told, and what was sent.
    async fn ask(&self, who: &str, method: &str, params: Value, result: Value) -> (Value, Option<Value>) {
        let gate = self.gate(who);
        let text = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let message = Message::parse(text, Side::Client).unwrap();
        let expected = gate.expects(&message);
        let told = |body: Bytes| serde_json::from_slice(&body).unwrap();
        match gate.judge(message).await {
            Judged::Pass(permit) => {
                let sent = told(permit.text().clone());
                let reply = json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string();
                let reply = Message::parse(reply, Side::Server).unwrap();
                let expected = Expected { ticket: permit.into_ticket(), ..expected };
                (told(gate.settle(expected, &reply, &Id::from(1)).await), Some(sent))
            }
            Judged::Answer(answer) => (told(answer.body), None),
            Judged::Held(_) => panic!("no policy here asks"),
            Judged::Refused(malformed) => (told(malformed.error()), None),
        }
    }
}

fn reason(told: &Value) -> &str {
    told["error"]["data"]["dev.callgate/decision"]["reason"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_state_of_one_is_refused_from_another() {
    let rig = Rig::new("tools: {}");
    let call = |state: Option<&str>| {
        let mut params = json!({"name": "pay", "arguments": {"to": "ada", "n": 1}});
        if let Some(state) = state {
            params["requestState"] = json!(state);
        }
        params
    };
    let asks = json!({"resultType": "input_required", "requestState": "s1"});
    rig.ask("ada", "tools/call", call(None), asks).await;
    let (told, sent) = rig.ask("bob", "tools/call", call(Some("s1")), json!({})).await;
    assert_eq!((reason(&told), sent), ("unknown-state", None), "{told}");
    let (told, sent) = rig.ask("ada", "tools/call", call(Some("s1")), json!({"content": []})).await;
    assert!(told["result"].is_object() && sent.unwrap()["params"]["requestState"] == "s1", "{told}");
}

#[tokio::test]
async fn a_denial_of_the_policy_comes_before_one_of_a_state() {
    let rig = Rig::new("hide: [pay]");
    let (told, _) = rig.ask("ada", "tools/call", json!({"name": "pay", "requestState": "made up"}), json!({})).await;
    assert_eq!(told["result"]["_meta"]["dev.callgate/decision"]["reason"], "hidden", "{told}");
}

#[tokio::test]
async fn a_task_of_one_is_unknown_to_another() {
    let rig = Rig::new("tools: {}");
    let later = json!({"resultType": "task", "taskId": "t", "status": "working"});
    rig.ask("ada", "tools/call", json!({"name": "later"}), later).await;
    for method in mcp::TASK_METHODS {
        let params = json!({"taskId": "t", "inputResponses": {}});
        let (told, sent) = rig.ask("bob", method, params.clone(), json!({})).await;
        assert_eq!((reason(&told), &told["error"]["code"], sent), ("unknown-task", &json!(-32602), None), "{method}: {told}");
        let (told, _) = rig.ask("ada", method, params, json!({})).await;
        assert!(told["result"].is_object(), "{method}: {told}");
    }
}

#[tokio::test]
async fn what_is_denied_anyway_is_not_looked_up() {
    let (rig, later) = (Rig::new("tools: {}"), json!({"resultType": "task", "taskId": "t", "status": "working"}));
    rig.ask("ada", "tools/call", json!({"name": "later"}), later).await;
    let other = rig.beside("methods: {tasks/get: deny}");
    let known = || other.enforcer.owned().task(&other.gate("ada").caller.owner(), "t", other.enforcer.store().clock().now());
    let (told, _) = other.ask("ada", "tasks/get", json!({"taskId": "t"}), json!({})).await;
    assert_eq!((reason(&told), known()), ("method-refused", Whose::Unknown), "{told}");
    let (told, _) = other.ask("ada", "tasks/cancel", json!({"taskId": "t"}), json!({})).await;
    assert_eq!((told["result"].is_object(), known()), (true, Whose::Own("later".into())), "{told}");
}

#[tokio::test]
async fn only_so_many_tasks_of_one_message_are_looked_up() {
    let rig = Rig::new("tools: {}");
    let tasks: Vec<String> = (0..MOST_NAMED + 4).map(|number| format!("t{number}")).collect();
    for task in &tasks {
        rig.ask("ada", "tools/call", json!({"name": "later", "task": {}}), json!({"task": {"taskId": task}})).await;
    }
    let wanted = json!({"notifications": {"taskIds": tasks}});
    let (_, sent) = rig.beside("tools: {}").ask("ada", "subscriptions/listen", wanted.clone(), json!({})).await;
    assert_eq!(sent.unwrap()["params"]["notifications"]["taskIds"], json!(tasks[..MOST_NAMED]));
    let (_, sent) = rig.ask("ada", "subscriptions/listen", wanted, json!({})).await;
    assert_eq!(sent.unwrap()["params"]["notifications"]["taskIds"], json!(tasks), "what is known here needs no looking up");
}

#[tokio::test]
async fn lists_and_subscriptions_hold_the_callers_own_tasks_only() {
    let rig = Rig::new("tools: {}");
    for (who, task) in [("ada", "a"), ("bob", "b")] {
        rig.ask(who, "tools/call", json!({"name": "later", "task": {}}), json!({"task": {"taskId": task}})).await;
    }
    let all = json!({"tasks": [{"taskId": "a"}, {"taskId": "b"}, {"taskId": "of another process"}]});
    let (told, _) = rig.ask("ada", "tasks/list", json!({}), all.clone()).await;
    assert_eq!(told["result"]["tasks"], json!([{"taskId": "a"}]));
    let wanted = json!({"notifications": {"taskIds": ["b", "a"], "toolsListChanged": true}});
    let (_, sent) = rig.ask("ada", "subscriptions/listen", wanted, json!({})).await;
    assert_eq!(sent.unwrap()["params"]["notifications"], json!({"taskIds": ["a"], "toolsListChanged": true}));
    // Where there is one caller only, what nobody remembers can be nobody else's.
    let (told, _) = rig.ask("local", "tasks/list", json!({}), all).await;
    assert_eq!(told["result"]["tasks"], json!([{"taskId": "of another process"}]));
}

#[tokio::test]
async fn what_the_tasks_of_others_say_withholds_nothing() {
    let rig = Rig::new("results: {withhold: [{matches: gone}]}");
    rig.ask("ada", "tools/call", json!({"name": "later", "task": {}}), json!({"task": {"taskId": "a"}})).await;
    let all = json!({"tasks": [{"taskId": "a"}, {"taskId": "b", "statusMessage": "gone"}]});
    let (told, _) = rig.ask("ada", "tasks/list", json!({}), all).await;
    assert_eq!(told["result"]["tasks"], json!([{"taskId": "a"}]), "{told}");
}

#[tokio::test]
async fn a_subscription_that_only_looks_like_one_is_refused() {
    let rig = Rig::new("methods: {resources/subscribe: deny}");
    let wanted = json!({"notifications": {"ResourceSubscriptions": ["file:///a"]}});
    let (told, sent) = rig.ask("ada", "subscriptions/listen", wanted, json!({})).await;
    assert_eq!((&told["error"]["code"], sent), (&json!(-32602), None), "{told}");
}

#[tokio::test]
async fn what_cannot_be_read_of_what_a_server_asks_is_withheld() {
    let rig = Rig::new("tools: {}");
    let doubtful = json!({"resultType": "input_required", "inputRequests": [{"method": "sampling/createMessage"}]});
    let (told, _) = rig.ask("ada", "tools/call", json!({"name": "t"}), doubtful).await;
    assert_eq!(reason(&told), "server-request-refused", "{told}");
}

#[tokio::test]
async fn an_approval_is_for_the_definition_that_was_listed_when_it_was_asked_for() {
    let rig = Rig::new("tools: {pay: {action: require_approval}}");
    let (harmless, changed) = (Some(r#"{"name":"pay"}"#), Some(r#"{"name":"pay","description":"and tell"}"#));
    let (reason, asked) = rig.pay(harmless).await;
    assert_eq!(reason, Reason::ApprovalRequired);
    rig.enforcer.store().answer(&asked.unwrap(), Answer::Approve, "bob").await.unwrap();
    for other in [changed, None] {
        assert_eq!(rig.pay(other).await.0, Reason::ApprovalRequired, "{other:?}");
    }
    assert_eq!(rig.pay(harmless).await.0, Reason::Allowed);
}

fn records(rig: &Rig) -> Vec<Value> {
    let reader = rig.enforcer.store().reader().unwrap();
    let rows = reader.list(&store::Filter::default()).unwrap();
    rows.map(|row| serde_json::from_str(&row.unwrap().body).unwrap()).collect()
}

const SECRET: &str = "AKIAIOSFODNN7EXAMPLE";
const REDACTED: &str = "[redacted: aws-key]";

#[tokio::test]
async fn a_result_is_judged_by_what_is_said_of_its_tool() {
    let rig = Rig::new("tools: {pay: {results: {secrets: redact}}, get: {results: {withhold: [{matches: AKIA, name: keys}]}}}");
    let result = json!({"content": [{"type": "text", "text": SECRET}], "structuredContent": {"key": SECRET}});
    let (told, _) = rig.ask("ada", "tools/call", json!({"name": "pay"}), result.clone()).await;
    assert_eq!(
        (&told["result"]["content"][0]["text"], &told["result"]["structuredContent"]["key"]),
        (&json!(REDACTED), &json!(REDACTED))
    );
    let (told, _) = rig.ask("ada", "tools/call", json!({"name": "get"}), result.clone()).await;
    let decision = &told["result"]["_meta"]["dev.callgate/decision"];
    assert_eq!(
        (&decision["reason"], &decision["rule"], &told["result"]["isError"]),
        (&json!("result-withheld"), &json!("keys"), &json!(true))
    );
    let (told, _) = rig.ask("ada", "tools/call", json!({"name": "other"}), result.clone()).await;
    assert_eq!(told["result"], result);
    let records = records(&rig);
    let of = |tool: &str| records.iter().find(|record| record["phase"] == "finished" && record["tool"] == tool).unwrap().clone();
    assert_eq!((&of("pay")["reply"], &of("pay")["detail"]), (&json!("completed"), &json!("changed: aws-key 2")));
    let withheld = of("get");
    assert_eq!(
        (&withheld["reply"], &withheld["rule"], &withheld["reason"]),
        (&json!("withheld"), &json!("keys"), &json!("result-withheld"))
    );
    assert!(!records.iter().any(|record| record.to_string().contains(SECRET)));
}

#[tokio::test]
async fn the_result_of_a_task_is_judged_by_the_tool_that_made_it() {
    let rig = Rig::new("tools: {pay: {results: {secrets: redact}}, later: {results: {redact: [{matches: none}]}}}");
    let content = json!({"content": [{"type": "text", "text": SECRET}]});
    for tool in ["pay", "later"] {
        rig.ask("ada", "tools/call", json!({"name": tool}), json!({"resultType": "task", "taskId": tool, "status": "working"}))
            .await;
    }
    let text = async |task: &str| {
        let (told, _) = rig.ask("local", "tasks/result", json!({"taskId": task}), content.clone()).await;
        told["result"]["content"][0]["text"].clone()
    };
    // Nobody remembers of which tool it is: then all that is said of any holds.
    assert_eq!(text("unknown").await, REDACTED);
    let (told, _) = rig.ask("ada", "tasks/result", json!({"taskId": "pay"}), content.clone()).await;
    assert_eq!(told["result"]["content"][0]["text"], REDACTED);
    let (told, _) = rig.ask("ada", "tasks/get", json!({"taskId": "later"}), json!({"result": content})).await;
    assert_eq!(told["result"]["result"]["content"][0]["text"], SECRET);
}

#[tokio::test]
async fn the_section_of_the_file_holds_for_all_that_is_answered() {
    let rig = Rig::new("results: {secrets: redact, withhold: [{matches: gone}]}");
    for (method, params) in
        [("resources/read", json!({"uri": "a:b"})), ("prompts/get", json!({"name": "p"})), ("tools/call", json!({"name": "t"}))]
    {
        let (told, _) = rig.ask("ada", method, params.clone(), json!({"text": SECRET})).await;
        assert_eq!(told["result"]["text"], REDACTED, "{method}");
        let (told, _) = rig.ask("ada", method, params, json!({"text": "gone"})).await;
        let decision =
            told["error"]["data"].get("dev.callgate/decision").or(told["result"]["_meta"].get("dev.callgate/decision"));
        assert_eq!(decision.unwrap()["reason"], "result-withheld", "{method}: {told}");
    }
    let list = json!({"tools": [{"name": "t", "description": SECRET}]});
    let (told, _) = rig.ask("ada", "tools/list", json!({}), list.clone()).await;
    assert_eq!(told["result"]["tools"], list["tools"], "what a server says of itself is a matter of `definitions`");
}

#[tokio::test]
async fn what_servers_say_by_themselves_is_judged_by_every_section() {
    let rig = Rig::new("tools: {pay: {results: {secrets: redact}}, get: {results: {withhold: [{matches: gone}]}}}");
    let said = |text: &str| {
        let params = json!({"progressToken": 1, "progress": 1, "message": text});
        let notice = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
        let passed = rig.gate("ada").screen_notice(Message::parse(notice.to_string(), Side::Server).unwrap());
        passed.map(|passed| serde_json::from_slice::<Value>(passed.text()).unwrap()["params"]["message"].clone())
    };
    assert_eq!((said("half"), said(SECRET), said("gone")), (Some(json!("half")), Some(json!(REDACTED)), None));
    assert_eq!(said(&"x".repeat(300_000)), None, "it would keep others waiting");
    let asks = async |text: &str| {
        let params = json!({"message": text, "requestedSchema": {"type": "object"}});
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": params});
        rig.gate("ada")
            .screen_request(Message::parse(request.to_string(), Side::Server).unwrap())
            .await
            .map(|passed| passed.text().clone())
    };
    assert!(String::from_utf8_lossy(&asks(SECRET).await.unwrap()).contains(REDACTED));
    assert!(String::from_utf8_lossy(&asks("gone").await.unwrap_err()).contains("withheld"));
    assert!(asks(&"x".repeat(300_000)).await.is_ok());
}

#[tokio::test]
async fn a_result_that_would_be_withheld_passes_in_shadow_mode_and_is_noted() {
    let rig = Rig::new("tools: {get: {mode: shadow, results: {withhold: [{matches: gone, name: n}]}}}");
    let (told, _) = rig.ask("ada", "tools/call", json!({"name": "get"}), json!({"content": [], "x": "gone"})).await;
    assert_eq!(told["result"]["x"], "gone");
    let records = records(&rig);
    let shadow = &records.iter().find(|record| record["phase"] == "finished").unwrap()["shadow"];
    assert_eq!((&shadow["reason"], &shadow["rule"]), (&json!("result-withheld"), &json!("n")));
}

#[tokio::test]
async fn a_long_result_is_judged_like_a_short_one() {
    let rig = Rig::new("tools: {get: {results: {secrets: redact, max_bytes: 1MB}}}");
    let result = |length: usize| json!({"a": "x".repeat(length), "b": SECRET});
    let (told, _) = rig.ask("ada", "tools/call", json!({"name": "get"}), result(500_000)).await;
    assert_eq!(told["result"]["b"], REDACTED);
    let (told, _) = rig.ask("ada", "tools/call", json!({"name": "get"}), result(1_000_000)).await;
    assert_eq!(told["result"]["_meta"]["dev.callgate/decision"]["rule"], "/tools/get/results/max_bytes");
}

#[tokio::test]
async fn what_stands_beside_a_result_is_judged_and_measured() {
    let rig = Rig::new("tools: {get: {results: {secrets: redact, max_bytes: 1KB}}}");
    let settled = async |beside: &str| {
        let reply = json!({"jsonrpc": "2.0", "id": 1, "result": {}, "params": {"a": beside}, "b": beside});
        rig.settle("tools/call", json!({"name": "get"}), &reply).await
    };
    let told = settled(SECRET).await;
    assert_eq!((&told["params"]["a"], &told["b"]), (&json!(REDACTED), &json!(REDACTED)));
    let told = settled(&"x".repeat(600)).await;
    assert_eq!(told["result"]["_meta"]["dev.callgate/decision"]["rule"], "/tools/get/results/max_bytes");
}

#[tokio::test]
async fn errors_of_lists_are_judged_as_other_answers_are() {
    let rig = Rig::new("results: {secrets: redact}");
    for method in ["tools/list", "prompts/list"] {
        let error = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": SECRET}});
        let told = rig.settle(method, json!({}), &error).await;
        assert_eq!(told["error"]["message"], REDACTED, "{method}");
    }
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    let gate = rig.gate("ada");
    let expected = gate.expects(&Message::parse(message, Side::Client).unwrap());
    assert_eq!(gate.screen_body(&expected, Bytes::from(format!("[\"{SECRET}\"]"))), "");
}
