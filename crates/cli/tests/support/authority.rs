//! A server that takes access tokens, and the authorization server before it: small, strict, and real in what is signed.
//!
//! Both listen at one port. What they were asked is kept; how they behave can be changed while they run.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A request of the gateway's, or of a browser.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    /// The parameters, of the query and of a form.
    pub form: HashMap<String, String>,
    pub authorization: Option<String>,
    /// The method of a JSON-RPC message.
    pub method: Option<String>,
    /// What is to show that a token is the gateway's.
    pub proof: Option<String>,
}

pub struct State {
    pub asked: Vec<Asked>,
    /// Access tokens that the server takes: for whom, by which scope, and until when.
    pub tokens: HashMap<String, (String, String, Instant)>,
    /// Refresh tokens, each good once: for whom.
    pub refresh: HashMap<String, String>,
    codes: HashMap<String, HashMap<String, String>>,
    made: usize,
    /// For how long an access token is good, in seconds.
    pub lasts: u64,
    /// What the token endpoint answers instead.
    pub fails: Option<u16>,
    /// How long it takes over that.
    pub slow: Duration,
    /// What it says of itself when it leads a browser back.
    pub iss: Option<String>,
    /// Whom the server names as its authorization server.
    pub names: String,
    /// Whether a client can register itself.
    pub registers: bool,
    /// The scope without which the server refuses calls.
    pub needs: Option<String>,
    /// Whether it refuses calls for want of that scope also with a token that has it.
    pub is_stubborn: bool,
    /// What the authorization server says of itself besides.
    pub says: Value,
    /// Who logs in.
    pub user: String,
    /// As what it gives an assertion of who somebody is.
    pub vouches_by: &'static str,
    /// Whether the authorization server says that it binds tokens to keys, and the server that it takes such alone.
    pub binds: (bool, bool),
    /// What both want proofs to repeat.
    pub nonce: Option<String>,
    /// The key that a token is bound to, by its thumbprint.
    bound: HashMap<String, String>,
    /// The ids of proofs that were shown.
    pub proofs: HashSet<String>,
}

/// What an assertion of who somebody is, for another authorization server, is called.
pub const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

pub struct Authority {
    pub origin: String,
    state: Arc<Mutex<State>>,
    key: Arc<EcdsaKeyPair>,
}

const CLIENT: &str = "the-gateway";
pub const CLIENT_SECRET: &str = "canary-client-secret";

fn key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap()
}

impl Authority {
    pub fn start() -> Authority {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let state = State {
            asked: Vec::new(),
            tokens: HashMap::new(),
            refresh: HashMap::new(),
            codes: HashMap::new(),
            made: 0,
            lasts: 3600,
            fails: None,
            slow: Duration::ZERO,
            iss: Some(origin.clone()),
            names: origin.clone(),
            registers: true,
            needs: None,
            is_stubborn: false,
            says: json!({}),
            user: "ada".to_owned(),
            vouches_by: ID_JAG,
            binds: (false, false),
            nonce: None,
            bound: HashMap::new(),
            proofs: HashSet::new(),
        };
        let authority = Authority { origin, state: Arc::new(Mutex::new(state)), key: Arc::new(key()) };
        let (origin, state, key) = (authority.origin.clone(), authority.state.clone(), authority.key.clone());
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let desk = Desk { origin: origin.clone(), state: state.clone(), key: key.clone() };
                std::thread::spawn(move || desk.serve(connection));
            }
        });
        authority
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The server's address.
    pub fn url(&self) -> String {
        format!("{}/mcp", self.origin)
    }

    /// What was asked at a path.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        self.lock().asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    /// What went to the server as `Authorization`, with calls.
    pub fn called_with(&self) -> Vec<String> {
        let calls = self.asked("/mcp").into_iter().filter(|asked| asked.method.as_deref() == Some("tools/call"));
        calls.map(|call| call.authorization.unwrap_or_default()).collect()
    }

    /// A token of this authority for the gateway, as callers show them.
    pub fn token_for_gateway(&self, subject: &str) -> String {
        self.signed("at+jwt", json!({"aud": "https://mcp.example.org", "sub": subject}))
    }

    /// A JWT of this type and these claims, good for ten minutes.
    pub fn signed(&self, of_type: &str, claims: Value) -> String {
        signed(&self.key, of_type, &self.origin, claims)
    }
}

