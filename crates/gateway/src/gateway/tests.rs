use super::*;
use crate::config::ConfigFile;
use crate::enforcer::Facts;
use crate::ownership::{Purpose, Whose};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use mcp::{Message, Side};
use policy::{Outcome, Reason};
use scratch::Scratch;
use store::{Options, StateUrl};
use tokio::net::TcpListener;

const STRICT: &str = "version: \"1\"\ndefault: deny\n";
const OPEN: &str = "version: \"1\"\ndefault: allow\n";
const IDENTITY: &str = "{issuer: 'https://id.example', audience: us, jwks: 'https://id.example/keys', grants: [MAPPINGS]}";

/// A directory with a configuration, and a gateway that goes by it.
struct Stage {
    scratch: Scratch,
    gateway: Arc<Gateway>,
}

impl Stage {
    fn new(server: &str, policy: &str, grant: &str, mappings: &str) -> Stage {
        let scratch = Scratch::new();
        let config = config(&scratch, server, policy, grant, mappings);
        let store = Store::open(StateUrl::Memory, Options::default()).expect("memory is there");
        let gateway = Gateway::new(config, store, None, |_| None).expect("it can be used");
        Stage { scratch, gateway }
    }

    fn change(&self, server: &str, policy: &str, grant: &str, mappings: &str) {
        self.gateway.apply(config(&self.scratch, server, policy, grant, mappings)).expect("it can be used");
    }

    /// A caller who is let in now.
    fn caller(&self) -> Caller {
        let edition = self.gateway.in_force().snapshot.grants().named("ada").map(|grant| grant.edition);
        assert!(edition.is_some(), "there is such a grant");
        Caller { principal: "ada".into(), grant: "ada".into(), edition, ..Caller::default() }
    }

    fn server(&self) -> Arc<Server> {
        self.gateway.in_force().servers["web"].clone()
    }
}

fn config(scratch: &Scratch, server: &str, policy: &str, grant: &str, mappings: &str) -> Config {
    scratch.write("policy.yaml", policy);
    let identity = IDENTITY.replace("MAPPINGS", mappings);
    let text = format!(
        "servers:\n  web: {{{server}, policy: policy.yaml}}\ngrants:\n  - {{name: ada, principal: ada, servers: [web]{grant}}}\n\
         identity: {identity}\n"
    );
    let path = scratch.write("callgate.yaml", text);
    let file = ConfigFile::read(&path, &|_| None).expect("it can be read");
    let reports: Vec<String> = file.reports().iter().map(|report| report.render(false)).collect();
    file.into_config().unwrap_or_else(|| panic!("{reports:?}"))
}

/// What comes of a call of a tool.
async fn called(server: &Server, caller: &Caller) -> (Outcome, Reason) {
    let policies = server.enforcer.policies(caller);
    let decision = server.enforcer.decide(Facts::of("any", None), &policies, caller).await.decision;
    (decision.outcome, decision.reason)
}

/// Generous, for a loaded machine.
const SOON: Duration = Duration::from_secs(60);
const ALLOWED: (Outcome, Reason) = (Outcome::Allow, Reason::Allowed);
const ONE: &str = "url: 'http://127.0.0.1:9/one'";
const OTHER: &str = "url: 'http://127.0.0.1:9/other'";
const TOKEN: &str = ", token: 'sha256:0000000000000000000000000000000000000000000000000000000000000001'";
const ANOTHER: &str = ", token: 'sha256:0000000000000000000000000000000000000000000000000000000000000002'";
const STAFF: &str = "{grant: ada, claims: {scope: staff}}";

#[tokio::test]
async fn what_was_begun_before_a_server_is_not_judged_by_the_policy_of_the_next() {
    let stage = Stage::new(ONE, STRICT, TOKEN, STAFF);
    let (before, caller) = (stage.server(), stage.caller());
    assert_eq!(called(&before, &caller).await, (Outcome::Deny, Reason::Unlisted));
    stage.change(OTHER, OPEN, TOKEN, STAFF);
    assert_eq!(called(&before, &caller).await, (Outcome::Deny, Reason::ServerReplaced));
    assert!(!before.enforcer.policies(&caller).lists("any", None), "nor is anything listed");
    assert_eq!(called(&stage.server(), &caller).await, ALLOWED);
    // Back again it is another all the same: what was begun before the first has ended.
    stage.change(ONE, OPEN, TOKEN, STAFF);
    assert_eq!(called(&before, &caller).await, (Outcome::Deny, Reason::ServerReplaced));
}

