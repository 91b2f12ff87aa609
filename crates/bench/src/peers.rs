//! What is measured: processes that stand between a client and a server, or nothing at all.
//!
//! They come from a file, `peers.json` beside this crate unless another is named: a name, the transports, the files that
//! the peer needs and its command. A peer whose program is not installed is left out, and said to be.
//!
//! In files and commands stand for themselves: `{listen}` the address to listen on, `{port}` its port, `{upstream}` the URL
//! of the echo server and `{upstream_address}` its address, `{dir}` a directory of the peer's own, `{callgate}` and `{bench}`
//! the two binaries. `{server}` becomes the words that start an echo server on stdio, `{mode}` the words that put callgate
//! before the echo server. A peer before many servers says under which `path` and as which `tool` clients find the echo server,
//! and with which `token`.

use crate::wire::{Site, TOOL};
use serde_json::Value;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How a peer is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Streamable HTTP on both sides.
    Http,
    /// Lines on both sides.
    Stdio,
}

impl Transport {
    /// `http` or `stdio`.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Http => "http",
            Transport::Stdio => "stdio",
        }
    }
}

/// A peer as the file describes it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// As it stands in the tables.
    pub name: String,
    /// Whether its calls take so long that fewer are made.
    pub slow: bool,
    transports: Vec<String>,
    files: Vec<(String, String)>,
    /// Empty for no peer at all.
    command: Vec<String>,
    /// How an HTTP client finds the echo server behind it, where that is not plain.
    path: Option<String>,
    tool: Option<String>,
    token: Option<String>,
}

impl Peer {
    /// Whether it can stand on this transport.
    pub fn speaks(&self, transport: Transport) -> bool {
        self.transports.iter().any(|word| word == transport.as_str())
    }

    /// The program it needs that is not installed.
    pub fn lacks(&self) -> Option<&str> {
        let program = self.command.first().filter(|word| !word.starts_with('{'))?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        (!std::env::split_paths(&path).any(|directory| directory.join(program).is_file())).then_some(program)
    }

    /// How it is called where it listens.
    pub fn site(&self, address: SocketAddr) -> Site {
        let (path, tool) = (self.path.as_deref().unwrap_or("/mcp"), self.tool.as_deref().unwrap_or(TOOL));
        Site { host: address.to_string(), path: path.to_owned(), tool: tool.to_owned(), token: self.token.clone() }
    }

    /// Whether there is a process to measure.
    pub fn is_process(&self) -> bool {
        !self.command.is_empty()
    }
}

/// Reads a file of peers.
pub fn read(text: &str) -> Result<Vec<Peer>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("the file of peers is not JSON: {error}"))?;
    let list = value.as_array().ok_or("the file of peers must be an array")?;
    let words = |value: &Value| value.as_array().into_iter().flatten().filter_map(|w| Some(w.as_str()?.to_owned())).collect();
    let peer = |entry: &Value| Peer {
        name: entry["name"].as_str().unwrap_or("?").to_owned(),
        slow: entry["slow"] == true,
        transports: words(&entry["transports"]),
        files: entry["files"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned())))
            .collect(),
        command: words(&entry["command"]),
        path: entry["path"].as_str().map(str::to_owned),
        tool: entry["tool"].as_str().map(str::to_owned),
        token: entry["token"].as_str().map(str::to_owned),
    };
    Ok(list.iter().map(peer).collect())
}

/// Where processes run, and what they are started from.
pub struct Bed {
    /// The binary that is measured.
    pub callgate: PathBuf,
    /// This program.
    pub bench: PathBuf,
    /// For the peers' files; each has a directory in it.
    pub directory: PathBuf,
    /// The core on which the peer runs, and those on which everything else does; `None` where there is but one.
    pub cores: Option<(usize, usize)>,
    started: std::cell::Cell<usize>,
}

impl Bed {
    /// Finds the binaries beside this one, and pins this process away from the last core.
    pub fn make(directory: PathBuf) -> io::Result<Bed> {
        let bench = std::env::current_exe()?;
        let callgate = bench.with_file_name("callgate");
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let last = (0..rustix::thread::CpuSet::MAX_CPU).rfind(|&core| allowed.is_set(core)).unwrap_or(0);
        let others: Vec<usize> = (0..last).filter(|&core| allowed.is_set(core)).collect();
        let cores = others.first().map(|&first| (last, first));
        if cores.is_some() {
            let mut set = rustix::thread::CpuSet::new();
            others.iter().for_each(|&core| set.set(core));
            rustix::thread::sched_setaffinity(None, &set)?;
        }
        std::fs::create_dir_all(&directory)?;
        Ok(Bed { callgate, bench, directory, cores, started: Default::default() })
    }

