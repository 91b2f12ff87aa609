use super::*;
use std::path::PathBuf;

/// A directory that is gone at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        let place = std::env::temp_dir().join(format!("callgate-config-{}", store::fresh_id().unwrap()));
        std::fs::create_dir_all(place.join("policies")).unwrap();
        let place = Place(place);
        place.write("policies/files.yaml", "version: \"1\"\ntools: {read_file: {}}\ndefault: deny\n");
        place.write("secret", "hunter2-of-the-file\n");
        place
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn read(&self, text: &str) -> ConfigFile {
        self.write("callgate.yaml", text);
        let environment = |name: &str| match name {
            "TOKEN" => Some("hunter2-of-the-environment".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        ConfigFile::read(&self.0.join("callgate.yaml"), &environment).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const SERVERS: &str = "servers:\n  files:\n    command: [cat]\n    policy: policies/files.yaml\n";

#[track_caller]
fn check(text: &str, code: &str, line: u32, says: &str) {
    let file = Place::new().read(text);
    let found = file.reports().iter().find(|report| report.problem.code == code && report.problem.line == line);
    let all: Vec<_> = file.reports().iter().map(|report| report.render(false)).collect();
    let found = found.unwrap_or_else(|| panic!("{code} in line {line}: {all:?}"));
    assert!(found.render(false).contains(says), "{}", found.render(false));
    for shown in all {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_whole_configuration_is_read() {
    let text = format!(
        "listen: localhost:0\nhosts: [mcp.example.org]\nstate: sqlite:a.db\n{SERVERS}  web:\n    url: https://example.org/mcp\n    \
         headers: {{Authorization: env:TOKEN, X-Set: plain}}\n    request_headers: [X-Request-Id]\n    timeout: 30s\n\
         grants:\n  - {{name: ada, principal: 'person:ada', token: 'file:secret', servers: [files], policy: policies/files.yaml, \
         tools: ['read_*'], limits: [3/day], expires: 2030-01-01, labels: {{team: a}}}}\n\
         admin: {{token: 'env:TOKEN'}}\naudit: {{arguments: full, keep_for: 90d}}\ntelemetry: {{log: info}}\n"
    );
    let file = Place::new().read(&text);
    let said: Vec<_> = file.reports().iter().map(|report| report.render(false)).collect();
    let config = file.config().unwrap_or_else(|| panic!("{said:?}"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:0");
    assert_eq!((config.servers.len(), config.grants.len()), (2, 1));
    assert_eq!(config.servers[1].request_headers, ["x-request-id"]);
    let grant = &config.grants[0];
    assert!(matches!(&grant.token, Some(TokenConfig::Plain(token)) if token.expose() == "hunter2-of-the-file"));
    assert_eq!(grant.expires, Some(1_893_456_000_000));
    let bounds = grant.bounds.as_ref().unwrap();
    assert!(bounds.lists("read_file", None) && !bounds.lists("write_file", None));
    assert!(!format!("{config:?}").contains("hunter2"), "secrets are not shown");
}

#[test]
fn every_mistake_has_its_place() {
    check("sevrers: {}\n", "P010", 1, "write `servers`");
    check("servers:\n  Files: {command: [cat]}\n", "C002", 2, "lower-case letters");
    check("servers:\n  files: {comand: [cat]}\n", "P010", 2, "write `command`");
    check("servers:\n  files: {url: 'https://h/mcp', command: [cat]}\n", "C008", 2, "both `url` and `command`");
    check("servers:\n  files: {command: [cat], policy: nowhere.yaml}\n", "C004", 2, "nowhere.yaml");
    check(&format!("{SERVERS}grants:\n  - {{name: a, principal: p, token: 'env:NOPE', servers: [files]}}\n"), "C004", 6, "NOPE");
    check(
        &format!("{SERVERS}grants:\n  - {{name: a, principal: p, token: 'env:EMPTY', servers: [files]}}\n"),
        "C005",
        6,
        "is empty",
    );
    check(
        &format!("{SERVERS}grants:\n  - {{name: a, principal: p, token: 'env:TOKEN', servers: [flies]}}\n"),
        "C007",
        6,
        "`flies`",
    );
    let long = "x".repeat(122);
    let grant = format!("  - {{name: a, principal: p, token: 'env:TOKEN', servers: [files], tools: ['{long}', '{long}*']}}\n");
    check(&format!("{SERVERS}grants:\n{grant}"), "C002", 6, "it is longer than 128 characters");
    let twice = "  - {name: a, principal: p, token: 'env:TOKEN', servers: [files]}\n";
    check(&format!("{SERVERS}grants:\n{twice}{twice}"), "C006", 7, "stands twice");
    check(&format!("listen: 0.0.0.0:0\n{SERVERS}"), "C009", 1, "no credentials");
    check(&format!("{SERVERS}admin: {{listen: '0.0.0.0:1', token: 'env:TOKEN'}}\n"), "C009", 5, "administration");
}

#[test]
fn a_literal_in_the_place_of_a_secret_is_refused_and_not_shown() {
    check(&format!("{SERVERS}grants:\n  - {{name: a, principal: p, token: hunter2, servers: [files]}}\n"), "C003", 6, "env:NAME");
    check(&format!("{SERVERS}grants:\n  - name: a\n    tokne: hunter2\n"), "P010", 7, "write `token`");
    check(&format!("{SERVERS}admin: {{token: [hunter2]}}\n"), "C003", 5, "env:NAME");
    check("servers:\n  a: {url: 'https://h/mcp', headers: {Authorization: Bearer hunter2}}\n", "C003", 2, "env:NAME");
    check("servers:\n  a: {url: 'https://u:hunter2@h/mcp'}\n", "C003", 2, "env:NAME");
    check("servers:\n  a: {command: [cat], env: {API_KEY: hunter2}}\n", "C003", 2, "env:NAME");
    check(&format!("state: postgres://u:hunter2@h/d\n{SERVERS}"), "C003", 1, "env:NAME");
    // A broken text has no tree to ask what is secret.
    check(&format!("{SERVERS}admin: {{token: \"hunter2\n"), "P002", 5, "");
}

#[test]
fn what_was_read_is_one_fingerprint() {
    let place = Place::new();
    let text = format!("{SERVERS}grants:\n  - {{name: a, principal: p, token: 'file:secret', servers: [files]}}\n");
    let before = place.read(&text).fingerprint();
    assert_eq!(place.read(&text).fingerprint(), before);
    place.write("secret", "another");
    let rotated = place.read(&text).fingerprint();
    place.write("policies/files.yaml", "version: \"1\"\ndefault: deny\n");
    let all = [before, rotated, place.read(&text).fingerprint()];
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 3);
}

/// What is said of a server and of a grant that the state keeps beside such a configuration, and both.
fn kept(config: &str, server: &str, grant: &str) -> (String, kept::Whole) {
    kept_with(config, server, grant, None)
}

/// The same beside a policy. `PLACE` in the grant is the configuration's directory.
fn kept_with(config: &str, server: &str, grant: &str, policy: Option<&str>) -> (String, kept::Whole) {
    let place = Place::new();
    let grant = grant.replace("PLACE", &place.0.canonicalize().unwrap().display().to_string());
    place.write("other", "hunter2-of-the-other-file");
    let file = place.read(config);
    let said: Vec<_> = file.reports().iter().map(|report| report.render(false)).collect();
    let config = file.config().unwrap_or_else(|| panic!("{said:?}"));
    let document =
        |text: &str| store::Document { name: "kept".into(), version: 1, text: Some(text.into()), at: 0, by: "ada".into() };
    let grant = store::StoredGrant {
        name: "kept".into(),
        version: 1,
        spec: Some(grant),
        digest: Some("00".into()),
        former: None,
        created: 0,
        changed: 0,
        revoked: None,
    };
    let policies = policy.map(document).into_iter().collect();
    let kept = store::Kept { version: 1, servers: vec![document(server)], policies, grants: vec![grant] };
    let environment = |name: &str| (name == "UP_TOKEN" || name == "TOKEN").then(|| "hunter2".to_owned());
    let whole = kept::Whole::of(config, &kept, &environment, &kept::Whole::default());
    let said = whole.said.iter().flat_map(|said| said.problems.iter().map(Problem::to_json)).collect::<Vec<_>>().join("\n");
    assert!(!said.contains("hunter2"), "{said}");
    (said, whole)
}

const GRANT: &str = r#"{"name": "kept", "principal": "p", "servers": ["kept"]}"#;

#[test]
fn what_the_state_keeps_refers_to_nothing_that_the_configuration_does_not_allow() {
    let with = |admin: &str| format!("{SERVERS}admin: {{token: 'env:TOKEN'{admin}}}\n");
    let limited = with(", references: ['env:UP_*', 'file:secret', 'file:policies/*']");
    let refused = |config: &str, server: &str| {
        let (said, whole) = kept(config, server, GRANT);
        whole.server("kept").is_none() && said.contains("may not name") && !said.contains("cannot be read")
    };
    let naming = |reference: &str| format!(r#"{{"url": "https://h/mcp", "headers": {{"X-Token": "{reference}"}}}}"#);
    for reference in ["env:UP_TOKEN", "file:secret", "file:policies/files.yaml"] {
        let (said, whole) = kept(&limited, &naming(reference), GRANT);
        assert!(whole.server("kept").is_some() || said.contains("a line break"), "{reference}: {said}");
    }
    for reference in ["env:TOKEN", "file:other", "file:/etc/passwd", "file:policies/../other", "file:./secret", "env:UP"] {
        assert!(refused(&limited, &naming(reference)), "{reference}");
    }
    // A URL is a reference too, and what proves who we are is a file.
    assert!(refused(&limited, r#"{"url": "env:TOKEN"}"#));
    assert!(refused(&limited, r#"{"url": "https://h/mcp", "certificate": "other", "key": "other"}"#));
    assert!(refused(&limited, r#"{"url": "https://h/mcp", "ca": "/dev/zero"}"#));
    for policy in ["/etc/passwd", "policies/../other"] {
        let (said, whole) = kept(&limited, &format!(r#"{{"url": "https://h/mcp", "policy": "{policy}"}}"#), GRANT);
        assert!(said.contains("beside the configuration") && whole.server("kept").is_none(), "{policy}: {said}");
    }
    // Whoever may start programs can read everything without a reference; whoever may not gets nothing that is not listed.
    assert!(!refused(&with(""), &naming("env:TOKEN")));
    assert!(refused(&with(", commands: false"), &naming("env:TOKEN")));
    assert!(refused(SERVERS, &naming("env:TOKEN")), "a gateway that nobody administers");
    for pattern in ["'*'", "'env:'", "'file:../*'", "'env:*_TOKEN'", "TOKEN"] {
        check(&with(&format!(", references: [{pattern}]")), "C002", 5, "the beginning of one");
    }
}

#[test]
fn a_kept_grant_names_policies_only_where_the_configuration_lets_it() {
    let limited = format!("{SERVERS}admin: {{token: 'env:TOKEN', references: ['file:/srv/policies/*']}}\n");
    let server = r#"{"url": "https://h/mcp"}"#;
    let naming = |policy: &str| GRANT.replace("}", &format!(r#", "policy": "{policy}"}}"#));
    for policy in ["policies/files.yaml", "./policies/files.yaml", "PLACE/policies/files.yaml"] {
        let (said, whole) = kept(&limited, server, &naming(policy));
        assert!(whole.grant("kept").is_some_and(|grant| grant.policies.len() == 1), "{policy}: {said}");
    }
    for config in [&limited, SERVERS] {
        for policy in ["/etc/passwd", "policies/../other", "PLACE/../other", "PLACE/policies/../other"] {
            let (said, whole) = kept(config, server, &naming(policy));
            assert!(said.contains("beside the configuration") && whole.grant("kept").is_none(), "{policy}: {said}");
        }
    }
    // What is listed is looked for; and whoever may start programs reads everything anyway.
    let anywhere = format!("{SERVERS}admin: {{token: 'env:TOKEN'}}\n");
    for (config, policy) in [(&limited, "/srv/policies/none.yaml"), (&anywhere, "/srv/none.yaml")] {
        let (said, _) = kept(config, server, &naming(policy));
        assert!(said.contains("cannot be read"), "{policy}: {said}");
    }
}

#[test]
fn a_kept_policy_refers_to_nothing_that_the_configuration_does_not_allow() {
    let limited = format!("{SERVERS}admin: {{token: 'env:TOKEN', references: ['env:UP_*', 'file:secrets/*']}}\n");
    let anything = format!("{SERVERS}admin: {{token: 'env:TOKEN'}}\n");
    let judged = |config: &str, url: &str, secret: &str| {
        let policy = format!(
            "version: '1'\napprovals: {{webhook: {{url: '{url}', secret: '{secret}'}}}}\n\
             tools: {{pay: {{rules: [{{name: r, action: require_approval}}]}}}}\n"
        );
        kept_with(config, r#"{"url": "https://h/mcp", "policy": "state:kept"}"#, GRANT, Some(&policy))
    };
    for (url, secret) in [
        ("https://h/x", "env:TOKEN"),
        ("https://h/x", "file:other"),
        ("https://h/x", "file:secrets/../other"),
        ("https://h/x", "file:/etc/passwd"),
        ("env:TOKEN", "env:UP_TOKEN"),
    ] {
        for config in [&limited, SERVERS] {
            let (said, whole) = judged(config, url, secret);
            assert!(said.contains("may not name") && whole.policies["kept"].policy().is_none(), "{url} {secret}: {said}");
            assert!(whole.server("kept").is_none(), "a server is not left without its policy: {said}");
        }
        assert!(judged(&anything, url, secret).1.server("kept").is_some(), "{url} {secret}");
    }
    let (said, whole) = judged(&limited, "env:UP_URL", "file:secrets/hook");
    let webhook =
        whole.policies["kept"].policy().and_then(|policy| policy.webhook().cloned()).unwrap_or_else(|| panic!("{said}"));
    // The path is taken from the configuration, like all others.
    let secret = webhook.secret.unwrap().to_string();
    assert!(secret.ends_with("/secrets/hook") && secret.starts_with("file:/"), "{secret}");
}

#[test]
fn a_grant_of_the_file_names_a_server_of_the_state_by_its_place() {
    let config = |server: &str| {
        format!("{SERVERS}grants:\n  - {{name: g, principal: p, token: 'env:TOKEN', servers: [files, '{server}']}}\n")
    };
    let (said, whole) = kept(&config("state:kept"), r#"{"url": "https://h/mcp", "policy": "policies/files.yaml"}"#, GRANT);
    assert_eq!(whole.grant("g").unwrap().servers, ["files", "kept"], "{said}");
    assert_eq!(whole.missing, []);
    let (_, whole) = kept(&config("state:other"), r#"{"url": "https://h/mcp"}"#, GRANT);
    assert_eq!(whole.missing, [("g".to_owned(), "other".to_owned())]);
    check(&config("kept"), "C007", 6, "`state:NAME`");
    check(&config("state:files"), "C007", 6, "stands in this file");
    check(&config("state:No Name"), "C002", 6, "`state:` and its name");
}

#[test]
fn what_a_document_names_is_a_plain_file_of_a_bounded_size() {
    check("servers:\n  a: {url: 'https://h/mcp', ca: /dev/zero}\n", "C004", 2, "no plain file");
    check("servers:\n  a: {command: [cat], policy: policies}\n", "C004", 2, "no plain file");
}

#[test]
fn a_kept_grant_takes_nobodys_name_in_a_certificate() {
    let tls = "tls: {certificate: secret, key: secret, client_ca: secret}\n";
    let grants = "grants:\n  - {name: ci, principal: ci, certificate: {san: ci.example.org}, servers: [files]}\n";
    let grant =
        |san: &str| format!(r#"{{"name": "kept", "principal": "p", "certificate": {{"san": "{san}"}}, "servers": ["kept"]}}"#);
    let server = r#"{"url": "https://h/mcp"}"#;
    let (said, whole) = kept(&format!("{tls}{SERVERS}{grants}"), server, &grant("ci.example.org"));
    assert!(said.contains("C006") && said.contains("the same name in a certificate"), "{said}");
    assert!(whole.grant("ci").is_some() && whole.grant("kept").is_none());
    let (said, whole) = kept(&format!("{tls}{SERVERS}{grants}"), server, &grant("other.example.org"));
    assert!(whole.grant("kept").is_some(), "{said}");
    let (said, whole) = kept(SERVERS, server, &grant("other.example.org"));
    assert!(said.contains("clients are not asked") && whole.grant("kept").is_none(), "{said}");
}

#[test]
fn a_kept_server_is_authorised_as_one_of_the_file_is() {
    let server = |flow: &str, more: &str| {
        format!(r#"{{"url": "https://h/mcp", "authorization": {{"flow": "{flow}", "client_id": "us"}}{more}}}"#)
    };
    let (said, whole) = kept(SERVERS, &server("token_exchange", ""), GRANT);
    assert!(said.contains("no `identity`") && whole.server("kept").is_none(), "{said}");
    let (said, whole) = kept(SERVERS, &server("authorization_code", ""), GRANT);
    assert!(said.contains("no key to seal") && whole.server("kept").is_none(), "{said}");
    let identity =
        format!("{SERVERS}identity: {{issuer: 'https://login.example.org', audience: 'https://us.example.org', grants: []}}\n");
    let (said, whole) = kept(&identity, &server("token_exchange", ""), GRANT);
    let authorization = whole.server("kept").and_then(|server| server.authorization.clone()).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(authorization.issuer.as_deref(), Some("https://login.example.org"), "the server does not say where tokens go");
    let (said, _) = kept(&identity, &server("token_exchange", r#", "isolation": "shared""#), GRANT);
    assert!(said.contains("one line for all"), "{said}");
}

#[test]
fn each_way_to_a_token_has_what_it_needs_and_nothing_else() {
    let by = |authorization: &str, more: &str| {
        format!("servers:\n  web:\n    url: https://h/mcp\n    authorization: {{{authorization}}}\n{more}")
    };
    let identity = |more: &str| format!("identity: {{issuer: 'https://id', audience: us, grants: []{more}}}\n");
    let managed = "flow: enterprise_managed, client_id: us";
    check(&by("flow: workload_identity", ""), "C001", 4, "`assertion` is missing");
    check(&by("flow: workload_identity, assertion: hunter2", ""), "C003", 4, "must not be written");
    check(&by("flow: workload_identity, assertion: 'file:none'", ""), "C004", 4, "cannot be read");
    check(&by("flow: workload_identity, assertion: 'file:secret', client_secret: 'env:TOKEN'", ""), "C001", 4, "has an id");
    check(&by(managed, &identity(", types: [JWT]")), "C001", 4, "`identity_provider` is missing");
    let provider = format!("{managed}, identity_provider: {{client_id: us}}");
    check(&by(&provider, ""), "C001", 4, "no `identity`");
    check(&by(&provider, &identity("")), "C008", 4, "`identity` takes none");
    check(
        &by("flow: client_credentials, client_id: us, client_secret: 'env:TOKEN', client_assertion: 'file:secret'", ""),
        "C008",
        4,
        "not two",
    );
    for (key, value) in [
        ("audience", "x"),
        ("subject_token", "id_token"),
        ("identity_provider", "{client_id: us}"),
        ("assertion", "'file:secret'"),
    ] {
        let flow = format!("flow: client_credentials, client_id: us, client_secret: 'env:TOKEN', {key}: {value}");
        check(&by(&flow, ""), "C008", 4, &format!("`{key}` belongs to"));
    }
    let read = |text: &str| {
        let file = Place::new().read(text);
        let said: Vec<_> = file.reports().iter().map(|report| report.render(false)).collect();
        let config = file.config().unwrap_or_else(|| panic!("{said:?}"));
        config.servers[0].authorization.clone().unwrap()
    };
    let config = read(&by(&provider, &identity(", types: [JWT]")));
    assert_eq!(config.provider.unwrap().issuer.as_deref(), Some("https://id"));
    assert_eq!(config.issuer, None, "the server's own is another");
    // What is read anew each time is no part of the configuration.
    let file = Place::new().read(&by("flow: workload_identity, assertion: 'file:secret', dpop: true", ""));
    assert!(file.config().is_some() && !file.files().iter().any(|path| path.ends_with("secret")));
}

#[test]
fn the_schema_knows_the_same_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/callgate.schema.json");
    let schema: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for (place, keys) in [
        ("", KEYS),
        ("/properties/tls", TLS_KEYS),
        ("/$defs/admin/properties/tls", TLS_KEYS),
        ("/$defs/server", servers::KEYS),
        ("/$defs/grant", grants::KEYS),
        ("/$defs/grant/properties/certificate", grants::CERTIFICATE_KEYS),
        ("/$defs/identity", identity::KEYS),
        ("/$defs/mapping", identity::MAPPING_KEYS),
        ("/$defs/approvals", approvals::KEYS),
        ("/$defs/webhook", approvals::WEBHOOK_KEYS),
        ("/$defs/export", audit::EXPORT_KEYS),
        ("/$defs/admin", admin::KEYS),
        ("/$defs/audit", audit::KEYS),
        ("/$defs/authorization", authorization::KEYS),
        ("/$defs/authorization/properties/identity_provider", authorization::PROVIDER_KEYS),
        ("/$defs/authorizations", authorization::SECTION_KEYS),
        ("/$defs/telemetry", telemetry::KEYS),
    ] {
        let known: HashSet<&str> = keys.iter().copied().collect();
        let written = schema.pointer(&format!("{place}/properties")).and_then(|value| value.as_object()).unwrap();
        assert_eq!(written.keys().map(String::as_str).collect::<HashSet<_>>(), known, "{place}");
    }
}
