//! `grants`: who may use the gateway of a configuration.
//!
//! A token is printed once, alone on stdout, so that it can be put where it belongs without passing through a file.

use crate::arguments::{CreateGrant, Grants, GrantsPlace};
use crate::commands::block_on;
use crate::configurations;
use crate::failure::{Failure, OK};
use crate::terminal::{Paint, table, tell, visible};
use gateway::config::Config;
use gateway::{Secret, new_token};
use json::quote;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use store::{Condition, GrantChange, Options, StateUrl, Store, StoredGrant, rfc3339};

pub fn grants(command: Grants) -> Result<u8, Failure> {
    match command {
        Grants::Create(arguments) => create(&arguments),
        Grants::List { place, json } => list(&place, json),
        Grants::Revoke { names, place, json } => revoke(&names, &place, json),
        Grants::Rotate { name, overlap, place, json } => rotate(&name, overlap, &place, json),
    }
}

/// Where grants are kept, and the configuration that goes with them.
pub(super) struct Kept {
    pub url: StateUrl,
    pub config: Option<Config>,
}

impl GrantsPlace {
    pub(super) fn kept(&self) -> Result<Kept, Failure> {
        let config = self.config.as_deref().map(configurations::read).transpose()?.map(|(config, _)| config);
        let of_config = config.as_ref().and_then(|config| config.state.clone());
        let url = match of_config.filter(|_| self.state.state.is_none()) {
            Some(url) => url,
            None => self.state.url()?,
        };
        if url == StateUrl::Memory {
            return Err(Failure::usage("`memory:` belongs to one process, and no grant in it can be changed from another"));
        }
        Ok(Kept { url, config })
    }
}

impl Kept {
    fn is_in_file(&self, name: &str) -> bool {
        self.config.as_ref().is_some_and(|config| config.grants.iter().any(|grant| grant.name == name))
    }

    /// One of these servers that is neither in the configuration, where there is one, nor kept in the state.
    fn unknown<'s>(&self, servers: &'s [String]) -> Result<Option<&'s String>, Failure> {
        let Some(config) = &self.config else { return Ok(None) };
        let in_file = |name: &String| config.servers.iter().any(|server| server.name == *name);
        if servers.iter().all(in_file) {
            return Ok(None);
        }
        let kept = self.with(async |store| Ok(store.reader()?.kept()?.servers))?;
        Ok(servers.iter().find(|name| !in_file(name) && !kept.iter().any(|server| server.name == **name)))
    }

    /// Does something with the state, and closes it.
    pub(super) fn with<T>(&self, work: impl AsyncFnOnce(&Store) -> Result<T, Failure>) -> Result<T, Failure> {
        let url = self.url.clone();
        block_on(async {
            let store = Store::open(url, Options::default())?;
            let done = work(&store).await;
            store.close().await;
            done
        })
    }

    fn change(&self, name: &str, change: impl FnOnce(&Store) -> Option<GrantChange>) -> Result<StoredGrant, Failure> {
        let by = operator();
        self.with(async |store| {
            let change = change(store).ok_or_else(|| Failure::general("the key of the state cannot be read"))?;
            Ok(store.change_grant(name, change, Condition::default(), &by).await?)
        })
    }
}

/// Under which name what is done here is recorded.
pub(super) fn operator() -> String {
    std::env::var("USER").unwrap_or_else(|_| "operator".to_owned())
}

fn create(arguments: &CreateGrant) -> Result<u8, Failure> {
    let kept = arguments.place.kept()?;
    let name = &arguments.name;
    gateway::config::check_grant_name(name).map_err(|why| Failure::usage(format!("`{}`: {why}", visible(name))))?;
    if kept.is_in_file(name) {
        return Err(Failure::general(format!("the configuration has a grant `{name}` already; take another name")));
    }
    let servers = match (&kept.config, arguments.server.as_slice()) {
        (Some(config), []) => config.servers.iter().map(|server| server.name.clone()).collect(),
        (None, []) => {
            return Err(Failure::usage("name the servers that it is for with `--server`, or the configuration with `-c`"));
        }
        (_, named) => named.to_vec(),
    };
    if let Some(unknown) = kept.unknown(&servers)? {
        return Err(Failure::usage(format!("neither the configuration nor the state has a server `{}`", visible(unknown))));
    }
    let policies = arguments.policy.iter().map(|path| absolute(path)).collect::<Result<Vec<_>, _>>()?;
    if let Some(config) = &kept.config
        && let Some(outside) = policies.iter().find(|path| !config.lets_grants_name(Path::new(path)))
    {
        return Err(Failure::usage(format!(
            "`{}` lies outside of the configuration's directory, where grants that the state keeps may name no policy; move it, \
             or list it under `references` of `admin`",
            visible(outside)
        )));
    }
    let spec = spec(arguments, &servers, &policies)?;
    let token = token()?;
    let made = kept.change(name, |store| Some(GrantChange::Create { digest: store.token_digest(token.expose())?, spec }))?;
    show_token(&made, &token, arguments.json)
}