#[tokio::test]
async fn what_waits_for_a_server_that_is_replaced_is_told_why() {
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"any"}}"#;
    let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    for (method, body) in [("POST", call), ("POST", note), ("GET", ""), ("DELETE", "")] {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("url: 'http://{}/mcp', bridge_eras: never", silent.local_addr().expect("an address"));
        let stage = Stage::new(&url, OPEN, TOKEN, STAFF);
        let (server, caller) = (stage.server(), stage.caller());
        let request = Request::builder().method(method).uri("/mcp").header("mcp-session-id", "a");
        let request = request.body(Bytes::from_static(body.as_bytes())).expect("it is one");
        let waiting = tokio::spawn(async move { server.handle(Endpoint::Mcp, request, &caller).await });
        let _connection = tokio::time::timeout(SOON, silent.accept()).await.expect("the server is asked");
        stage.change(OTHER, OPEN, TOKEN, STAFF);
        let response = tokio::time::timeout(SOON, waiting).await.expect("it waits no more").expect("no panic");
        assert_eq!(response.status(), 502, "{method} {body}");
        let Ok(told) = response.into_body().collect().await;
        let told = told.to_bytes();
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains("the configuration of this server has changed"), "{method} {body}: {told}");
    }
}

#[tokio::test]
async fn a_policy_alone_changes_under_what_goes_on() {
    let stage = Stage::new(ONE, STRICT, TOKEN, STAFF);
    let (server, caller) = (stage.server(), stage.caller());
    stage.change(ONE, OPEN, TOKEN, STAFF);
    assert!(Arc::ptr_eq(&server, &stage.server()));
    assert_eq!(called(&server, &caller).await, ALLOWED);
}

#[tokio::test]
async fn who_was_let_in_by_what_leads_to_a_grant_no_more_is_not_let_on() {
    for (grant, mappings) in [
        (ANOTHER, STAFF),
        ("", STAFF),
        (TOKEN, "{grant: ada, claims: {scope: admin}}"),
        (TOKEN, "{grant: ada, claims: {scope: staff, role: lead}}"),
    ] {
        let stage = Stage::new(ONE, OPEN, TOKEN, STAFF);
        let (server, caller) = (stage.server(), stage.caller());
        let ended = server.enforcer.end_of(&caller);
        stage.change(ONE, OPEN, grant, mappings);
        assert_eq!(called(&server, &caller).await, (Outcome::Deny, Reason::GrantEnded), "{grant} {mappings}");
        assert_eq!(called(&server, &stage.caller()).await, ALLOWED);
        tokio::time::timeout(SOON, ended).await.expect("it ends with the grant");
    }
}

#[tokio::test]
async fn another_way_to_a_grant_ends_nothing() {
    let stage = Stage::new(ONE, OPEN, TOKEN, STAFF);
    let (server, caller) = (stage.server(), stage.caller());
    stage.change(ONE, OPEN, TOKEN, &format!("{STAFF}, {{grant: ada, claims: {{scope: admin}}}}"));
    assert_eq!(called(&server, &caller).await, ALLOWED);
}

#[tokio::test]
async fn what_lets_callers_in_is_what_they_are_judged_by() {
    let stage = Stage::new(ONE, OPEN, TOKEN, STAFF);
    stage.change(OTHER, STRICT, ANOTHER, "{grant: ada, claims: {scope: admin}}");
    let in_force = stage.gateway.in_force();
    assert!(Arc::ptr_eq(&in_force.snapshot, &stage.gateway.current.snapshot()));
    let scopes = in_force.identity.as_ref().map(|identity| identity.scopes_for(|_| true));
    assert_eq!(scopes, Some(vec!["admin".to_owned()]));
}

/// Whether the server knows, if need be by the state, that it has made the task `5` and given the state `s` for the caller.
async fn knows(server: &Server, caller: &Caller) -> bool {
    let [call, get] = [CALL, r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"5"}}"#]
        .map(|text| Message::parse(text.to_owned(), Side::Client).expect("it is a request"));
    let enforcer = &server.enforcer;
    for message in [&call, &get] {
        enforcer.recall(message, caller).await;
    }
    let is_own = enforcer.owned().task(&caller.owner(), "5", enforcer.store().clock().now()) == Whose::Own("deploy".into());
    assert_eq!(is_own, !enforcer.is_unissued(&call, caller), "both or none");
    is_own
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"deploy","requestState":"s"}}"#;

#[tokio::test]
async fn what_a_server_has_issued_is_not_handed_to_another_of_its_name() {
    let stage = Stage::new(ONE, OPEN, TOKEN, STAFF);
    let (first, caller) = (stage.server(), stage.caller());
    let call = Message::parse(CALL.to_owned(), Side::Client).expect("it is a request");
    let purpose = Purpose::of(&call).expect("it may be interrupted");
    first.enforcer.issue(&caller, &purpose, Some("s"), Some("5")).await;
    assert!(knows(&first, &caller).await);
    let another = [OTHER.to_owned(), format!("{ONE}, isolation: shared"), "command: [web]".to_owned()];
    for server in &another {
        stage.change(server, OPEN, TOKEN, STAFF);
        assert!(!knows(&stage.server(), &caller).await, "{server}");
    }
    // What is only waited for longer, or was away for a while, is the same server.
    for server in [&format!("{ONE}, timeout: 7s"), ONE] {
        stage.change(server, OPEN, TOKEN, STAFF);
        let now = stage.server();
        assert!(!Arc::ptr_eq(&first, &now) && knows(&now, &caller).await, "{server}");
    }
}
