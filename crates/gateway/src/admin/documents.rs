//! What servers, policies and grants have in common here: versions, conditions, checks, history.
//!
//! A change is checked against everything else that is kept, as the file would be, and is carried out only if nothing has
//! changed since; else it is checked again. So two administrators at two gateways cannot together make what neither could alone.
//! Once it is committed it is in force here; other gateways on the state follow within a second.

use super::{Admin, Answered, Asked, grants, policies, resources, servers};
use crate::config::Config;
use crate::config::kept::Whole;
use crate::gateway::{Gateway, Reloaded};
use http::{HeaderMap, StatusCode};
use json::{Document as Json, Strictness, quote};
use policy::{Problem, Severity};
use std::sync::Arc;
use store::{Condition, Document, DocumentKind, Expected, GrantChange, Kept, StoreError, StoredGrant, rfc3339};

/// So often a change is checked again that others have come before.
const TRIES: usize = 8;

/// How things stand: what is in force, and what the state keeps.
pub(super) struct View<'a> {
    pub gateway: &'a Gateway,
    /// How clients call the gateway: `http://127.0.0.1:7420`.
    pub origin: &'a str,
    pub config: &'a Config,
    pub whole: &'a Whole,
    pub kept: &'a Kept,
    /// How servers are, by name: each an object of JSON.
    pub standings: &'a [(String, String)],
    /// In milliseconds since the Unix epoch.
    pub now: i64,
}

/// What a request says of the version that it changes (RFC 9110 §13.1).
pub(super) fn expected(headers: &HeaderMap) -> Result<Expected, Answered> {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(|text| Some(text.trim())).map_err(|_| ()),
            (Some(_), Some(_)) => Err(()),
        }
    };
    let version = |text: &str| text.strip_prefix('"')?.strip_suffix('"')?.parse().ok().filter(|version| *version > 0);
    match (one("if-match"), one("if-none-match")) {
        (Ok(None), Ok(None)) => Ok(Expected::Any),
        (Ok(None), Ok(Some("*"))) => Ok(Expected::Nothing),
        (Ok(Some("*")), Ok(None)) => Ok(Expected::Something),
        (Ok(Some(text)), Ok(None)) if version(text).is_some() => Ok(version(text).map_or(Expected::Any, Expected::Version)),
        _ => Err(resources::bad("send `If-Match` with one `ETag` as it was given, `If-Match: *`, or `If-None-Match: *`")),
    }
}

/// Carries out what is asked of the documents of a kind.
pub(super) async fn list(admin: &Admin, kind: DocumentKind) -> Answered {
    look(admin, move |view| {
        Answered::ok(resources::listed(names(view, kind).into_iter().filter_map(|name| shown(view, kind, &name, None))))
    })
    .await
}

pub(super) async fn show(admin: &Admin, kind: DocumentKind, name: String) -> Answered {
    look(admin, move |view| answer(view, kind, &name, StatusCode::OK, None)).await
}

pub(super) async fn put(admin: &Admin, kind: DocumentKind, asked: &Asked<'_>) -> Answered {
    let name = asked.id.clone().unwrap_or_default();
    let Ok(text) = String::from_utf8(asked.body.to_vec()) else {
        return resources::bad("the body is not text in UTF-8");
    };
    let text = match kind {
        DocumentKind::Policy => Ok(text),
        DocumentKind::Server => object(&text).map(|()| text),
        DocumentKind::Grant => object(&text).map(|()| grants::named(&name, text)),
    };
    match text {
        Ok(text) => change(admin, kind, name, Some(text), asked).await,
        Err(refused) => refused,
    }
}

pub(super) async fn remove(admin: &Admin, kind: DocumentKind, asked: &Asked<'_>) -> Answered {
    change(admin, kind, asked.id.clone().unwrap_or_default(), None, asked).await
}

pub(super) async fn history(admin: &Admin, kind: DocumentKind, name: String) -> Answered {
    let read = resources::read(&admin.store, {
        let name = name.clone();
        move |reader| reader.history(kind, &name)
    });
    match read.await {
        Ok(versions) if versions.is_empty() => missing(kind, &name),
        Ok(versions) => Answered::ok(resources::listed(versions.iter().map(|version| version_json(kind, version)))),
        Err(error) => resources::failed(&error),
    }
}

