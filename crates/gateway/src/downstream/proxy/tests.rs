//! What is remembered of callers without sessions.

use super::*;
use crate::downstream::callers::{caller, enforcer};
use crate::tls::UpstreamTls;

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
