//! A catalog: what is taken in is found again, once.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

use catalogue::{Level, RiskClass, Signal};
use collection::{Collection, CollectionError, Imported, Isolation, Page, Query, Registry, capture_json, facts_json, import};
use jiff::Timestamp;
use scratch::Scratch;
use serde_json::json;
use std::path::{Path, PathBuf};

fn catalog(place: &Scratch) -> PathBuf {
    place.path("catalog.db")
}

fn take_in(place: &Scratch, captures: &[PathBuf]) -> Imported {
    import(&catalog(place), captures, now(), &mut |_| {}).unwrap()
}

fn open(place: &Scratch) -> Collection {
    Collection::open(&catalog(place)).unwrap()
}

fn now() -> Timestamp {
    "2026-01-15T10:30:00Z".parse().unwrap()
}

/// A store of files, in two versions, and a shop.
fn files(version: &str, more: &[serde_json::Value]) -> String {
    let mut tools = vec![
        json!({"name": "read_file", "description": "Reads a file.\nAll of it.", "inputSchema": {"type": "object",
            "properties": {"path": {"type": "string", "description": "Where it lies"}}, "required": ["path"]}}),
        json!({"name": "deleteFile", "description": "Deletes a file for good.", "inputSchema": {"type": "object",
            "properties": {"path": {"type": "string"}}, "required": ["path"]}}),
    ];
    tools.extend_from_slice(more);
    json!({"server": "files", "package": "@example/files", "version": version, "registry": "npm", "command": ["…", "--all"],
        "env": {"TOKEN": "hush-hush"}, "instructions": "Be kind.", "prompts": [{"name": "greet"}], "tools": tools})
    .to_string()
}

fn shop() -> String {
    json!({"server": "shop", "tools": [
        {"name": "refund_payment", "description": "Refunds a payment to the customer.", "inputSchema": {"type": "object",
            "properties": {"amount": {"type": "number"}}}},
        {"name": "list_payments", "description": "Lists payments, newest first; read the file of terms.",
            "inputSchema": {"type": "object", "properties": {}}},
    ]})
    .to_string()
}

fn filled() -> Scratch {
    let place = Scratch::new();
    let newer = files("1.10.0", &[json!({"name": "write_file", "description": "Writes a file."})]);
    let captures =
        [place.write("new.json", newer), place.write("old.json", files("1.9.0", &[])), place.write("shop.json", shop())];
    let imported = take_in(&place, &captures);
    assert_eq!((imported.progress.added, imported.progress.tools, imported.failed.len()), (3, 7, 0));
    place
}

fn names(collection: &Collection, query: &Query) -> Vec<String> {
    collection.search(query, Page::WHOLE).unwrap().hits.into_iter().map(|hit| hit.name).collect()
}

fn text(text: &str) -> Query {
    Query { text: text.to_owned(), ..Query::default() }
}

#[test]
fn a_server_is_shown_as_it_was_captured() {
    let place = filled();
    let collection = open(&place);
    let server = collection.server("files").unwrap().unwrap();
    let facts = &server.facts;
    assert_eq!((facts.package.as_str(), facts.version.as_str(), facts.registry), ("@example/files", "1.10.0", Registry::Npm));
    assert_eq!((facts.flags.as_slice(), facts.environment.as_slice()), (&["--all".to_owned()][..], &["TOKEN".to_owned()][..]));
    assert_eq!(
        (facts.instructions.as_deref(), facts.isolation, facts.captured_at),
        (Some("Be kind."), Isolation::Captured, now())
    );
    assert_eq!((server.tools, server.count(RiskClass::Read), server.count(RiskClass::Destructive)), (3, 1, 1));
    let tools = collection.tools(&server).unwrap();
    let listed: Vec<_> = tools.iter().map(|tool| (tool.name.as_str(), tool.risk.class)).collect();
    assert_eq!(listed[..2], [("read_file", RiskClass::Read), ("deleteFile", RiskClass::Destructive)]);
    let tool = collection.tool(&server, "read_file").unwrap().unwrap();
    assert_eq!(tool.definition.root().get("description").unwrap().as_str().unwrap(), "Reads a file.\nAll of it.");
    assert!(collection.tool(&server, "READ_FILE").unwrap().is_none());
}

#[test]
fn the_newest_version_is_the_current_one_and_the_others_are_there() {
    let place = filled();
    let collection = open(&place);
    let versions = collection.versions("files").unwrap();
    let told: Vec<_> = versions.iter().map(|server| (server.designation(), server.is_current)).collect();
    assert_eq!(told, [("files@1.10.0".to_owned(), true), ("files@1.9.0".to_owned(), false)]);
    let old = collection.server("files@1.9.0").unwrap().unwrap();
    assert_eq!(old.tools, 2);
    let by_digest = collection.server(&format!("files@1.9.0#{}", &old.digest[..8])).unwrap().unwrap();
    assert_eq!(by_digest.id, old.id);
    assert!(collection.server("files@1.9.0#nothing").unwrap().is_none());
    assert!(collection.server("files@2").unwrap().is_none());
    let current: Vec<_> = collection.servers("", Page::WHOLE).unwrap().into_iter().map(|server| server.designation()).collect();
    assert_eq!(current, ["files@1.10.0", "shop"]);
    assert_eq!(collection.servers("EXAMPLE/", Page { offset: 0, limit: 1 }).unwrap().len(), 1);
}

