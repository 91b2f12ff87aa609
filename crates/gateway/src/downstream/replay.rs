//! Streams of a session that can be taken up again (2025-11-25 §Resumability and Redelivery).
//!
//! Each event of a stream that answers a legacy client has an id. A client whose connection broke names the last one that it
//! has seen, and is given what came after: what was said to it once, filtered as it was then. A stream goes on while nobody
//! reads it. What was read is kept for a while; what was not, as far as there is room: of what comes before an answer the first
//! is kept, and the answer in any case, unless later ones need its room.
//!
//! Clients of 2025-11-25 are let poll (SEP-1699). Their streams begin with an event that has an id and no data, so that whoever
//! loses the connection before anything was said can come back too; and a stream on which nothing was said for long is closed,
//! for its client to ask for the rest, so that no proxy on the way has to keep, or cut, a connection that is silent.

use crate::budget::{Budget, Share, UNREAD};
use crate::downstream::http::{Body, event_stream, listening};
use crate::sink::{Down, MAX_WAITING};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Response;
use mcp::sse;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tracing::warn;

/// Streams of one session that can be taken up again; past so many, one that has ended is forgotten, first of all one that was
/// read to its end, else the oldest.
const MOST_STREAMS: usize = 8;
/// So much of what was read already is kept of each.
const KEPT_BYTES: usize = 256 * 1024;
/// So much of what nobody has read is kept of each before its answer, or one event; what would be more is dropped.
const UNREAD_BYTES: usize = 4 << 20;
/// Answers that nobody reads have so much room in a session, which is that of the longest one; the oldest make way.
const ANSWERS_BYTES: usize = 64 << 20;

/// A stream whose client polls is closed when nothing was said on it for so long. Proxies commonly wait for a minute.
const SILENCE: Duration = Duration::from_secs(30);
/// After so long, in milliseconds, a client that polls comes back.
const RETRY_MS: u64 = 500;

/// The streams of one session.
#[derive(Clone, Default)]
pub(super) struct Replay(Arc<Mutex<Streams>>);

struct Streams {
    known: VecDeque<Arc<Resumable>>,
    next: u64,
    /// The room for what waits, of all sessions together.
    budget: &'static Budget,
}

impl Default for Streams {
    fn default() -> Streams {
        Streams { known: VecDeque::new(), next: 0, budget: &UNREAD }
    }
}

/// One stream.
struct Resumable {
    number: u64,
    /// Whether a client only listens on it: then it ends when nobody reads it.
    listens: bool,
    events: Mutex<Events>,
    changed: watch::Sender<()>,
}

struct Events {
    /// Each as it goes over the wire, with its number. They count from 1; 0 is what comes before all of them.
    kept: VecDeque<(u64, Bytes)>,
    next: u64,
    /// The first that nobody has been given.
    unread: u64,
    /// What those are together that somebody has been given.
    read_bytes: usize,
    /// And the others.
    unread_bytes: usize,
    /// Of the room for what waits, once nobody reads it.
    share: Share,
    /// Whether its client polls, and would find it again.
    polls: bool,
    over: bool,
}

impl Replay {
    /// Answers a request by a stream of what it is given, which begins with `first`, where there is something already.
    /// `polls`: the client knows streams that are closed before their end.
    pub fn answer(&self, first: Option<&Bytes>, mut given: mpsc::Receiver<Down>, polls: bool) -> Response<Body> {
        let stream = self.open(false, polls);
        if let Some(first) = first {
            stream.push(first);
        }
        let (fed, replay) = (stream.clone(), self.clone());
        tokio::spawn(async move {
            while let Some(down) = given.recv().await {
                match down {
                    Down::Event(event) => fed.push(&event),
                    Down::Last { body, .. } => {
                        fed.lock().add(fed.number, &body);
                        break;
                    }
                    Down::Accepted => break,
                }
            }
            fed.end();
            replay.make_room();
        });
        event_stream(read(stream, 1))
    }

    /// Gives a client that listens what it is given; first what it has missed, if it names the last event that it has seen.
    pub fn listen(&self, missed: Vec<Bytes>, mut given: mpsc::Receiver<Down>) -> Response<Body> {
        let stream = self.open(true, false);
        let fed = stream.clone();
        // It reads from here on: the task below ends when nobody does.
        let events = read(stream, 1);
        tokio::spawn(async move {
            loop {
                let down = tokio::select! {
                    down = given.recv() => down,
                    // Whoever comes next is told what comes next.
                    () = fed.changed.closed() => break,
                };
                match down {
                    Some(Down::Event(event) | Down::Last { body: event, .. }) => fed.push(&event),
                    Some(Down::Accepted) => {}
                    None => break,
                }
            }
            fed.end();
        });
        event_stream(listening().chain(stream::iter(missed)).chain(events))
    }

