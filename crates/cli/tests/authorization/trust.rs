//! Who is believed, and whose authority goes where.

use super::*;

const NAMESAKE: &str = "identity:\n  issuer: ISSUER\n  audience: https://mcp.example.org\n  grants:\n    \
     - {grant: ada, claims: {sub: ['person:ada']}, principal: sub}\n";

/// A call of a client of either era, whatever comes of it.
fn whoami(client: &Client, tool: &str) -> Value {
    client.ask("7", "tools/call", json!({"name": tool, "arguments": {}})).reply("7")
}

/// Whether an answer says nothing of whom it was made for, but that nothing was shown.
#[track_caller]
fn is_turned_away(reply: &Value) {
    assert!(reply.to_string().contains("show an access token"), "{reply}");
}

#[test]
fn a_grants_own_token_is_not_served_with_what_a_namesake_has_shown() {
    for isolation in ["session", "principal"] {
        // The same grant, the same principal; but one has shown a token of the authorization server, the other the grant's own.
        let stage = Stage::with(&format!("{EXCHANGE}\n    isolation: {isolation}"), NAMESAKE);
        let shown = stage.authority.token_for_gateway("person:ada");
        let modern = |path: &str, token: &str| Client::silent(stage.address(), MODERN).at(path, token);
        let subject = stage.caller(&shown).shake_hands();
        assert_eq!(text_of(&whoami(&subject, "whoami")), "person:ada");
        assert_eq!(text_of(&whoami(&modern("/mcp/web", &shown), "whoami")), "person:ada");
        assert_eq!(text_of(&whoami(&modern("/mcp", &shown), "web__whoami")), "person:ada");
        let calls = stage.authority.called_with().len();

        let own = TOKENS[0].1;
        is_turned_away(&initialize(&stage.caller(own)));
        is_turned_away(&whoami(&modern("/mcp/web", own), "whoami"));
        is_turned_away(&whoami(&modern("/mcp", own), "web__whoami"));
        is_turned_away(&whoami(&Client::silent(stage.address(), LEGACY).at("/mcp", own).shake_hands(), "web__whoami"));
        // Nor in the session that the other one has begun.
        let taken_over = Client { token: Some(own.to_owned()), ..subject.clone() };
        let reply = taken_over.ask("8", "tools/call", json!({"name": "whoami", "arguments": {}}));
        assert!(reply.messages().iter().all(|message| message.get("result").is_none()), "{reply:?}");
        assert_eq!(stage.authority.called_with().len(), calls, "nothing was called in {isolation}");
        assert_eq!(text_of(&whoami(&subject, "whoami")), "person:ada");
    }
}

#[test]
fn the_first_authorization_server_is_the_only_one_after_a_restart_too() {
    let user = "{flow: authorization_code, client_id: the-gateway, client_secret: 'env:SECRET'}";
    for (authorization, more) in [(OWN, ""), (user, SEALED)] {
        let mut stage = Stage::with(authorization, more);
        let begin = |stage: &Stage| {
            let url = invitation(&initialize(&stage.ada()));
            browse("POST", &url, None, &format!("Origin: http://{}\r\n", stage.address())).status
        };
        let is_own = more.is_empty();
        match is_own {
            true => assert_eq!(text_of(&stage.ada().shake_hands().call("1", "whoami", json!({}))), "the-gateway"),
            false => assert_eq!(begin(&stage), 303),
        }
        let other = Authority::start();
        stage.authority.lock().names.clone_from(&other.origin);
        stage.start();
        match is_own {
            true => {
                let why = initialize(&stage.ada())["error"]["message"].as_str().unwrap().to_owned();
                assert!(why.contains("no access token"), "{why}");
            }
            false => assert_eq!(begin(&stage), 502),
        }
        assert!(other.asked("/token").is_empty() && other.asked("/authorize").is_empty(), "our secret is not shown");
        // The one that was named first still is believed.
        stage.authority.lock().names.clone_from(&stage.authority.origin);
        stage.start();
        match is_own {
            true => assert_eq!(text_of(&stage.ada().shake_hands().call("1", "whoami", json!({}))), "the-gateway"),
            false => assert_eq!(begin(&stage), 303),
        }
        stage.has_kept_quiet();
        let records = audit(&stage.scratch.state());
        let named: Vec<_> = records.iter().filter(|record| record["method"] == "authorizations/issuer").collect();
        let told = format!("first named: {}, ", stage.authority.origin);
        assert!(named.len() == 1 && named[0]["detail"].as_str().unwrap().starts_with(&told), "{named:?}");
    }
}

