//! What a configuration puts in force.

use crate::config::kept::Whole;
use crate::config::{GrantConfig, ServerConfig, TokenConfig};
use crate::edition::Edition;
use crate::grants::{Credential, Grant, Grants, sha256};
use crate::identity::IdentityConfig;
use crate::snapshot::{AtServer, Rules, Snapshot};
use policy::{Policies, Policy};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// At each server its own policy, and those of each grant that names it. `identity` leads callers to grants too; `edition` says
/// which edition there is of a server; `before` is what was in force until `now`, in milliseconds since the Unix epoch.
pub(crate) fn of(
    whole: &Whole,
    identity: Option<&IdentityConfig>,
    edition: impl Fn(&str) -> Option<Edition>,
    before: &Snapshot,
    now: i64,
) -> Snapshot {
    let Whole { servers, grants, .. } = whole;
    // Many grants have the same policies.
    let mut made: HashMap<Vec<*const Policy>, Policies> = HashMap::new();
    let mut all_of = |policies: Vec<Arc<Policy>>| {
        let key = policies.iter().map(Arc::as_ptr).collect();
        made.entry(key).or_insert_with(|| Policies::all_of(policies)).clone()
    };
    let mut rules_at = HashMap::with_capacity(servers.len());
    for server in servers {
        let named = grants.iter().filter(|grant| grant.servers.contains(&server.name));
        let rules = named.map(|grant| (grant.name.clone(), all_of(policies(server, grant)))).collect();
        let at = AtServer { edition: edition(&server.name), rules: Rules::OfGrants(rules) };
        rules_at.insert(server.name.clone(), at);
    }
    let mut claims = identity.map(claims).unwrap_or_default();
    let grants = grants.iter().map(|config| {
        let mut credentials = credentials(config);
        credentials.extend(claims.remove(config.name.as_str()).unwrap_or_default());
        (grant(config), credentials)
    });
    Snapshot::new(rules_at, Grants::new(grants, before.grants(), now))
}

/// What holds for a grant at a server, in the order in which it is judged. What bounds a grant allows nothing by itself.
fn policies(server: &ServerConfig, grant: &GrantConfig) -> Vec<Arc<Policy>> {
    let mut policies: Vec<Arc<Policy>> = server.policy.iter().chain(&grant.policies).cloned().collect();
    if !policies.is_empty() {
        policies.extend(grant.bounds.clone());
    }
    policies
}

fn grant(config: &GrantConfig) -> Grant {
    Grant {
        name: config.name.clone(),
        principal: config.principal.clone(),
        servers: config.servers.clone(),
        expires: config.expires,
        approve_in_client: config.approve_in_client,
        edition: Edition::another(),
        ended: CancellationToken::new(),
    }
}

fn credentials(config: &GrantConfig) -> Vec<Credential> {
    let certificate = config.certificate.clone().map(Credential::Certificate);
    let token = match &config.token {
        None => Vec::new(),
        Some(TokenConfig::Kept { digest, former }) => {
            let former = former.iter().map(|(digest, until)| Credential::Kept(digest.clone(), *until));
            std::iter::once(Credential::Kept(digest.clone(), i64::MAX)).chain(former).collect()
        }
        Some(token) => token.sha256().map(Credential::Sha256).into_iter().collect(),
    };
    token.into_iter().chain(certificate).collect()
}

