//! A stdio server: a child process in a process group of its own.
//!
//! One message a line in both directions. What is not a message on its standard output is noise: dropped and logged. The
//! group dies with us: on every way out that lets us act it is asked, then killed; after a kill −9 of ours its input closes.
//!
//! Which groups live is known to the whole process, for the one way out on which nothing is dropped: [`kill_children`].

use crate::descriptors;
use crate::enforcer::Permit;
use crate::outbox::{Outbox, OutboxError};
use crate::upstream::vitals::{Life, Vitals};
use crate::upstream::{Failure, Inbound};
use mcp::Message;
use mcp::framing::Lines;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{debug, warn};

/// How a child is started.
#[derive(Clone)]
pub struct ChildCommand {
    words: Vec<String>,
    /// The whole environment of the child; `None`: ours.
    environment: Option<BTreeMap<OsString, OsString>>,
    /// One for each child that may live at a time; `None`: there is no bound.
    places: Option<Arc<Semaphore>>,
    patience: Option<Duration>,
    vitals: Option<Arc<Vitals>>,
    /// A child that nobody speaks to yet, where one is started ahead.
    spare: Option<Arc<Spare>>,
}

impl fmt::Debug for ChildCommand {
    /// Its environment may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChildCommand({})", self.words.first().map_or("", String::as_str))
    }
}

impl ChildCommand {
    /// A program and its arguments, in our own environment: what a client that starts us means it to have.
    pub fn inheriting(words: &[String]) -> ChildCommand {
        ChildCommand { words: words.to_vec(), environment: None, places: None, patience: None, vitals: None, spare: None }
    }

    /// A program and its arguments; of our environment it gets `PATH`, `HOME`, `LANG`, `TMPDIR` and the variables of `names`.
    pub fn secluded(words: &[String], names: &[String]) -> ChildCommand {
        let given =
            |name: &OsString| HARMLESS.iter().any(|known| name == known) || names.iter().any(|known| name == known.as_str());
        let environment = std::env::vars_os().filter(|(name, _)| given(name)).collect();
        ChildCommand {
            words: words.to_vec(),
            environment: Some(environment),
            places: None,
            patience: None,
            vitals: None,
            spare: None,
        }
    }

