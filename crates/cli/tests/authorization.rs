//! What goes upstream as `Authorization`: tokens of the gateway's own, exchanged ones, and those that users have authorised.
//!
//! In front of the server stands an authorization server of ours (`support/authority.rs`), which is strict.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

#[path = "authorization/extensions.rs"]
mod extensions;
mod support;
#[path = "authorization/trust.rs"]
mod trust;

use serde_json::{Value, json};
use std::time::Duration;
use support::authority::{Authority, CLIENT_SECRET};
use support::http::{Client, Reply, exchange};
use support::{LEGACY, MODERN, PATIENCE, Scratch, Served, audit, run, text_of, until};

const KEY: &str = "canary-key-that-nobody-could-guess-0123456789";
const TOKENS: [(&str, &str); 2] = [("ada", "canary-grant-of-ada"), ("bob", "canary-grant-of-bob")];

/// A gateway before a server that is called by some authority.
struct Stage {
    scratch: Scratch,
    authority: Authority,
    gate: Option<Served>,
}

impl Stage {
    fn new(authorization: &str) -> Stage {
        Stage::with(authorization, "")
    }

    fn with(authorization: &str, more: &str) -> Stage {
        let (scratch, authority) = (Scratch::new(), Authority::start());
        scratch.write("open.yaml", "version: \"1\"\ndefault: allow\n");
        let grants: Vec<String> = TOKENS
            .iter()
            .map(|(name, token)| {
                scratch.write(name, token);
                format!("  - {{name: {name}, principal: 'person:{name}', token: 'file:{name}', servers: [web]}}\n")
            })
            .collect();
        let config = format!(
            "listen: 127.0.0.1:0\nstate: {}\nservers:\n  web:\n    url: {}\n    policy: open.yaml\n    pin: off\n    \
             authorization: {authorization}\ngrants:\n{}{}",
            scratch.state(),
            authority.url(),
            grants.concat(),
            more
        );
        let config = config.replace("ISSUER", &authority.origin);
        scratch.write("callgate.yaml", config);
        let mut stage = Stage { scratch, authority, gate: None };
        stage.start();
        stage
    }

    fn start(&mut self) {
        self.gate = None;
        let variables = [("SECRET", CLIENT_SECRET), ("KEY", KEY), ("CALLGATE_LOG", "debug")];
        self.gate = Some(Served::configured(&self.scratch.path("callgate.yaml"), &variables));
    }

    fn address(&self) -> &str {
        &self.gate.as_ref().unwrap().address
    }

    /// A caller who has said nothing yet.
    fn caller(&self, token: &str) -> Client {
        Client::silent(self.address(), LEGACY).at("/mcp/web", token)
    }

    fn ada(&self) -> Client {
        self.caller(TOKENS[0].1)
    }

    /// Lets ada's client call until her token has been refreshed so many times.
    #[track_caller]
    fn refreshes(&self, client: &Client, times: usize) {
        let done = until(PATIENCE, || {
            assert_eq!(text_of(&client.call("1", "whoami", json!({}))), "ada");
            (refreshed(&self.authority) >= times).then_some(())
        });
        done.expect("the token is refreshed");
    }

    /// Asserts that nothing secret is in the log, in records, or in a file of the state.
    #[track_caller]
    fn has_kept_quiet(&self) {
        let log = self.gate.as_ref().unwrap().stderr.lock().unwrap().clone();
        assert!(!log.contains("canary"), "{log}");
        for record in audit(&self.scratch.state()) {
            assert!(!record.to_string().contains("canary"), "{record}");
        }
        for suffix in ["", "-wal", ".journal"] {
            let bytes = std::fs::read(self.scratch.path(&format!("callgate.db{suffix}"))).unwrap_or_default();
            assert!(!bytes.windows(6).any(|window| window == b"canary"), "callgate.db{suffix}");
        }
    }

