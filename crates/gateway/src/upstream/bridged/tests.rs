//! What a bridge keeps of requests that come to nothing.

use super::*;
use crate::tls::UpstreamTls;
use crate::tools::LiveTools;
use crate::upstream::{ChildCommand, HttpTarget};

fn permit(text: &str) -> Permit {
    let message = Message::parse(text.to_owned(), Side::Client).unwrap_or_else(|malformed| panic!("{malformed}"));
    Permit::own(message).unwrap_or_else(|| panic!("{text}"))
}

fn silent() -> ChildCommand {
    ChildCommand::inheriting(&["sleep".into(), "600".into()]).within(Duration::from_secs(60))
}

/// A bridge before a server that says nothing.
fn bridge() -> Bridged {
    before(Upstream::Child(silent()))
}

fn before(server: Upstream) -> Bridged {
    let schemas = Schemas { tools: Arc::<LiveTools>::default(), ask: Arc::new(|_| Box::pin(async { None })) };
    let (to_us, _) = mpsc::channel(8);
    let link = server.open(&schemas, to_us.clone()).unwrap();
    Bridged::new(link, &server, &Arc::default(), &schemas, to_us)
}

const META: &str =
    r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

fn discover(id: u64) -> Permit {
    permit(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"server/discover","params":{{{META}}}}}"#))
}