fn signed(key: &EcdsaKeyPair, of_type: &str, issuer: &str, more: Value) -> String {
    let now = jiff::Timestamp::now().as_second();
    let header = json!({"alg": "ES256", "typ": of_type, "kid": "k"});
    let mut claims = json!({"iss": issuer, "exp": now + 600, "iat": now});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

/// What a part of a JWT says: the header is the first, the claims are the second.
pub fn said(token: &str, part: usize) -> Value {
    let part = token.split('.').nth(part).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    serde_json::from_slice(&part.unwrap_or_default()).unwrap_or_default()
}

struct Desk {
    origin: String,
    state: Arc<Mutex<State>>,
    key: Arc<EcdsaKeyPair>,
}

/// A response: status, further headers, body.
type Answer = (u16, Vec<(&'static str, String)>, String);

fn answer(status: u16, body: Value) -> Answer {
    (status, vec![("Content-Type", "application/json".to_owned())], body.to_string())
}

impl Desk {
    fn serve(&self, connection: TcpStream) {
        let mut reader = BufReader::new(connection);
        while let Some((line, headers, body)) = read(&mut reader) {
            let (status, headers, body) = self.answer(&line, &headers, &body);
            let mut text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                text += &format!("{name}: {value}\r\n");
            }
            if write!(reader.get_mut(), "{text}\r\n{body}").is_err() {
                return;
            }
        }
    }

    fn answer(&self, line: &str, headers: &HashMap<String, String>, body: &[u8]) -> Answer {
        let target = line.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let form: HashMap<String, String> = [query.as_bytes(), body]
            .iter()
            .flat_map(|text| form_urlencoded::parse(text))
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        let message: Option<Value> = serde_json::from_slice(body).ok();
        let method = message.as_ref().and_then(|message| Some(message["method"].as_str()?.to_owned()));
        let authorization = headers.get("authorization").cloned();
        let proof = headers.get("dpop").cloned();
        let asked = Asked { path: path.to_owned(), form, authorization, method, proof };
        let mut state = self.state.lock().unwrap();
        state.asked.push(asked.clone());
        match path {
            "/mcp" => self.call(&mut state, &asked, &message.unwrap_or_default()),
            "/.well-known/oauth-protected-resource/mcp" => answer(
                200,
                json!({"resource": format!("{}/mcp", self.origin), "authorization_servers": [state.names], "scopes_supported": ["use"]}),
            ),
            "/.well-known/oauth-authorization-server" => self.metadata(&state),
            "/keys" => {
                let point = self.key.public_key().as_ref();
                let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
                let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
                answer(200, json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": x, "y": y}]}))
            }
            "/register" => {
                let body = message.unwrap_or_default();
                answer(
                    201,
                    json!({"client_id": "registered", "token_endpoint_auth_method": "none", "redirect_uris": body["redirect_uris"]}),
                )
            }
            "/authorize" => state.authorize(&asked.form),
            "/token" => {
                if let Some(status) = state.fails {
                    return answer(
                        status,
                        json!({"error": "server_error", "error_description": asked.form.get("client_secret")}),
                    );
                }
                let slow = state.slow;
                drop(state);
                std::thread::sleep(slow);
                self.state.lock().unwrap().token(&asked, &self.origin, &self.key)
            }
            "/revoke" => {
                let token = asked.form.get("token").cloned().unwrap_or_default();
                state.refresh.remove(&token);
                answer(200, json!({}))
            }
            _ => answer(404, json!({})),
        }
    }

    fn metadata(&self, state: &State) -> Answer {
        let at = |path: &str| format!("{}{path}", self.origin);
        let mut says = json!({
            "issuer": self.origin, "token_endpoint": at("/token"), "authorization_endpoint": at("/authorize"),
            "revocation_endpoint": at("/revoke"), "jwks_uri": at("/keys"), "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
        });
        if state.registers {
            says["registration_endpoint"] = json!(at("/register"));
        }
        if state.binds.0 {
            says["dpop_signing_alg_values_supported"] = json!(["ES256"]);
        }
        for (name, value) in state.says.as_object().into_iter().flatten() {
            says[name] = value.clone();
        }
        answer(200, says)
    }

    /// The server itself: of the legacy era, without sessions.
    fn call(&self, state: &mut State, asked: &Asked, message: &Value) -> Answer {
        let scheme = if state.binds.1 { "DPoP" } else { "Bearer" };
        let challenge = |more: &str| {
            let metadata = format!("resource_metadata=\"{}/.well-known/oauth-protected-resource/mcp\"", self.origin);
            ("WWW-Authenticate", format!("{scheme} {more}{metadata}"))
        };
        let token = asked.authorization.as_deref().and_then(|value| value.strip_prefix(scheme)).unwrap_or_default().trim();
        let known = state.tokens.get(token).filter(|(_, _, until)| Instant::now() < *until).cloned();
        let Some((subject, scope, _)) = known else { return (401, vec![challenge("")], String::new()) };
        if state.binds.1 {
            match state.proven(asked, &format!("{}/mcp", self.origin), Some(token)) {
                Ok(key) if state.bound.get(token) == Some(&key) => {}
                Ok(_) => return (401, vec![challenge("error=\"invalid_token\", ")], String::new()),
                Err(error) => {
                    let nonce = state.nonce.clone().unwrap_or_default();
                    return (401, vec![challenge(&format!("error=\"{error}\", ")), ("DPoP-Nonce", nonce)], String::new());
                }
            }
        }
        let id = &message["id"];
        let result = match message["method"].as_str().unwrap_or_default() {
            "initialize" => {
                json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}})
            }
            "tools/list" => json!({"tools": [{"name": "whoami", "inputSchema": {"type": "object"}}]}),
            "tools/call" => {
                let lacks = |needed: &&String| state.is_stubborn || !scope.split(' ').any(|held| held == **needed);
                if let Some(needed) = state.needs.as_ref().filter(lacks) {
                    let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{needed}\"");
                    return (403, vec![("WWW-Authenticate", challenge)], String::new());
                }
                json!({"content": [{"type": "text", "text": subject}]})
            }
            method if method.starts_with("notifications/") => return (202, Vec::new(), String::new()),
            _ => return answer(200, json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "unknown"}})),
        };
        answer(200, json!({"jsonrpc": "2.0", "id": id, "result": result}))
    }
}