    /// Runs `callgate authorizations`.
    fn command(&self, words: &[&str]) -> support::Ran {
        let config = self.scratch.path("callgate.yaml").display().to_string();
        let words: Vec<&str> = ["authorizations"].into_iter().chain(words.iter().copied()).chain(["-c", &config]).collect();
        let mut command = support::callgate();
        let output = command.args(words).envs([("SECRET", CLIENT_SECRET), ("KEY", KEY)]).output().unwrap();
        support::Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

const OWN: &str = "{flow: client_credentials, client_id: the-gateway, client_secret: 'env:SECRET'}";

#[test]
fn the_gateways_own_token_is_asked_for_once_however_many_wait() {
    let stage = Stage::new(OWN);
    std::thread::scope(|scope| {
        for (_, token) in TOKENS.iter().cycle().take(8) {
            let client = stage.caller(token);
            scope.spawn(move || assert_eq!(text_of(&client.shake_hands().call("1", "whoami", json!({}))), "the-gateway"));
        }
    });
    let asked = stage.authority.asked("/token");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].form["grant_type"], "client_credentials");
    assert_eq!(asked[0].form["resource"], stage.authority.url(), "the token is for this server alone");
    assert_eq!(asked[0].form["scope"], "use", "the scope that the server asks for");
    assert!(stage.authority.called_with().iter().all(|sent| sent == "Bearer canary-access-1"));
    stage.has_kept_quiet();
}

#[test]
fn a_token_that_is_refused_is_replaced_once() {
    let stage = Stage::new(OWN);
    let client = stage.ada().shake_hands();
    stage.authority.lock().tokens.clear();
    let call = || client.ask("1", "tools/call", json!({"name": "whoami", "arguments": {}}));
    // One that is refused as soon as it was given is not worth another just yet.
    until(PATIENCE, || (text_of(&call().reply("1")) == "the-gateway").then_some(())).expect("another token is asked for");
    let sent = stage.authority.called_with();
    assert_eq!(sent[sent.len() - 2..], ["Bearer canary-access-1", "Bearer canary-access-2"]);
    // A server that takes no token at all is not asked for ever.
    stage.authority.lock().tokens.clear();
    let refused = call();
    assert_eq!(refused.header("www-authenticate"), None, "how the server is satisfied is none of the client's business");
    assert!(refused.reply("1")["error"]["message"].as_str().unwrap().contains("access token"), "{refused:?}");
    assert!(stage.authority.called_with().len() <= sent.len() + 2);
    stage.has_kept_quiet();
}

#[test]
fn a_token_is_renewed_before_it_ends() {
    let stage = Stage::new(OWN);
    stage.authority.lock().lasts = 2;
    let client = stage.ada().shake_hands();
    let renewed = until(PATIENCE, || {
        assert_eq!(text_of(&client.call("1", "whoami", json!({}))), "the-gateway", "no call fails over it");
        (stage.authority.asked("/token").len() >= 3).then_some(())
    });
    renewed.expect("the token is renewed");
}

#[test]
fn a_scope_that_a_server_asks_for_is_asked_for() {
    let stage = Stage::new(OWN);
    stage.authority.lock().needs = Some("write".to_owned());
    let client = stage.ada().shake_hands();
    assert_eq!(text_of(&client.call("1", "whoami", json!({}))), "the-gateway");
    let asked = stage.authority.asked("/token");
    assert_eq!(asked.last().unwrap().form["scope"], "use write");
}

#[test]
fn an_authorization_server_that_is_down_or_slow_denies_and_comes_back() {
    let stage = Stage::new(OWN);
    let asked = || stage.authority.asked("/token").len();
    for (fails, slow) in [(Some(503), Duration::ZERO), (None, Duration::from_secs(20))] {
        {
            let mut behaves = stage.authority.lock();
            (behaves.fails, behaves.slow) = (fails, slow);
        }
        let before = asked();
        // It is left in peace for a while after a failure.
        until(PATIENCE, || {
            let began = std::time::Instant::now();
            let why = initialize(&stage.ada())["error"]["message"].as_str().unwrap().to_owned();
            assert!(why.contains("no access token"), "{why}");
            assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
            (asked() > before).then_some(())
        })
        .expect("it is asked");
    }
    {
        let mut behaves = stage.authority.lock();
        (behaves.fails, behaves.slow) = (None, Duration::ZERO);
    }
    until(PATIENCE, || initialize(&stage.ada())["result"].is_object().then_some(())).expect("it comes back");
    stage.has_kept_quiet();
}

