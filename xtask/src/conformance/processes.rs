//! Programs that listen, for as long as they are needed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A program that listens; it ends when this is dropped.
pub struct Running {
    child: Child,
    /// Where it listens.
    pub url: String,
}

impl Running {
    /// Starts a program, and waits for the line on its stderr that begins with `announcement` and ends with the URL.
    ///
    /// # Errors
    /// When it does not start, or does not say where it listens.
    pub fn start(command: &mut Command, announcement: &'static str) -> Result<Self, String> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{program} does not start: {error}"))?;
        let stderr = child.stderr.take().ok_or("stderr is piped")?;
        let (sender, announced) = mpsc::channel();
        // The thread goes on reading when nobody listens any more, or the program would stall once the pipe is full.
        thread::spawn(move || {
            let mut said = String::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                match line.strip_prefix(announcement) {
                    Some(url) => drop(sender.send(Ok(url.to_owned()))),
                    None if said.len() < 10_000 => said.push_str(&format!("{line}\n")),
                    None => {}
                }
            }
            let _ = sender.send(Err(said));
        });
        let mut running = Self { child, url: String::new() };
        match announced.recv_timeout(PATIENCE) {
            Ok(Ok(url)) => running.url = url,
            Ok(Err(said)) => return Err(format!("{program} ended without listening:\n{said}")),
            Err(_) => return Err(format!("{program} did not listen within {} s", PATIENCE.as_secs())),
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended by itself is no trouble.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long a program may take to listen, on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(60);
