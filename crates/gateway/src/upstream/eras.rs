//! Which eras a server speaks.
//!
//! Found out once, on first need, and remembered for all lines to the server. Nothing is remembered of a server that was not
//! reached, or whose answer says something else (no credentials, a fault of its own): the next who needs it tries again.

use crate::enforcer::Permit;
use crate::tools::own_id;
use crate::upstream::http::{BodyKind, HttpTarget, body_kind, reply_among_events};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use mcp::bridge::ToModern;
use mcp::{Era, Id, Message, Revision, Side};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a server is waited for that is asked for its era.
const PATIENCE: Duration = Duration::from_secs(30);
/// A server behind an address may become another: then it is asked again.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);

/// How long a server that has answered unclearly, and slowly, is not asked again: else those who call meanwhile would wait for
/// it one after the other.
const UNCLEAR: Duration = Duration::from_secs(5);
const SLOW: Duration = Duration::from_secs(1);

/// What is known of a server; nothing, at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    modern: Option<bool>,
    legacy: Option<bool>,
}

impl Known {
    /// Whether the server speaks `era`, where that is known.
    pub fn speaks(self, era: Era) -> Option<bool> {
        match era {
            Era::Modern => self.modern,
            Era::Legacy => self.legacy,
        }
    }
}

/// The eras of one server.
#[derive(Debug, Default)]
pub struct Eras {
    known: Mutex<(Known, Option<Instant>)>,
    asking: tokio::sync::Mutex<()>,
    /// When it was last asked in vain, and until when that counts; for the modern era and for the legacy one.
    unclear: Mutex<[Option<(Instant, Instant)>; 2]>,
}

impl Eras {
    /// What is known now.
    pub(crate) fn known(&self) -> Known {
        self.lock().0
    }

    /// Whether the server speaks `era`, as it has said not long ago.
    pub(crate) fn fresh(&self, era: Era) -> Option<bool> {
        let known = self.lock();
        known.1.is_some_and(|learnt| learnt.elapsed() < REMEMBERED).then(|| known.0.speaks(era)).flatten()
    }

    /// Remembers whether the server speaks `era`.
    pub(crate) fn learn(&self, era: Era, speaks: bool) {
        let mut known = self.lock();
        known.1 = Some(Instant::now());
        match era {
            Era::Modern => known.0.modern = Some(speaks),
            Era::Legacy => known.0.legacy = Some(speaks),
        }
    }

    /// Forgets everything: the server is another, or not what it seemed.
    pub(crate) fn forget(&self) {
        *self.lock() = Default::default();
    }

    /// Whether the HTTP server at `target` speaks `era`; asks it where that is not known. `None` where it cannot be told.
    pub(crate) async fn of_http(&self, target: &HttpTarget, era: Era) -> Option<bool> {
        if let Some(speaks) = self.fresh(era) {
            return Some(speaks);
        }
        let begun = Instant::now();
        if self.is_unclear(era, begun) {
            return None;
        }
        let _one_at_a_time = self.asking.lock().await;
        if let Some(speaks) = self.fresh(era) {
            return Some(speaks);
        }
        // Whoever has waited for the one question has its answer, too.
        if self.is_unclear(era, begun) {
            return None;
        }
        if self.lock().1.is_some_and(|learnt| learnt.elapsed() >= REMEMBERED) {
            self.forget();
        }
        let asked = Instant::now();
        // An answer that comes too late is none.
        let _ = tokio::time::timeout(PATIENCE, self.ask_http(target, era)).await;
        let speaks = self.known().speaks(era);
        let kept = if asked.elapsed() >= SLOW { UNCLEAR } else { Duration::ZERO };
        self.lock_unclear()[index(era)] = speaks.is_none().then(|| (Instant::now(), Instant::now() + kept));
        speaks
    }

    /// Whether the server was asked whether it speaks `era` since `begun`, or not long before, and could not be understood.
    fn is_unclear(&self, era: Era, begun: Instant) -> bool {
        self.lock_unclear()[index(era)].is_some_and(|(answered, until)| answered >= begun || until > begun)
    }