#[test]
fn a_key_signs_for_the_gateway() {
    let scratch = Scratch::new();
    let pem = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    use base64::Engine;
    let pem = base64::engine::general_purpose::STANDARD.encode(pem.as_ref());
    let path = scratch.write("client.pem", format!("-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----\n"));
    let flow = format!("{{flow: client_credentials, client_id: us, client_key: 'file:{}', scope: [a, b]}}", path.display());
    let stage = Stage::new(&flow);
    assert_eq!(text_of(&stage.ada().shake_hands().call("1", "whoami", json!({}))), "the-gateway");
    let asked = stage.authority.asked("/token").remove(0);
    assert_eq!((asked.authorization, asked.form["scope"].as_str()), (None, "a b"));
    let claims = asked.form["client_assertion"].split('.').nth(1).unwrap().to_owned();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!((&claims["iss"], &claims["sub"], &claims["aud"]), (&json!("us"), &json!("us"), &json!(stage.authority.origin)));
}

const EXCHANGE: &str = "{flow: token_exchange, client_id: the-gateway, client_secret: 'env:SECRET'}";
const IDENTITY: &str = "identity:\n  issuer: ISSUER\n  audience: https://mcp.example.org\n  grants:\n    \
     - {grant: ada, claims: {sub: [ada]}, principal: sub}\n    - {grant: bob, claims: {}, principal: sub}\n";

#[test]
fn what_a_caller_shows_is_exchanged_and_never_sent_on() {
    let identity = IDENTITY.replace("claims: {}", "claims: {sub: [bob]}");
    let stage = Stage::with(EXCHANGE, &identity);
    let shown = ["ada", "bob"].map(|subject| stage.authority.token_for_gateway(subject));
    let callers = shown.clone().map(|token| stage.caller(&token).shake_hands());
    for round in 0..2 {
        for (client, subject) in callers.iter().zip(["ada", "bob"]) {
            assert_eq!(text_of(&client.call(&round.to_string(), "whoami", json!({}))), subject);
        }
    }
    let asked = stage.authority.asked("/token");
    assert_eq!(asked.len(), 2, "one for each subject");
    assert_eq!(asked[0].form["resource"], stage.authority.url());
    assert!(shown.contains(&asked[0].form["subject_token"]));
    for sent in stage.authority.asked("/mcp").iter().filter_map(|asked| asked.authorization.as_ref()) {
        assert!(!shown.iter().any(|token| sent.contains(token.as_str())), "{sent}");
    }
    // Whoever has shown no such token has none to be exchanged.
    let why = initialize(&stage.ada())["error"]["message"].as_str().unwrap().to_owned();
    assert!(why.contains("show an access token"), "{why}");
    stage.has_kept_quiet();
    let log = stage.gate.as_ref().unwrap().stderr.lock().unwrap().clone();
    assert!(!log.contains("eyJ"), "{log}");
}

#[test]
fn tokens_of_nobody_in_particular_are_not_exchanged() {
    let scratch = Scratch::new();
    let config = format!(
        "servers:\n  web:\n    url: http://127.0.0.1:9/mcp\n    authorization: {EXCHANGE}\ngrants:\n  - {{name: ada, principal: p, servers: [web]}}\n{}",
        "identity:\n  issuer: https://id\n  audience: a\n  grants:\n    - {grant: ada, claims: {scope: [x]}}\n"
    );
    scratch.write("callgate.yaml", config.replace("env:SECRET", "env:PATH"));
    let ran = run(&["check", &scratch.path("callgate.yaml").display().to_string()], "");
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains("principal: sub"), "{}{}", ran.stdout, ran.stderr);
}

const USER: &str = "{flow: authorization_code}";
const SEALED: &str = "authorizations: {key: 'env:KEY'}\n";

