//! Two callers before one server: what is issued to the one is no use to the other.

use super::{Expected, Gate, Hears, Judged};
use crate::enforcer::{Caller, Enforcer, Facts};
use crate::refusal::is_modern;
use crate::tools::{LiveTools, Schemas};
use bytes::Bytes;
use mcp::{Id, Message, Side};
use policy::{Reason, Source, load};
use serde_json::{Value, json};
use std::sync::Arc;
use store::{Answer, ArgumentsMode, Options, StateUrl, Store};

struct Rig {
    enforcer: Arc<Enforcer>,
}

impl Rig {
    fn new(policy: &str) -> Rig {
        let loaded = load(&Source::new("p.yaml", format!("version: \"1\"\n{policy}\n")));
        let policy = Arc::new(loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.problems)));
        let store = Store::open(StateUrl::Memory, Options::default()).unwrap();
        Rig { enforcer: Enforcer::new(store, "s", ArgumentsMode::Full, policy) }
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
            who => Caller { principal: who.into(), grant: format!("{who}'s"), session: None, subject: None },
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

    /// Sends a request; where it passes, the server answers `result`. Gives what the client is told, and what was sent.
    async fn ask(&self, who: &str, method: &str, params: Value, result: Value) -> (Value, Option<Value>) {
        let gate = self.gate(who);
        let text = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let message = Message::parse(text, Side::Client).unwrap();
        let (method, modern) = (method.to_owned(), is_modern(&message));
        let told = |body: Bytes| serde_json::from_slice(&body).unwrap();
        match gate.judge(message).await {
            Judged::Pass(permit) => {
                let sent = told(permit.text().clone());
                let reply = json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string();
                let reply = Message::parse(reply, Side::Server).unwrap();
                let expected =
                    Expected { method, modern, ticket: permit.into_ticket(), opens_urls: false, hears: Hears::Nothing };
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