#[test]
fn a_search_finds_names_first_and_current_versions_only() {
    let place = filled();
    let collection = open(&place);
    assert_eq!(names(&collection, &text("read_file")), ["read_file", "list_payments"]);
    assert_eq!(names(&collection, &text("deletes files")), ["deleteFile"]);
    assert_eq!(names(&collection, &text("payments"))[0], "list_payments");
    assert_eq!(names(&collection, &text("refund pay*")), ["refund_payment"]);
    assert_eq!(names(&collection, &text("amount")), ["refund_payment"], "parameters are found too");
    assert_eq!(names(&collection, &text("nowhere")), Vec::<String>::new());
    assert_eq!(names(&collection, &text("\" OR ( *")), Vec::<String>::new(), "marks are no language");
    assert_eq!(names(&collection, &Query::default()).len(), 5);
    let hit = collection.search(&text("read file"), Page { offset: 0, limit: 1 }).unwrap();
    assert_eq!((hit.count, hit.is_cut, hit.hits.len()), (2, false, 1));
    let hit = &hit.hits[0];
    assert_eq!((hit.server_name.as_str(), hit.version.as_str(), hit.summary.as_str()), ("files", "1.10.0", "Reads a file."));
    assert_eq!(hit.signals, [Signal::Path, Signal::UntrustedContent]);
}

#[test]
fn of_more_than_can_be_looked_at_those_with_the_word_in_their_name_come_first() {
    let mut tools: Vec<_> =
        (0..1_050).map(|n| json!({"name": format!("tool_{n}"), "description": "Reads the ledger."})).collect();
    tools.push(json!({"name": "read_ledger", "description": "Reads it."}));
    let place = Scratch::new();
    take_in(&place, &[place.write("many.json", json!({"server": "many", "tools": tools}).to_string())]);
    let collection = open(&place);
    for question in ["ledger", "l*", "le*", "led*", "ledg*", "ledge*"] {
        let found = collection.search(&text(question), Page { offset: 0, limit: 2 }).unwrap();
        assert_eq!((found.is_cut, found.hits[0].name.as_str()), (true, "read_ledger"), "{question}");
    }
    assert_eq!(collection.search(&text("tool_7"), Page { offset: 0, limit: 1 }).unwrap().count, 1);
}

#[test]
fn filters_alone_lead_to_the_last_tool() {
    let described = |n: usize| ["Reads the ledger.", "Deletes the ledger for good.", "Runs a shell command."][n % 3];
    let tools: Vec<_> = (0..1_100).map(|n| json!({"name": format!("tool_{n}"), "description": described(n)})).collect();
    let place = Scratch::new();
    take_in(&place, &[place.write("many.json", json!({"server": "many", "tools": tools}).to_string())]);
    let collection = open(&place);
    let mut seen: Vec<(Level, RiskClass, String)> = Vec::new();
    for offset in (0..1_200).step_by(100) {
        let found = collection.search(&Query::default(), Page { offset, limit: 100 }).unwrap();
        assert_eq!((found.count, found.is_cut), (1_100, false));
        assert_eq!(found.hits.len(), if offset < 1_100 { 100 } else { 0 }, "{offset}");
        seen.extend(found.hits.into_iter().map(|hit| (hit.level, hit.class, hit.name)));
    }
    assert!(seen.is_sorted_by_key(|(level, class, _)| std::cmp::Reverse((*level, *class))), "the worst first");
    let names: std::collections::BTreeSet<&String> = seen.iter().map(|(_, _, name)| name).collect();
    assert_eq!(names.len(), 1_100, "each once");
    let whole = collection.search(&Query { classes: vec![RiskClass::Destructive], ..Query::default() }, Page::WHOLE).unwrap();
    assert_eq!((whole.count, whole.hits.len()), (367, 367));
}

#[test]
fn filters_narrow_a_search_and_stand_alone() {
    let place = filled();
    let collection = open(&place);
    let money = Query { classes: vec![RiskClass::Financial], ..Query::default() };
    assert_eq!(names(&collection, &money), ["refund_payment"]);
    assert_eq!(names(&collection, &Query { levels: vec![Level::Critical], ..text("file") }), ["deleteFile"]);
    assert_eq!(names(&collection, &Query { levels: vec![Level::Critical], ..Query::default() }).len(), 2);
    let paths = Query { signals: vec![Signal::Path], classes: vec![RiskClass::Read, RiskClass::Write], ..Query::default() };
    assert_eq!(names(&collection, &paths), ["read_file"]);
    assert_eq!(names(&collection, &Query { signals: vec![Signal::Path], ..text("list_payments") }), Vec::<String>::new());
}

