//! How long a large gateway takes to start, and what it holds then.

use crate::measure::Plan;
use crate::peers::{self, Bed, Running};
use serde_json::{Value, json};
use std::fmt::Write;
use std::io;
use std::time::Instant;

/// A gateway that has just started.
#[derive(Clone, Debug)]
pub struct Start {
    pub grants: usize,
    pub servers: usize,
    /// Over all servers.
    pub tools: usize,
    /// Until it listens.
    pub millis: f64,
    pub megabytes: f64,
}

/// Starts a gateway of 1,000 grants, 50 servers and 3,000 tools with rules.
pub fn start(bed: &Bed, plan: &Plan) -> io::Result<Start> {
    let (grants, servers, tools) = if plan.quick { (10, 2, 20) } else { (1_000, 50, 3_000) };
    eprintln!("starting with {grants} grants, {servers} servers, {tools} tools");
    let (_echo, upstream) = bed.echo_http(0)?;
    let peer = peers::read(&large(grants, servers, tools / servers)).map_err(io::Error::other)?.remove(0);
    let mut starts = Vec::new();
    for _ in 0..plan.rounds {
        let began = Instant::now();
        let (running, _) = bed.start_http(&peer, upstream)?;
        let millis = began.elapsed().as_secs_f64() * 1e3;
        starts.push((millis, running.as_ref().map_or(0, Running::peak_kilobytes)));
    }
    starts.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (millis, _) = starts[starts.len() / 2];
    let kilobytes = starts.iter().map(|(_, kilobytes)| *kilobytes).max().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    Ok(Start { grants, servers, tools, millis, megabytes: kilobytes as f64 / 1024.0 })
}

/// The description of that gateway as a peer. Each server has a policy of its own, with rules for each of its tools; each
/// grant may use five servers, two tools of each kind, and so much an hour.
fn large(grants: usize, servers: usize, tools: usize) -> String {
    let name = |server: usize| format!("server-{server}");
    let mut files = serde_json::Map::new();
    let mut listed = serde_json::Map::new();
    for server in 0..servers {
        files.insert(format!("{}.yaml", name(server)), Value::String(policy(server, tools)));
        listed.insert(name(server), json!({"url": "{upstream}", "policy": format!("{}.yaml", name(server))}));
    }
    let granted: Vec<Value> = (0..grants)
        .map(|grant| {
            let usable: Vec<String> = (0..servers.min(5)).map(|step| name((grant + step * 7) % servers)).collect();
            json!({
                "name": format!("grant-{grant}"), "principal": format!("agent:{grant}"), "token": format!("sha256:{grant:064x}"),
                "servers": usable, "tools": ["read_*", "tool_1"], "limits": ["1000/hour"],
            })
        })
        .collect();
    let config = json!({"listen": "{listen}", "state": "sqlite:{dir}/state.db", "servers": listed, "grants": granted});
    files.insert("callgate.yaml".into(), Value::String(config.to_string()));
    let command = ["{callgate}", "serve", "-c", "{dir}/callgate.yaml"];
    json!([{"name": "callgate, large", "transports": ["http"], "files": files, "command": command}]).to_string()
}

fn policy(server: usize, tools: usize) -> String {
    let mut text = "version: \"1\"\ndefault: deny\ntools:\n".to_owned();
    for tool in 0..tools {
        let _ = write!(
            text,
            "  tool_{tool}:\n    rules:\n      - {{name: \"place {server}\", conditions: [{{path: args.city, op: neq, value: Atlantis}}]}}\n      - {{name: pace, rate_limit: 100/hour}}\n"
        );
    }
    text
}