/// A GET or POST as a browser makes it: with what it holds, and not further than one page.
fn browse(method: &str, url: &str, cookie: Option<&str>, more: &str) -> Reply {
    let rest = url.strip_prefix("http://").expect("an address");
    let (address, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let cookie = cookie.map(|cookie| format!("Cookie: other=1; {cookie}\r\n")).unwrap_or_default();
    let request = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n{cookie}{more}\r\n");
    exchange(address, request.as_bytes()).expect("an answer")
}

/// Where a call is led to, in the words of a client that can show nothing else.
#[track_caller]
fn invitation(reply: &Value) -> String {
    let text = reply["result"]["content"][0]["text"].as_str().or(reply["error"]["message"].as_str()).unwrap_or_default();
    text.split_once("open ").unwrap_or_else(|| panic!("nothing to open: {reply}")).1.to_owned()
}

/// Goes the way from an invitation to the answer of the authorization server: the address that it leads back to, and what the
/// browser holds.
fn consent(invitation: &str) -> (String, String) {
    let page = browse("GET", invitation, None, "Sec-Fetch-Site: cross-site\r\n");
    let html = String::from_utf8_lossy(&page.body).into_owned();
    assert!(page.status == 200 && html.contains("<form method=\"post\"") && html.contains("person:"), "{page:?}");
    let origin = &invitation[..invitation.find("/authorize").unwrap()];
    let sent = browse("POST", invitation, None, &format!("Origin: {origin}\r\n"));
    assert_eq!(sent.status, 303, "{sent:?}");
    let cookie = sent.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let back = browse("GET", sent.header("location").unwrap(), None, "");
    (back.header("location").unwrap().to_owned(), cookie)
}

fn initialize(client: &Client) -> Value {
    client.ask("1", "initialize", json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {}})).reply("1")
}

/// How many times a token has been refreshed there.
fn refreshed(authority: &Authority) -> usize {
    authority.asked("/token").iter().filter(|asked| asked.form["grant_type"] == "refresh_token").count()
}

/// Authorises the gateway in the caller's name.
fn authorise(client: &Client) {
    let (back, cookie) = consent(&invitation(&initialize(client)));
    let done = browse("GET", &back, Some(&cookie), "Sec-Fetch-Site: cross-site\r\n");
    assert!(done.status == 200 && String::from_utf8_lossy(&done.body).contains("Close this page"), "{done:?}");
}

#[test]
fn a_user_authorises_the_gateway_in_a_browser() {
    let mut stage = Stage::with(USER, SEALED);
    authorise(&stage.ada());
    let client = stage.ada().shake_hands();
    assert_eq!(text_of(&client.call("1", "whoami", json!({}))), "ada");
    let asked = stage.authority.asked("/authorize").remove(0).form;
    let says = |name: &str| asked.get(name).map(String::as_str).unwrap_or_default();
    assert_eq!((says("client_id"), says("code_challenge_method"), says("scope")), ("registered", "S256", "use"));
    assert_eq!(says("resource"), stage.authority.url());
    let origin = format!("http://{}", stage.address());
    assert_eq!(says("redirect_uri"), format!("{origin}/authorize/callback/web"), "each server has a place of its own");
    // What ada has authorised is nobody else's.
    let bob = stage.caller(TOKENS[1].1);
    invitation(&initialize(&bob));
    // It outlives the gateway, and cannot be read in the state.
    stage.start();
    assert_eq!(text_of(&stage.ada().shake_hands().call("1", "whoami", json!({}))), "ada");
    assert_eq!(stage.authority.asked("/register").len(), 1, "it is registered once");
    stage.has_kept_quiet();
    let given = audit(&stage.scratch.state())
        .into_iter()
        .find(|record| record["method"] == "authorizations/give" && record["detail"] == "of person:ada");
    assert!(given.is_some(), "who has authorised what is on record");
}

