//! The extensions by which a server is called: who vouches for callers, which workload the gateway is, whose key a token is for.

use super::*;
use std::collections::HashSet;
use support::authority::{ID_JAG, said};

/// Callers show ID tokens of an identity provider, which vouches for them at the server's authorization server.
const MANAGED: &str = "{flow: enterprise_managed, client_id: the-gateway, client_secret: 'env:SECRET', \
     identity_provider: {client_id: the-gateway, client_secret: 'env:SECRET'}}";

fn managed(provider: &Authority) -> Stage {
    let identity = IDENTITY.replace("claims: {}", "claims: {sub: [bob]}").replace("ISSUER", &provider.origin);
    Stage::with(MANAGED, &identity.replace("  audience", "  types: [JWT]\n  audience"))
}

fn id_token(provider: &Authority, subject: &str) -> String {
    provider.signed("JWT", json!({"aud": "https://mcp.example.org", "sub": subject}))
}

#[test]
fn an_identity_provider_vouches_for_callers_at_the_servers_authorization_server() {
    let provider = Authority::start();
    let stage = managed(&provider);
    let shown = ["ada", "bob"].map(|subject| id_token(&provider, subject));
    let callers = shown.clone().map(|token| stage.caller(&token).shake_hands());
    for round in 0..2 {
        for (client, subject) in callers.iter().zip(["ada", "bob"]) {
            assert_eq!(text_of(&client.call(&round.to_string(), "whoami", json!({}))), subject);
        }
    }
    let exchanged = provider.asked("/token");
    assert_eq!(exchanged.len(), 2, "one for each subject");
    let form = &exchanged[0].form;
    assert!(shown.contains(&form["subject_token"]));
    assert_eq!(form["subject_token_type"], "urn:ietf:params:oauth:token-type:id_token");
    assert_eq!((form["requested_token_type"].as_str(), &form["audience"]), (ID_JAG, &stage.authority.origin));
    assert_eq!((&form["resource"], form["scope"].as_str()), (&stage.authority.url(), "use"));
    let given = stage.authority.asked("/token");
    assert_eq!((given.len(), given[0].form["grant_type"].as_str()), (2, "urn:ietf:params:oauth:grant-type:jwt-bearer"));
    assert_eq!(said(&given[0].form["assertion"], 1)["iss"], provider.origin);
    // What callers show is for their identity provider alone.
    assert!(given.iter().all(|asked| !shown.iter().any(|token| asked.form.values().any(|value| value == token))));
    for sent in stage.authority.asked("/mcp").iter().filter_map(|asked| asked.authorization.as_ref()) {
        assert!(sent.starts_with("Bearer canary-access-"), "{sent}");
    }
    // Nobody vouches for who has shown nothing.
    let why = initialize(&stage.ada())["error"]["message"].as_str().unwrap().to_owned();
    assert!(why.contains("show an ID token"), "{why}");
    stage.has_kept_quiet();
    let log = stage.gate.as_ref().unwrap().stderr.lock().unwrap().clone();
    assert!(!log.contains("eyJ"), "{log}");
}

#[test]
fn nobody_is_vouched_for_at_an_authorization_server_that_is_named_later() {
    let provider = Authority::start();
    let mut stage = managed(&provider);
    let shown = id_token(&provider, "ada");
    assert_eq!(text_of(&stage.caller(&shown).shake_hands().call("1", "whoami", json!({}))), "ada");
    let other = Authority::start();
    stage.authority.lock().names.clone_from(&other.origin);
    stage.start();
    let why = initialize(&stage.caller(&shown))["error"]["message"].as_str().unwrap().to_owned();
    assert!(why.contains("no access token"), "{why}");
    assert_eq!(provider.asked("/token").len(), 1, "the identity provider is not asked to");
    assert!(other.asked("/token").is_empty());
}

#[test]
fn what_is_good_for_more_than_one_server_goes_to_none() {
    let provider = Authority::start();
    provider.lock().vouches_by = "urn:ietf:params:oauth:token-type:access_token";
    let stage = managed(&provider);
    let why = initialize(&stage.caller(&id_token(&provider, "ada")))["error"]["message"].as_str().unwrap().to_owned();
    assert!(why.contains("no access token"), "{why}");
    assert!(stage.authority.asked("/token").is_empty());
}