    fn pinned(&self, core: Option<usize>, words: &[String]) -> Vec<String> {
        let pin = core.map(|core| vec!["taskset".to_owned(), "-c".to_owned(), core.to_string()]).unwrap_or_default();
        pin.into_iter().chain(words.iter().cloned()).collect()
    }

    fn echo(&self) -> Vec<String> {
        // Behind a peer the echo server must not stay on the peer's core.
        self.pinned(self.cores.map(|(_, other)| other), &[self.bench.display().to_string(), "echo-stdio".to_owned()])
    }

    /// An echo server over HTTP whose list of tools is about so long.
    pub fn echo_http(&self, list_bytes: usize) -> io::Result<(Running, SocketAddr)> {
        let mut child = Command::new(&self.bench).args(["echo-http", &list_bytes.to_string()]).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| io::Error::other("the echo server does not start"))?;
        Ok((Running { child }, address))
    }

    /// Starts a peer before the echo server at `upstream`; gives where to connect to.
    pub fn start_http(&self, peer: &Peer, upstream: SocketAddr) -> io::Result<(Option<Running>, SocketAddr)> {
        if !peer.is_process() {
            return Ok((None, upstream));
        }
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mode = ["serve", "-p", "{dir}/policy.yaml", "--state", "sqlite:{dir}/state.db", "--listen", "{listen}", "--upstream"];
        let mode: Vec<&str> = mode.into_iter().chain(["{upstream}"]).collect();
        let mut command = self.command(peer, &mode, &[], listen, upstream)?;
        let mut running = Running { child: command.stdout(Stdio::null()).spawn()? };
        let began = Instant::now();
        while TcpStream::connect(listen).is_err() {
            if began.elapsed() > PATIENCE || running.child.try_wait()?.is_some() {
                return Err(io::Error::other(format!("`{}` does not start", peer.name)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok((Some(running), listen))
    }

    /// Starts a peer before an echo server on stdio, or the echo server alone.
    pub fn start_stdio(&self, peer: &Peer) -> io::Result<(Running, ChildStdin, ChildStdout)> {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let mode = ["run", "-p", "{dir}/policy.yaml", "--state", "sqlite:{dir}/state.db"];
        let mut command = if peer.is_process() {
            self.command(peer, &mode, &["--"], nowhere, nowhere)?
        } else {
            let words = self.echo();
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            command
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (to, from) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Ok((Running { child }, to, from))
    }

    fn command(
        &self,
        peer: &Peer,
        mode: &[&str],
        then: &[&str],
        listen: SocketAddr,
        upstream: SocketAddr,
    ) -> io::Result<Command> {
        self.started.set(self.started.get() + 1);
        let directory = self.directory.join(format!("peer-{}", self.started.get()));
        std::fs::create_dir_all(&directory)?;
        let fill = |text: &str| {
            text.replace("{listen}", &listen.to_string())
                .replace("{port}", &listen.port().to_string())
                .replace("{upstream}", &format!("http://{upstream}/mcp"))
                .replace("{upstream_address}", &upstream.to_string())
                .replace("{dir}", &directory.display().to_string())
                .replace("{callgate}", &self.callgate.display().to_string())
                .replace("{bench}", &self.bench.display().to_string())
        };
        for (name, text) in &peer.files {
            std::fs::write(directory.join(name), fill(text))?;
        }
        let mut words = Vec::new();
        for word in &peer.command {
            match word.as_str() {
                "{mode}" => words.extend(mode.iter().map(|word| fill(word))),
                "{server}" => words.extend(self.echo()),
                word => words.push(fill(word)),
            }
        }
        if !then.is_empty() && peer.command.iter().any(|word| word == "{mode}") {
            words.extend(then.iter().map(|word| (*word).to_owned()));
            words.extend(self.echo());
        }
        let words = self.pinned(self.cores.map(|(last, _)| last), &words);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stderr(std::fs::File::create(directory.join("stderr.log"))?);
        Ok(command)
    }
}

/// A process; killed when dropped.
pub struct Running {
    child: Child,
}

impl Running {
    /// What it has used of its core so far: user and system time, in microseconds. Ticks of 10 ms.
    pub fn cpu_micros(&self) -> u64 {
        let stat = std::fs::read_to_string(self.file("stat")).unwrap_or_default();
        // Behind the name in parentheses, `utime` and `stime` are the 12th and 13th (proc(5)).
        let after = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        ticks * 1_000_000 / rustix::param::clock_ticks_per_second()
    }

    /// The most memory it has ever had, in kilobytes.
    pub fn peak_kilobytes(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory it has now, in kilobytes.
    pub fn kilobytes(&self) -> u64 {
        self.status("VmRSS:")
    }

    fn status(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(self.file("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // First the polite way: a gateway that is killed outright leaves its child to find out by itself.
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && began.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
