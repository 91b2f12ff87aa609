//! TLS towards clients and towards servers, with the real binary and certificates made for each test.

mod support;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, SanType};
use ring::digest::{SHA256, digest};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::http::{Client, Reply, response};
use support::stdio::Stdio;
use support::{HttpUpstream, LEGACY, MODERN, PATIENCE, Scratch, Served, call, entries_of, lenient, text_of, until};

const OPEN: &str = "version: \"1\"\ntools: {}\n";

/// An authority, and the certificates that it has signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

/// A certificate and its key, as files.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(scratch: &Scratch, name: &str) -> Authority {
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names are good names");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(parameters, key).expect("a certificate");
        let file = scratch.write(&format!("{name}.pem"), issuer.pem());
        Authority { issuer, file }
    }

    /// A certificate for `host`, in files called `name`.
    fn signs(&self, scratch: &Scratch, name: &str, host: &str) -> Pair {
        let mut parameters = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::OrganizationName, "Example");
        parameters.distinguished_name.push(DnType::CommonName, name);
        self.signs_this(scratch, name, parameters)
    }

    /// The same with a URI in the place of a host.
    fn signs_uri(&self, scratch: &Scratch, name: &str, uri: &str) -> Pair {
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names are good names");
        parameters.subject_alt_names = vec![SanType::URI(uri.try_into().expect("a URI"))];
        self.signs_this(scratch, name, parameters)
    }

    fn signs_this(&self, scratch: &Scratch, name: &str, parameters: CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        let text = |path: PathBuf| path.display().to_string();
        let key = scratch.write(&format!("{name}.key"), key.serialize_pem());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
        Pair { certificate: text(scratch.write(&format!("{name}.crt"), certificate.pem())), key: text(key) }
    }

    fn file(&self) -> String {
        self.file.display().to_string()
    }
}

type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// A TLS connection to `address` of a client that believes `authority`.
fn connect(address: &str, authority: &Path) -> Tls {
    connect_as(None, address, authority)
}

/// The same of a client that shows a certificate when it is asked.
fn connect_as(pair: Option<&Pair>, address: &str, authority: &Path) -> Tls {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).expect("a certificate")).expect("an authority");
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match pair {
        None => config.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_file(&pair.certificate).expect("a certificate")];
            let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
            config.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a connection");
    let socket = TcpStream::connect(address).expect("the listener is there");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout is settable");
    rustls::StreamOwned::new(connection, socket)
}

/// Sends exact bytes over TLS and reads the response; nothing when the server is not believed.
fn exchange(address: &str, authority: &Path, bytes: &[u8]) -> Option<Reply> {
    let mut stream = connect(address, authority);
    stream.write_all(bytes).ok()?;
    response(&mut stream)
}

fn served(scratch: &Scratch, pair: &Pair, behind: &[&str]) -> Served {
    let (policy, state) = (scratch.policy(OPEN).display().to_string(), scratch.state());
    let mut arguments = vec!["-p", &policy, "--state", &state, "--tls-cert", &pair.certificate, "--tls-key", &pair.key];
    arguments.extend(behind);
    Served::start(&arguments)
}

fn echo(client: &Client, id: &str) -> Vec<u8> {
    client.post(&client.headers("tools/call", Some("echo")), call(MODERN, id, "echo", json!({"n": 1})).as_bytes())
}

#[test]
fn clients_are_served_over_tls_and_plain_ones_are_told() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "authority");
    let pair = authority.signs(&scratch, "ours", "localhost");
    let upstream = HttpUpstream::start(&scratch.log(), &[]);
    let child = lenient(&scratch.log(), &["--stdio"]);
    let mut command = vec!["--"];
    command.extend(child.iter().map(String::as_str));
    for behind in [vec!["--upstream", &upstream.url()], command] {
        let gate = served(&scratch, &pair, &behind);
        assert!(gate.stderr.lock().unwrap().contains("listening on https://127.0.0.1:"));
        let client = Client::silent(&gate.address, MODERN);
        let reply = exchange(&gate.address, &authority.file, &echo(&client, "1")).expect("an answer");
        assert_eq!(text_of(&reply.reply("1")), r#"{"n":1}"#);

        let before = entries_of(&scratch.log(), "raw").len();
        let reply = support::http::exchange(&gate.address, &echo(&client, "2")).expect("a word");
        assert_eq!(reply.status, 400);
        assert!(String::from_utf8_lossy(&reply.body).contains("https://"), "{reply:?}");
        assert_eq!(entries_of(&scratch.log(), "raw").len(), before, "nothing is forwarded");
    }
}