fn failed(bridge: &mut Bridged) -> Option<String> {
    match bridge.ready()? {
        Inbound::Failed { failure, .. } => Some(failure.message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_cancelled_discovery_leaves_finding_the_era_to_the_next_request() {
    let mut bridge = bridge();
    bridge.send(discover(1));
    assert!(matches!(bridge.main.mode, Mode::Watching(_)));
    bridge.send(permit(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#));
    assert!(matches!(bridge.main.mode, Mode::Unknown));
    bridge.send(discover(2));
    bridge.abandon(&Id::from(2));
    assert!(matches!(bridge.main.mode, Mode::Unknown));
    bridge.send(permit(&format!(r#"{{"jsonrpc":"2.0","id":3,"method":"tools/list","params":{{{META}}}}}"#)));
    assert!(matches!(bridge.main.mode, Mode::Probing { .. }));
}

#[tokio::test]
async fn what_waits_for_a_line_does_not_wait_for_ever() {
    let mut bridge = bridge();
    let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(61)) else {
        return eprintln!("skipped: this machine has run for too short a time");
    };
    // Nothing is sent while it waits: no line is asked for here.
    bridge.waiting.push_back((long_ago, discover(1)));
    bridge.waiting.push_back((Instant::now(), discover(2)));
    bridge.give_up_waiting();
    assert_eq!(failed(&mut bridge).as_deref(), Some("no line to the server has become free in time"));
    assert!(failed(&mut bridge).is_none() && bridge.waiting.len() == 1);
}

#[tokio::test]
async fn a_message_that_cannot_be_translated_leaves_nothing_behind() {
    let mut bridge = bridge();
    bridge.begin_legacy(0, Client::unable(), None);
    let list = permit(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{META}}}}}"#));
    let now = bridge.now();
    let Mode::Legacy { translator, .. } = &mut bridge.main.mode else { panic!("a legacy server") };
    translator.client(list.message(), now);
    let other = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"prompts/list"}"#);
    bridge.take(0, vec![Step::Forward(other)], Some(list));
    assert!(failed(&mut bridge).is_some());
    let Mode::Legacy { translator, .. } = &bridge.main.mode else { panic!("a legacy server") };
    assert!(translator.is_idle() && bridge.main.permits.is_empty() && bridge.routes.is_empty());
}

fn cancelled(id: u64) -> Permit {
    permit(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#))
}

#[tokio::test]
async fn a_call_that_was_cancelled_at_a_modern_server_leaves_nothing_behind() {
    let mut bridge = bridge();
    let discovered = r#"{"jsonrpc":"2.0","id":"d","result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}}"#;
    let discovered = Message::parse(discovered.to_owned(), Side::Server).unwrap_or_else(|malformed| panic!("{malformed}"));
    bridge.main.mode = Mode::Modern(Box::new(ToModern::new(discovered)));
    bridge.send(permit(
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#,
    ));
    bridge.send(permit(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#));
    bridge.send(permit(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#));
    assert!(bridge.main.permits.contains_key(&Id::from(1)), "kept, should the server ask something back");
    bridge.send(cancelled(1));
    assert!(bridge.main.permits.is_empty());
}

#[tokio::test]
async fn a_line_of_ones_own_is_not_handed_to_another_of_those_who_share() {
    let mut bridge = bridge();
    bridge.share();
    bridge.begin_legacy(0, Client::unable(), None);
    let mut line_of = |sharer| {
        let client = Client::of(discover(0).message()).unwrap();
        bridge.own_line(client, Some(sharer)).unwrap_or_else(|NoLine| panic!("there is room for a line"))
    };
    let first = line_of(1);
    assert_eq!(line_of(1), first, "nobody else has used it");
    assert_ne!(line_of(2), first);
}

#[tokio::test]
async fn a_call_that_was_cancelled_on_a_line_of_its_own_leaves_nothing_behind() {
    let mut bridge = bridge();
    bridge.share();
    bridge.begin_legacy(0, Client::unable(), None);
    let client = Client::of(discover(0).message()).unwrap();
    let Ok(number) = bridge.own_line(client, None) else { panic!("there is room for a line") };
    bridge.send_on(number, permit(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{META}}}}}"#)));
    assert_eq!(bridge.routes.get(&Id::from(1)), Some(&number));
    bridge.send(cancelled(1));
    assert!(bridge.routes.is_empty() && bridge.own[&number].held.is_empty());
}

/// A request of this caller's, on a line to itself that is not ready: it is busy.
fn occupy(bridge: &mut Bridged, sharer: u64) -> Result<u32, NoLine> {
    let client = Client::of(discover(0).message()).unwrap();
    let number = bridge.own_line(client, Some(sharer))?;
    bridge.send_on(number, permit(&format!(r#"{{"jsonrpc":"2.0","id":{sharer},"method":"tools/list","params":{{{META}}}}}"#)));
    Ok(number)
}

#[tokio::test]
async fn callers_have_only_so_many_lines_of_their_own() {
    let nowhere = HttpTarget::new("http://127.0.0.1:9/mcp", &[], &UpstreamTls::default(), Duration::from_secs(60)).unwrap();
    for (server, most) in [(Upstream::Child(silent()), MAX_CHILDREN), (Upstream::Http(nowhere), MAX_SESSIONS)] {
        let mut bridge = before(server);
        bridge.share();
        bridge.begin_legacy(0, Client::unable(), None);
        for sharer in 1..=most as u64 {
            assert!(occupy(&mut bridge, sharer).is_ok(), "{sharer} of {most}");
        }
        assert!(occupy(&mut bridge, 0).is_err(), "one more than {most}");
        assert_eq!(bridge.own.len(), most);
    }
}

#[tokio::test]
async fn a_line_that_nobody_uses_gives_its_place_among_the_children_to_whoever_waits() {
    // One for all, and one.
    let mut bridge = before(Upstream::Child(silent().at_most(2)));
    bridge.share();
    bridge.begin_legacy(0, Client::unable(), None);
    let first = bridge.own_line(Client::unable(), Some(1)).unwrap_or_else(|NoLine| panic!("there is a place"));
    assert!(occupy(&mut bridge, 2).is_err(), "its child still lives");
    assert!(bridge.own.is_empty() && bridge.is_closing());
    assert!(occupy(&mut bridge, 2).is_err(), "and nothing else is closed meanwhile");
    while bridge.is_closing() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = occupy(&mut bridge, 2).unwrap_or_else(|NoLine| panic!("its place is free"));
    assert_ne!(second, first);
    assert!(occupy(&mut bridge, 3).is_err() && !bridge.is_closing(), "one that is used stays");
}

#[tokio::test]
async fn only_so_much_waits_for_the_servers_era() {
    let mut bridge = bridge();
    let list = |id: usize| permit(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{{{META}}}}}"#));
    (0..MAX_HELD).for_each(|id| bridge.send(list(id)));
    assert!(matches!(bridge.main.mode, Mode::Probing { .. }) && failed(&mut bridge).is_none());
    bridge.send(list(MAX_HELD));
    assert_eq!(failed(&mut bridge).as_deref(), Some("too many calls wait for the server to start"));
    assert_eq!(bridge.main.held.len(), MAX_HELD);
}