pub(super) async fn restore(admin: &Admin, kind: DocumentKind, asked: &Asked<'_>) -> Answered {
    let name = asked.id.clone().unwrap_or_default();
    let Some(wanted) = asked.parameter("version").and_then(|text| text.parse::<i64>().ok()) else {
        return resources::bad("`version` says which version to go back to");
    };
    let read = resources::read(&admin.store, {
        let name = name.clone();
        move |reader| reader.history(kind, &name)
    });
    let found = match read.await {
        Ok(versions) => versions.into_iter().find(|document| document.version == wanted).and_then(|document| document.text),
        Err(error) => return resources::failed(&error),
    };
    match found {
        Some(text) => change(admin, kind, name, Some(text), asked).await,
        None => Answered::refused(StatusCode::NOT_FOUND, "not-found", "no such version is kept"),
    }
}

/// Gives a grant another token.
pub(super) async fn rotate(admin: &Admin, asked: &Asked<'_>) -> Answered {
    let name = asked.id.clone().unwrap_or_default();
    let overlap_ms = match asked.parameter("overlap").map(policy::parse_span) {
        None => 0,
        Some(span) => match span.and_then(|span| i64::try_from(span.as_millis()).ok()).filter(|millis| *millis >= 0) {
            Some(millis) => millis,
            None => return resources::bad("`overlap` is a time such as `30s`, `15m` or `2h`"),
        },
    };
    let Some((token, digest)) = new_token(admin) else { return no_token() };
    let change = GrantChange::Rotate { digest, overlap_ms };
    match admin.store.change_grant(&name, change, Condition::default(), asked.by).await {
        Ok(_) => taken_up(admin, DocumentKind::Grant, name, StatusCode::OK, Some(token)).await,
        Err(error) => resources::failed(&error),
    }
}