fn token() -> Result<Secret, Failure> {
    new_token().ok_or_else(|| Failure::general("the system gives no random numbers"))
}

/// Says the token, once.
fn show_token(grant: &StoredGrant, token: &Secret, json: bool) -> Result<u8, Failure> {
    let mut out = std::io::stdout().lock();
    if json {
        let (name, spec) = (quote(&grant.name), grant.spec.as_deref().unwrap_or("null"));
        writeln!(out, r#"{{"name":{name},"token":{},"grant":{spec}}}"#, quote(token.expose()))?;
    } else {
        tell!("the token of `{}`, which is shown this once:", grant.name);
        writeln!(out, "{}", token.expose())?;
    }
    Ok(OK)
}

/// What the grant allows, in the form that it would have in a configuration.
fn spec(arguments: &CreateGrant, servers: &[String], policies: &[String]) -> Result<String, Failure> {
    let list = |texts: &[String]| format!("[{}]", texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(","));
    let principal = arguments.principal.as_ref().unwrap_or(&arguments.name);
    let mut members = vec![
        format!("\"name\":{}", quote(&arguments.name)),
        format!("\"principal\":{}", quote(principal)),
        format!("\"servers\":{}", list(servers)),
    ];
    for (key, texts) in [("tools", arguments.tool.as_slice()), ("policy", policies), ("limits", &arguments.limit)] {
        if !texts.is_empty() {
            members.push(format!("\"{key}\":{}", list(texts)));
        }
    }
    if let Some(expires) = &arguments.expires {
        members.push(format!("\"expires\":{}", quote(expires)));
    }
    if !arguments.label.is_empty() {
        let labels = arguments.label.iter().map(|(name, value)| format!("{}:{}", quote(name), quote(value)));
        members.push(format!("\"labels\":{{{}}}", labels.collect::<Vec<_>>().join(",")));
    }
    if arguments.approve_in_client {
        members.push("\"approve_in_client\":true".to_owned());
    }
    let spec = format!("{{{}}}", members.join(","));
    gateway::config::check_bounds(&arguments.tool, &arguments.limit).map_err(Failure::usage)?;
    Ok(spec)
}

/// The path of a policy that loads, from the root: the gateway may run elsewhere.
fn absolute(path: &Path) -> Result<String, Failure> {
    crate::policies::read(path)?;
    let shown = visible(&path.display().to_string());
    let path = path.canonicalize().map_err(|error| Failure::because(&format!("cannot find `{shown}`"), &error))?;
    path.into_os_string().into_string().map_err(|_| Failure::usage(format!("`{shown}` is not plain text")))
}

fn revoke(names: &[String], place: &GrantsPlace, json: bool) -> Result<u8, Failure> {
    let kept = place.kept()?;
    let mut out = std::io::stdout().lock();
    for name in names {
        if !kept.is_in_file(name) && !kept.with(async |store| Ok(is_kept(store, name)?))? {
            let hint = if kept.config.is_none() { "; for one of a configuration, name that with `-c`" } else { "" };
            return Err(Failure::general(format!("there is no grant `{}`{hint}", visible(name))));
        }
        kept.change(name, |_| Some(GrantChange::Revoke))?;
        match json {
            true => writeln!(out, r#"{{"name":{},"state":"revoked"}}"#, quote(name))?,
            false => writeln!(out, "{} is revoked", visible(name))?,
        }
    }
    Ok(OK)
}

fn is_kept(store: &Store, name: &str) -> Result<bool, store::StoreError> {
    Ok(store.reader()?.kept()?.grants.iter().any(|grant| grant.name == name))
}

fn rotate(name: &str, overlap: Option<Duration>, place: &GrantsPlace, json: bool) -> Result<u8, Failure> {
    let kept = place.kept()?;
    if kept.is_in_file(name) {
        let what = format!("the token of `{name}` stands outside of the state: change it where the configuration refers to");
        return Err(Failure::general(what));
    }
    let overlap_ms = overlap.and_then(|overlap| i64::try_from(overlap.as_millis()).ok()).unwrap_or(0);
    let token = token()?;
    let rotated =
        kept.change(name, |store| Some(GrantChange::Rotate { digest: store.token_digest(token.expose())?, overlap_ms }))?;
    show_token(&rotated, &token, json)
}

/// One grant, for people and machines.
struct Line {
    name: String,
    principal: String,
    servers: Vec<String>,
    source: &'static str,
    state: &'static str,
    expires: Option<i64>,
    labels: Vec<(String, String)>,
}

fn list(place: &GrantsPlace, json: bool) -> Result<u8, Failure> {
    let kept = place.kept()?;
    // Opened to write, so that a state of an earlier version is brought up to date.
    let (stored, now) = kept.with(async |store| Ok((store.reader()?.kept()?.grants, store.clock().now())))?;
    let lines = lines(&kept, &stored, now);
    let mut out = std::io::stdout().lock();
    if json {
        for line in &lines {
            let servers: Vec<String> = line.servers.iter().map(|server| quote(server)).collect();
            let labels: Vec<String> =
                line.labels.iter().map(|(name, value)| format!("{}:{}", quote(name), quote(value))).collect();
            writeln!(
                out,
                r#"{{"name":{},"principal":{},"servers":[{}],"source":"{}","state":"{}","expires":{},"labels":{{{}}}}}"#,
                quote(&line.name),
                quote(&line.principal),
                servers.join(","),
                line.source,
                line.state,
                line.expires.map_or("null".to_owned(), |at| quote(&rfc3339(at))),
                labels.join(",")
            )?;
        }
        return Ok(OK);
    }
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let expires = line.expires.map(rfc3339).unwrap_or_default();
            let (name, principal) = (visible(&line.name), visible(&line.principal));
            vec![name, principal, line.servers.join(", "), line.source.to_owned(), line.state.to_owned(), expires]
        })
        .collect();
    let paint = Paint::stdout();
    let colour = |column, cell: &str, padded: String| if column == 4 && cell != "active" { paint.bad(&padded) } else { padded };
    write!(out, "{}", table(&["NAME", "PRINCIPAL", "SERVERS", "SOURCE", "STATE", "EXPIRES"], &rows, colour))?;
    Ok(OK)
}