    /// The same, with these variables too.
    pub fn with(mut self, variables: impl Iterator<Item = (String, String)>) -> ChildCommand {
        let environment = self.environment.get_or_insert_with(|| std::env::vars_os().collect());
        environment.extend(variables.map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// The same; a request that it leaves unanswered for longer than `patience` is given up.
    pub fn within(self, patience: Duration) -> ChildCommand {
        ChildCommand { patience: Some(patience), ..self }
    }

    /// The same, with at most `children` alive at a time.
    pub fn at_most(self, children: usize) -> ChildCommand {
        ChildCommand { places: Some(Arc::new(Semaphore::new(children))), ..self }
    }

    /// How long it may leave a request unanswered.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// How its children are, where they are watched.
    pub(crate) fn vitals(&self) -> Option<&Arc<Vitals>> {
        self.vitals.as_ref()
    }

    /// The same; its children are watched, and what they say on standard error is kept in `vitals`.
    pub fn watched(self, vitals: &Arc<Vitals>) -> ChildCommand {
        ChildCommand { vitals: Some(vitals.clone()), ..self }
    }

    /// The same; one child is always started ahead, for whoever comes next. Within a runtime: elsewhere nothing is started.
    pub fn ahead(mut self) -> ChildCommand {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return self };
        let spare = Arc::new(Spare::default());
        runtime.spawn(Spare::keep(Arc::downgrade(&spare), self.clone()));
        self.spare = Some(spare);
        self
    }

    fn place(&self) -> io::Result<Option<OwnedSemaphorePermit>> {
        let taken = self.places.clone().map(Semaphore::try_acquire_owned).transpose();
        taken.map_err(|_| io::Error::new(io::ErrorKind::QuotaExceeded, "there are as many children as there may be"))
    }
}

/// What every program may know of us.
const HARMLESS: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

/// A reply may be as long as this; clients' messages have a limit of their own.
const MAX_REPLY_BYTES: usize = 64 * 1024 * 1024;

/// What a child is given to end by itself after its input has closed, and again after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// A running child and the line to it.
pub(crate) struct ChildLink {
    outbox: Option<Outbox>,
    // Before the process, so that it is dropped first: an id that was reaped may be another's.
    group: Group,
    process: Child,
    patience: Option<Duration>,
    life: Option<Arc<Life>>,
    /// Given back last.
    _place: Option<OwnedSemaphorePermit>,
}

/// A child that has been started, and has not been spoken to.
struct Started {
    outbox: Outbox,
    stdout: ChildStdout,
    // Before the process, as in a link.
    group: Group,
    process: Child,
    life: Option<Arc<Life>>,
    place: Option<OwnedSemaphorePermit>,
}

impl Started {
    fn new(command: &ChildCommand) -> io::Result<Started> {
        let Some((program, arguments)) = command.words.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no command to run"));
        };
        if let Some(vitals) = &command.vitals {
            vitals.may_start().map_err(|why| io::Error::new(io::ErrorKind::WouldBlock, why))?;
        }
        let place = command.place()?;
        let mut builder = Command::new(program);
        let stderr = if command.vitals.is_some() { Stdio::piped() } else { Stdio::inherit() };
        builder.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        builder.process_group(0).kill_on_drop(true);
        if let Some(environment) = &command.environment {
            builder.env_clear().envs(environment);
        }
        let started = Group::start(&mut builder);
        if let (Err(_), Some(vitals)) = (&started, &command.vitals) {
            vitals.has_not_started();
        }
        let (mut process, group) = started?;
        let missing = || io::Error::other("the child has no standard streams");
        let stdin = process.stdin.take().ok_or_else(missing)?;
        let stdout = process.stdout.take().ok_or_else(missing)?;
        let (outbox, _writer) = Outbox::start(stdin);
        let watched = command.vitals.as_ref().zip(process.stderr.take());
        let life = watched.map(|(vitals, stderr)| vitals.has_started(&outbox, stderr));
        Ok(Started { outbox, stdout, group, process, life, place })
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }
}

/// The child that is started ahead.
#[derive(Default)]
struct Spare {
    child: Mutex<Option<Started>>,
    taken: Notify,
}

impl Spare {
    fn take(&self) -> Option<Started> {
        let mut child = self.lock().take();
        self.taken.notify_one();
        let dead = child.take_if(Started::has_ended);
        dead.iter().filter_map(|dead| dead.life.as_ref()).for_each(|life| life.end());
        child
    }

    /// Starts one after the other, for as long as somebody may take them.
    async fn keep(spare: Weak<Spare>, command: ChildCommand) {
        while let Some(kept) = spare.upgrade() {
            kept.see_to(&command);
            let _ = tokio::time::timeout(LOOK, kept.taken.notified()).await;
        }
    }