/// Looks at the file and the state now.
pub(super) async fn reload(admin: &Admin) -> Answered {
    let Some(place) = &admin.place else { return no_configuration() };
    let reloaded = place.gateway.reload().await;
    if let Err(error) = refresh(&place.gateway).await {
        return resources::failed(&error);
    }
    match reloaded {
        Some(Reloaded::InForce { needs_restart }) => {
            let sections: Vec<String> = needs_restart.into_iter().map(quote).collect();
            Answered::ok(format!(r#"{{"reloaded":true,"needs_restart":[{}]}}"#, sections.join(",")))
        }
        Some(Reloaded::Mistaken(problems)) => mistaken("the configuration has mistakes; it stays as it is", problems.into_iter()),
        Some(Reloaded::Refused(why)) => Answered::refused(StatusCode::CONFLICT, "conflict", &crate::shown::visible(&why)),
        None => Answered::refused(StatusCode::CONFLICT, "conflict", "nobody watches the configuration file"),
    }
}

/// Puts a text in the place of a document, or removes it, once it has been checked.
async fn change(admin: &Admin, kind: DocumentKind, name: String, text: Option<String>, asked: &Asked<'_>) -> Answered {
    for _ in 0..TRIES {
        let checked = {
            let (name, text) = (name.clone(), text.clone());
            look(admin, move |view| check(view, kind, &name, text)).await
        };
        let (known, checked_at) = match checked {
            Ok(checked) => checked,
            Err(refused) => return refused,
        };
        let condition = Condition { expected: asked.expected, checked_at: Some(checked_at) };
        let (mut token, mut status) = (None, if known.stands { StatusCode::OK } else { StatusCode::CREATED });
        let changed = match (kind, text.clone()) {
            (DocumentKind::Grant, None) => {
                // What stands in the file has no versions here.
                let condition = if known.in_file { Condition { expected: Expected::Any, ..condition } } else { condition };
                admin.store.change_grant(&name, GrantChange::Revoke, condition, asked.by).await.map(drop)
            }
            (DocumentKind::Grant, Some(spec)) if known.stands => {
                admin.store.change_grant(&name, GrantChange::Replace { spec }, condition, asked.by).await.map(drop)
            }
            (DocumentKind::Grant, Some(spec)) => {
                let Some((new, digest)) = new_token(admin) else { return no_token() };
                token = Some(new);
                let create = GrantChange::Create { spec, digest };
                admin.store.change_grant(&name, create, condition, asked.by).await.map(drop)
            }
            (_, text) => admin.store.change_document(kind, &name, text, condition, asked.by).await.map(drop),
        };
        match changed {
            Ok(()) => {
                if text.is_none() {
                    status = StatusCode::OK;
                }
                return taken_up(admin, kind, name, status, token).await;
            }
            Err(StoreError::Moved) => {}
            Err(error) => return resources::failed(&error),
        }
    }
    Answered::refused(StatusCode::SERVICE_UNAVAILABLE, "busy", "others change things all the time; try again")
}

/// How a document stands before it is changed.
struct Known {
    stands: bool,
    in_file: bool,
}

/// Whether everything is as sound after a change as it was before; gives what there was, and as of which version of everything.
fn check(view: &View<'_>, kind: DocumentKind, name: &str, text: Option<String>) -> Result<(Known, i64), Answered> {
    let in_file = match kind {
        DocumentKind::Server => view.config.servers.iter().any(|server| server.name == name),
        DocumentKind::Grant => view.config.grants.iter().any(|grant| grant.name == name),
        DocumentKind::Policy => false,
    };
    let known = Known { stands: document(view, kind, name).is_some(), in_file };
    if in_file && !(kind == DocumentKind::Grant && text.is_none()) {
        let message = format!("the {} `{}` stands in the configuration file; change it there", kind.as_str(), shown_name(name));
        return Err(Answered::refused(StatusCode::CONFLICT, "conflict", &message));
    }
    if text.is_none() && !known.stands && !in_file {
        return Err(missing(kind, name));
    }
    if kind == DocumentKind::Policy && crate::config::check_grant_name(name).is_err() {
        return Err(resources::bad(
            "a policy is called by letters, digits and `.`, `_`, `@`, `-`, at most 64, a letter or digit first",
        ));
    }
    let is_given = text.is_some();
    let Some((_, after)) = view.gateway.as_if(&with(view.kept, kind, name, text)) else { return Err(no_configuration()) };
    let own = after.said_of(kind, name);
    if is_given && own.iter().any(|problem| problem.severity == Severity::Error) {
        let message = format!("the {} `{}` has mistakes", kind.as_str(), shown_name(name));
        return Err(mistaken(&message, own.iter().map(Problem::to_json)));
    }
    // Made anew, because what is in force may be of another moment than what is kept.
    let Some((_, before)) = view.gateway.as_if(view.kept) else { return Err(no_configuration()) };
    let is_new = |said: &&crate::config::kept::Said| {
        said.is_wrong() && !before.said.iter().any(|known| known.is_wrong() && known.kind == said.kind && known.name == said.name)
    };
    // Those of the file are not left out for it, but would allow nothing there.
    let missing = after.missing.iter().filter(|missing| !before.missing.contains(missing));
    let missing = missing.map(|(grant, _)| format!("the grant `{}` of the configuration file", shown_name(grant)));
    let broken: Vec<String> = after
        .said
        .iter()
        .filter(|said| (said.kind, said.name.as_str()) != (kind, name))
        .filter(is_new)
        .map(|said| format!("the {} `{}`", said.kind.as_str(), shown_name(&said.name)))
        .chain(missing)
        .collect();
    if !broken.is_empty() {
        let message = format!("then this could not be used any more: {}; change that first", broken.join(", "));
        return Err(Answered::refused(StatusCode::CONFLICT, "in-use", &message));
    }
    Ok((known, view.kept.version))
}

/// What is kept, with one document changed.
fn with(kept: &Kept, kind: DocumentKind, name: &str, text: Option<String>) -> Kept {
    let mut kept = kept.clone();
    let documents = match kind {
        DocumentKind::Server => &mut kept.servers,
        DocumentKind::Policy => &mut kept.policies,
        DocumentKind::Grant => {
            let known = kept.grants.iter().position(|grant| grant.name == name).map(|at| kept.grants.remove(at));
            let new = || StoredGrant {
                name: name.to_owned(),
                version: 0,
                spec: None,
                digest: None,
                former: None,
                created: 0,
                changed: 0,
                revoked: None,
            };
            kept.grants.extend(text.map(|spec| StoredGrant { spec: Some(spec), ..known.unwrap_or_else(new) }));
            return kept;
        }
    };
    documents.retain(|document| document.name != name);
    // No version that is kept has this number, so that nothing known is taken for it.
    let new = |text| Document { name: name.to_owned(), version: -1, text: Some(text), at: 0, by: String::new() };
    documents.extend(text.map(new));
    kept
}

/// Puts what was committed in force here, and shows it.
async fn taken_up(admin: &Admin, kind: DocumentKind, name: String, status: StatusCode, token: Option<crate::Secret>) -> Answered {
    if let Some(place) = &admin.place
        && let Err(error) = refresh(&place.gateway).await
    {
        // It is committed: the gateway takes it up once it can read the state again.
        tracing::warn!(%error, "what was changed cannot be read yet");
    }
    look(admin, move |view| match document(view, kind, &name) {
        None => Answered::ok(format!(r#"{{"name":{},"removed":true}}"#, quote(&name))),
        Some(_) => answer(view, kind, &name, status, token.as_ref()),
    })
    .await
}

async fn refresh(gateway: &Arc<Gateway>) -> Result<(), StoreError> {
    let gateway = gateway.clone();
    tokio::task::spawn_blocking(move || gateway.refresh()).await.unwrap_or(Err(StoreError::Busy))
}

/// Looks at everything as it is, where that may take its time.
async fn look<T: From<Answered> + Send + 'static>(admin: &Admin, work: impl FnOnce(&View<'_>) -> T + Send + 'static) -> T {
    let Some(place) = &admin.place else { return no_configuration().into() };
    let (gateway, origin, now) = (place.gateway.clone(), place.origin.clone(), admin.store.clock().now());
    let looked = resources::read(&admin.store, move |reader| {
        let kept = reader.kept()?;
        let Some((config, whole)) = gateway.applied() else { return Ok(no_configuration().into()) };
        let standings = &gateway.standings_shown();
        Ok(work(&View { gateway: &gateway, origin: &origin, config: &config, whole: &whole, kept: &kept, standings, now }))
    });
    looked.await.unwrap_or_else(|error| resources::failed(&error).into())
}

impl From<Answered> for Result<(Known, i64), Answered> {
    fn from(answered: Answered) -> Self {
        Err(answered)
    }
}

/// One document as it is answered.
fn answer(view: &View<'_>, kind: DocumentKind, name: &str, status: StatusCode, token: Option<&crate::Secret>) -> Answered {
    match shown(view, kind, name, token) {
        Some(body) => Answered { status, body, etag: document(view, kind, name).map(|document| document.version) },
        None => missing(kind, name),
    }
}

fn shown(view: &View<'_>, kind: DocumentKind, name: &str, token: Option<&crate::Secret>) -> Option<String> {
    match kind {
        DocumentKind::Server => servers::shown(view, name),
        DocumentKind::Policy => policies::shown(view, name),
        DocumentKind::Grant => grants::shown(view, name, token),
    }
}

/// The names of all documents of a kind, the file's first.
fn names(view: &View<'_>, kind: DocumentKind) -> Vec<String> {
    let kept = |documents: &[Document]| documents.iter().map(|document| document.name.clone()).collect::<Vec<_>>();
    let mut names: Vec<String> = match kind {
        DocumentKind::Server => view.config.servers.iter().map(|server| server.name.clone()).collect(),
        DocumentKind::Grant => view.config.grants.iter().map(|grant| grant.name.clone()).collect(),
        DocumentKind::Policy => Vec::new(),
    };
    let kept = match kind {
        DocumentKind::Server => kept(&view.kept.servers),
        DocumentKind::Policy => kept(&view.kept.policies),
        DocumentKind::Grant => view.kept.grants.iter().map(|grant| grant.name.clone()).collect(),
    };
    let new: Vec<String> = kept.into_iter().filter(|name| !names.contains(name)).collect();
    names.extend(new);
    names
}

/// A document that the state keeps; none of one that was removed or revoked.
pub(super) fn document(view: &View<'_>, kind: DocumentKind, name: &str) -> Option<Document> {
    let of = |documents: &[Document]| documents.iter().find(|document| document.name == name).cloned();
    match kind {
        DocumentKind::Server => of(&view.kept.servers),
        DocumentKind::Policy => of(&view.kept.policies),
        DocumentKind::Grant => {
            let stored = view.kept.grants.iter().find(|grant| grant.name == name && grant.revoked.is_none())?;
            let (text, at) = (Some(stored.spec.clone()?), stored.changed);
            Some(Document { name: name.to_owned(), version: stored.version, text, at, by: String::new() })
        }
    }
}

/// The members that all kinds have: name, source, version, digest, when it was changed and by whom, problems.
pub(super) fn common(view: &View<'_>, kind: DocumentKind, name: &str) -> String {
    let document = document(view, kind, name);
    let problems: Vec<String> = view.whole.said_of(kind, name).iter().map(Problem::to_json).collect();
    let text = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), quote);
    // Also of a grant that is revoked, which is no document any more.
    let is_kept = document.is_some()
        || view.kept.grants.iter().any(|grant| kind == DocumentKind::Grant && grant.name == name && grant.spec.is_some());
    let by = document.as_ref().map(|document| document.by.as_str()).filter(|by| !by.is_empty());
    format!(
        r#""name":{},"source":"{}","version":{},"digest":{},"changed":{},"changed_by":{},"problems":[{}]"#,
        quote(name),
        if is_kept { "state" } else { "file" },
        document.as_ref().map_or_else(|| "null".to_owned(), |document| document.version.to_string()),
        text(document.as_ref().and_then(Document::digest).as_deref()),
        text(document.as_ref().map(|document| rfc3339(document.at)).as_deref()),
        text(by),
        problems.join(",")
    )
}