fn lines(kept: &Kept, stored: &[StoredGrant], now: i64) -> Vec<Line> {
    let state = |revoked: bool, expires: Option<i64>| match (revoked, expires.is_some_and(|expires| expires <= now)) {
        (true, _) => "revoked",
        (false, true) => "expired",
        (false, false) => "active",
    };
    let is_revoked = |name: &str| stored.iter().any(|stored| stored.name == name && stored.revoked.is_some());
    let of_file = kept.config.iter().flat_map(|config| &config.grants).map(|grant| Line {
        name: grant.name.clone(),
        principal: grant.principal.clone(),
        servers: grant.servers.clone(),
        source: "file",
        state: state(is_revoked(&grant.name), grant.expires),
        expires: grant.expires,
        labels: grant.labels.clone().into_iter().collect(),
    });
    let mut lines: Vec<Line> = of_file.collect();
    for grant in stored.iter().filter(|stored| !kept.is_in_file(&stored.name)) {
        let summary = gateway::config::summary(grant.spec.as_deref().unwrap_or_default());
        lines.push(Line {
            name: grant.name.clone(),
            principal: summary.principal,
            servers: summary.servers,
            source: if grant.spec.is_some() { "store" } else { "file" },
            state: state(grant.revoked.is_some(), summary.expires),
            expires: summary.expires,
            labels: summary.labels,
        });
    }
    lines
}