    /// What follows on the event that a client names as its last.
    pub fn after(&self, last_event: &str) -> Resumed {
        let named = last_event.split_once('-').and_then(|(stream, event)| Some((stream.parse().ok()?, event.parse().ok()?)));
        let Some((number, event)): Option<(u64, u64)> = named else { return Resumed::Unknown };
        let stream = self.lock().known.iter().find(|stream| stream.number == number).cloned();
        match stream {
            None => Resumed::Unknown,
            Some(stream) if stream.listens => Resumed::Missed(stream.after(event)),
            Some(stream) => Resumed::Stream(Box::new(event_stream(read(stream, event.saturating_add(1))))),
        }
    }

    fn open(&self, listens: bool, polls: bool) -> Arc<Resumable> {
        self.make_room();
        let mut streams = self.lock();
        if streams.known.len() >= MOST_STREAMS {
            let find = |is_it: fn(&Events) -> bool| streams.known.iter().position(|stream| is_it(&stream.lock()));
            let over = find(|events| events.over && events.unread == events.next).or_else(|| find(|events| events.over));
            streams.forget(over.unwrap_or(0));
        }
        streams.next += 1;
        let (kept, read_bytes, unread_bytes) = (VecDeque::new(), 0, 0);
        let share = Share::of(streams.budget);
        let events = Events { kept, next: 1, unread: 1, read_bytes, unread_bytes, share, polls, over: false };
        let (number, events) = (streams.next, Mutex::new(events));
        let stream = Arc::new(Resumable { number, listens, events, changed: watch::Sender::default() });
        streams.known.push_back(stream.clone());
        stream
    }