/// The text of a document that is an object of JSON, as a member of another.
pub(super) fn inlined(document: Option<&Document>) -> String {
    let text = document.and_then(|document| document.text.as_deref()).filter(|text| object(text).is_ok());
    text.unwrap_or("null").to_owned()
}

fn version_json(kind: DocumentKind, version: &Document) -> String {
    let text = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), quote);
    let given = match kind {
        DocumentKind::Policy => format!(r#""text":{}"#, text(version.text.as_deref())),
        DocumentKind::Server | DocumentKind::Grant => format!(r#""document":{}"#, inlined(Some(version))),
    };
    format!(
        r#"{{"version":{},"removed":{},"at":{},"by":{},"digest":{},{given}}}"#,
        version.version,
        version.text.is_none(),
        quote(&rfc3339(version.at)),
        quote(&version.by),
        text(version.digest().as_deref()),
    )
}

/// Whether a body is one object of JSON. What is wrong with it otherwise is told without showing any of it.
fn object(text: &str) -> Result<(), Answered> {
    match Json::parse(text.to_owned(), Strictness::Request) {
        Ok(document) if document.root().members().is_some() => Ok(()),
        _ => Err(resources::bad("the body is not an object of JSON, with each member once")),
    }
}

fn new_token(admin: &Admin) -> Option<(crate::Secret, String)> {
    let token = crate::grants::new_token()?;
    let digest = admin.store.token_digest(token.expose())?;
    Some((token, digest))
}

fn no_token() -> Answered {
    Answered::refused(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", "no token can be made now; try again")
}

fn missing(kind: DocumentKind, name: &str) -> Answered {
    let message = format!("there is no {} `{}`", kind.as_str(), shown_name(name));
    Answered::refused(StatusCode::NOT_FOUND, "not-found", &message)
}

fn mistaken(message: &str, problems: impl Iterator<Item = String>) -> Answered {
    let problems: Vec<String> = problems.collect();
    let body = format!(r#"{{"error":{{"code":"invalid","message":{},"problems":[{}]}}}}"#, quote(message), problems.join(","));
    Answered { status: StatusCode::UNPROCESSABLE_ENTITY, body, etag: None }
}

fn no_configuration() -> Answered {
    let message = "this gateway has no configuration to change: it was started with `serve -p`, not `serve -c`";
    Answered::refused(StatusCode::NOT_FOUND, "not-found", message)
}

fn shown_name(name: &str) -> String {
    crate::shown::visible(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_names_one_version() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, http::HeaderValue::from_static(value));
            }
            expected(&headers).ok()
        };
        assert_eq!(of(&[]), Some(Expected::Any));
        assert_eq!(of(&[("if-match", "\"3\"")]), Some(Expected::Version(3)));
        assert_eq!(of(&[("if-match", "*")]), Some(Expected::Something));
        assert_eq!(of(&[("if-none-match", "*")]), Some(Expected::Nothing));
        let odd = [("if-match", "3"), ("if-match", "\"0\""), ("if-match", "W/\"3\""), ("if-none-match", "\"3\"")];
        for odd in odd.map(|odd| vec![odd]).into_iter().chain([vec![("if-match", "\"1\""), ("if-match", "\"2\"")]]) {
            assert_eq!(of(&odd), None, "{odd:?}");
        }
    }
}
