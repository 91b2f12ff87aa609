//! The audit log elsewhere: lines in files that take turns, and log records at a collector.
//!
//! What is exported is read back from the store, as `callgate audit export` reads it: a record is exported only once it is one.
//! The file remembers by its own last line how far it has come, so that after a restart nothing is missing or there twice.

use super::otlp::Exporter;
use crate::config::ExportConfig;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use store::{Filter, Row, Store, StoreError};
use tracing::warn;

/// How often new records are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// So many go together.
const TOGETHER: usize = 512;
/// The last line of a file is looked for in so much of its end: a record is shorter.
const TAIL: u64 = 8 * 1024 * 1024;

/// How the export stands, for the figures.
#[derive(Default)]
pub(super) struct Export {
    last: AtomicU64,
    failing: AtomicBool,
}

/// An export that runs.
pub(super) struct Running {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Export {
    /// The number of the last record that was exported.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Whether the last attempt went well.
    pub fn is_up(&self) -> bool {
        !self.failing.load(Ordering::Relaxed)
    }

    /// Exports what is recorded from now on, and what the file lacks. On a thread of its own, which waits for the disk.
    pub fn start(self: Arc<Export>, config: &ExportConfig, logs: Option<Exporter>, store: Store) -> io::Result<Running> {
        let (stop, stopped) = channel();
        let file = config.file.clone().map(|path| Rotated::new(path, config.rotate_bytes, config.keep));
        let runtime = tokio::runtime::Handle::current();
        // A collector does not say what it has: it gets what is recorded from here on.
        let at_logs = store.reader().and_then(|reader| reader.last_seq()).ok();
        let work = Work { export: self, file, logs, store, runtime, at_file: None, at_logs };
        let thread = std::thread::Builder::new().name("callgate-export".into()).spawn(move || work.run(&stopped))?;
        Ok(Running { stop, thread })
    }
}

impl Running {
    /// Exports the rest, and ends.
    pub async fn close(self, patience: Duration) {
        let _ = self.stop.send(());
        let ending = tokio::task::spawn_blocking(move || self.thread.join());
        let _ = tokio::time::timeout(patience, ending).await;
    }
}

struct Work {
    export: Arc<Export>,
    file: Option<Rotated>,
    logs: Option<Exporter>,
    store: Store,
    runtime: tokio::runtime::Handle,
    /// How far each has come.
    at_file: Option<i64>,
    at_logs: Option<i64>,
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the file of the export: {0}")]
    File(#[from] io::Error),
    #[error("the collector has not taken what it was sent")]
    Collector,
}

impl Work {
    fn run(mut self, stopped: &Receiver<()>) {
        loop {
            let ends = !matches!(stopped.recv_timeout(LOOK), Err(RecvTimeoutError::Timeout));
            let went = self.round();
            if let Err(trouble) = &went
                && self.export.is_up()
            {
                warn!(%trouble, "records cannot be exported; they stay in the audit log, and this is tried again");
            }
            self.export.failing.store(went.is_err(), Ordering::Relaxed);
            if ends {
                return;
            }
        }
    }

    /// Exports what is new.
    fn round(&mut self) -> Result<(), Trouble> {
        let reader = self.store.reader()?;
        let newest = reader.last_seq()?;
        if let Some(file) = &mut self.file {
            // Whatever goes wrong from here on, the file says itself how far it has come.
            let mut at = match self.at_file.take() {
                Some(at) => at,
                None => file.resume(newest)?,
            };
            let rows = reader.list(&Filter { after_seq: Some(at), ..Filter::default() })?;
            for row in rows {
                let row = row?;
                at = row.seq;
                file.write(&row.line())?;
            }
            file.flush()?;
            self.at_file = Some(at);
        }
        if let Some(logs) = &self.logs {
            let at = self.at_logs.get_or_insert(newest);
            let mut together = Vec::new();
            let rows = reader.list(&Filter { after_seq: Some(*at), ..Filter::default() })?;
            let mut last = *at;
            for row in rows {
                let row = row?;
                last = row.seq;
                together.push((at_of(&row), row.line()));
                if together.len() >= TOGETHER {
                    give(&self.runtime, logs, &mut together)?;
                    *at = last;
                }
            }
            give(&self.runtime, logs, &mut together)?;
            *at = last;
        }
        let last = self.at_file.into_iter().chain(self.at_logs).min().unwrap_or(0);
        self.export.last.store(u64::try_from(last).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }
}

fn give(runtime: &tokio::runtime::Handle, logs: &Exporter, lines: &mut Vec<(u64, String)>) -> Result<(), Trouble> {
    if lines.is_empty() {
        return Ok(());
    }
    let went = runtime.block_on(logs.deliver_lines(lines));
    lines.clear();
    if went { Ok(()) } else { Err(Trouble::Collector) }
}

/// When a record was made, in nanoseconds since the Unix epoch; 0 where it does not say.
fn at_of(row: &Row) -> u64 {
    let at = json::Document::parse(row.body.clone(), json::Strictness::Reply).ok();
    let at = at.and_then(|body| body.root().get("at")?.as_str()?.parse::<jiff::Timestamp>().ok());
    at.and_then(|at| u64::try_from(at.as_nanosecond()).ok()).unwrap_or(0)
}

/// A file that makes way for a new one when it has become long: `audit.jsonl`, then `audit.jsonl.1`, the older the higher.
struct Rotated {
    path: PathBuf,
    most_bytes: u64,
    keep: u32,
    open: Option<(io::BufWriter<File>, u64)>,
}

impl Rotated {
    fn new(path: PathBuf, most_bytes: u64, keep: u32) -> Rotated {
        Rotated { path, most_bytes, keep, open: None }
    }