#[test]
fn another_certificate_is_taken_up_and_a_bad_pair_changes_nothing() {
    let scratch = Scratch::new();
    let (old, new) = (Authority::new(&scratch, "old"), Authority::new(&scratch, "new"));
    let pair = old.signs(&scratch, "ours", "localhost");
    let upstream = HttpUpstream::start(&scratch.log(), &[]);
    let gate = served(&scratch, &pair, &["--upstream", &upstream.url()]);
    let client = Client::silent(&gate.address, MODERN);
    let answers = |authority: &Authority| exchange(&gate.address, &authority.file, &echo(&client, "1")).is_some();
    let mut open = connect(&gate.address, &old.file);
    open.write_all(&echo(&client, "1")).expect("it is read");
    assert!(response(&mut open).is_some());

    // The certificate of one, the key of another.
    let other = new.signs(&scratch, "other", "localhost");
    std::fs::copy(&other.certificate, &pair.certificate).expect("it is ours");
    let said = || gate.stderr.lock().unwrap().clone();
    until(PATIENCE, || said().contains("does not belong to the certificate").then_some(())).expect("it is reported");
    assert!(answers(&old), "the old pair goes on");

    std::fs::rename(&other.key, &pair.key).expect("it is ours");
    until(PATIENCE, || answers(&new).then_some(())).unwrap_or_else(|| panic!("it is taken up: {}", said()));
    assert!(!answers(&old));
    open.write_all(&echo(&client, "2")).expect("an open connection goes on");
    assert!(response(&mut open).is_some());
}

#[test]
fn handshakes_that_stall_hold_up_nobody() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "authority");
    let pair = authority.signs(&scratch, "ours", "localhost");
    let upstream = HttpUpstream::start(&scratch.log(), &[]);
    let gate = served(&scratch, &pair, &["--upstream", &upstream.url()]);
    let client = Client::silent(&gate.address, MODERN);
    let begun = Instant::now();
    let mut stalled: Vec<_> = (0..200)
        .map(|number| {
            let mut socket = TcpStream::connect(&gate.address).expect("the listener is there");
            // Nothing, half a record, a record of a length that never comes, and no TLS at all beyond its first byte.
            let parts: [&[u8]; 4] = [b"", b"\x16\x03", b"\x16\x03\x01\x40\x00\x01", b"\x16POST /mcp HTTP/1.1\r\n\r\n"];
            let _ = socket.write_all(parts[number % 4]);
            socket
        })
        .collect();
    assert!(exchange(&gate.address, &authority.file, &echo(&client, "1")).is_some());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for socket in &mut stalled {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout is settable");
        let mut rest = Vec::new();
        let ended = socket.read_to_end(&mut rest);
        let timed_out = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!timed_out, "it is closed in time");
    }
    assert_eq!(support::tools_run(&scratch.log()).len(), 1);
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_how_to_mend_it() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "authority");
    let good = authority.signs(&scratch, "ours", "localhost");
    let other = authority.signs(&scratch, "other", "localhost");
    let policy = scratch.policy(OPEN).display().to_string();
    let write = |name: &str, text: &str| scratch.write(name, text).display().to_string();
    let empty = write("empty.pem", "nothing");
    let encrypted = write("encrypted.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let spoilt = write("spoilt.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let check = |command: &str, options: &[&str], code: i32, words: &[&str]| {
        let mut arguments = vec![command, "-p", &policy, "--state", "memory:"];
        arguments.extend(options);
        let ran = support::run(&arguments, "");
        assert_eq!(ran.code, code, "{options:?}: {}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{options:?}: {word}: {}", ran.stderr);
        }
    };
    let https = ["--upstream", "https://localhost:9/mcp"];
    let listener = |certificate: &str, key: &str, words: &[&str]| {
        check("serve", &[&https[..], &["--tls-cert", certificate, "--tls-key", key]].concat(), 3, words);
    };
    listener("/no/such/file", &good.key, &["/no/such/file", "cannot be read", "No such file"]);
    listener(&empty, &good.key, &["empty.pem", "holds no certificate", "BEGIN CERTIFICATE"]);
    listener(&spoilt, &good.key, &["spoilt.pem", "holds a certificate that cannot be used"]);
    listener(&good.certificate, &empty, &["empty.pem", "holds no private key", "BEGIN PRIVATE KEY"]);
    listener(&good.certificate, &encrypted, &["encrypted.key", "encrypted", "openssl pkey"]);
    listener(&good.certificate, &other.key, &["other.key", "does not belong to the certificate", "ours.crt"]);
    let upstream = |options: &[&str], code: i32, words: &[&str]| {
        for command in ["run", "serve"] {
            check(command, &[&https[..], options].concat(), code, words);
        }
    };
    upstream(&["--upstream-ca", &empty], 3, &["empty.pem", "holds no certificate"]);
    upstream(&["--upstream-cert", &good.certificate, "--upstream-key", &other.key], 3, &["other.key", "does not belong"]);
    upstream(&["--upstream-cert", &good.certificate], 2, &["--upstream-key"]);
    for command in ["run", "serve"] {
        let plain = ["--upstream", "http://localhost:9/mcp", "--upstream-ca", &authority.file()];
        check(command, &plain, 2, &["nothing is encrypted", "https://"]);
    }
}