#[test]
fn a_token_that_says_less_is_not_served_with_what_one_that_says_more_has_got() {
    for isolation in ["session", "principal"] {
        let identity = IDENTITY.replace("claims: {}", "claims: {sub: [bob]}");
        let stage = Stage::with(&format!("{EXCHANGE}\n    isolation: {isolation}"), &identity);
        let token = |scope: &str, id: &str| {
            let claims = json!({"aud": "https://mcp.example.org", "sub": "ada", "scope": scope, "jti": id});
            stage.authority.signed("at+jwt", claims)
        };
        let exchanged = || stage.authority.asked("/token").len();
        let call = |client: &Client| client.ask("1", "tools/call", json!({"name": "whoami", "arguments": {}}));
        let modern = |token: &str| {
            let client = Client::silent(stage.address(), MODERN).at("/mcp/web", token);
            text_of(&call(&client).reply("1")).to_owned()
        };
        let session = stage.caller(&token("read write", "1")).shake_hands();
        assert_eq!(text_of(&session.call("1", "whoami", json!({}))), "ada");
        assert_eq!(modern(&token("read write", "2")), "ada");
        assert_eq!(exchanged(), 1, "the same authority, renewed");
        assert_eq!(modern(&token("read", "3")), "ada");
        assert_eq!(exchanged(), 2);
        // A session goes on with a token that was renewed.
        let with = |token: String| Client { token: Some(token), ..session.clone() };
        assert_eq!(text_of(&with(token("read write", "4")).call("2", "whoami", json!({}))), "ada");
        // It does not with one that says less, or not by what the other has got.
        let by_more = || stage.authority.called_with().iter().filter(|sent| *sent == "Bearer canary-access-1").count();
        let before = by_more();
        call(&with(token("read", "5")));
        assert_eq!((by_more(), exchanged()), (before, 2), "{isolation}");
    }
}