#[test]
fn an_answer_is_taken_from_whom_it_was_asked_and_where_it_was_begun() {
    let stage = Stage::with(USER, SEALED);
    let begin = || invitation(&initialize(&stage.ada()));
    let (back, cookie) = consent(&begin());
    let state = |url: &str| url.split("state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let (other, _) = consent(&begin());
    let cases = [
        ("another browser", back.clone(), None),
        ("the cookie of another journey", other.clone(), Some(cookie.as_str())),
        ("a changed state", back.replace(&state(&back), &state(&back).replace(|c: char| c.is_ascii_digit(), "x")), Some(&cookie)),
        ("no state", back.replace("state=", "stat="), Some(&cookie)),
        ("two states", format!("{back}&state={}", state(&other)), Some(&cookie)),
        ("another issuer", back.replace("iss=http", "iss=https"), Some(&cookie)),
        ("no issuer", back.replace("iss=", "is="), Some(&cookie)),
        ("the place of another server", back.replace("/callback/web", "/callback/other"), Some(&cookie)),
        ("the place of no server", back.replace("/callback/web", "/callback"), Some(&cookie)),
        ("another code", back.replace("code=canary", "code=cannery"), Some(&cookie)),
    ];
    let doubled = format!("{cookie}; {cookie}");
    let cases = cases.into_iter().chain([("the cookie twice", back.clone(), Some(doubled.as_str()))]);
    for (what, url, cookie) in cases {
        let page = browse("GET", &url, cookie, "");
        assert!(page.status >= 400, "{what}: {page:?}");
        begin();
    }
    // What nobody has agreed to does not begin: not by a link, nor by another site's form.
    let page = browse("POST", &begin(), None, "Origin: https://evil.example\r\n");
    assert_eq!(page.status, 403);
    let elsewhere = begin().replace("ticket=", "ticket=x");
    assert_eq!(browse("POST", &elsewhere, None, "").status, 400);
    // And the answer itself is still good.
    assert_eq!(browse("GET", &back, Some(&cookie), "").status, 200);
    assert_eq!(browse("GET", &back, Some(&cookie), "").status, 403, "once");
    stage.has_kept_quiet();
}

#[test]
fn what_was_authorised_is_for_the_address_that_the_server_had() {
    let mut stage = Stage::with("{flow: authorization_code, issuer: ISSUER}", SEALED);
    authorise(&stage.ada());
    let (back, cookie) = consent(&invitation(&initialize(&stage.caller(TOKENS[1].1))));
    let before = stage.address().to_owned();
    // The server's name stays, and so does who speaks for it; the host behind it does not.
    let config = std::fs::read_to_string(stage.scratch.path("callgate.yaml")).unwrap();
    stage
        .scratch
        .write("callgate.yaml", config.replace(&stage.authority.url(), &format!("{}/elsewhere", stage.authority.origin)));
    stage.start();
    let asked = stage.authority.asked("/token").len();
    let (again, _) = consent(&invitation(&initialize(&stage.ada())));
    assert!(again.contains(stage.address()));
    // Nor does what was begun for the one end at the other.
    let page = browse("GET", &back.replace(&before, stage.address()), Some(&cookie), "");
    assert_eq!(page.status, 400, "{page:?}");
    assert_eq!(stage.authority.asked("/token").len(), asked);
    assert!(stage.authority.asked("/elsewhere").iter().all(|sent| sent.authorization.is_none()), "nothing goes there");
}

#[test]
fn nobody_is_sent_to_an_authorization_server_that_is_named_later() {
    let stage = Stage::with("{flow: authorization_code, client_id: the-gateway, client_secret: 'env:SECRET'}", SEALED);
    authorise(&stage.ada());
    let bobs = invitation(&initialize(&stage.caller(TOKENS[1].1)));
    let other = Authority::start();
    stage.authority.lock().names.clone_from(&other.origin);
    let origin = format!("Origin: http://{}\r\n", stage.address());
    let sent = browse("POST", &bobs, None, &origin);
    assert!(sent.status == 502 && sent.header("location").is_none(), "{sent:?}");
    assert!(other.asked("/token").is_empty(), "our secret is not shown");
    // The one that was named first still is believed.
    stage.authority.lock().names.clone_from(&stage.authority.origin);
    assert_eq!(browse("POST", &bobs, None, &origin).status, 303);
    stage.has_kept_quiet();
}

#[test]
fn a_users_token_is_refreshed_with_rotation_and_ends_where_it_is_forgotten() {
    let stage = Stage::with(USER, SEALED);
    stage.authority.lock().lasts = 2;
    authorise(&stage.ada());
    let client = stage.ada().shake_hands();
    // Each refresh token is good once: whoever asked twice would be out.
    stage.refreshes(&client, 2);
    let listed = stage.command(&["list", "--json"]);
    assert!(listed.stdout.contains(r#""server":"web","principal":"person:ada""#), "{}", listed.stdout);
    let forgotten = stage.command(&["forget", "web", "person:ada"]);
    assert!(forgotten.stdout.contains("the authorization server knows"), "{} {}", forgotten.stdout, forgotten.stderr);
    assert_eq!(stage.authority.asked("/revoke").len(), 1);
    let again = until(Duration::from_secs(2), || {
        let reply = client.call("1", "whoami", json!({}));
        (reply["result"]["isError"] == true).then_some(reply)
    });
    invitation(&again.expect("what is forgotten is not used within a second"));
    assert_eq!(stage.command(&["forget", "web", "person:ada"]).code, 1);
    let invited = stage.command(&["invite", "web", "person:ada"]);
    assert!(invited.stdout.contains("/authorize/begin?ticket="), "{}", invited.stderr);
    stage.has_kept_quiet();
}

#[test]
fn an_authorisation_that_has_ended_is_asked_for_anew() {
    let stage = Stage::with(USER, SEALED);
    authorise(&stage.ada());
    let client = stage.ada().shake_hands();
    assert_eq!(text_of(&client.call("1", "whoami", json!({}))), "ada");
    stage.authority.lock().tokens.clear();
    assert_eq!(text_of(&client.call("1", "whoami", json!({}))), "ada", "it is refreshed");
    stage.authority.lock().tokens.clear();
    stage.authority.lock().refresh.clear();
    invitation(&client.call("1", "whoami", json!({})));
    // More than was agreed to is agreed to again.
    authorise(&stage.caller(TOKENS[1].1));
    stage.authority.lock().needs = Some("write".to_owned());
    let bob = stage.caller(TOKENS[1].1).shake_hands();
    let (_, cookie) = consent(&invitation(&bob.call("1", "whoami", json!({}))));
    assert!(!cookie.is_empty());
    assert_eq!(stage.authority.asked("/authorize").last().unwrap().form["scope"], "use write");
}

#[test]
fn clients_that_can_show_an_address_are_given_one_to_show() {
    let stage = Stage::with(USER, SEALED);
    let able = json!({"elicitation": {"url": {}}});
    let reply = stage.ada().ask("1", "initialize", json!({"protocolVersion": LEGACY, "capabilities": able, "clientInfo": {}}));
    let error = &reply.reply("1")["error"];
    assert_eq!((&error["code"], &error["data"]["elicitations"][0]["mode"]), (&json!(-32042), &json!("url")));
    assert!(!error["data"]["elicitations"][0]["elicitationId"].as_str().unwrap().is_empty());

    let modern = Client::silent(stage.address(), MODERN).at("/mcp/web", TOKENS[0].1);
    let call = |more: Value| {
        let mut params = json!({"name": "whoami", "arguments": {}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": able}});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let text = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
        modern.send(&modern.headers("tools/call", Some("whoami")), text.as_bytes()).expect("an answer").reply("1")
    };
    let asked = call(json!({}));
    let question = &asked["result"]["inputRequests"]["callgate-consent"];
    assert_eq!(question["params"]["mode"], "url", "{asked}");
    let url = question["params"]["url"].as_str().unwrap().to_owned();
    let (back, cookie) = consent(&url);
    assert_eq!(browse("GET", &back, Some(&cookie), "").status, 200);
    let answered = json!({"callgate-consent": {"action": "accept"}});
    let again = call(json!({"requestState": asked["result"]["requestState"], "inputResponses": answered}));
    assert_eq!(text_of(&again), "ada", "{again}");
}
