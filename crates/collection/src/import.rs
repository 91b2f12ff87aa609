//! Taking captures in: files, directories of them, and files with one a line.
//!
//! One thread reads, several grade, one writes. A text that was taken in before is known by its digest and not graded again,
//! so a build that was interrupted goes on where it stopped. What cannot be read is told of, and holds nothing up.

use crate::capture::Capture;
use crate::error::CollectionError;
use crate::graded::Graded;
use crate::write::{SourceDigest, Writer};
use jiff::Timestamp;
use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// How far an import is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Captures that were looked at.
    pub captures: u64,
    /// Servers that were not known before.
    pub added: u64,
    /// Tools of those.
    pub tools: u64,
}

/// What has become of an import.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    /// What was taken in.
    pub progress: Progress,
    /// What could not be read.
    pub failed: Vec<Failed>,
}

/// A capture that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Where it stands: a file, or a line of one.
    pub place: String,
    /// What is wrong.
    pub why: String,
}

/// A text, and where it is from.
struct Job {
    place: String,
    /// What the server is called where the text does not say.
    name: String,
    text: io::Result<Vec<u8>>,
}

enum Done {
    Graded(Box<Graded>, SourceDigest),
    Known,
    Failed(Failed),
}

/// One capture may be as long as a reply of a server.
const LONGEST_CAPTURE: u64 = 64 * 1024 * 1024;

/// A report that names a thousand files is not read.
const MOST_FAILED: usize = 1_000;

/// Takes the captures at `places` into the catalog at `path`, which is made where there is none.
///
/// A place is a file with one capture, a file with one a line (`.jsonl`, `.ndjson`), or a directory, in which every file with
/// such a name or `.json` counts. `now` is when captures were made that do not say.
///
/// # Errors
/// When the catalog cannot be written. What a capture lacks is in [`Imported::failed`].
pub fn import(
    path: &Path,
    places: &[PathBuf],
    now: Timestamp,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Imported, CollectionError> {
    let mut writer = Writer::open(path)?;
    let known = writer.sources()?;
    let threads = thread::available_parallelism().map_or(1, |count| count.get());
    let mut imported = Imported::default();
    thread::scope(|scope| -> Result<(), CollectionError> {
        let (jobs, waiting) = sync_channel(threads * 2);
        let (ready, done) = sync_channel(threads * 4);
        let waiting = Arc::new(Mutex::new(waiting));
        scope.spawn(move || {
            // Nobody waits for the rest once the writer has given up.
            let _ = places.iter().try_for_each(|place| read(place, &jobs));
        });
        for _ in 0..threads {
            let (waiting, ready, known) = (waiting.clone(), ready.clone(), &known);
            scope.spawn(move || work(&waiting, known, now, &ready));
        }
        // Theirs end with them, and so does the loop below.
        drop((ready, waiting));
        for done in done {
            imported.take(done, &mut writer)?;
            progress(&imported.progress);
        }
        Ok(())
    })?;
    writer.finish()?;
    Ok(imported)
}

impl Imported {
    fn take(&mut self, done: Done, writer: &mut Writer) -> Result<(), CollectionError> {
        self.progress.captures += 1;
        match done {
            Done::Graded(graded, source) => {
                if writer.take(&graded, Some(&source))? {
                    self.progress.added += 1;
                    self.progress.tools += graded.tools.len() as u64;
                }
            }
            Done::Failed(failed) if self.failed.len() < MOST_FAILED => self.failed.push(failed),
            Done::Failed(_) | Done::Known => {}
        }
        Ok(())
    }
}

/// Nobody reads on.
struct Unwanted;

fn read(place: &Path, jobs: &SyncSender<Job>) -> Result<(), Unwanted> {
    let send = |name: String, text: io::Result<Vec<u8>>, shown: String| {
        jobs.send(Job { place: shown, name, text }).map_err(|_| Unwanted)
    };
    let shown = place.display().to_string();
    let name = place.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if place.is_dir() {
        return match inside(place) {
            Ok(files) => files.iter().try_for_each(|file| read(file, jobs)),
            Err(error) => send(name, Err(error), shown),
        };
    }
    let file = match fs::File::open(place) {
        Ok(file) => file,
        Err(error) => return send(name, Err(error), shown),
    };
    if !has_lines(place) {
        let mut text = Vec::new();
        let read = file.take(LONGEST_CAPTURE + 1).read_to_end(&mut text);
        return send(name, read.map(|_| text), shown);
    }
    let mut lines = BufReader::new(file);
    for number in 1u64.. {
        let mut line = Vec::new();
        match lines.by_ref().take(LONGEST_CAPTURE + 1).read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) if line.trim_ascii().is_empty() => {}
            Ok(_) => {
                let is_cut = line.len() as u64 > LONGEST_CAPTURE;
                send(format!("{name}-{number}"), Ok(line), format!("{shown}:{number}"))?;
                if is_cut {
                    break;
                }
            }
            Err(error) => return send(name, Err(error), format!("{shown}:{number}")),
        }
    }
    Ok(())
}

/// What a directory holds, sorted: itself no bigger than its names.
fn inside(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        // Not through links: they may lead round in a circle.
        let is_directory = entry.file_type()?.is_dir();
        if is_directory || has_lines(&path) || path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn has_lines(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jsonl" || extension == "ndjson")
}

fn work(waiting: &Mutex<Receiver<Job>>, known: &HashSet<SourceDigest>, now: Timestamp, ready: &SyncSender<Done>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        if ready.send(job.done(known, now)).is_err() {
            return;
        }
    }
}

impl Job {
    fn done(self, known: &HashSet<SourceDigest>, now: Timestamp) -> Done {
        let failed = |why: String| Done::Failed(Failed { place: self.place.clone(), why });
        let text = match self.text {
            Ok(text) if text.len() as u64 > LONGEST_CAPTURE => {
                return failed(format!("it is longer than {} MiB", LONGEST_CAPTURE >> 20));
            }
            Ok(text) => text,
            Err(error) => return failed(error.to_string()),
        };
        let digest = source_digest(&self.name, &text);
        if known.contains(&digest) {
            return Done::Known;
        }
        match Capture::parse(text, &self.name, now) {
            Ok(capture) => Done::Graded(Box::new(Graded::of(&capture)), digest),
            Err(error) => failed(error.to_string()),
        }
    }
}

/// The same text under another name may be another server.
fn source_digest(name: &str, text: &[u8]) -> SourceDigest {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(name.as_bytes());
    context.update(&[0]);
    context.update(text);
    let mut digest = SourceDigest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
