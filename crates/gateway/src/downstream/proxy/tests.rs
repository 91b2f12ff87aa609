//! What is remembered of callers without sessions, and what nobody is told any more.

use super::*;
use crate::downstream::callers::{caller, enforcer};
use crate::edition::Edition;
use crate::grants::Grants;
use crate::snapshot::{AtServer, Current, Rules, Snapshot};
use crate::tls::UpstreamTls;
use policy::{Policies, Source, load};
use store::{ArgumentsMode, Options, StateUrl, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::test]
async fn what_one_was_asked_without_a_session_is_not_for_another_to_answer() {
    let target = HttpTarget::new("http://127.0.0.1:9/mcp", &[], &UpstreamTls::default(), Duration::from_secs(1)).unwrap();
    let (_, reloaded) = watch::channel(0);
    let proxy = Proxy::new(enforcer(), target, reloaded);
    let of = |who: &str| {
        let (headers, caller) = (HeaderMap::new(), caller(who, "g"));
        proxy.exchange(&headers, false, &caller, proxy.called(&headers, &caller))
    };
    of("ada").session.lock().asked.ask(&Id::from(7));
    let answer = Message::parse(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#, Side::Client).unwrap();
    assert!(of("bob").unasked(&answer).is_some());
    assert!(of("ada").unasked(&answer).is_none());
    assert!(of("ada").unasked(&answer).is_some(), "once");
}

/// One server, in an edition of its own each time.
fn another_edition(text: &str) -> (Option<Edition>, Snapshot) {
    let loaded = load(&Source::new("p.yaml", text.to_owned()));
    let policy = loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.problems));
    let edition = Some(Edition::another());
    let at = AtServer { edition, rules: Rules::OfAll(Policies::from(Arc::new(policy))) };
    (edition, Snapshot::new([("s".to_owned(), at)].into(), Grants::default()))
}

#[tokio::test]
async fn the_reasons_of_a_server_that_is_replaced_reach_nobody() {
    const JUDGES: &str = "version: \"1\"\ntools: {\"*\": {results: {secrets: redact}}}\n";
    const OPEN: &str = "version: \"1\"\ntools: {}\n";
    let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    // What the server is told by, under which policy, whether another is in its place by then, and whether its reasons pass.
    let cases = [(OPEN, false, true), (JUDGES, false, false), (JUDGES, true, false), (OPEN, true, false)];
    for ((policy, is_replaced, passes), (method, body)) in
        cases.into_iter().flat_map(|case| [("GET", ""), ("DELETE", ""), ("POST", note)].map(|asked| (case, asked)))
    {
        let what = format!("{method} {policy} {is_replaced}");
        let (edition, snapshot) = another_edition(policy);
        let current = Current::new(snapshot);
        let store = Store::open(StateUrl::Memory, Options::default()).unwrap();
        let enforcer = Enforcer::of(store, ("s", edition), ArgumentsMode::Full, current.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let target = HttpTarget::new(&url, &[], &UpstreamTls::default(), Duration::from_secs(60)).unwrap();
        let (_, reloaded) = watch::channel(0);
        let proxy = Proxy::new(enforcer, target, reloaded);
        let request = Request::builder().method(method).body(Bytes::from_static(body.as_bytes())).unwrap();
        let waiting = tokio::spawn(async move { proxy.handle(request, &caller("ada", "g")).await });
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0, "{what}");
        if is_replaced {
            current.replace(another_edition(OPEN).1);
        }
        let said = "HTTP/1.1 500 No\r\nContent-Type: text/plain\r\nContent-Length: 20\r\n\r\nAKIAIOSFODNN7EXAMPLE";
        stream.write_all(said.as_bytes()).await.unwrap();
        let response = waiting.await.unwrap();
        assert_eq!(response.status(), 500, "{what}");
        let Ok(told) = response.into_body().collect().await;
        assert_eq!(!told.to_bytes().is_empty(), passes, "{what}");
    }
}