#[test]
fn what_was_authorised_is_kept_while_the_authorization_server_cannot_answer() {
    // One that is down, and one that refuses without saying that the authorisation has ended.
    for status in [503, 404] {
        let stage = Stage::with(USER, SEALED);
        stage.authority.lock().lasts = 2;
        authorise(&stage.ada());
        let client = stage.ada().shake_hands();
        stage.authority.lock().fails = Some(status);
        until(PATIENCE, || client.call("1", "whoami", json!({})).to_string().contains("no access token").then_some(()))
            .expect("its token has ended");
        let listed = stage.command(&["list", "--json"]);
        let is_kept = listed.stdout.contains(r#""server":"web","principal":"person:ada""#);
        assert!(is_kept, "nobody is asked again after {status}: {}", listed.stdout);
    }
}

#[test]
fn a_token_is_taken_back_only_where_it_was_given() {
    let mut stage = Stage::with(USER, SEALED);
    let other = Authority::start();
    stage.authority.lock().says = json!({"revocation_endpoint": format!("{}/revoke", other.origin)});
    stage.start();
    authorise(&stage.ada());
    let forgotten = stage.command(&["forget", "web", "person:ada"]);
    assert!(forgotten.stdout.contains("is forgotten\n"), "{} {}", forgotten.stdout, forgotten.stderr);
    assert!(forgotten.stderr.contains("at another origin"), "{}", forgotten.stderr);
    assert!(other.asked("/revoke").is_empty() && stage.authority.asked("/revoke").is_empty());
}

#[test]
fn an_authorization_server_that_does_not_say_who_it_is_keeps_its_endpoints() {
    let mut stage = Stage::with(USER, SEALED);
    let says = |more: Value| {
        let mut says = json!({"authorization_response_iss_parameter_supported": false});
        says.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        says
    };
    {
        let mut behaves = stage.authority.lock();
        (behaves.says, behaves.iss) = (says(json!({})), None);
    }
    authorise(&stage.ada());
    // What a user brings back from the one would be taken to the other.
    let other = Authority::start();
    stage.authority.lock().says = says(json!({"token_endpoint": format!("{}/token", other.origin)}));
    stage.start();
    let begin = |stage: &Stage| {
        let bobs = invitation(&initialize(&stage.caller(TOKENS[1].1)));
        browse("POST", &bobs, None, &format!("Origin: http://{}\r\n", stage.address())).status
    };
    assert_eq!(begin(&stage), 502);
    let log = stage.gate.as_ref().unwrap().stderr.lock().unwrap().clone();
    assert!(log.contains("name it under `issuer`"), "{log}");
    assert!(other.asked("/token").is_empty());
    // Where the operator means that, it is so.
    let config = std::fs::read_to_string(stage.scratch.path("callgate.yaml")).unwrap();
    let named = format!("{{flow: authorization_code, issuer: {}}}", stage.authority.origin);
    stage.scratch.write("callgate.yaml", config.replace(USER, &named));
    stage.start();
    assert_eq!(begin(&stage), 303);
}

#[test]
fn where_a_server_has_moved_to_another_authorization_server_users_are_asked_there() {
    let stage = Stage::with(USER, SEALED);
    stage.authority.lock().lasts = 2;
    authorise(&stage.ada());
    let client = stage.ada().shake_hands();
    // It is asked for another token, so that it is well known here.
    stage.refreshes(&client, 1);
    let other = Authority::start();
    {
        let mut left = stage.authority.lock();
        left.names.clone_from(&other.origin);
        left.tokens.clear();
        left.refresh.clear();
    }
    other.lock().lasts = 2;
    let (back, cookie) = consent(&invitation(&client.call("1", "whoami", json!({}))));
    assert_eq!(browse("GET", &back, Some(&cookie), "").status, 200);
    assert_eq!(other.asked("/register").len(), 1, "who we were at the first one is nothing to the second");
    // The server takes the tokens of the other one, which are refreshed there.
    until(PATIENCE, || {
        let given = other.lock().tokens.clone();
        stage.authority.lock().tokens.extend(given);
        let reply = client.call("1", "whoami", json!({}));
        (refreshed(&other) >= 1 && reply["result"]["isError"] != true && reply.get("error").is_none()).then_some(())
    })
    .expect("what was authorised at the other one is kept");
    stage.has_kept_quiet();
}

#[test]
fn a_scope_that_was_given_is_not_asked_for_again() {
    for (authorization, more) in [(OWN, ""), (USER, SEALED)] {
        let stage = Stage::with(authorization, more);
        if !more.is_empty() {
            authorise(&stage.ada());
        }
        let client = stage.ada().shake_hands();
        {
            let mut behaves = stage.authority.lock();
            (behaves.needs, behaves.is_stubborn) = (Some("use".to_owned()), true);
        }
        let before = stage.authority.asked("/token").len();
        for _ in 0..3 {
            let reply = client.call("1", "whoami", json!({}));
            assert!(reply.to_string().contains("for want of a scope"), "{reply}");
            assert!(!reply.to_string().contains("/authorize/begin"), "nobody is sent round in circles: {reply}");
        }
        assert_eq!(stage.authority.asked("/token").len(), before);
    }
}

const DOCUMENT: &str = "https://gateway.example/authorize/client.json";

#[test]
fn an_authorization_server_that_reads_documents_knows_the_gateway_by_one() {
    let sealed = format!("authorizations: {{key: 'env:KEY', client_document: '{DOCUMENT}'}}\n");
    let stage = Stage::with(USER, &sealed);
    stage.authority.lock().says = json!({"client_id_metadata_document_supported": true});
    stage.authority.lock().lasts = 2;
    authorise(&stage.ada());
    let client = stage.ada().shake_hands();
    stage.refreshes(&client, 1);
    assert!(stage.authority.asked("/register").is_empty());
    let mut asked = stage.authority.asked("/authorize").into_iter().chain(stage.authority.asked("/token"));
    assert!(asked.all(|asked| asked.form["client_id"] == DOCUMENT && asked.authorization.is_none()));
    // The gateway serves it itself.
    let served = browse("GET", &format!("http://{}/authorize/client.json", stage.address()), None, "");
    let served: Value = serde_json::from_slice(&served.body).unwrap();
    assert_eq!((&served["client_id"], &served["token_endpoint_auth_method"]), (&json!(DOCUMENT), &json!("none")));
    assert_eq!(served["redirect_uris"], json!([format!("http://{}/authorize/callback/web", stage.address())]));
    assert_eq!(served["grant_types"], json!(["authorization_code", "refresh_token"]));
    // One that does not read any is registered with.
    stage.authority.lock().says = json!({});
    let (_, cookie) = consent(&invitation(&initialize(&stage.caller(TOKENS[1].1))));
    assert!(!cookie.is_empty() && stage.authority.asked("/register").len() == 1);
}

#[test]
fn without_a_document_there_is_none() {
    let stage = Stage::with(USER, SEALED);
    assert_eq!(browse("GET", &format!("http://{}/authorize/client.json", stage.address()), None, "").status, 404);
    let scratch = Scratch::new();
    for wrong in ["http://gateway.example/client.json", "https://gateway.example", "https://gateway.example/a?b", "nonsense"] {
        let config = format!("servers: {{}}\nauthorizations: {{key: 'env:KEY', client_document: '{wrong}'}}\n");
        let path = scratch.write("callgate.yaml", config).display().to_string();
        let mut command = support::callgate();
        let output = command.args(["check", &path]).env("KEY", KEY).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.code() == Some(3) && said.contains("`client_document`"), "{wrong}: {said}");
    }
}