#[test]
fn totals_are_those_of_current_servers() {
    let place = filled();
    take_in(&place, &[place.write("dead.json", r#"{"server":"dead","problem":"it has not answered"}"#)]);
    let totals = open(&place).totals().unwrap();
    assert_eq!((totals.servers, totals.answered, totals.tools), (3, 2, 5));
    assert_eq!(totals.classes.iter().sum::<u64>(), 5);
    assert_eq!(totals.levels.iter().sum::<u64>(), 5);
    assert_eq!(totals.signals[0], 2, "two tools take a path");
}

#[test]
fn what_was_taken_in_is_not_taken_in_again() {
    let place = filled();
    let again = take_in(&place, &[place.path("")]);
    assert_eq!((again.progress.captures, again.progress.added), (3, 0));
    // The same server in other words: the order of its list does not make it another.
    let text =
        place.write("more.jsonl", format!("{}\n\n{}\n", shop().replace("\"server\":\"shop\"", "\"server\":\"shop\" "), shop()));
    assert_eq!(take_in(&place, &[text]).progress.added, 0);
    assert_eq!(open(&place).versions("shop").unwrap().len(), 1);
}

#[test]
fn what_cannot_be_read_is_told_and_holds_nothing_up() {
    let place = Scratch::new();
    let lines = format!("{{\n{}\n{{\"tools\":[{{}}]}}\n", shop());
    let imported = take_in(&place, &[place.write("a.jsonl", lines), place.path("absent.json"), place.write("b.txt", "?")]);
    assert_eq!(imported.progress.added, 1);
    let mut places: Vec<_> = imported.failed.iter().map(|failed| failed.place.rsplit('/').next().unwrap()).collect();
    places.sort_unstable();
    assert_eq!(places, ["a.jsonl:1", "a.jsonl:3", "absent.json", "b.txt"]);
}

#[test]
fn a_server_that_answers_in_the_end_takes_the_place_of_its_failure() {
    let place = Scratch::new();
    take_in(&place, &[place.write("a.json", r#"{"server":"shop","problem":"it has not answered"}"#)]);
    let failed = open(&place).server("shop").unwrap().unwrap();
    assert_eq!((failed.facts.problem.as_deref(), failed.digest.as_str(), failed.tools), (Some("it has not answered"), "", 0));
    take_in(&place, &[place.write("b.json", shop())]);
    let versions = open(&place).versions("shop").unwrap();
    assert_eq!(versions.iter().map(|server| server.tools).collect::<Vec<_>>(), [2]);
}

#[test]
fn an_export_can_be_taken_in_again() {
    let place = filled();
    let collection = open(&place);
    let lines: Vec<String> = ["files", "files@1.9.0", "shop"]
        .map(|name| capture_json(&collection, &collection.server(name).unwrap().unwrap()).unwrap())
        .to_vec();
    let other = Scratch::new();
    take_in(&other, &[other.write("all.jsonl", lines.join("\n"))]);
    let again = open(&other);
    for name in ["files", "files@1.9.0", "shop"] {
        let (one, other) = (collection.server(name).unwrap().unwrap(), again.server(name).unwrap().unwrap());
        assert_eq!((one.facts, one.digest, one.classes), (other.facts, other.digest, other.classes));
    }
}

#[test]
fn facts_hold_none_of_other_peoples_texts() {
    let place = filled();
    let collection = open(&place);
    let facts = facts_json(&collection, &collection.server("files").unwrap().unwrap()).unwrap();
    let read: serde_json::Value = serde_json::from_str(&facts).unwrap();
    assert_eq!(read["tools"][0]["parameters"], json!(["path"]));
    assert_eq!(read["tools"][1]["risk"], "Destructive");
    for text in ["Reads", "Where it lies", "Be kind", "hush", "for good"] {
        assert!(!facts.contains(text), "{text} is in {facts}");
    }
}

#[test]
fn other_files_are_no_catalogs() {
    let place = Scratch::new();
    let refusal = |path: &Path| Collection::open(path).err().map(|error| error.to_string());
    assert!(refusal(&place.path("absent.db")).unwrap().starts_with("cannot open the catalog"));
    assert!(
        refusal(&place.write("text.db", "not a database, but long enough to be looked at"))
            .unwrap()
            .ends_with("is not a catalog")
    );
    let other = place.path("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(refusal(&other).unwrap().ends_with("is not a catalog"));
    assert!(matches!(import(&other, &[], now(), &mut |_| {}), Err(CollectionError::Foreign(_))));
    let newer = place.path("newer.db");
    import(&newer, &[], now(), &mut |_| {}).unwrap();
    rusqlite::Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(refusal(&newer).unwrap().contains("another version of callgate"));
}