    fn lock_unclear(&self) -> std::sync::MutexGuard<'_, [Option<(Instant, Instant)>; 2]> {
        self.unclear.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask_http(&self, target: &HttpTarget, era: Era) -> Option<()> {
        let id = Id::from(own_id().as_str());
        let probe = Message::parse(ToModern::probe(&id), Side::Client).ok()?;
        let (status, answer, _) = exchange(target, probe).await?;
        let speaks = answer.as_ref().is_some_and(ToModern::shows_modern);
        let Some(discovered) = answer.filter(ToModern::is_modern) else {
            if speaks {
                self.learn(Era::Modern, true);
                if era == Era::Legacy {
                    self.learn(Era::Legacy, takes_handshakes(target).await?);
                }
                return Some(());
            }
            // 2026-07-28, streamable HTTP, §Backward Compatibility: these say that the server is of the older era. Others
            // (no credentials, too many requests, a fault) say nothing of it.
            if status.is_success() || matches!(status.as_u16(), 400 | 404 | 405 | 406 | 415 | 422) {
                self.learn(Era::Modern, false);
                self.learn(Era::Legacy, true);
            }
            return Some(());
        };
        self.learn(Era::Modern, true);
        if era == Era::Legacy {
            let legacy = ToModern::is_legacy_too(&discovered) || takes_handshakes(target).await?;
            self.learn(Era::Legacy, legacy);
        }
        Some(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Known, Option<Instant>)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn index(era: Era) -> usize {
    match era {
        Era::Modern => 0,
        Era::Legacy => 1,
    }
}

/// Whether a modern server takes an `initialize` too. The session that it may open is closed again.
async fn takes_handshakes(target: &HttpTarget) -> Option<bool> {
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":{},"method":"initialize","params":{}}}"#,
        json::quote(&own_id()),
        mcp::initialize_params(Revision::V2025_11_25),
    );
    let (status, answer, session) = exchange(target, Message::parse(text, Side::Client).ok()?).await?;
    let version = answer.as_ref().and_then(|answer| answer.result()?.get("protocolVersion")?.as_str());
    let agrees = version.is_some_and(|version| Revision::parse(&version).is_some());
    if let Some(session) = session {
        let headers = HeaderMap::from_iter([(mcp::headers::SESSION_ID, session)]);
        // A server may refuse, or not answer: the session is over for us either way.
        let _ = target.send(Method::DELETE, headers, bytes::Bytes::new()).await;
    }
    (agrees || status.is_success() || status.is_client_error()).then_some(agrees)
}

/// Asks one question of our own; gives the status, the answer where there is one, and the session where one was opened.
async fn exchange(target: &HttpTarget, question: Message) -> Option<(StatusCode, Option<Message>, Option<HeaderValue>)> {
    let id = question.id()?.clone();
    let mut headers: HeaderMap = match question.protocol_version().and_then(|version| Revision::parse(&version)) {
        Some(revision) => mcp::headers::for_request(&question, revision, None).into_iter().collect(),
        None => HeaderMap::new(),
    };
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let permit = Permit::own(question)?;
    let response = target.send(Method::POST, headers, permit.text().clone()).await.ok()?;
    let (status, session) = (response.status(), response.headers().get(mcp::headers::SESSION_ID).cloned());
    let answer = match body_kind(response.headers()) {
        BodyKind::Json => Message::parse(target.whole(response.into_body()).await.ok()?, Side::Server).ok(),
        BodyKind::Events => reply_among_events(response.into_body(), &id, target.patience()).await,
        BodyKind::Other => None,
    };
    Some((status, answer, session))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::UpstreamTls;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn many_who_ask_a_server_that_cannot_be_understood_ask_it_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let _ = socket.read(&mut [0; 4096]).await;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    let _ = socket.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
                });
            }
        });
        let target = HttpTarget::new(&url, &[], &UpstreamTls::default(), Duration::from_secs(60)).unwrap();
        let eras = Eras::default();
        let answers = futures_util::future::join_all((0..10).map(|_| eras.of_http(&target, Era::Modern))).await;
        assert_eq!(answers, [None; 10]);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // It was quick to say so: the next is free to ask again.
        assert_eq!(eras.of_http(&target, Era::Modern).await, None);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
}