#[test]
fn a_token_that_outlives_the_users_presence_is_asked_for_where_it_is_known() {
    let scope = |authorization: &str, supported: Value| {
        let stage = Stage::with(authorization, SEALED);
        stage.authority.lock().says = json!({"scopes_supported": supported});
        consent(&invitation(&initialize(&stage.ada())));
        stage.authority.asked("/authorize")[0].form["scope"].clone()
    };
    assert_eq!(scope(USER, json!(["use", "offline_access"])), "use offline_access");
    assert_eq!(scope(USER, json!(["use"])), "use");
    assert_eq!(scope("{flow: authorization_code, scope: [use]}", json!(["offline_access"])), "use", "the operator has said what");
}

#[test]
fn a_client_of_the_stateless_era_gets_as_far_as_to_hear_what_to_open() {
    let stage = Stage::with(USER, SEALED);
    let ada = Client::silent(stage.address(), MODERN).at("/mcp/web", TOKENS[0].1);
    let discovered = ada.ask("1", "server/discover", json!({})).reply("1");
    let versions = discovered["result"]["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&json!(MODERN)) && discovered["result"]["ttlMs"] == 0, "{discovered}");
    let (back, cookie) = consent(&invitation(&ada.ask("2", "tools/list", json!({})).reply("2")));
    assert_eq!(browse("GET", &back, Some(&cookie), "").status, 200);
    assert_eq!(ada.ask("3", "tools/list", json!({})).reply("3")["result"]["tools"][0]["name"], "whoami");
    // From then on it is the server that answers.
    let discovered = ada.ask("4", "server/discover", json!({})).reply("4");
    assert!(discovered["result"]["supportedVersions"].is_array(), "{discovered}");
}

#[test]
fn at_the_place_of_all_servers_too_a_client_is_given_an_address_to_show() {
    let stage = Stage::with(USER, SEALED);
    let able = json!({"elicitation": {"url": {}}});
    let at_all = |revision: &str| Client::silent(stage.address(), revision).at("/mcp", TOKENS[0].1);
    let modern = |token: &str, more: Value| {
        let mut params = json!({"name": "web__whoami", "arguments": {}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": able}});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let text = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
        let client = Client { token: Some(token.to_owned()), ..at_all(MODERN) };
        client.send(&client.headers("tools/call", Some("web__whoami")), text.as_bytes()).expect("an answer").reply("1")
    };
    // The stateless era: the call asks for input, and goes on with the answer.
    let bob = TOKENS[1].1;
    let asked = modern(bob, json!({}));
    let question = &asked["result"]["inputRequests"]["callgate-consent"];
    assert_eq!(question["params"]["mode"], "url", "{asked}");
    stage.authority.lock().user = "bob".to_owned();
    let (back, cookie) = consent(question["params"]["url"].as_str().unwrap());
    assert_eq!(browse("GET", &back, Some(&cookie), "").status, 200);
    let answered = json!({"callgate-consent": {"action": "accept"}});
    let again = modern(bob, json!({"requestState": asked["result"]["requestState"], "inputResponses": answered}));
    assert_eq!(text_of(&again), "bob", "{again}");

    // The legacy era: an error, in a session that goes on.
    stage.authority.lock().user = "ada".to_owned();
    let begun = at_all(LEGACY).ask("1", "initialize", json!({"protocolVersion": LEGACY, "capabilities": able, "clientInfo": {}}));
    let ada = Client { session: begun.header("mcp-session-id").map(str::to_owned), ..at_all(LEGACY) };
    ada.send(&ada.headers("notifications/initialized", None), br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    let lists = || ada.ask("2", "tools/list", json!({})).reply("2")["result"]["tools"].as_array().unwrap().len();
    assert_eq!(lists(), 0, "it is left out until then");
    let error = whoami(&ada, "web__whoami")["error"].clone();
    let shown = &error["data"]["elicitations"][0];
    assert_eq!((&error["code"], &shown["mode"]), (&json!(-32042), &json!("url")), "{error}");
    let (back, cookie) = consent(shown["url"].as_str().unwrap());
    assert_eq!(browse("GET", &back, Some(&cookie), "").status, 200);
    // At once, and in the same session.
    assert_eq!(text_of(&whoami(&ada, "web__whoami")), "ada");
    assert_eq!(lists(), 1);
    // One that can show nothing is told in words, as at the server's own place.
    stage.command(&["forget", "web", "person:ada"]);
    until(PATIENCE, || {
        let told = whoami(&Client::silent(stage.address(), LEGACY).at("/mcp", TOKENS[0].1).shake_hands(), "web__whoami");
        (told["result"]["isError"] == true).then(|| invitation(&told))
    })
    .expect("what is forgotten is asked for again");
    stage.has_kept_quiet();
}