    /// Forgets the oldest answers that nobody reads, as far as later ones need their room, and any for which there is none left
    /// among all sessions.
    fn make_room(&self) {
        let mut streams = self.lock();
        let mut room = ANSWERS_BYTES;
        for at in (0..streams.known.len()).rev() {
            match streams.known[at].waiting().and_then(|waiting| room.checked_sub(waiting)) {
                Some(left) => room = left,
                None => {
                    warn!("a client does not come back for its answers; one is dropped");
                    streams.forget(at);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    /// Nobody finds this stream again. Whoever reads it reads it to its end.
    fn forget(&mut self, at: usize) {
        if let Some(forgotten) = self.known.remove(at) {
            forgotten.lock().polls = false;
        }
    }
}

/// What a client that comes back is given.
pub(super) enum Resumed {
    /// The rest of the stream that answers a request.
    Stream(Box<Response<Body>>),
    /// It listens: what it has missed, before anything new.
    Missed(Vec<Bytes>),
    /// There is no such event, or not any more.
    Unknown,
}

impl Resumable {
    /// Says something that is no answer, where there is room for it.
    fn push(&self, message: &Bytes) {
        let mut events = self.lock();
        let unread = events.kept.len() - events.unread_from();
        if unread >= MAX_WAITING || (unread > 0 && events.unread_bytes + message.len() > UNREAD_BYTES) {
            return warn!("a client does not read what it is sent; a message to it is dropped");
        }
        events.add(self.number, message);
        drop(events);
        self.changed.send_replace(());
    }

    /// How many bytes wait here for a client that may come back, once it has ended; `None` where there is no room for them.
    fn waiting(&self) -> Option<usize> {
        let mut events = self.lock();
        let is_waiting = events.over && self.changed.receiver_count() == 0;
        let waiting = if is_waiting { events.unread_bytes } else { 0 };
        events.share.cover(waiting).is_ok().then_some(waiting)
    }

    fn end(&self) {
        self.lock().over = true;
        self.changed.send_replace(());
    }

    fn after(&self, event: u64) -> Vec<Bytes> {
        self.lock().kept.iter().filter(|(number, _)| *number > event).map(|(_, event)| event.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    /// Adds a message to the stream of this number.
    fn add(&mut self, stream: u64, message: &Bytes) {
        let number = self.next;
        self.next += 1;
        let event = sse::encode(message, Some(&format!("{stream}-{number}")), None);
        self.unread_bytes += event.len();
        self.kept.push_back((number, event));
    }

    /// How many of those that are kept somebody has been given.
    fn unread_from(&self) -> usize {
        self.kept.partition_point(|(number, _)| *number < self.unread)
    }

    /// Whether there is anything to come back for from `from` on.
    fn primes(&self, from: u64) -> bool {
        self.polls && (!self.over || from < self.next)
    }

    /// The first event from `from` on. What was read before it makes room.
    fn take(&mut self, from: u64) -> Option<(u64, Bytes)> {
        let at = self.kept.partition_point(|(number, _)| *number < from);
        let (number, event) = self.kept.get(at)?.clone();
        if number >= self.unread {
            // Whoever names an event that it was never given does not want those before it either.
            let passed: usize = self.kept.range(self.unread_from()..=at).map(|(_, event)| event.len()).sum();
            self.unread = number + 1;
            self.unread_bytes -= passed;
            self.read_bytes += passed;
        }
        while self.read_bytes > KEPT_BYTES && self.kept.front().is_some_and(|(number, _)| *number < self.unread) {
            let gone = self.kept.pop_front();
            self.read_bytes -= gone.map_or(0, |(_, event)| event.len());
        }
        Some((number, event))
    }
}

/// The events of a stream from one of them on, until it is over, or its client is to come back for the rest.
fn read(stream: Arc<Resumable>, from: u64) -> impl futures_util::Stream<Item = Bytes> + Send + Sync + 'static {
    // Whoever is told nothing new could not say where to go on: so each part of a stream begins with that.
    let is_primed = stream.lock().primes(from);
    let last = from.saturating_sub(1);
    let first = is_primed.then(|| Bytes::from(format!("id: {}-{last}\nretry: {RETRY_MS}\ndata: \n\n", stream.number)));
    let changed = stream.changed.subscribe();
    let events = stream::unfold((stream, changed, from), |(stream, mut changed, from)| async move {
        loop {
            changed.borrow_and_update();
            let (taken, over, polls) = {
                let mut events = stream.lock();
                (events.take(from), events.over, events.polls)
            };
            match taken {
                Some((number, event)) => return Some((event, (stream, changed, number + 1))),
                None if over => return None,
                None if polls => match tokio::time::timeout(SILENCE, changed.changed()).await {
                    Err(_) if stream.lock().polls => return None,
                    _ => {}
                },
                // The sender lives as long as the stream that is held here.
                None => changed.changed().await.ok()?,
            }
        }
    });
    stream::iter(first).chain(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn next(response: &mut Response<Body>) -> Option<String> {
        let frame = response.body_mut().frame().await?.unwrap().into_data().unwrap();
        Some(String::from_utf8(frame.to_vec()).unwrap())
    }

    fn event(text: &str) -> Down {
        Down::Event(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn resumed(replay: &Replay, id: &str) -> Response<Body> {
        match replay.after(id) {
            Resumed::Stream(response) => *response,
            Resumed::Missed(_) | Resumed::Unknown => panic!("{id}"),
        }
    }

    #[tokio::test]
    async fn a_stream_goes_on_while_nobody_reads_it_and_is_given_again_from_where_it_broke() {
        let replay = Replay::default();
        let (sink, given) = mpsc::channel(8);
        let mut response = replay.answer(Some(&Bytes::from_static(b"a")), given, false);
        assert_eq!(next(&mut response).await.as_deref(), Some("id: 1-1\ndata: a\n\n"));
        drop(response);
        sink.send(event("b")).await.unwrap();
        sink.send(Down::Last { body: Bytes::from_static(b"c"), status: 200 }).await.unwrap();
        for _ in 0..2 {
            let mut rest = resumed(&replay, "1-1");
            assert_eq!(next(&mut rest).await.as_deref(), Some("id: 1-2\ndata: b\n\n"));
            assert_eq!(next(&mut rest).await.as_deref(), Some("id: 1-3\ndata: c\n\n"));
            assert_eq!(next(&mut rest).await, None);
        }
        for unknown in ["2-0", "x", "1", "-", "1-x", ""] {
            assert!(matches!(replay.after(unknown), Resumed::Unknown), "{unknown}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_polls_is_sent_away_while_nothing_is_said_and_finds_the_rest() {
        let replay = Replay::default();
        let (sink, given) = mpsc::channel(8);
        let mut response = replay.answer(None, given, true);
        let begun = tokio::time::Instant::now();
        assert_eq!(next(&mut response).await.as_deref(), Some("id: 1-0\nretry: 500\ndata: \n\n"));
        assert_eq!(next(&mut response).await, None);
        assert!((SILENCE..SILENCE * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());

        let mut response = resumed(&replay, "1-0");
        assert_eq!(next(&mut response).await.as_deref(), Some("id: 1-0\nretry: 500\ndata: \n\n"));
        sink.send(event("a")).await.unwrap();
        assert_eq!(next(&mut response).await.as_deref(), Some("id: 1-1\ndata: a\n\n"));
        assert_eq!(next(&mut response).await, None);

        sink.send(Down::Last { body: Bytes::from_static(b"b"), status: 200 }).await.unwrap();
        let mut response = resumed(&replay, "1-1");
        assert_eq!(next(&mut response).await.as_deref(), Some("id: 1-1\nretry: 500\ndata: \n\n"));
        assert_eq!(next(&mut response).await.as_deref(), Some("id: 1-2\ndata: b\n\n"));
        assert_eq!(next(&mut response).await, None);
        assert_eq!(next(&mut resumed(&replay, "1-2")).await, None, "there is nothing to come back for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_could_not_be_found_again_stays_open() {
        let replay = Replay::default();
        let (first, given) = mpsc::channel(8);
        let mut response = replay.answer(None, given, true);
        next(&mut response).await.unwrap();
        let mut sinks = Vec::new();
        for _ in 0..MOST_STREAMS {
            let (sink, given) = mpsc::channel(1);
            replay.answer(None, given, true);
            sinks.push(sink);
        }
        tokio::spawn(async move {
            tokio::time::sleep(SILENCE * 3).await;
            first.send(Down::Last { body: Bytes::from_static(b"a"), status: 200 }).await.unwrap();
        });
        assert_eq!(next(&mut response).await.as_deref(), Some("id: 1-1\ndata: a\n\n"));
    }

    #[tokio::test]
    async fn whoever_listens_again_is_told_what_was_missed_and_a_stream_that_nobody_hears_ends() {
        let replay = Replay::default();
        let (sink, given) = mpsc::channel(8);
        let mut response = replay.listen(Vec::new(), given);
        next(&mut response).await.unwrap();
        sink.send(event("a")).await.unwrap();
        assert_eq!(next(&mut response).await.as_deref(), Some("id: 1-1\ndata: a\n\n"));
        sink.send(event("b")).await.unwrap();
        assert_eq!(next(&mut response).await.as_deref(), Some("id: 1-2\ndata: b\n\n"));
        drop(response);
        sink.closed().await;
        let Resumed::Missed(missed) = replay.after("1-1") else { panic!("it is known") };
        let (_sink, given) = mpsc::channel(8);
        let mut again = replay.listen(missed, given);
        next(&mut again).await.unwrap();
        assert_eq!(next(&mut again).await.as_deref(), Some("id: 1-2\ndata: b\n\n"));
    }

    #[tokio::test]
    async fn what_waits_for_the_clients_of_all_sessions_has_one_room() {
        static ROOM: Budget = Budget::of(3 << 20);
        let session = || Replay(Arc::new(Mutex::new(Streams { budget: &ROOM, ..Streams::default() })));
        let unread = async |replay: &Replay| {
            let (sink, given) = mpsc::channel(1);
            drop(replay.answer(Some(&Bytes::from_static(b"a")), given, false));
            sink.send(answer("x".repeat(2 << 20))).await.unwrap();
            sink.closed().await;
            // What has been said is looked at again when something else begins.
            drop(replay.open(false, true));
        };
        let (ada, eve) = (session(), session());
        unread(&ada).await;
        unread(&eve).await;
        assert!(matches!(ada.after("1-0"), Resumed::Stream(_)));
        assert!(matches!(eve.after("1-0"), Resumed::Unknown), "there is no room for both");
        drop(ada);
        unread(&eve).await;
        assert!(matches!(eve.after("3-0"), Resumed::Stream(_)), "the room of what is gone is free");
    }

    /// What is kept of all streams, in bytes.
    fn kept_bytes(replay: &Replay) -> usize {
        let each = |stream: &Arc<Resumable>| stream.lock().kept.iter().map(|(_, event)| event.len()).sum::<usize>();
        replay.lock().known.iter().map(each).sum()
    }

    /// The lengths of what is given of a stream to its end.
    async fn lengths(mut response: Response<Body>) -> Vec<usize> {
        let mut lengths = Vec::new();
        while let Some(event) = next(&mut response).await {
            lengths.push(event.len());
        }
        lengths
    }

    fn answer(body: impl Into<Bytes>) -> Down {
        Down::Last { body: body.into(), status: 200 }
    }

    #[tokio::test]
    async fn what_nobody_reads_is_bounded_by_its_size_and_the_answer_is_kept() {
        let replay = Replay::default();
        let (sink, given) = mpsc::channel(1);
        drop(replay.answer(Some(&Bytes::from_static(b"a")), given, false));
        let megabyte = "x".repeat(1 << 20);
        for _ in 0..20 {
            sink.send(event(&megabyte)).await.unwrap();
        }
        sink.send(answer(megabyte)).await.unwrap();
        sink.closed().await;
        let kept = kept_bytes(&replay);
        assert!(kept < UNREAD_BYTES + (2 << 20), "{kept}");
        let lengths = lengths(resumed(&replay, "1-0")).await;
        assert_eq!(lengths.iter().filter(|length| **length > 1 << 20).count(), 4, "three of them, and the answer: {lengths:?}");
    }

    #[tokio::test]
    async fn an_event_that_is_too_long_goes_alone() {
        let replay = Replay::default();
        let (sink, given) = mpsc::channel(1);
        drop(replay.answer(Some(&Bytes::from("x".repeat(UNREAD_BYTES + 1))), given, false));
        sink.send(event("b")).await.unwrap();
        sink.send(answer("c")).await.unwrap();
        sink.closed().await;
        let lengths = lengths(resumed(&replay, "1-0")).await;
        assert!(lengths.len() == 2 && lengths[0] > UNREAD_BYTES, "{lengths:?}");
    }

    #[tokio::test]
    async fn answers_that_nobody_reads_make_way_for_later_ones() {
        let replay = Replay::default();
        let long = Bytes::from("x".repeat(30 << 20));
        for _ in 0..3 {
            let (sink, given) = mpsc::channel(1);
            drop(replay.answer(None, given, true));
            sink.send(answer(long.clone())).await.unwrap();
            sink.closed().await;
        }
        assert!(kept_bytes(&replay) <= ANSWERS_BYTES);
        assert!(matches!(replay.after("1-0"), Resumed::Unknown));
        for id in ["2-0", "3-0"] {
            assert_eq!(lengths(resumed(&replay, id)).await.len(), 2, "{id}: where it begins, and the answer");
        }
    }

    #[tokio::test]
    async fn an_answer_that_was_read_makes_way_before_one_that_was_not() {
        let replay = Replay::default();
        for number in 1..=MOST_STREAMS + 3 {
            let (sink, given) = mpsc::channel(1);
            let response = replay.answer(None, given, false);
            sink.send(answer("a")).await.unwrap();
            sink.closed().await;
            if number > 1 {
                lengths(response).await;
            }
        }
        assert_eq!(lengths(resumed(&replay, "1-0")).await.len(), 1);
        assert!(matches!(replay.after("2-0"), Resumed::Unknown));
    }

    #[tokio::test]
    async fn whoever_names_an_event_it_was_never_given_goes_on_after_it() {
        let replay = Replay::default();
        let (sink, given) = mpsc::channel(8);
        let long = "x".repeat(KEPT_BYTES);
        drop(replay.answer(Some(&Bytes::from(long.clone())), given, false));
        for _ in 0..2 {
            sink.send(event(&long)).await.unwrap();
        }
        sink.send(answer("last")).await.unwrap();
        sink.closed().await;
        assert_eq!(lengths(resumed(&replay, "1-2")).await.len(), 2);
        let stream = replay.lock().known[0].clone();
        let events = stream.lock();
        assert_eq!((events.unread, events.unread_bytes), (5, 0));
        assert!(events.read_bytes <= KEPT_BYTES, "{}", events.read_bytes);
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let replay = Replay::default();
        let (sink, given) = mpsc::channel(8);
        let long = "x".repeat(100 * 1024);
        let mut response = replay.answer(Some(&Bytes::from(long.clone())), given, false);
        for _ in 0..9 {
            sink.send(event(&long)).await.unwrap();
        }
        for _ in 0..10 {
            next(&mut response).await.unwrap();
        }
        let kept = kept_bytes(&replay);
        assert!(kept <= KEPT_BYTES, "{kept}");
        let mut sinks = Vec::new();
        for _ in 0..2 * MOST_STREAMS {
            let (sink, given) = mpsc::channel(1);
            replay.answer(Some(&Bytes::from_static(b"y")), given, false);
            sinks.push(sink);
        }
        assert_eq!(replay.lock().known.len(), MOST_STREAMS);
    }
}
