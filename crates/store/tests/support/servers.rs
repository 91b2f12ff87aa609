//! Real servers for tests: PostgreSQL and Redis as Debian has them, each on a port of its own, gone with the test; and a slow way
//! to them.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part; and this is test code")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A PostgreSQL server with an empty database.
pub struct Postgres {
    process: Mutex<Option<Child>>,
    directory: PathBuf,
    is_durable: bool,
    has_tls: bool,
    pub port: u16,
}

impl Postgres {
    /// Starts one; `None`, and a word on stderr, where PostgreSQL is not installed. It does not wait for its disk, which only a
    /// power failure would show.
    pub fn start() -> Option<Postgres> {
        Postgres::start_as(false, None)
    }

    /// One that speaks TLS too, with this certificate and key (PEM).
    pub fn start_with_tls(certificate: &str, key: &str) -> Option<Postgres> {
        Postgres::start_as(false, Some((certificate, key)))
    }

    /// One that waits for its disk, as those do that people use.
    pub fn start_durable() -> Option<Postgres> {
        Postgres::start_as(true, None)
    }

    fn start_as(is_durable: bool, tls: Option<(&str, &str)>) -> Option<Postgres> {
        let Some(programs) = programs() else {
            return missing("PostgreSQL");
        };
        let template = template(&programs);
        let directory = fresh("postgres");
        must(Command::new("cp").args(["-a"]).arg(&template).arg(&directory));
        for (name, text) in tls.iter().flat_map(|(certificate, key)| [("server.crt", certificate), ("server.key", key)]) {
            let path = directory.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            if is_root() {
                std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let has_tls = tls.is_some();
        let server = Postgres { process: Mutex::new(None), directory, is_durable, has_tls, port: free_port() };
        server.resume();
        Some(server)
    }

    /// Starts it again after [`Postgres::kill`], with what it has on its disk.
    pub fn resume(&self) {
        let programs = programs().unwrap();
        let mut command = unprivileged(&programs.join("postgres"));
        if !self.is_durable {
            command.arg("-F");
        }
        command.arg("-D").arg(&self.directory).args(["-p", &self.port.to_string(), "-k", ""]);
        for setting in ["listen_addresses=127.0.0.1", "shared_buffers=16MB", "max_connections=80", "max_wal_size=256MB"] {
            command.args(["-c", setting]);
        }
        if self.has_tls {
            command.args(["-c", "ssl=on"]);
        }
        let log = std::fs::File::create(self.directory.with_extension("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        *self.process.lock().unwrap() = Some(child);
        self.wait();
    }

    fn wait(&self) {
        let ready = programs().unwrap().join("pg_isready");
        until("PostgreSQL answers", || {
            let port = self.port.to_string();
            let mut ask = Command::new(&ready);
            ask.args(["-q", "-h", "127.0.0.1", "-p", &port, "-t", "5"]).status().is_ok_and(|status| status.success())
        });
    }

    pub fn url(&self) -> String {
        format!("postgres://callgate:hunter2@127.0.0.1:{}/postgres", self.port)
    }

    /// Runs SQL as somebody who has the database.
    pub fn sql(&self, text: &str) -> String {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", text, &self.url()]);
        let output = psql.env("PGOPTIONS", "-c search_path=callgate").output().unwrap();
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Kills it and all that belongs to it, as a power failure would.
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap();
        if let Some(child) = process.as_mut() {
            let mut all = descendants(child.id());
            all.push(child.id());
            signal("KILL", &all);
            child.wait().unwrap();
        }
        *process = None;
        // Another may not start before what the first has left is seen to be gone.
        until("the port is free", || TcpStream::connect(("127.0.0.1", self.port)).is_err());
    }

    /// Stops everything it does, until [`Postgres::thaw`].
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.process.lock().unwrap().as_ref().unwrap().id();
        let mut all = descendants(id);
        all.push(id);
        signal(name, &all);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.process.lock().is_ok_and(|process| process.is_some()) {
            self.thaw();
            self.kill();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
        let _ = std::fs::remove_file(self.directory.with_extension("log"));
    }
}

/// A Redis server.
pub struct Redis {
    process: Mutex<Option<Child>>,
    directory: PathBuf,
    settings: Vec<String>,
    pub port: u16,
}

impl Redis {
    /// One that keeps what it is told over a restart.
    pub fn start() -> Option<Redis> {
        Redis::start_with(&["--appendonly", "yes"])
    }

    /// Starts one; `None`, and a word on stderr, where Redis is not installed.
    pub fn start_with(settings: &[&str]) -> Option<Redis> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            return missing("Redis");
        }
        let directory = fresh("redis");
        std::fs::create_dir_all(&directory).unwrap();
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let server = Redis { process: Mutex::new(None), directory, settings, port: free_port() };
        server.resume();
        Some(server)
    }

    pub fn resume(&self) {
        let mut command = mortal(Path::new("redis-server"));
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &self.port.to_string(), "--dir"]).arg(&self.directory);
        let child = command.args(&self.settings).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        *self.process.lock().unwrap() = Some(child);
        until("Redis answers", || self.cli(&["PING"]).contains("PONG") || self.cli(&["PING"]).contains("NOAUTH"));
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn cli(&self, words: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        let output = cli.args(["-p", &self.port.to_string()]).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub fn kill(&self) {
        let child = self.process.lock().unwrap().take();
        if let Some(mut child) = child {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn freeze(&self) {
        signal("STOP", &[self.process.lock().unwrap().as_ref().unwrap().id()]);
    }

    pub fn thaw(&self) {
        signal("CONT", &[self.process.lock().unwrap().as_ref().unwrap().id()]);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A way to a server on which everything that it says takes a while.
pub struct SlowWay {
    pub port: u16,
    delay_ms: Arc<AtomicU64>,
}

impl SlowWay {
    /// A way to the server on this port, as fast as any for now.
    pub fn to(server: u16) -> SlowWay {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (port, delay_ms) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU64::new(0)));
        let delay = delay_ms.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                near.set_nodelay(true).unwrap();
                let (asks, to_far) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                std::thread::spawn(move || pass(asks, to_far, &AtomicU64::new(0)));
                let delay = delay.clone();
                std::thread::spawn(move || pass(far, near, &delay));
            }
        });
        SlowWay { port, delay_ms }
    }

    /// From now on all that the server says takes so long.
    pub fn takes(&self, delay: Duration) {
        self.delay_ms.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, delay_ms: &AtomicU64) {
    let mut bytes = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        std::thread::sleep(Duration::from_millis(delay_ms.load(Ordering::SeqCst)));
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// Says that a test is skipped for want of `what`.
///
/// # Panics
/// In the suite, which has installed it: there a test that is skipped would hold nothing.
pub fn missing<T>(what: &str) -> Option<T> {
    assert!(
        std::env::var_os("CALLGATE_SUITE").is_none(),
        "{what} is not installed, and the suite installs it: `cargo xtask test tools`"
    );
    eprintln!("skipped: {what} is not installed; `cargo xtask test tools` installs it");
    None
}

/// Where Debian puts the programs, or whoever has them on the path.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|entry| entry.path().join("bin")).filter(|bin| bin.join("initdb").exists()).collect();
    found.sort();
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|directory| directory.join("initdb").exists())
    };
    found.pop().or_else(on_path)
}

