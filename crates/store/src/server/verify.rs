//! Checking the chains of all gateways.
//!
//! Each is checked as a file's only one is: from its beginning, or from what retention has left, past its checkpoints, to
//! its signed head. Every record must belong to a chain that is listed.

use super::open::{self, meta};
use crate::chain::genesis_of;
use crate::departed;
use crate::draft::Row;
use crate::error::Fault;
use crate::key::{Kind, PublicKey};
use crate::sql::Sql;
use crate::value::values;
use crate::verify::{self, Broken, Signatures, Verification, Walk, statement};
use std::path::Path;

/// Checks everything, as of one moment.
pub(crate) fn verify(sql: Sql<'_>, keys: &Path) -> Result<Verification, Fault> {
    let state = meta(sql, "state")?.unwrap_or_default();
    let own = open::public_key(keys, &state)?;
    let records = sql.row("SELECT count(*) FROM audit", &[], |row| row.get::<i64>(0))?.unwrap_or(0).unsigned_abs();
    let find = "SELECT id, coalesce(former_key, public_key), removed IS NOT NULL FROM chains ORDER BY begun, id";
    let chains = sql.rows(find, &[], |row| Ok((row.get::<String>(0)?, row.get::<String>(1)?, row.get::<bool>(2)?)))?;
    let mut first = None;
    for (chain, public, is_removed) in &chains {
        if *is_removed {
            let untold = || Broken::at(1, "it is said to have been removed by retention, and no record says so");
            let broken = (!departed::is_told(sql, chain)?).then(untold);
            first = first.or(broken.map(|broken| named(chain, broken)));
            continue;
        }
        let broken = match PublicKey::parse(public).filter(|_| chain.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
            Some(public) => check(sql, chain, &public)?,
            None => Some(Broken::at(1, "its public key is spoilt")),
        };
        first = first.or(broken.map(|broken| named(chain, broken)));
    }
    let is_known = |own: &PublicKey| chains.iter().any(|(_, public, _)| *public == own.hex());
    if let Some(own) = &own
        && !is_known(own)
    {
        first =
            first.or(Some(Broken::at(1, "the whole chain of this gateway is missing: its key lies here, and no chain has it")));
    }
    let find = "SELECT seq, body, chain FROM audit WHERE chain NOT IN (SELECT id FROM chains) ORDER BY place LIMIT 1";
    let stray = sql.row(find, &[], |row| {
        let problem = format!("it belongs to a chain that is not listed, `{}`: its listing was removed", row.get::<String>(2)?);
        Ok(Broken { seq: row.get(0)?, id: verify::id_of(&row.get::<String>(1)?), problem })
    })?;
    first = first.or(stray);
    Ok(Verification {
        valid: first.is_none(),
        records,
        first_broken: first,
        undetectable: undetectable(chains.len(), own.is_some()),
    })
}

fn named(chain: &str, broken: Broken) -> Broken {
    Broken { problem: format!("in chain `{chain}`: {}", broken.problem), ..broken }
}

fn check(sql: Sql<'_>, chain: &str, public: &PublicKey) -> Result<Option<Broken>, Fault> {
    // A chain's id is letters and digits.
    let signed = |table: &str| format!("SELECT seq, hash, at, signature FROM {table} WHERE chain = '{chain}'");
    let (head, anchor) = (statement(sql, &signed("head"))?, statement(sql, &signed("anchor"))?);
    let mut walk = match &anchor {
        Some(anchor) => Walk::after(anchor.seq, &anchor.hash),
        None => Walk::after(0, &genesis_of(chain)),
    };
    if let Some(anchor) = &anchor
        && !anchor.is_signed(Kind::Anchor, public)
    {
        return Ok(Some(Broken::at(anchor.seq, "the mark of what retention has removed is not signed with the key")));
    }
    let checkpoints = format!("{} ORDER BY seq DESC", signed("checkpoints"));
    let mut signatures = Signatures::read(sql, &checkpoints, public, walk.expected - 1)?;
    let mut after = i64::MIN;
    loop {
        let find = "SELECT seq, body, hash FROM audit WHERE chain = ?1 AND seq > ?2 ORDER BY seq LIMIT 1000";
        let page: Vec<Row> =
            sql.rows(find, values![chain, after], |row| Ok(Row { seq: row.get(0)?, body: row.get(1)?, hash: row.get(2)? }))?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for row in &page {
            if let Some(broken) = walk.step(row).or_else(|| signatures.compare(row)) {
                return Ok(Some(broken));
            }
        }
    }
    Ok(signatures.rest(walk.expected).or_else(|| verify::end(&walk, head.as_ref(), public)))
}

fn undetectable(chains: usize, has_key: bool) -> Vec<String> {
    let mut limits = vec![
        "the whole database put back to an older state while no gateway ran: compare the number of records with an earlier one"
            .to_owned(),
        "a whole chain removed together with its listing, or made anew under another key, by someone who can write to the \
         database: verify on the gateway that has the chain's key"
            .to_owned(),
        "records made up or changed, and the chain signed anew, by someone who holds a gateway's key".to_owned(),
        "events that never reached callgate, or that it could not write down: it denies those calls".to_owned(),
    ];
    let others = chains.saturating_sub(usize::from(has_key));
    if others > 0 {
        limits.push(format!(
            "whose keys they are: the public keys of {others} of {chains} chains were taken from the database itself, for their \
             gateways are elsewhere"
        ));
    }
    limits
}
