//! Webhooks: people are told that a call waits for their approval.
//!
//! Telling is nothing that a call waits for, and nothing it depends on: what cannot be told still waits in the state, for the
//! command line and the admin API. So the queue is bounded and what does not fit is dropped with a word in the log; each
//! delivery is tried until it is accepted, its approval has expired, or eight times.
//!
//! A webhook goes where the operator has configured and nowhere else: no redirect is followed, and nothing of a call becomes
//! part of an address. Bodies are signed over their own bytes and the time, so that a receiver can refuse what is forged or
//! played back. Secrets are looked up for each delivery, so that a changed one is used at once.

mod forms;

use crate::approvers::Tell;
use crate::secret::{Secret, SecretError};
use crate::tls::UpstreamTls;
use crate::upstream::HttpTarget;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use policy::{Webhook, WebhookUrl};
use ring::hmac;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use store::{Approval, Clock};
use tokio::sync::Semaphore;
use tracing::{info, warn};

/// So many deliveries may be under way or wait for their next try.
const MOST_WAITING: usize = 256;
/// How long a receiver may take over one.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often one is tried: with the pauses between, for about four minutes.
const MOST_TRIES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// Tells people of calls that wait. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks {
    /// Those of the configuration; policies name their own.
    always: Arc<RwLock<Vec<Webhook>>>,
    room: Arc<Semaphore>,
    clock: Clock,
    first_pause: Duration,
}

/// Why a webhook cannot be used. Shows neither address nor secret.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// What a reference names is not there.
    #[error("a webhook cannot be sent: {0}")]
    Reference(#[from] SecretError),
    /// The address is not one.
    #[error("the address of a webhook is not an http or https URL with a host, like `https://hooks.example.com/callgate`")]
    Url,
}

impl Webhooks {
    /// Tells `always` of every call that waits, besides those that its policy names.
    pub fn new(always: Vec<Webhook>, clock: Clock) -> Webhooks {
        Webhooks {
            always: Arc::new(RwLock::new(always)),
            room: Arc::new(Semaphore::new(MOST_WAITING)),
            clock,
            first_pause: FIRST_PAUSE,
        }
    }

    /// Tells these of every call that waits, from now on.
    pub fn replace(&self, always: Vec<Webhook>) {
        *self.always.write().unwrap_or_else(PoisonError::into_inner) = always;
    }

    /// Whether a webhook could be sent now: what it refers to is there, and its address is one.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(webhook: &Webhook) -> Result<(), WebhookError> {
        Sendable::of(webhook).map(|_| ())
    }

    /// The same as a function, for whoever asks people.
    pub fn teller(self) -> Tell {
        Arc::new(move |approval, of_policies| self.tell(approval, of_policies))
    }

    /// Tells everybody of an approval that was opened just now. Returns at once.
    pub fn tell(&self, approval: &Approval, of_policies: &[Webhook]) {
        let always = self.always.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut told: Vec<&Webhook> = Vec::new();
        for webhook in always.iter().chain(of_policies) {
            if told.contains(&webhook) {
                continue;
            }
            told.push(webhook);
            let (Ok(place), Ok(runtime)) = (self.room.clone().try_acquire_owned(), tokio::runtime::Handle::try_current()) else {
                warn!(approval = %approval.id, "too many webhooks wait; nobody is told of this approval");
                continue;
            };
            let delivery = Delivery {
                webhook: webhook.clone(),
                id: approval.id.clone(),
                body: forms::body(approval, webhook.form).into(),
                expires: approval.expires,
                clock: self.clock.clone(),
                pause: self.first_pause,
            };
            runtime.spawn(async move {
                delivery.deliver().await;
                drop(place);
            });
        }
    }
}

/// One body on its way to one receiver.
struct Delivery {
    webhook: Webhook,
    id: String,
    body: Bytes,
    /// When nobody could answer any more.
    expires: i64,
    clock: Clock,
    pause: Duration,
}