    /// How far the export has come, by the last line of the newest file. `newest` is the last record that there is: a file of
    /// another log makes way.
    fn resume(&mut self, newest: i64) -> io::Result<i64> {
        self.open = None;
        cut_torn(&self.path)?;
        let found = match last_seq(&self.path)? {
            Some(seq) => Some(seq),
            None => last_seq(&self.numbered(1))?,
        };
        match found {
            Some(seq) if seq > newest => {
                warn!("the export is of another audit log; beginning a new file");
                self.rotate()?;
                Ok(0)
            }
            found => Ok(found.unwrap_or(0)),
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let more = line.len() as u64 + 1;
        if self.open.as_ref().is_some_and(|(_, length)| *length > 0 && *length + more > self.most_bytes) {
            self.rotate()?;
        }
        if self.open.is_none() {
            // Records may hold arguments: nobody else reads them.
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
            let length = file.metadata()?.len();
            self.open = Some((io::BufWriter::new(file), length));
        }
        let Some((file, length)) = &mut self.open else { return Ok(()) };
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")?;
        *length += more;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open.as_mut().map_or(Ok(()), |(file, _)| file.flush())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if let Some((mut file, _)) = self.open.take() {
            file.flush()?;
        }
        let gone = |renamed: io::Result<()>| match renamed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed,
        };
        gone(std::fs::remove_file(self.numbered(self.keep)))?;
        for number in (1..self.keep).rev() {
            gone(std::fs::rename(self.numbered(number), self.numbered(number + 1)))?;
        }
        gone(std::fs::rename(&self.path, self.numbered(1)))
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

/// Takes off what a process that was killed has left of a line.
fn cut_torn(path: &Path) -> io::Result<()> {
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let length = file.metadata()?.len();
    let begin = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(begin))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < tail.len() { file.set_len(begin + whole as u64) } else { Ok(()) }
}

/// The number of the record in the last line of a file, where there is one.
fn last_seq(path: &Path) -> io::Result<Option<i64>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut last = None;
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        let seq = line.strip_prefix(b"{\"seq\":").map(|rest| rest.iter().take_while(|byte| byte.is_ascii_digit()));
        let digits: Option<String> = seq.map(|digits| digits.map(|byte| char::from(*byte)).collect());
        last = digits.and_then(|digits| digits.parse().ok()).or(last);
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let place = std::env::temp_dir().join(format!("callgate-export-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&place);
            std::fs::create_dir_all(&place).unwrap();
            Place(place)
        }

        fn path(&self) -> PathBuf {
            self.0.join("audit.jsonl")
        }

        fn lines(&self, suffix: &str) -> Vec<String> {
            let text = std::fs::read_to_string(self.0.join(format!("audit.jsonl{suffix}"))).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn line(seq: i64) -> String {
        format!("{{\"seq\":{seq},\"id\":\"x\"}}")
    }

    #[test]
    fn a_long_file_makes_way_and_the_oldest_goes() {
        let place = Place::new("turns");
        let mut file = Rotated::new(place.path(), 40, 2);
        (1..=9).for_each(|seq| file.write(&line(seq)).unwrap());
        file.flush().unwrap();
        assert_eq!(place.lines(""), [line(9)]);
        assert_eq!(place.lines(".1"), [line(7), line(8)]);
        assert_eq!(place.lines(".2"), [line(5), line(6)]);
        assert!(place.lines(".3").is_empty());
    }

    #[test]
    fn it_goes_on_where_the_file_ends() {
        let place = Place::new("resume");
        assert_eq!(Rotated::new(place.path(), 1000, 2).resume(10).unwrap(), 0);
        std::fs::write(place.path(), format!("{}\n{}\n{{\"seq\":3,\"i", line(1), line(2))).unwrap();
        let mut file = Rotated::new(place.path(), 1000, 2);
        assert_eq!(file.resume(10).unwrap(), 2, "what was torn off is written again");
        file.write(&line(3)).unwrap();
        file.flush().unwrap();
        assert_eq!(place.lines(""), [line(1), line(2), line(3)]);
        std::fs::rename(place.path(), place.0.join("audit.jsonl.1")).unwrap();
        assert_eq!(Rotated::new(place.path(), 1000, 2).resume(10).unwrap(), 3);
    }

    #[test]
    fn a_file_of_another_log_makes_way() {
        let place = Place::new("other");
        std::fs::write(place.path(), format!("{}\n", line(50))).unwrap();
        assert_eq!(Rotated::new(place.path(), 1000, 2).resume(10).unwrap(), 0);
        assert_eq!(place.lines(".1"), [line(50)]);
    }
}