#[test]
fn a_workload_shows_what_its_platform_says_of_it() {
    let platform = Authority::start();
    let directory = Scratch::new();
    let place = directory.write("assertion", platform.signed("JWT", json!({"aud": "https://elsewhere"})));
    let mut stage = Stage::new(&format!("{{flow: workload_identity, assertion: 'file:{}'}}", place.display()));
    let says = |audience: &str, id: &str| {
        let assertion = platform.signed("JWT", json!({"aud": audience, "sub": "workload", "jti": id}));
        directory.write("assertion", format!("{assertion}\n"));
        assertion
    };
    // Whatever a server names, what is for somebody else is not shown there.
    let why = initialize(&stage.ada())["error"]["message"].as_str().unwrap().to_owned();
    assert!(why.contains("no access token") && stage.authority.asked("/token").is_empty(), "{why}");
    let log = stage.gate.as_ref().unwrap().stderr.lock().unwrap().clone();
    assert!(log.contains("for another audience") && !log.contains("eyJ"), "{log}");
    // The platform writes another one: the next request is made with that.
    let mut shown = Vec::new();
    for id in ["1", "2"] {
        shown.push(says(&stage.authority.origin, id));
        stage.start();
        assert_eq!(text_of(&stage.ada().shake_hands().call("1", "whoami", json!({}))), "workload");
    }
    shown.push(says(&stage.authority.origin, "3"));
    stage.authority.lock().tokens.clear();
    let client = stage.ada();
    until(PATIENCE, || initialize(&client)["result"].is_object().then_some(()))
        .expect("it goes on with a file that was replaced");
    let asked = stage.authority.asked("/token");
    assert!(asked.iter().all(|asked| asked.form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"), "{asked:?}");
    assert!(asked.iter().all(|asked| !asked.form.contains_key("client_id") && asked.authorization.is_none()), "{asked:?}");
    assert_eq!(asked.iter().map(|asked| asked.form["assertion"].clone()).collect::<Vec<_>>(), shown);
    stage.has_kept_quiet();
}

#[test]
fn a_client_is_known_by_what_its_platform_says_of_it() {
    let platform = Authority::start();
    let directory = Scratch::new();
    let assertion = platform.signed("JWT", json!({"aud": "api://AzureADTokenExchange", "sub": "workload"}));
    let place = directory.write("assertion", &assertion);
    let flow = format!("flow: client_credentials, client_id: us, client_assertion: 'file:{}'", place.display());
    // Its audience is a name of the authorization server's choosing: then the operator says who that is.
    let stage = Stage::new(&format!("{{{flow}, issuer: ISSUER, scope: [use]}}"));
    assert_eq!(text_of(&stage.ada().shake_hands().call("1", "whoami", json!({}))), "the-gateway");
    let asked = stage.authority.asked("/token").remove(0).form;
    assert_eq!((asked["client_assertion"].as_str(), asked["client_id"].as_str()), (assertion.as_str(), "us"));
    let stage = Stage::new(&format!("{{{flow}}}"));
    initialize(&stage.ada());
    assert!(stage.authority.asked("/token").is_empty(), "it is not shown to whom a server names");
    stage.has_kept_quiet();
}

/// How the server was called: by the scheme and how often with each token.
fn schemes(authority: &Authority) -> HashSet<String> {
    authority.called_with().iter().map(|sent| sent.split(' ').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn tokens_are_bound_to_a_key_of_the_gateways_where_both_servers_know_that() {
    // Where the operator has named the authorization server, the server is not asked what it takes.
    let exchange = EXCHANGE.replace("{flow", "{dpop: true, flow");
    for (flow, more) in [(OWN, ""), (&exchange, IDENTITY)] {
        let stage = Stage::with(flow, &more.replace("claims: {}", "claims: {sub: [bob]}"));
        {
            let mut behaves = stage.authority.lock();
            (behaves.binds, behaves.nonce) = ((true, true), Some("first".to_owned()));
        }
        let shown = stage.authority.token_for_gateway("ada");
        let subject = if more.is_empty() { "the-gateway" } else { "ada" };
        let client = stage.caller(if more.is_empty() { TOKENS[0].1 } else { &shown }).shake_hands();
        let asked = |path: &str| stage.authority.asked(path).len();
        assert_eq!(text_of(&client.call("1", "whoami", json!({}))), subject);
        assert_eq!(asked("/token"), 2, "once without knowing what is to be repeated");
        // From then on it is known; another is taken up when it is asked for, with the same token.
        let before = asked("/mcp");
        assert_eq!(text_of(&client.call("2", "whoami", json!({}))), subject);
        assert_eq!(asked("/mcp"), before + 1);
        stage.authority.lock().nonce = Some("second".to_owned());
        assert_eq!(text_of(&client.call("3", "whoami", json!({}))), subject);
        assert_eq!((asked("/mcp"), asked("/token")), (before + 3, 2));
        assert_eq!(schemes(&stage.authority), HashSet::from(["DPoP".to_owned()]));
        stage.has_kept_quiet();
    }
}

#[test]
fn what_a_user_authorises_stays_bound_to_its_key() {
    let mut stage = Stage::with(USER, SEALED);
    {
        let mut behaves = stage.authority.lock();
        (behaves.binds, behaves.lasts, behaves.nonce) = ((true, true), 2, Some("first".to_owned()));
    }
    authorise(&stage.ada());
    stage.refreshes(&stage.ada().shake_hands(), 1);
    // The key outlives the gateway, sealed with the tokens.
    stage.start();
    stage.refreshes(&stage.ada().shake_hands(), 2);
    assert_eq!(schemes(&stage.authority), HashSet::from(["DPoP".to_owned()]));
    stage.has_kept_quiet();
}

#[test]
fn whether_tokens_are_bound_can_be_said() {
    let with = |flow: &str, binds: (bool, bool)| {
        let stage = Stage::new(flow);
        stage.authority.lock().binds = binds;
        stage
    };
    let called = |stage: &Stage| text_of(&stage.ada().shake_hands().call("1", "whoami", json!({}))).to_owned();
    // A server that says nothing of it might not take such tokens.
    let stage = with(OWN, (true, false));
    assert_eq!((called(&stage).as_str(), schemes(&stage.authority)), ("the-gateway", HashSet::from(["Bearer".to_owned()])));
    // Where the operator wants them, others are not used.
    let always = OWN.replace("{flow", "{dpop: true, flow");
    let stage = with(&always, (true, true));
    assert_eq!((called(&stage).as_str(), schemes(&stage.authority)), ("the-gateway", HashSet::from(["DPoP".to_owned()])));
    let stage = with(&always, (false, false));
    let why = initialize(&stage.ada())["error"]["message"].as_str().unwrap().to_owned();
    assert!(why.contains("no access token") && schemes(&stage.authority).is_empty(), "{why}");
    let log = stage.gate.as_ref().unwrap().stderr.lock().unwrap().clone();
    assert!(log.contains("not bound to the gateway's key"), "{log}");
}
