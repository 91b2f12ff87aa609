//! Records of gateways that are gone.
//!
//! A gateway removes what is old of its own chain. That of one that never comes back would stay for ever; so whoever tidies up
//! removes it as a whole, once its gateway has not been seen for as long as records are kept. It cannot sign in the other's
//! name: a record in its own chain says what was removed, and that the last of it was the signed head. A check looks for that
//! record; without it the chain counts as broken. The listing stays as long as that record does, so that a gateway that comes
//! back after all begins anew; a record that has to make room before its age is made once more.

use crate::chain::{Continued, Ledger};
use crate::clock::rfc3339;
use crate::draft::{Draft, Phase};
use crate::error::Fault;
use crate::key::{Kind, PublicKey, Statement, random_id};
use crate::sql::Sql;
use crate::value::values;
use json::{Document, Strictness};

/// What the record is called that tells of a removed chain.
const METHOD: &str = "audit/forget";
/// How such a record's detail begins, before the chain's id.
const CHAIN: &str = "chain ";
/// A gateway that was seen within this time may only be out of reach, however short records are kept.
const GONE_MS: i64 = 2 * 86_400_000;
/// So many records are removed in one go.
const PIECE: i64 = 2000;

/// Notes that this gateway lives.
pub(crate) fn is_seen(sql: Sql<'_>, chain: &str, now: i64) -> Result<(), Fault> {
    sql.execute("UPDATE chains SET seen = ?2 WHERE id = ?1", values![chain, now]).map(drop)
}

/// Removes a piece of what gateways have left that were last seen before `cutoff`; gives whether there may be more.
pub(crate) fn remove(ledger: &mut Ledger<'_>, cutoff: i64) -> Result<bool, Fault> {
    let Some(Continued { chain: own, .. }) = ledger.shared else { return Ok(false) };
    let sql = ledger.sql;
    // The record that tells of them goes at the same age.
    let forgotten = "DELETE FROM chains WHERE removed < ?1 AND NOT EXISTS (SELECT 1 FROM audit WHERE audit.chain = chains.id)";
    sql.execute(forgotten, values![cutoff])?;
    let rest =
        "SELECT id FROM chains WHERE removed IS NOT NULL AND EXISTS (SELECT 1 FROM audit WHERE audit.chain = chains.id) LIMIT 1";
    if let Some(chain) = sql.row(rest, &[], |row| row.get::<String>(0))? {
        let piece = "DELETE FROM audit WHERE chain = ?1 AND seq < (SELECT min(seq) FROM audit WHERE chain = ?1) + ?2";
        sql.execute(piece, values![&chain, PIECE])?;
        return Ok(true);
    }
    // Locked: a gateway that comes back just now waits, and then finds that it has to begin anew.
    let find =
        "SELECT id, public_key, head.seq, head.hash, head.at, head.signature FROM chains JOIN head ON head.chain = chains.id
        WHERE id <> ?1 AND removed IS NULL AND coalesce(seen, begun) < ?2 AND head.at < ?2 ORDER BY begun LIMIT 1
        FOR UPDATE OF head";
    let unseen = cutoff.min(ledger.now().saturating_sub(GONE_MS));
    let found = sql.row(find, values![own, unseen], |row| {
        let head: (i64, String, i64, String) = (row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?);
        Ok((row.get::<String>(0)?, row.get::<String>(1)?, head))
    })?;
    let Some((chain, public, (seq, hash, at, signature))) = found else { return Ok(false) };
    let statement = Statement { kind: Kind::Head, seq, hash: &hash, at };
    let is_signed = PublicKey::parse(&public).is_some_and(|public| statement.is_signed(&public, &signature));
    if !is_signed || !is_whole(sql, &chain, seq, &hash)? {
        tracing::error!(chain, "the chain of a gateway that is gone is broken; nothing is removed from it");
        return Ok(false);
    }
    let (own, now) = (own.to_owned(), ledger.now());
    tell(ledger, format!("{CHAIN}{chain}, of a gateway gone since {}: up to record {seq}, {hash}", rfc3339(at)))?;
    // Its key is free for another chain, should it come back.
    let mark =
        "UPDATE chains SET removed = ?2, removed_by = ?3, former_key = public_key, public_key = 'removed ' || id WHERE id = ?1";
    sql.execute(mark, values![&chain, now, &own])?;
    for table in ["head", "anchor", "checkpoints"] {
        sql.execute(&format!("DELETE FROM {table} WHERE chain = ?1"), values![&chain])?;
    }
    Ok(true)
}