#[test]
fn a_key_that_others_may_read_is_warned_of() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "authority");
    let pair = authority.signs(&scratch, "ours", "localhost");
    let upstream = HttpUpstream::start(&scratch.log(), &[]);
    let warned = |gate: &Served| gate.stderr.lock().unwrap().contains("chmod 600");
    assert!(!warned(&served(&scratch, &pair, &["--upstream", &upstream.url()])));
    std::fs::set_permissions(&pair.key, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
    let gate = served(&scratch, &pair, &["--upstream", &upstream.url()]);
    assert!(warned(&gate), "{}", gate.stderr.lock().unwrap());
}

/// What a call over the bridge is answered.
fn bridged(scratch: &Scratch, url: &str, options: &[&str]) -> (Value, String) {
    let mut run = support::callgate();
    run.arg("run").arg("-p").arg(scratch.policy(OPEN)).args(["--state", "memory:", "--upstream", url]).args(options);
    let mut client = Stdio::spawn(run);
    let reply = client.call(MODERN, "1", "echo", json!({"n": 1}));
    (reply, client.said())
}

#[test]
fn a_server_is_believed_by_the_authority_that_was_named_and_no_other() {
    let scratch = Scratch::new();
    let (ours, theirs) = (Authority::new(&scratch, "ours"), Authority::new(&scratch, "theirs"));
    let pair = ours.signs(&scratch, "server", "localhost");
    let upstream = HttpUpstream::start(&scratch.log(), &["--tls", &pair.certificate, &pair.key]);
    let (reply, _) = bridged(&scratch, &upstream.https(), &["--upstream-ca", &ours.file()]);
    assert_eq!(text_of(&reply), r#"{"n":1}"#);

    let ran = support::tools_run(&scratch.log()).len();
    let refused = |options: &[&str], url: &str, words: &[&str]| {
        let (reply, said) = bridged(&scratch, url, options);
        assert!(reply["error"].is_object(), "{reply}");
        let told = reply["error"]["message"].as_str().unwrap_or_default().to_owned();
        for word in words {
            assert!(told.contains(word) || said.contains(word), "{word}: {told}: {said}");
        }
    };
    refused(&["--upstream-ca", &theirs.file()], &upstream.https(), &["signed by no authority", "--upstream-ca"]);
    refused(&[], &upstream.https(), &["signed by no authority", "--upstream-ca"]);
    let by_address = format!("https://127.0.0.1:{}/mcp", upstream.port);
    refused(&["--upstream-ca", &ours.file()], &by_address, &["for another name"]);
    let plain = HttpUpstream::start(&scratch.log(), &[]);
    let not_tls = format!("https://localhost:{}/mcp", plain.port);
    refused(&["--upstream-ca", &ours.file()], &not_tls, &["does not speak TLS", "http://"]);
    assert_eq!(support::tools_run(&scratch.log()).len(), ran, "nothing was run");
}

/// `SSL_CERT_FILE` stands in the place of the machine's own list.
#[test]
fn without_a_word_a_server_is_believed_by_the_authorities_of_the_system() {
    let scratch = Scratch::new();
    let (ours, theirs) = (Authority::new(&scratch, "ours"), Authority::new(&scratch, "theirs"));
    let pair = ours.signs(&scratch, "server", "localhost");
    let upstream = HttpUpstream::start(&scratch.log(), &["--tls", &pair.certificate, &pair.key]);
    let (policy, url) = (scratch.policy(OPEN).display().to_string(), upstream.https());
    let before = ["-p", &policy, "--state", "memory:", "--upstream", &url];
    for (system, is_believed) in [(&ours, true), (&theirs, false)] {
        let callgate = || {
            let mut command = support::callgate();
            command.env("SSL_CERT_FILE", &system.file).env_remove("SSL_CERT_DIR");
            command
        };
        let mut run = callgate();
        run.arg("run").args(before);
        let mut client = Stdio::spawn(run);
        let reply = client.call(MODERN, "1", "echo", json!({"n": 1}));
        assert_eq!(text_of(&reply) == r#"{"n":1}"#, is_believed, "run: {reply} {}", client.said());

        let gate = Served::start_with(callgate(), &before);
        let client = Client::silent(&gate.address, MODERN);
        let reply = support::http::exchange(&gate.address, &echo(&client, "1")).expect("an answer");
        assert_eq!(reply.status == 200, is_believed, "serve: {reply:?}");
    }
    assert_eq!(support::tools_run(&scratch.log()).len(), 2, "nothing is sent to a server that is not believed");
}

#[test]
fn a_server_that_asks_is_shown_our_certificate() {
    let scratch = Scratch::new();
    let (authority, clients) = (Authority::new(&scratch, "authority"), Authority::new(&scratch, "clients"));
    let pair = authority.signs(&scratch, "server", "localhost");
    let (mine, foreign) = (clients.signs(&scratch, "mine", "me"), authority.signs(&scratch, "foreign", "me"));
    let options = ["--tls", &pair.certificate, &pair.key, "--tls-client-ca", &clients.file()];
    let upstream = HttpUpstream::start(&scratch.log(), &options);
    let authority = authority.file();
    let with = |pair: &Pair| -> Vec<String> {
        ["--upstream-ca", &authority, "--upstream-cert", &pair.certificate, "--upstream-key", &pair.key]
            .map(str::to_owned)
            .to_vec()
    };
    for behind in [with(&mine), with(&foreign), vec!["--upstream-ca".to_owned(), authority.clone()]] {
        let known = behind.contains(&mine.key);
        let options: Vec<&str> = behind.iter().map(String::as_str).collect();
        let (reply, said) = bridged(&scratch, &upstream.https(), &options);
        assert_eq!(text_of(&reply) == r#"{"n":1}"#, known, "run: {reply} {said}");

        let (policy, url) = (scratch.policy(OPEN).display().to_string(), upstream.https());
        let mut arguments = vec!["-p", &policy, "--state", "memory:", "--upstream", &url];
        arguments.extend(&options);
        let gate = Served::start(&arguments);
        let client = Client::silent(&gate.address, LEGACY);
        let reply = client.ask("1", "initialize", json!({"protocolVersion": LEGACY, "capabilities": {}}));
        assert_eq!(reply.status == 200, known, "serve: {reply:?}");
    }
}

// ---------------------------------------------------------------- clients that are known by certificates

/// A gateway of one server, whose grants are these (YAML), and which asks clients for certificates of `clients`.
struct Asking {
    scratch: Scratch,
    ours: Authority,
    upstream: HttpUpstream,
    clients: Authority,
    pair: Pair,
}

const TOKEN: &str = "a-token-of-the-tests-long-enough-to-be-one";

impl Asking {
    fn new() -> Asking {
        let scratch = Scratch::new();
        let (ours, clients) = (Authority::new(&scratch, "ours"), Authority::new(&scratch, "clients"));
        let pair = ours.signs(&scratch, "gateway", "localhost");
        scratch.policy(OPEN);
        scratch.write("token", TOKEN);
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        Asking { scratch, ours, upstream, clients, pair }
    }

    fn writes(&self, presence: &str, grants: &Value) -> PathBuf {
        let tls = json!({"certificate": self.pair.certificate, "key": self.pair.key, "client_ca": self.clients.file(),
            "client_certificates": presence});
        let servers = json!({"up": {"url": self.upstream.url(), "policy": "policy.yaml", "pin": "off"}});
        let state = self.scratch.state();
        let text = format!("listen: 127.0.0.1:0\nstate: {state}\ntls: {tls}\nservers: {servers}\ngrants: {grants}\n");
        self.scratch.write("callgate.yaml", text)
    }

    /// The status of a call, and what of its answer is text; nothing where the connection is refused.
    fn call(&self, gate: &Served, pair: Option<&Pair>, token: Option<&str>) -> Option<(u16, String)> {
        let mut stream = connect_as(pair, &gate.address, &self.ours.file);
        let reply = ask(&mut stream, gate, token)?;
        let text = reply.messages().first().map(|message| text_of(message).to_owned()).unwrap_or_default();
        Some((reply.status, text))
    }
}

fn ask(stream: &mut Tls, gate: &Served, token: Option<&str>) -> Option<Reply> {
    let body = call(MODERN, "1", "echo", json!({"n": 1}));
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!(
        "POST /mcp/up HTTP/1.1\r\nHost: {}\r\n{authorization}Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         MCP-Protocol-Version: {MODERN}\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\nContent-Length: {}\r\n\r\n{body}",
        gate.address,
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    response(stream)
}

fn fingerprint(pair: &Pair) -> String {
    let der = CertificateDer::from_pem_file(&pair.certificate).expect("a certificate");
    digest(&SHA256, &der).as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[test]
fn a_client_is_known_by_its_certificate_for_as_long_as_the_grant_is_there() {
    let here = Asking::new();
    let spiffe = here.clients.signs_uri(&here.scratch, "by-san", "spiffe://example.org/ci");
    let subject = here.clients.signs(&here.scratch, "by-subject", "a.example.org");
    let whole = here.clients.signs(&here.scratch, "by-fingerprint", "b.example.org");
    let stranger = here.clients.signs(&here.scratch, "stranger", "c.example.org");
    let elsewhere = Scratch::new();
    let both = here.clients.signs(&elsewhere, "by-subject", "two.example.org");
    let forged = here.ours.signs_uri(&here.scratch, "forged", "spiffe://example.org/ci");
    let grant = |name: &str, certificate: Value| json!({"name": name, "principal": format!("service:{name}"), "certificate": certificate, "servers": ["up"]});
    let mut grants = vec![
        grant("san", json!({"san": "spiffe://example.org/ci"})),
        grant("subject", json!({"subject": "CN=by-subject,O=Example"})),
        grant("fingerprint", json!({"fingerprint": fingerprint(&whole)})),
        grant("two", json!({"san": "two.example.org"})),
        json!({"name": "token", "principal": "service:token", "token": "file:token", "servers": ["up"]}),
    ];
    let gate = Served::configured(&here.writes("optional", &json!(grants)), &[]);
    let echoed = || Some((200, r#"{"n":1}"#.to_owned()));
    for pair in [&spiffe, &subject, &whole] {
        assert_eq!(here.call(&gate, Some(pair), None), echoed(), "{}", pair.certificate);
    }
    let status = |pair: Option<&Pair>, token: Option<&str>| here.call(&gate, pair, token).map(|(status, _)| status);
    assert_eq!(status(None, Some(TOKEN)), Some(200), "a certificate is optional");
    assert_eq!(status(Some(&stranger), Some(TOKEN)), Some(200), "a token tells who it is where there is one");
    assert_eq!(status(None, None), Some(401));
    assert_eq!(status(Some(&stranger), None), Some(401), "a good certificate of nobody's");
    assert_eq!(status(Some(&both), None), Some(401), "one that leads to two grants");
    assert_eq!(status(Some(&spiffe), Some("callgate_wrong")), Some(401), "a wrong token is not made good by a certificate");
    assert_eq!(status(Some(&forged), None), None, "of another authority");
    let records = support::audit(&here.scratch.state());
    let who: Vec<_> = records.iter().filter(|record| record["phase"] == "decided").map(|record| &record["principal"]).collect();
    assert_eq!(who, ["service:san", "service:subject", "service:fingerprint", "service:token", "service:token"]);

    // The connection stays, and what it may do ends with the grant.
    let mut open = connect_as(Some(&spiffe), &gate.address, &here.ours.file);
    assert_eq!(ask(&mut open, &gate, None).map(|reply| reply.status), Some(200));
    grants.remove(0);
    here.writes("optional", &json!(grants));
    until(PATIENCE, || (ask(&mut open, &gate, None)?.status == 401).then_some(())).expect("the grant is gone");
    assert_eq!(here.call(&gate, Some(&subject), None), echoed(), "the others stay");
}

#[test]
fn clients_without_a_certificate_are_turned_away_where_it_is_required() {
    let here = Asking::new();
    let mine = here.clients.signs(&here.scratch, "mine", "me.example.org");
    let grants = json!([{"name": "me", "principal": "service:me", "certificate": {"san": "me.example.org"}, "servers": ["up"]}]);
    let gate = Served::configured(&here.writes("required", &grants), &[]);
    assert_eq!(here.call(&gate, None, None), None);
    assert_eq!(here.call(&gate, Some(&mine), None).map(|(status, _)| status), Some(200));

    // Other authorities are believed as soon as the file says so.
    let others = Authority::new(&here.scratch, "others");
    std::fs::copy(&others.file, &here.clients.file).expect("it is ours");
    until(PATIENCE, || here.call(&gate, Some(&mine), None).is_none().then_some(())).expect("the old ones are not believed");
    let mine = others.signs(&here.scratch, "mine", "me.example.org");
    assert_eq!(here.call(&gate, Some(&mine), None).map(|(status, _)| status), Some(200));
}

#[test]
fn serve_before_one_server_asks_for_certificates_too() {
    let here = Asking::new();
    let mine = here.clients.signs(&here.scratch, "mine", "me.example.org");
    let url = here.upstream.url();
    let authorities = here.clients.file();
    let gate = served(&here.scratch, &here.pair, &["--tls-client-ca", &authorities, "--upstream", &url]);
    let client = Client::silent(&gate.address, MODERN);
    let answered = |pair: Option<&Pair>| {
        let mut stream = connect_as(pair, &gate.address, &here.ours.file);
        stream.write_all(&echo(&client, "1")).ok()?;
        response(&mut stream)
    };
    assert_eq!(text_of(&answered(Some(&mine)).expect("an answer").reply("1")), r#"{"n":1}"#);
    assert!(answered(None).is_none());
}

#[test]
fn a_certificate_that_nobody_could_show_is_a_mistake() {
    let here = Asking::new();
    let grants = json!([{"name": "me", "principal": "service:me", "certificate": {"san": "me"}, "servers": ["up"]}]);
    let path = here.writes("required", &grants);
    let text = std::fs::read_to_string(&path).expect("it is there");
    let check = |find: &str, put: &str, words: &str| {
        assert!(text.contains(find), "{find}");
        let ran = support::run(&["check", &here.scratch.write("other.yaml", text.replace(find, put)).display().to_string()], "");
        assert_eq!(ran.code, if words.is_empty() { 0 } else { 3 }, "{put}: {}{}", ran.stdout, ran.stderr);
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains(words), "{put}: {}{}", ran.stdout, ran.stderr);
    };
    check("grants", "grants", "");
    let asks = format!(r#","client_ca":{},"client_certificates":"required""#, json!(here.clients.file()));
    check(&asks, "", "clients are not asked");
    check(&format!(r#""client_ca":{},"#, json!(here.clients.file())), "", "`client_certificates` is of no use");
    check(r#"{"san":"me"}"#, "{}", "one of `san`, `subject` and `fingerprint`");
    check(r#"{"san":"me"}"#, r#"{"fingerprint":"abc"}"#, "64 hexadecimal digits");
    check(r#"{"san":"me"}"#, r#"{"subject":"me"}"#, "CN=ci,O=Example");
}

#[test]
fn another_certificate_is_shown_to_servers_once_its_files_change() {
    let scratch = Scratch::new();
    let (authority, clients) = (Authority::new(&scratch, "authority"), Authority::new(&scratch, "clients"));
    let pair = authority.signs(&scratch, "server", "localhost");
    let foreign = authority.signs(&scratch, "mine", "me");
    let options = ["--tls", &pair.certificate, &pair.key, "--tls-client-ca", &clients.file()];
    let upstream = HttpUpstream::start(&scratch.log(), &options);
    let policy = scratch.policy(OPEN).display().to_string();
    let (ca, url) = (authority.file(), upstream.https());
    let gate = Served::start(&[
        "-p",
        &policy,
        "--state",
        "memory:",
        "--upstream",
        &url,
        "--upstream-ca",
        &ca,
        "--upstream-cert",
        &foreign.certificate,
        "--upstream-key",
        &foreign.key,
    ]);
    let client = Client::silent(&gate.address, MODERN);
    let works = || support::http::exchange(&gate.address, &echo(&client, "1")).is_some_and(|reply| reply.status == 200);
    assert!(!works(), "the server does not believe it");
    clients.signs(&scratch, "mine", "me");
    until(PATIENCE, || works().then_some(())).unwrap_or_else(|| panic!("{}", gate.stderr.lock().unwrap()));
}
