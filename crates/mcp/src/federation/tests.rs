use super::*;
use crate::message::Side;
use proptest::prelude::*;
use std::sync::Arc;

fn request(text: &str) -> Message {
    Message::parse(text.to_owned(), Side::Client).unwrap()
}

fn reply(result: &str) -> Message {
    Message::parse(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#), Side::Server).unwrap()
}

fn part(server: &str, result: &str) -> Part {
    Part { server: server.into(), reply: reply(result), first: true }
}

fn call(name: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":{name},"arguments":{{"name":"a__b"}}}}}}"#)
}

#[test]
fn a_name_leads_back_to_its_server() {
    assert_eq!(join("files", "read").as_deref(), Ok("files__read"));
    assert_eq!(split("files__read"), Some(("files", "read")));
    assert_eq!(split("files___read__all"), Some(("files", "_read__all")));
    for none in ["read", "files_read", "__read", "files__", ""] {
        assert_eq!(split(none), None, "{none}");
    }
}

#[test]
fn a_name_past_128_characters_is_none() {
    assert!(join("a", &"é".repeat(125)).is_ok());
    assert!(join("a", &"é".repeat(126)).is_err());
    assert_eq!(split(&format!("a__{}", "é".repeat(126))), None);
    assert!(join("a", "").is_err());
}

#[test]
fn only_the_prefix_is_taken_off() {
    for (name, expected) in [
        (r#""files__read""#, r#""read""#),
        (r#""files__re\u0061d""#, r#""re\u0061d""#),
        // Spelt with escapes, the name is written anew.
        (r#""files\u005f_read""#, r#""read""#),
        (r#""files\u005f_re\"ad""#, r#""re\"ad""#),
        (r#""other__read""#, r#""other__read""#),
    ] {
        let message = request(&call(name));
        assert_eq!(own_name(&message, "files").finish(), call(expected), "{name}");
    }
}

#[test]
fn each_request_has_a_target() {
    let of = |method: &str, params: &str| {
        let message = request(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#));
        format!("{:?}", Target::of(&message))
    };
    assert_eq!(of("tools/call", r#"{"name":"a__b"}"#), r#"Name("a__b")"#);
    assert_eq!(of("tools/call", r#"{"name":1}"#), "Missing");
    assert_eq!(of("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"a__b"}}"#), r#"Name("a__b")"#);
    assert_eq!(of("completion/complete", r#"{"ref":{"type":"ref/resource","uri":"x:{y}"}}"#), r#"Template("x:{y}")"#);
    assert_eq!(of("completion/complete", r#"{"ref":{"uri":"x:y","name":"a__b"}}"#), "Missing");
    assert_eq!(of("resources/read", r#"{"uri":"x:y"}"#), r#"Resource("x:y")"#);
    assert_eq!(of("tasks/get", r#"{"taskId":"t"}"#), r#"Task("t")"#);
    assert_eq!(of("prompts/list", "{}"), "List(Prompts)");
    assert_eq!(of("ping", "{}"), "Other");
}

#[test]
fn lists_keep_the_bytes_of_their_elements() {
    let parts = [
        part("a", r#"{"tools":[ {"x":1.0, "name" : "t\u0031","inputSchema":{"name":"q"}} ],"nextCursor":"c\u0031"}"#),
        part("b", r#"{"tools":[{"name":"t1"},{"name":"t1","d":2},{"n":1},{"name":"é"}],"_meta":{"z":1}}"#),
    ];
    let merged = merge(ListKind::Tools, &parts, &mut Claims::default(), true, false);
    let expected = r#""tools":[{"x":1.0, "name" : "a__t\u0031","inputSchema":{"name":"q"}},{"name":"b__t1"},{"name":"b__é"}]"#;
    assert_eq!(merged.members, expected);
    assert_eq!(merged.next, [("a".to_owned(), r#""c\u0031""#.to_owned())]);
    let left_out: Vec<_> = merged.left_out.iter().map(|left| (&*left.server, &*left.name)).collect();
    assert_eq!(left_out, [("b", "t1"), ("b", "")]);
}

#[test]
fn what_two_servers_list_is_neithers() {
    let mut claims = Claims::default();
    let parts = [
        part("a", r#"{"resources":[{"uri":"x:1","name":"one"},{"uri":"x:2","name":"two"}]}"#),
        part("b", r#"{"resources":[{"uri":"x:2","name":"two"},{"uri":"x:3","name":"three"}]}"#),
    ];
    let merged = merge(ListKind::Resources, &parts, &mut claims, true, false);
    assert_eq!(merged.members, r#""resources":[{"uri":"x:1","name":"a__one"},{"uri":"x:3","name":"b__three"}]"#);
    assert_eq!(merged.left_out.len(), 2);
    assert_eq!(claims.resource("x:1"), Whose::Of("a".into()));
    assert_eq!(claims.resource("x:2"), Whose::Disputed);
    // A link leads to whoever has it only while nobody lists it.
    claims.mention(&"b".into(), "x:1");
    claims.mention(&"b".into(), "x:4");
    assert_eq!(claims.resource("x:1"), Whose::Of("a".into()));
    assert_eq!(claims.resource("x:4"), Whose::Of("b".into()));
    claims.mention(&"a".into(), "x:4");
    assert_eq!(claims.resource("x:4"), Whose::Disputed);
    // One that does not list it any more has given it up.
    merge(ListKind::Resources, &[part("a", r#"{"resources":[]}"#)], &mut claims, true, false);
    assert_eq!(claims.resource("x:2"), Whose::Of("b".into()));
}

#[test]
fn a_template_leads_to_its_server() {
    let mut claims = Claims::default();
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    claims.list_template(&a, "file:///{path}");
    claims.list_template(&b, "repo://{owner}/{name}/x");
    assert_eq!(claims.resource("file:///etc"), Whose::Of(a.clone()));
    assert_eq!(claims.resource("repo://o/n/x"), Whose::Of(b.clone()));
    assert_eq!(claims.resource("repo://o/n/y"), Whose::Unknown);
    assert_eq!(claims.template("repo://{owner}/{name}/x"), Whose::Of(b.clone()));
    claims.list_template(&b, "file:{any}");
    assert_eq!(claims.resource("file:///etc"), Whose::Disputed);
    claims.list(&a, "file:///etc");
    assert_eq!(claims.resource("file:///etc"), Whose::Of(a));
}

#[test]
fn links_are_found_where_clients_find_them() {
    let result = concat!(
        r#"{"content":[{"type":"resource_link","uri":"x:1"},{"type":"resource","resource":{"uri":"x:2"}},"#,
        r#"{"type":"text","text":"x:3","uri":"x:4"}]}"#
    );
    assert_eq!(mentioned(&reply(result)), ["x:1", "x:2"]);
    assert_eq!(mentioned(&reply(r#"{"messages":[{"content":{"type":"resource_link","uri":"x:5"}}]}"#)), ["x:5"]);
    assert_eq!(mentioned(&reply(r#"{"tools":[{"_meta":{"ui":{"resourceUri":"ui://a"}}}]}"#)), ["ui://a"]);
}

#[test]
fn capabilities_are_united() {
    let greeting = |server: &str, result: &str| Greeting::of(&server.into(), reply(result)).unwrap();
    let a = greeting("a", r#"{"capabilities":{"tools":{},"x":{"y":false,"z":1}},"instructions":"Do a."}"#);
    let b = greeting("b", r#"{"capabilities":{"x":{"y":true,"w":[]},"logging":{}},"instructions":" "}"#);
    let united = capabilities([&a, &b].into_iter(), true);
    assert_eq!(united, r#"{"tools":{"listChanged":true},"x":{"y":true,"z":1,"w":[]},"logging":{}}"#);
    assert!(capabilities([&a].into_iter(), false).contains(r#""prompts":{"listChanged":true}"#));
    assert_eq!(capabilities(std::iter::empty(), true), "{}");
    assert_eq!(instructions([&a, &b].into_iter()).unwrap(), r##""# a\n\nDo a.""##);
    assert!(b.has(&["x", "y"]) && !a.has(&["x", "y"]) && !a.has(&["logging"]));
}

#[test]
fn a_page_without_one_server_is_not_kept() {
    let parts = [part("a", r#"{"prompts":[],"ttlMs":5000}"#), part("b", r#"{"prompts":[],"ttlMs":7000,"cacheScope":"public"}"#)];
    let said = |whole| merge(ListKind::Prompts, &parts, &mut Claims::default(), whole, true).members;
    assert_eq!(said(true), r#""prompts":[],"ttlMs":5000,"cacheScope":"private","resultType":"complete""#);
    assert_eq!(said(false), r#""prompts":[],"ttlMs":0,"cacheScope":"private","resultType":"complete""#);
}

fn seal(key: u8) -> impl Fn(&str) -> Option<String> {
    move |text| {
        Some(format!(
            "{key}-{}",
            text.bytes().fold(u64::from(key), |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
        ))
    }
}

#[test]
fn a_cursor_is_taken_back_from_its_holder_for_its_list() {
    let servers = vec![("a".to_owned(), r#""c\u0031""#.to_owned()), ("b".to_owned(), "\"\"".to_owned())];
    let cursor = Cursor { kind: ListKind::Tools, servers };
    let text = cursor.seal(seal(1)).unwrap();
    assert_eq!(Cursor::open(ListKind::Tools, &text, seal(1)), Some(cursor));
    assert_eq!(Cursor::open(ListKind::Tools, &text, seal(2)), None);
    assert_eq!(Cursor::open(ListKind::Prompts, &text, seal(1)), None);
    assert_eq!(Cursor::open(ListKind::Tools, &text[1..], seal(1)), None, "a seal that is cut short");
    assert_eq!(Cursor { kind: ListKind::Tools, servers: Vec::new() }.seal(seal(1)), None);
}

proptest! {
    #[test]
    fn no_two_things_have_one_name(a in "[a-z0-9-]{1,12}", b in "[a-z0-9-]{1,12}", x in "\\PC{0,20}", y in "\\PC{0,20}") {
        if let (Ok(one), Ok(other)) = (join(&a, &x), join(&b, &y)) {
            prop_assert_eq!(one == other, (&a, &x) == (&b, &y));
            prop_assert_eq!(split(&one), Some((&*a, &*x)));
        }
    }

    /// What a list offers under a name is what the server has under its own, and a call of it reaches that.
    #[test]
    fn what_is_listed_is_what_is_called(name in "\\PC{1,40}", extra in "[ -~]{0,20}") {
        let element = format!(r#"{{"d":{},"name":{}}}"#, quote(&extra), quote(&name));
        let merged = merge(ListKind::Tools, &[part("s", &format!(r#"{{"tools":[{element}]}}"#))], &mut Claims::default(), true, false);
        let page = reply(&format!("{{{}}}", merged.members));
        let listed = page.result().unwrap().get("tools").unwrap().elements().unwrap().next().unwrap();
        prop_assert_eq!(listed.raw().replacen("s__", "", 1), element);
        let message = request(&call(listed.get("name").unwrap().raw()));
        prop_assert_eq!(own_name(&message, "s").finish(), call(&quote(&name)));
    }

    #[test]
    fn no_cursor_is_forged(seal in "[0-9a-f]{0,70}", text in "[A-Za-z0-9_-]{0,80}") {
        prop_assert_eq!(Cursor::open(ListKind::Tools, &format!("{seal}.{text}"), |_| Some("the seal".to_owned())), None);
        prop_assert_eq!(Cursor::open(ListKind::Tools, &text, |_| Some(String::new())), None);
        prop_assert_eq!(Cursor::open(ListKind::Tools, &format!("{seal}.{text}"), |_| None), None);
    }
}