/// Tells once more of chains that are still listed as removed, where the records up to `last` that say so are about to go; gives
/// whether there were any.
pub(crate) fn tell_again(ledger: &mut Ledger<'_>, last: i64) -> Result<bool, Fault> {
    let Some(Continued { chain: own, .. }) = ledger.shared else { return Ok(false) };
    let find = "SELECT body FROM audit WHERE chain = ?1 AND seq <= ?2 AND body LIKE '%' || ?3 || '%'
        AND EXISTS (SELECT 1 FROM chains WHERE removed_by = ?1) ORDER BY seq";
    let method = format!("\"method\":\"{METHOD}\"");
    let bodies = ledger.sql.rows(find, values![own, last, &method], |row| row.get::<String>(0))?;
    let own = own.to_owned();
    let mut told = false;
    for detail in bodies.iter().filter_map(|body| detail_of(body)) {
        let chain = detail.strip_prefix(CHAIN).and_then(|rest| rest.split_once(',')).map_or("", |(chain, _)| chain);
        let listed = "SELECT 1::bigint FROM chains WHERE id = ?1 AND removed_by = ?2 AND removed IS NOT NULL";
        if ledger.sql.row(listed, values![chain, &own], |row| row.get::<i64>(0))?.is_some() {
            tell(ledger, detail)?;
            told = true;
        }
    }
    Ok(told)
}

fn tell(ledger: &mut Ledger<'_>, detail: String) -> Result<(), Fault> {
    let id = random_id(16).map_err(Fault::State)?.into();
    let (method, principal) = (Some(METHOD.into()), Some("retention".into()));
    ledger.append(&Draft { id, phase: Phase::Admin, method, principal, detail: Some(detail), ..Draft::default() }).map(drop)
}

fn detail_of(body: &str) -> Option<String> {
    let document = Document::parse(body.to_owned(), Strictness::Reply).ok()?;
    let root = document.root();
    let is_it = root.get("phase")?.as_str()? == Phase::Admin.as_str() && root.get("method")?.as_str()? == METHOD;
    root.get("detail")?.as_str().filter(|_| is_it).map(|detail| detail.into_owned())
}

/// Whether a chain ends at its head, with no number missing after what retention has removed.
fn is_whole(sql: Sql<'_>, chain: &str, seq: i64, hash: &str) -> Result<bool, Fault> {
    let find = "SELECT count(*), coalesce(max(seq), 0), coalesce((SELECT seq FROM anchor WHERE chain = ?1), 0) FROM audit WHERE chain = ?1";
    let counted = sql.row(find, values![chain], |row| Ok((row.get::<i64>(0)?, row.get::<i64>(1)?, row.get::<i64>(2)?)))?;
    let Some((records, last, removed)) = counted else { return Ok(false) };
    if records == 0 {
        return Ok(removed == seq);
    }
    let find = "SELECT hash FROM audit WHERE chain = ?1 AND seq = ?2";
    let ends = sql.row(find, values![chain, seq], |row| row.get::<String>(0))?.as_deref() == Some(hash);
    Ok(ends && last == seq && records == seq - removed)
}

/// Whether a gateway's chain was removed, by its key.
pub(crate) fn was_removed(sql: Sql<'_>, public: &str) -> Result<bool, Fault> {
    Ok(sql.row("SELECT 1::bigint FROM chains WHERE former_key = ?1 LIMIT 1", values![public], |row| row.get::<i64>(0))?.is_some())
}

/// Whether a record says that a chain was removed, in a chain that is listed.
pub(crate) fn is_told(sql: Sql<'_>, chain: &str) -> Result<bool, Fault> {
    let find = "SELECT body FROM audit JOIN chains ON chains.removed_by = audit.chain WHERE chains.id = ?1
        AND audit.chain IN (SELECT id FROM chains WHERE removed IS NULL)
        AND body LIKE '%' || ?2 || '%'";
    // A chain's id is letters and digits.
    let told = format!("\"detail\":\"{CHAIN}{chain}, ");
    let method = format!("\"method\":\"{METHOD}\"");
    Ok(sql.rows(find, values![chain, &method], |row| row.get::<String>(0))?.iter().any(|body| body.contains(&told)))
}