impl State {
    /// A token of the authorization server that nobody has had before.
    fn fresh(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("canary-{kind}-{}", self.made)
    }

    fn authorize(&mut self, form: &HashMap<String, String>) -> Answer {
        let code = self.fresh("code");
        let mut kept = form.clone();
        kept.insert("user".to_owned(), self.user.clone());
        self.codes.insert(code.clone(), kept);
        let mut back = form_urlencoded::Serializer::new(format!("{}?", form["redirect_uri"]));
        back.append_pair("code", &code).append_pair("state", &form["state"]);
        if let Some(iss) = &self.iss {
            back.append_pair("iss", iss);
        }
        (302, vec![("Location", back.finish())], String::new())
    }

    /// The thumbprint of the key that has proven a request (RFC 9449 §4.3), or the error that is answered. Each proof counts once.
    fn proven(&mut self, asked: &Asked, url: &str, token: Option<&str>) -> Result<String, &'static str> {
        const NONE: &str = "invalid_dpop_proof";
        let proof = asked.proof.as_deref().ok_or(NONE)?;
        let (header, claims) = (said(proof, 0), said(proof, 1));
        let (signed, signature) = proof.rsplit_once('.').ok_or(NONE)?;
        let half = |name: &str| URL_SAFE_NO_PAD.decode(header["jwk"][name].as_str().unwrap_or_default()).unwrap_or_default();
        let point = [vec![4], half("x"), half("y")].concat();
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| NONE)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &signature).map_err(|_| NONE)?;
        let is_for_token = match token {
            Some(token) => claims["ath"] == URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes())),
            None => claims.get("ath").is_none(),
        };
        let age = jiff::Timestamp::now().as_second() - claims["iat"].as_i64().unwrap_or_default();
        let is_this = (&header["typ"], &claims["htm"], &claims["htu"]) == (&json!("dpop+jwt"), &json!("POST"), &json!(url));
        let is_new = self.proofs.insert(claims["jti"].as_str().unwrap_or_default().to_owned());
        if !is_for_token || !is_this || !is_new || age.abs() > 60 || header["jwk"].get("d").is_some() {
            return Err(NONE);
        }
        if self.nonce.as_ref().is_some_and(|nonce| claims["nonce"] != **nonce) {
            return Err("use_dpop_nonce");
        }
        let (x, y) = (&header["jwk"]["x"], &header["jwk"]["y"]);
        let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":{x},"y":{y}}}"#);
        Ok(URL_SAFE_NO_PAD.encode(digest(&SHA256, jwk.as_bytes())))
    }

    fn token(&mut self, asked: &Asked, origin: &str, signing: &EcdsaKeyPair) -> Answer {
        let form = &asked.form;
        let says = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let refused = |code: &str| answer(400, json!({"error": code, "error_description": format!("{form:?}")}));
        let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT}:{CLIENT_SECRET}")));
        let is_client = asked.authorization.as_ref() == Some(&basic);
        let mut key = None;
        if self.binds.0 && asked.proof.is_some() {
            match self.proven(asked, &format!("{origin}/token"), None) {
                Ok(proven) => key = Some(proven),
                Err(error) => {
                    let (status, mut headers, body) = refused(error);
                    headers.extend(self.nonce.clone().map(|nonce| ("DPoP-Nonce", nonce)));
                    return (status, headers, body);
                }
            }
        }
        let (subject, scope) = match says("grant_type") {
            "client_credentials" if is_client || !says("client_assertion").is_empty() => {
                (CLIENT.to_owned(), says("scope").to_owned())
            }
            "urn:ietf:params:oauth:grant-type:token-exchange" if is_client && says("requested_token_type") == ID_JAG => {
                let claims = json!({"sub": said(says("subject_token"), 1)["sub"], "aud": says("audience"),
                    "resource": says("resource"), "client_id": CLIENT, "scope": says("scope")});
                let vouched = signed(signing, "oauth-id-jag+jwt", origin, claims);
                return answer(
                    200,
                    json!({"access_token": vouched, "issued_token_type": self.vouches_by, "token_type": "N_A", "expires_in": 300}),
                );
            }
            "urn:ietf:params:oauth:grant-type:token-exchange" if is_client => {
                let subject = said(says("subject_token"), 1)["sub"].as_str().unwrap_or_default().to_owned();
                (subject, says("scope").to_owned())
            }
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                let (header, claims) = (said(says("assertion"), 0), said(says("assertion"), 1));
                let is_vouched = is_client && header["typ"] == "oauth-id-jag+jwt" && claims["client_id"] == CLIENT;
                if claims["aud"] != origin || (header["typ"] != "JWT" && !is_vouched) {
                    return refused("invalid_grant");
                }
                (claims["sub"].as_str().unwrap_or_default().to_owned(), says("scope").to_owned())
            }
            "authorization_code" => {
                let Some(begun) = self.codes.remove(says("code")) else { return refused("invalid_grant") };
                let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, says("code_verifier").as_bytes()));
                let same = |name: &str| begun.get(name).map(String::as_str) == Some(says(name));
                let known = same("client_id") || (is_client && begun["client_id"] == CLIENT);
                if !known || !same("redirect_uri") || !same("resource") || begun["code_challenge"] != challenge {
                    return refused("invalid_grant");
                }
                (begun["user"].clone(), begun.get("scope").cloned().unwrap_or_default())
            }
            "refresh_token" => {
                let Some(subject) = self.refresh.remove(says("refresh_token")) else { return refused("invalid_grant") };
                // A client without a secret is known by its key.
                if self.bound.get(says("refresh_token")) != key.as_ref() {
                    return refused("invalid_grant");
                }
                (subject, "use".to_owned())
            }
            _ => return refused("invalid_client"),
        };
        let (access, lasts) = (self.fresh("access"), self.lasts);
        self.tokens.insert(access.clone(), (subject.clone(), scope.clone(), Instant::now() + Duration::from_secs(lasts)));
        let kind = if key.is_some() { "DPoP" } else { "Bearer" };
        let mut gives = json!({"access_token": access, "token_type": kind, "expires_in": lasts, "scope": scope});
        self.bound.extend(key.clone().map(|key| (access, key)));
        if matches!(says("grant_type"), "authorization_code" | "refresh_token") {
            let refresh = self.fresh("refresh");
            self.refresh.insert(refresh.clone(), subject);
            self.bound.extend(key.map(|key| (refresh.clone(), key)));
            gives["refresh_token"] = json!(refresh);
        }
        answer(200, gives)
    }
}

/// The request line, the headers in lower case, and the body.
fn read(reader: &mut BufReader<TcpStream>) -> Option<(String, HashMap<String, String>, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|length| *length > 0)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((line, headers, body))
}