impl Delivery {
    async fn deliver(self) {
        let mut pause = self.pause;
        for tried in 1..=MOST_TRIES {
            let problem = match self.attempt().await {
                Ok(()) => {
                    info!(approval = %self.id, tried, "a webhook was accepted");
                    return;
                }
                Err(problem) => problem,
            };
            if !problem.passes || tried == MOST_TRIES || self.clock.now() >= self.expires {
                warn!(approval = %self.id, tried, problem = %problem.what, "a webhook is given up");
                return;
            }
            warn!(approval = %self.id, tried, problem = %problem.what, "a webhook was not accepted; it is tried again");
            // A little by chance: receivers that come back should not meet all of them at once.
            tokio::time::sleep(pause.mul_f64(1.0 + crate::chance::fraction() / 4.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self) -> Result<(), Problem> {
        let lasting = |what: String| Problem { what, passes: false };
        let Sendable { target, secret } = Sendable::of(&self.webhook).map_err(|error| lasting(error.to_string()))?;
        let headers = self.headers(secret.as_ref());
        let sent = target.send(Method::POST, headers, self.body.clone()).await;
        let response = sent.map_err(|failure| Problem { what: failure.message, passes: true })?;
        let status = response.status();
        // Read, so that the connection can be closed in good order; and no more than anybody needs.
        let mut body = http_body_util::Limited::new(response.into_body(), 64 * 1024);
        let _ = tokio::time::timeout(PATIENCE, async { while let Some(Ok(_)) = body.frame().await {} }).await;
        if status.is_success() {
            return Ok(());
        }
        let passes = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        Err(Problem { what: format!("HTTP {}", status.as_u16()), passes })
    }

    fn headers(&self, secret: Option<&Secret>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("callgate/", env!("CARGO_PKG_VERSION"))));
        let seconds = (self.clock.now() / 1000).to_string();
        let signature = secret.map(|secret| format!("sha256={}", sign(secret.expose().as_bytes(), &seconds, &self.body)));
        for (name, value) in
            [("x-callgate-delivery", Some(&self.id)), (TIMESTAMP, Some(&seconds)), (SIGNATURE, signature.as_ref())]
        {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        headers
    }
}

/// Why a try has failed, and whether the next may succeed.
struct Problem {
    what: String,
    passes: bool,
}

const TIMESTAMP: &str = "x-callgate-timestamp";
const SIGNATURE: &str = "x-callgate-signature";

/// HMAC-SHA256 of `<seconds>.<body>`, in hexadecimal.
fn sign(secret: &[u8], seconds: &str, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    context.update(seconds.as_bytes());
    context.update(b".");
    context.update(body);
    context.sign().as_ref().iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// A webhook whose references were looked up.
struct Sendable {
    target: HttpTarget,
    secret: Option<Secret>,
}

impl Sendable {
    fn of(webhook: &Webhook) -> Result<Sendable, WebhookError> {
        let url = match &webhook.url {
            WebhookUrl::Literal(url) => url.clone(),
            WebhookUrl::Reference(reference) => Secret::of(reference)?.expose().to_owned(),
        };
        let target = HttpTarget::new(url.trim(), &[], &UpstreamTls::default(), PATIENCE).map_err(|_| WebhookError::Url)?;
        let secret = webhook.secret.as_ref().map(Secret::of).transpose()?;
        Ok(Sendable { target, secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shown::tests::approval;
    use std::collections::BTreeMap;
    use std::time::Instant;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::{mpsc, watch};

    /// Long enough for a machine that does much else.
    const LONG: Duration = Duration::from_secs(60);

    /// Who is told: takes note of each delivery and answers as is said then; 0: not yet.
    struct Receiver {
        webhook: Webhook,
        told: mpsc::UnboundedReceiver<(String, Instant)>,
        status: watch::Sender<u16>,
    }

    impl Receiver {
        async fn new(status: u16) -> Receiver {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            let (tell, told) = mpsc::unbounded_channel();
            let (status, says) = watch::channel(status);
            tokio::spawn(async move {
                while let Ok((connection, _)) = listener.accept().await {
                    tokio::spawn(receive(connection, tell.clone(), says.clone()));
                }
            });
            let webhook = Webhook { url: WebhookUrl::Literal(url), form: policy::WebhookForm::Json, secret: None };
            Receiver { webhook, told, status }
        }

        /// The id of the next delivery, and when it came.
        async fn next(&mut self) -> (String, Instant) {
            tokio::time::timeout(LONG, self.told.recv()).await.expect("somebody is told").unwrap()
        }
    }

    async fn receive(connection: TcpStream, tell: mpsc::UnboundedSender<(String, Instant)>, mut says: watch::Receiver<u16>) {
        let mut connection = BufReader::new(connection);
        let (mut id, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            connection.read_line(&mut line).await.unwrap();
            match line.trim().split_once(": ") {
                Some(("x-callgate-delivery", value)) => id = value.to_owned(),
                Some(("content-length", value)) => length = value.parse().unwrap(),
                _ if line.trim().is_empty() => break,
                _ => {}
            }
        }
        connection.read_exact(&mut vec![0; length]).await.unwrap();
        tell.send((id, Instant::now())).unwrap();
        let status = *says.wait_for(|status| *status > 0).await.unwrap();
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let _ = connection.write_all(answer.as_bytes()).await;
    }

    /// Webhooks whose first pause is short, on a clock that stands.
    fn webhooks(receiver: &Receiver, clock: &Clock, pause: Duration) -> Webhooks {
        Webhooks { first_pause: pause, ..Webhooks::new(vec![receiver.webhook.clone()], clock.clone()) }
    }

    async fn all_places_are_free(webhooks: &Webhooks) {
        let places = u32::try_from(MOST_WAITING).unwrap();
        drop(tokio::time::timeout(LONG, webhooks.room.acquire_many(places)).await.expect("it is given up").unwrap());
    }

    #[tokio::test]
    async fn a_delivery_is_tried_eight_times_with_growing_pauses() {
        const PAUSE: Duration = Duration::from_millis(10);
        let mut receiver = Receiver::new(503).await;
        let webhooks = webhooks(&receiver, &Clock::simulated(0), PAUSE);
        webhooks.tell(&approval("{}"), &[]);
        let mut last = receiver.next().await.1;
        for tried in 1..MOST_TRIES {
            let (_, now) = receiver.next().await;
            let pause = now - last;
            assert!(pause >= PAUSE * 2_u32.pow(tried - 1), "{pause:?} after try {tried}");
            last = now;
        }
        all_places_are_free(&webhooks).await;
        assert!(receiver.told.try_recv().is_err(), "and not once more");
    }

    #[tokio::test]
    async fn what_another_try_would_not_mend_is_tried_once() {
        for status in [400, 401, 404, 410] {
            let mut receiver = Receiver::new(status).await;
            let webhooks = webhooks(&receiver, &Clock::simulated(0), Duration::ZERO);
            webhooks.tell(&approval("{}"), &[]);
            receiver.next().await;
            all_places_are_free(&webhooks).await;
            assert!(receiver.told.try_recv().is_err(), "{status}");
        }
    }

    #[tokio::test]
    async fn nobody_is_told_of_what_has_expired() {
        let clock = Clock::simulated(0);
        let mut receiver = Receiver::new(0).await;
        let webhooks = webhooks(&receiver, &clock, Duration::ZERO);
        webhooks.tell(&Approval { expires: 1_000, ..approval("{}") }, &[]);
        receiver.next().await;
        // Its time ends before the first try has.
        clock.advance(1_000);
        receiver.status.send_replace(503);
        all_places_are_free(&webhooks).await;
        assert!(receiver.told.try_recv().is_err());
    }

    #[tokio::test]
    async fn so_many_wait_and_no_more() {
        let mut receiver = Receiver::new(0).await;
        let webhooks = webhooks(&receiver, &Clock::simulated(0), Duration::ZERO);
        let tell = |number: usize| webhooks.tell(&Approval { id: number.to_string(), ..approval("{}") }, &[]);
        (0..MOST_WAITING + 20).for_each(tell);
        assert_eq!(webhooks.room.available_permits(), 0);
        let mut told = BTreeMap::new();
        for _ in 0..MOST_WAITING {
            *told.entry(receiver.next().await.0).or_insert(0) += 1;
        }
        assert!(told.len() == MOST_WAITING && told.values().all(|times| *times == 1));
        receiver.status.send_replace(200);
        all_places_are_free(&webhooks).await;
        assert!(receiver.told.try_recv().is_err(), "of the others nobody is told");
        // There is room again.
        tell(MOST_WAITING + 20);
        assert_eq!(receiver.next().await.0, (MOST_WAITING + 20).to_string());
    }
}