/// For each grant the claims that lead to it. Since the first mapping that fits counts, those before it decide too whose lead
/// there; so does whose tokens are believed.
fn claims(identity: &IdentityConfig) -> HashMap<&str, Vec<Credential>> {
    let mut found: HashMap<&str, Vec<Credential>> = HashMap::new();
    let mut decides = sha256(&format!("{:?}", IdentityConfig { grants: Vec::new(), ..identity.clone() }));
    for mapping in &identity.grants {
        decides = sha256(&format!("{decides:?}{mapping:?}"));
        found.entry(&mapping.grant).or_default().push(Credential::Claims(decides));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::grants::bounds_text;
    use crate::config::{Isolation, Start, Target};
    use crate::enforcer::{Caller, Enforcer};
    use crate::gate::{Expected, Gate, Judged};
    use crate::pins::Pinning;
    use crate::snapshot::Current;
    use crate::tools::{LiveTools, Schemas};
    use mcp::{Id, Message, Side};
    use policy::{Call, Outcome, RiskClass, Schema, Source};
    use serde_json::{Value, json};
    use std::collections::{BTreeMap, BTreeSet};
    use store::{ArgumentsMode, Options, StateUrl, Store};

    /// Numbers that are the same at every run (splitmix64).
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
        }
    }

    const TOOLS: [&str; 12] = [
        "read_file",
        "read_dir",
        "Read_File",
        "write_file",
        "delete",
        "delete_repo",
        "a",
        "b",
        "ab",
        "read",
        "read_x; drop",
        "\u{200b}a",
    ];
    const PATTERNS: [&str; 8] = ["read_*", "read_file", "*", "delete*", "a", "?", "write_file", "w*_file"];

    fn policy(chance: &mut Chance) -> Arc<Policy> {
        let posture = ["allow", "deny"][chance.below(2)];
        let hidden: Vec<&str> =
            (0..chance.below(3)).map(|_| PATTERNS[chance.below(PATTERNS.len())]).filter(|p| *p != "*").collect();
        let listed: Vec<&str> =
            (0..chance.below(4)).map(|_| PATTERNS[chance.below(PATTERNS.len())]).filter(|p| *p != "*").collect();
        let unique = |names: Vec<&str>| {
            let names: BTreeSet<String> = names.iter().map(|name| json::quote(name)).collect();
            names.into_iter().collect::<Vec<_>>()
        };
        let tools: Vec<String> = unique(listed).into_iter().map(|name| format!("{name}:{{}}")).collect();
        let said = RiskClass::ALL.map(|class| (class, [None, Some("\"hide\""), Some("{}")][chance.below(3)]));
        let said = said.iter().filter_map(|(class, said)| Some(format!("\"{}\":{}", class.key(), said.as_ref()?)));
        let risk = if chance.below(2) == 0 { String::new() } else { said.collect::<Vec<_>>().join(",") };
        let text = format!(
            r#"{{"version":"1","default":"{posture}","hide":[{}],"tools":{{{}}},"risk":{{{risk}}}}}"#,
            unique(hidden).join(","),
            tools.join(",")
        );
        let loaded = policy::load(&Source::new("p.json", text.clone()));
        Arc::new(loaded.policy.unwrap_or_else(|| panic!("{text}: {:?}", loaded.problems)))
    }

    fn server(name: &str, policy: Option<Arc<Policy>>) -> ServerConfig {
        ServerConfig {
            name: name.to_owned(),
            target: Target::Command { words: Vec::new(), env: Vec::new(), max_children: 1 },
            policy,
            isolation: Isolation::default(),
            start: Start::default(),
            request_headers: Vec::new(),
            timeout: std::time::Duration::from_secs(1),
            bridge_eras: true,
            pin: Pinning::default(),
            authorization: None,
        }
    }

    /// With policies of its own, and tools that it is bounded to, or without.
    fn random_grant(chance: &mut Chance) -> GrantConfig {
        let policies = (0..chance.below(3)).map(|_| policy(chance)).collect();
        let tools: BTreeSet<&str> = (0..chance.below(4)).map(|_| PATTERNS[chance.below(PATTERNS.len())]).collect();
        let tools: Vec<String> = tools.into_iter().map(str::to_owned).collect();
        let bounds = bounds_text((!tools.is_empty()).then_some(tools.as_slice()), None);
        let bounds = bounds.map(|text| policy::load(&Source::new("bounds", text)).policy.unwrap());
        GrantConfig {
            name: "g".into(),
            principal: "p".into(),
            token: None,
            certificate: None,
            servers: [&["here"][..], &["there"], &["here", "there"]][chance.below(3)].iter().map(ToString::to_string).collect(),
            policies,
            bounds: bounds.map(Arc::new),
            expires: None,
            labels: BTreeMap::new(),
            approve_in_client: false,
        }
    }

    /// The server `here` with a policy or without, before the holder of a random grant; and whether the grant is for it.
    fn random_enforcer(chance: &mut Chance, store: &Store) -> (Arc<Enforcer>, bool) {
        let of_server = (chance.below(2) == 0).then(|| policy(chance));
        let (servers, grants) = (vec![server("here", of_server)], vec![random_grant(chance)]);
        let whole = Whole { servers, grants, ..Whole::default() };
        let snapshot = of(&whole, None, |_| None, &Snapshot::default(), 0);
        let is_for = whole.grants[0].servers.contains(&"here".to_owned());
        assert_eq!(snapshot.policies("here", "g").is_some(), is_for);
        (Enforcer::of(store.clone(), ("here", None), ArgumentsMode::Drop, Current::new(snapshot)), is_for)
    }

    fn holder() -> Caller {
        Caller { principal: "p".into(), grant: "g".into(), ..Caller::default() }
    }

    fn memory() -> Store {
        Store::open(StateUrl::Memory, Options::default()).unwrap()
    }

    #[test]
    fn a_tool_is_listed_if_and_only_if_it_is_callable() {
        let (mut chance, store) = (Chance(7), memory());
        let (mut judged, mut listed, mut foreign) = (0, 0, 0);
        while judged < 100_000 {
            let (enforcer, is_for) = random_enforcer(&mut chance, &store);
            let policies = enforcer.policies(&holder());
            for tool in TOOLS {
                let at = jiff::Timestamp::UNIX_EPOCH;
                let class = RiskClass::ALL.get(chance.below(6)).copied();
                let call = Call { tool, arguments: None, schema: Schema::Unknown, class, at, explained: false };
                let callable = policies.evaluate(&call).decision.outcome == Outcome::Allow;
                assert_eq!(policies.lists(tool, class), callable, "{tool}, {class:?}: {policies:?}");
                // Neither, where the grant is not for the server at all.
                assert!(is_for || !callable, "{tool}, {class:?}");
                // Whoever is not known to be harmless may do what every class may, and no more.
                let anyhow = RiskClass::ALL.iter().all(|class| policies.lists(tool, Some(*class)));
                assert_eq!(policies.lists(tool, None), anyhow, "{tool}: {policies:?}");
                (judged, listed, foreign) = (judged + 1, listed + usize::from(callable), foreign + usize::from(!is_for));
            }
        }
        assert!(listed > judged / 20 && listed < judged / 2 && foreign > judged / 5, "{listed} of {judged}, {foreign}");
    }

    /// Sends a request through a gate; gives it with what it expects, where it may go to the server.
    async fn sent(gate: &Gate, method: &str, params: Value) -> Option<Expected> {
        let text = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let message = Message::parse(text, Side::Client).unwrap();
        let expected = gate.expects(&message);
        match gate.judge(message).await {
            Judged::Pass(permit) => Some(Expected { ticket: permit.into_ticket(), ..expected }),
            Judged::Answer(_) => None,
            Judged::Refused(_) | Judged::Held(_) => panic!("{method} is well-formed, and nobody is asked"),
        }
    }

    /// The same by way of messages, with what a server says of its tools: of several classes, as they are graded.
    #[tokio::test]
    async fn what_a_gate_lists_is_what_it_lets_through() {
        // Names that only look alike are left out of lists for another reason.
        let tools = TOOLS.iter().filter(|name| !matches!(**name, "Read_File" | "\u{200b}a"));
        let said: Vec<Value> = tools.map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).collect();
        let reply = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": said}}).to_string();
        let reply = Message::parse(reply, Side::Server).unwrap();
        let (mut chance, store) = (Chance(11), memory());
        let (mut judged, mut listed, mut foreign) = (0, 0, 0);
        while judged < 4_000 {
            let (enforcer, is_for) = random_enforcer(&mut chance, &store);
            let schemas = Schemas { tools: Arc::<LiveTools>::default(), ask: Arc::new(|_| Box::pin(async { None })) };
            let gate = Gate {
                enforcer,
                caller: holder(),
                schemas,
                over_http: false,
                stateless: false,
                elicits: false,
                opens_urls: false,
            };
            let asked = sent(&gate, "tools/list", json!({})).await.expect("a list may be asked for");
            let told: Value = serde_json::from_slice(&gate.settle(asked, &reply, &Id::from(1)).await).unwrap();
            let names: Vec<&str> =
                told["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
            for tool in said.iter().map(|tool| tool["name"].as_str().unwrap()) {
                let is_callable = sent(&gate, "tools/call", json!({"name": tool, "arguments": {}})).await.is_some();
                let policies = || gate.enforcer.policies(&gate.caller);
                assert_eq!(names.contains(&tool), is_callable, "{tool}: {names:?}, {:?}", policies());
                assert!(is_for || !is_callable, "{tool}");
                (judged, listed, foreign) = (judged + 1, listed + usize::from(is_callable), foreign + usize::from(!is_for));
            }
        }
        assert!(listed > judged / 20 && listed < judged / 2 && foreign > judged / 5, "{listed} of {judged}, {foreign}");
    }
}