/// An empty cluster that is made once for all tests, and copied.
fn template(programs: &Path) -> PathBuf {
    let version = Command::new(programs.join("postgres")).arg("--version").output().unwrap().stdout;
    let version: String = String::from_utf8(version).unwrap().chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
    let who = if is_root() { "nobody" } else { "user" };
    let template = std::env::temp_dir().join(format!("callgate-postgres-{version}-{who}"));
    if !template.exists() {
        let making = fresh("initdb");
        std::fs::create_dir_all(&making).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&making, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut init = unprivileged(&programs.join("initdb"));
        init.args(["--no-sync", "-A", "trust", "-U", "callgate", "-E", "UTF8", "--locale=C", "-D"]).arg(&making);
        must(init.stdout(Stdio::null()));
        // Another test may have been faster.
        if std::fs::rename(&making, &template).is_err() {
            let _ = std::fs::remove_dir_all(&making);
        }
    }
    template
}

/// A command that ends with the test, whatever ends that.
fn mortal(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program).current_dir("/");
    command
}

/// The same by somebody who is not root: PostgreSQL does not run as root.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return mortal(program);
    }
    let mut command = Command::new("setpriv");
    let nobody = NOBODY.to_string();
    // In this order: changing who one is takes the signal back.
    command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups", "setpriv", "--pdeathsig", "KILL"]);
    command.arg(program).current_dir("/");
    command
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

const NOBODY: u32 = 65534;

fn fresh(what: &str) -> PathBuf {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    std::env::temp_dir().join(format!("callgate-{what}-{:016x}", u64::from_le_bytes(bytes)))
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn must(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn descendants(id: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    let children: Vec<u32> = children.split_whitespace().filter_map(|child| child.parse().ok()).collect();
    children.iter().flat_map(|child| descendants(*child)).chain(children.iter().copied()).collect()
}

fn signal(name: &str, processes: &[u32]) {
    let mut kill = Command::new("kill");
    kill.arg(format!("-{name}")).args(processes.iter().map(u32::to_string)).stderr(Stdio::null());
    let _ = kill.status();
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