    fn see_to(&self, command: &ChildCommand) {
        let mut child = self.lock();
        let dead = child.take_if(Started::has_ended);
        dead.iter().filter_map(|dead| dead.life.as_ref()).for_each(|life| life.end());
        if child.is_none() {
            // Where it cannot be, whoever needs one is told why.
            *child = Started::new(command).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Started>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often it is looked whether the child that is started ahead still lives.
const LOOK: Duration = Duration::from_secs(1);

impl ChildLink {
    /// Starts the child, or takes the one that was started ahead; what it says arrives in `inbound` in its order,
    /// [`Inbound::Closed`] last.
    pub fn start(command: &ChildCommand, inbound: mpsc::Sender<Inbound>) -> io::Result<ChildLink> {
        let ahead = command.spare.as_ref().and_then(|spare| spare.take());
        let Started { outbox, stdout, group, process, life, place } = match ahead {
            Some(started) => started,
            None => Started::new(command)?,
        };
        tokio::spawn(read(stdout, inbound, life.clone()));
        Ok(ChildLink { outbox: Some(outbox), process, group, patience: command.patience, life, _place: place })
    }

    /// How long it may leave a request unanswered.
    pub fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// Queues one message, as one line.
    pub fn send(&self, permit: &Permit) -> Result<(), Failure> {
        if let Some(life) = &self.life {
            life.send(permit);
        }
        let outbox = self.outbox.as_ref().ok_or_else(|| Failure::unsent("the server has ended"))?;
        outbox.try_push(Message::for_line(permit.text())).map_err(|error| match error {
            OutboxError::Closed => Failure::unsent("the server has closed its input"),
            OutboxError::Full => Failure::unsent("the server does not read its input"),
        })
    }

    /// Ends the child and its group: closes its input, waits, asks with SIGTERM, kills. At most about four seconds.
    pub async fn shut_down(mut self, patience: Duration) -> io::Result<ExitStatus> {
        if let Some(life) = &self.life {
            life.tell();
        }
        self.outbox = None;
        let status = match tokio::time::timeout(patience, self.process.wait()).await {
            Ok(status) => status,
            Err(_) => {
                self.group.signal(Signal::TERM);
                match tokio::time::timeout(GRACE, self.process.wait()).await {
                    Ok(status) => status,
                    Err(_) => {
                        self.group.signal(Signal::KILL);
                        self.process.wait().await
                    }
                }
            }
        };
        // What the child has left behind in its group goes with it, as the group is dropped.
        status
    }
}

/// Kills every child and its group at once, and lets no further one start: for a process that is about to exit without
/// dropping anything.
pub fn kill_children() {
    let mut groups = groups();
    groups.closed = true;
    for &group in &groups.live {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// The process group of one child; killed when dropped.
struct Group(Pid);

impl Group {
    /// Starts a child at the head of a group of its own. The lock is held meanwhile, so that there is no child that
    /// [`kill_children`] does not know of.
    fn start(builder: &mut Command) -> io::Result<(Child, Group)> {
        let mut groups = groups();
        if groups.closed {
            return Err(io::Error::other("callgate is ending"));
        }
        let process = builder.spawn()?;
        let id = process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let id = id.ok_or_else(|| io::Error::other("the child has no process id"))?;
        descriptors::restore(id);
        groups.live.push(id);
        Ok((process, Group(id)))
    }

    fn signal(&self, signal: Signal) {
        // An empty group is what we want: no error.
        let _ = kill_process_group(self.0, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut groups = groups();
        self.signal(Signal::KILL);
        groups.live.retain(|&id| id != self.0);
    }
}

/// The groups of children that have not been reaped.
struct Groups {
    live: Vec<Pid>,
    /// No further one may start.
    closed: bool,
}

fn groups() -> MutexGuard<'static, Groups> {
    static GROUPS: Mutex<Groups> = Mutex::new(Groups { live: Vec::new(), closed: false });
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(mut stdout: ChildStdout, inbound: mpsc::Sender<Inbound>, life: Option<Arc<Life>>) {
    let sick = life.as_ref().map(|life| life.sick.clone()).unwrap_or_default();
    let mut lines = Lines::new(MAX_REPLY_BYTES);
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let length = tokio::select! {
            length = stdout.read(&mut buffer) => length.unwrap_or(0),
            // The conversation ends with its output, and the process with the conversation.
            () = sick.cancelled() => 0,
        };
        if length == 0 {
            break;
        }
        lines.push(&buffer[..length]);
        while let Some(line) = lines.next_line() {
            let arrived = match line {
                Ok(line) => match Inbound::read(line) {
                    Some(arrived) => arrived,
                    None => continue,
                },
                Err(too_long) => {
                    warn!(%too_long, "dropped a line of the server's output");
                    continue;
                }
            };
            if let Some(life) = &life {
                let message = if let Inbound::Message(message) = &arrived { Some(message) } else { None };
                if life.hear(message) {
                    continue;
                }
            }
            if inbound.send(arrived).await.is_err() {
                return;
            }
        }
    }
    debug!("the server has closed its output");
    if let Some(life) = &life {
        life.end();
    }
    let _ = inbound.send(Inbound::Closed).await;
}
