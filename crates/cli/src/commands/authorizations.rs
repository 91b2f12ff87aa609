//! `authorizations`: what users have authorised the gateway to do at servers.

use crate::arguments::{Authorizations, GrantsPlace, Whose};
use crate::commands::grants::operator;
use crate::failure::{Failure, OK};
use crate::terminal::{table, tell, visible};
use json::quote;
use std::io::Write;
use store::{AuthorizationChange, rfc3339};

pub fn authorizations(command: Authorizations) -> Result<u8, Failure> {
    match command {
        Authorizations::List { place, json } => list(&place, json),
        Authorizations::Forget { whose, place, json } => forget(&whose, &place, json),
        Authorizations::Invite { whose, place } => invite(&whose, &place),
    }
}

fn list(place: &GrantsPlace, json: bool) -> Result<u8, Failure> {
    let (_, all) = place.kept()?.with(async |store| Ok(store.reader()?.authorizations()?))?;
    // What the gateway itself is registered as is nobody's authorisation.
    let all = all.iter().filter(|kept| !kept.principal.is_empty());
    let mut out = std::io::stdout().lock();
    if json {
        for kept in all {
            let (server, principal, changed) = (quote(&kept.server), quote(&kept.principal), quote(&rfc3339(kept.changed)));
            writeln!(out, r#"{{"server":{server},"principal":{principal},"changed":{changed}}}"#)?;
        }
        return Ok(OK);
    }
    let row = |kept: &store::StoredAuthorization| vec![visible(&kept.server), visible(&kept.principal), rfc3339(kept.changed)];
    let rows: Vec<Vec<String>> = all.map(row).collect();
    write!(out, "{}", table(&["SERVER", "PRINCIPAL", "CHANGED"], &rows, |_, _, padded| padded))?;
    Ok(OK)
}

fn forget(whose: &Whose, place: &GrantsPlace, json: bool) -> Result<u8, Failure> {
    let kept = place.kept()?;
    let Whose { server, principal } = whose;
    let (told, done) = kept.with(async |store| {
        let told = match &kept.config {
            Some(config) => gateway::take_back(config, store, server, principal).await,
            None => Err("the configuration is not named with `-c`".to_owned()),
        };
        let change = AuthorizationChange::Forget(None);
        Ok((told, store.change_authorization(server, principal, change, &operator()).await?))
    })?;
    if !done {
        let what = format!("`{}` has authorised nothing at `{}`", visible(principal), visible(server));
        return Err(Failure::general(what));
    }
    if let Err(why) = &told {
        tell!("the authorization server does not know: {why}");
    }
    let is_told = told.is_ok();
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, r#"{{"server":{},"principal":{},"taken_back":{is_told}}}"#, quote(server), quote(principal))?;
    } else {
        let told = if is_told { ", and the authorization server knows" } else { "" };
        writeln!(out, "what {} has authorised at {} is forgotten{told}", visible(principal), visible(server))?;
    }
    Ok(OK)
}

fn invite(whose: &Whose, place: &GrantsPlace) -> Result<u8, Failure> {
    let kept = place.kept()?;
    let Some(config) = &kept.config else {
        return Err(Failure::usage("name the configuration with `-c`: the key that an invitation is sealed with is there"));
    };
    let url =
        kept.with(async |store| gateway::invitation(config, store, &whose.server, &whose.principal).map_err(Failure::general))?;
    tell!("for `{}` alone, and for a quarter of an hour:", visible(&whose.principal));
    writeln!(std::io::stdout(), "{url}")?;
    Ok(OK)
}
