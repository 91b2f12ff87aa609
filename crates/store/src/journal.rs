//! The journal: what calls write, so that none of them waits for a database.
//!
//! A file beside the state that is only appended to. What one commit takes is one **group** of lines, written at once:
//!
//! ```text
//! callgate journal 1 <its id> <number and hash of the record before its first> <seal>
//! {"seq":7,…,"hash":"…"}                      a record, as an export has it
//! +1000000 1768473000000 1768473061000 <key>;  an amount taken: millionths, bucket, when that frees up, the counter
//! -1000000 1768473000000 1768473061000 <key>;  an amount given back
//! !                                            from here on the database may have gone ahead on its own
//! =<seal>                                      the end of the group
//! ```
//!
//! The seal is an HMAC under the state's key of the journal's id, the group's place and its text. A process that is killed
//! while it writes leaves the beginning of a group: nobody was answered on its strength, and the next to write removes it.
//! Anything else that is not a sealed group was put there by somebody else, or by a broken disk.
//!
//! Who writes holds the lock on the file, and looks first whether others have written since. A journal ends when another
//! is renamed over it, or it is removed: whoever still holds it sees that it has no name any more.

use crate::chain::Head;
use crate::draft::Row;
use crate::error::Fault;
use crate::key::{Seal, random_id, sha256};
use crate::place::{Patience, beside, private_file};
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open journal.
pub(crate) struct Journal {
    file: Arc<File>,
    seal: Option<Seal>,
    pub id: String,
    /// The record before its first.
    pub base: Head,
    /// Where its first group begins.
    pub begin: u64,
    /// Up to where this process has read it or written it.
    pub end: u64,
}

/// What opening one came to.
pub(crate) enum Opened {
    Missing,
    /// Its first line is not ours.
    Spoilt,
    Found(Journal),
}

/// Held while somebody writes, or reads what must not change meanwhile.
pub(crate) struct Lock(Arc<File>);

impl Drop for Lock {
    fn drop(&mut self) {
        // The end of the process would do it as well.
        let _ = self.0.unlock();
    }
}

/// What one group holds.
#[derive(Default)]
pub(crate) struct Group {
    pub records: Vec<Row>,
    pub changes: Vec<Change>,
    /// The database may have gone ahead on its own.
    pub ahead: bool,
    /// Where it ends.
    pub end: u64,
}

/// An amount taken from a bucket, or given back to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub key: Arc<str>,
    pub bucket: i64,
    pub frees_at: i64,
    /// In millionths; negative when given back.
    pub micros: i64,
}

/// How a journal ends after its last whole group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    Whole,
    /// With the beginning of a group that was never finished.
    Torn,
    /// With something that callgate did not write there.
    Damaged,
}

impl Journal {
    /// Begins a journal in place of the one that is there, or of none. Without `flush` a power failure could still bring the
    /// other one back, until [`Journal::flush`].
    pub fn begin(state: &Path, seal: &Seal, base: Head, flush: bool) -> Result<Journal, Fault> {
        let id = random_id(16).map_err(Fault::State)?;
        let path = path_beside(state);
        let text = format!("{MAGIC} {id} {} {}", base.seq, base.hash);
        let header = format!("{text} {}\n", seal.of(&id, 0, text.as_bytes()));
        let making = |error| Fault::Io("making the journal", error);
        let unfinished = beside(&path, ".new");
        let written = (|| {
            let mut file = private_file().append(true).read(true).create(true).open(&unfinished)?;
            file.set_len(0)?;
            file.write_all(header.as_bytes())?;
            if flush {
                file.sync_all()?;
            }
            std::fs::rename(&unfinished, &path)?;
            if flush {
                flush_directory(&path)?;
            }
            Ok(file)
        })();
        let file = written.inspect_err(|_| drop(std::fs::remove_file(&unfinished))).map_err(making)?;
        let begin = header.len() as u64;
        Ok(Journal { file: Arc::new(file), seal: Some(seal.clone()), id, base, begin, end: begin })
    }

    /// Opens the journal of a state file. Without a seal only what anybody can check is checked; without `to_write` it
    /// cannot be appended to.
    pub fn open(state: &Path, seal: Option<&Seal>, to_write: bool) -> Result<Opened, Fault> {
        let opening = |error| Fault::Io("opening the journal", error);
        let file = match File::options().read(true).append(to_write).open(path_beside(state)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Opened::Missing),
            Err(error) => return Err(opening(error)),
        };
        let mut start = vec![0; LONGEST_HEADER];
        let length = read_at(&file, &mut start, 0).map_err(opening)?;
        start.truncate(length);
        let Some((id, base, begin)) = header(&start, seal) else { return Ok(Opened::Spoilt) };
        Ok(Opened::Found(Journal { file: Arc::new(file), seal: seal.cloned(), id, base, begin, end: begin }))
    }

    /// Makes sure that a power failure does not take the whole file along.
    pub fn flush(&self, state: &Path) -> Result<(), Fault> {
        let flushed = self.file.sync_all().and_then(|()| flush_directory(state));
        flushed.map_err(|error| Fault::Io("flushing the journal", error))
    }

    /// Takes the lock if nobody has it.
    pub fn try_lock(&self) -> Result<Option<Lock>, Fault> {
        match self.file.try_lock() {
            Ok(()) => Ok(Some(Lock(self.file.clone()))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Fault::Io("locking the journal", error)),
        }
    }

    /// Takes the lock as soon as it is free.
    pub fn lock(&self, patience: &Patience) -> Result<Lock, Fault> {
        self.wait_for(patience, || self.file.try_lock())
    }

    /// Keeps others from writing, not from reading.
    pub fn lock_shared(&self, patience: &Patience) -> Result<Lock, Fault> {
        self.wait_for(patience, || self.file.try_lock_shared())
    }

    fn wait_for(&self, patience: &Patience, take: impl Fn() -> Result<(), TryLockError>) -> Result<Lock, Fault> {
        loop {
            match take() {
                Ok(()) => return Ok(Lock(self.file.clone())),
                Err(TryLockError::WouldBlock) if patience.wait() => {}
                Err(TryLockError::WouldBlock) => return Err(Fault::Held),
                Err(TryLockError::Error(error)) => return Err(Fault::Io("locking the journal", error)),
            }
        }
    }

    /// Its length; `None` when it has no name any more.
    pub fn length(&self) -> Result<Option<u64>, Fault> {
        length_if_named(&self.file).map_err(|error| Fault::Io("looking at the journal", error))
    }

    /// Appends a group. The caller holds the lock and has read all that is there. `flush`: on the disk when this returns.
    pub fn append(&mut self, text: &mut String, flush: bool) -> Result<(), Fault> {
        let Some(seal) = &self.seal else { return Err(Fault::State("its key is not known".to_owned())) };
        let seal = seal.of(&self.id, self.end, text.as_bytes());
        text.reserve(SEAL_LINE);
        text.push('=');
        text.push_str(&seal);
        text.push('\n');
        let mut file = &*self.file;
        let written = file.write_all(text.as_bytes()).and_then(|()| if flush { self.file.sync_data() } else { Ok(()) });
        if let Err(error) = written {
            // Nobody is answered on the strength of it, so it must not be found later. If it cannot be removed, whoever
            // writes next finds a torn group, or a whole one of a call that was denied: more on record than happened.
            let _ = self.file.set_len(self.end);
            return Err(Fault::Io("writing the journal", error));
        }
        self.end += text.len() as u64;
        Ok(())
    }

    /// Removes what follows `end`.
    pub fn cut(&self, end: u64) -> Result<(), Fault> {
        self.file.set_len(end).map_err(|error| Fault::Io("cutting the journal", error))
    }

    /// Copies what follows `end` beside the journal, for people to look into.
    pub fn keep_aside(&self, state: &Path, end: u64, length: u64) -> Result<(), Fault> {
        let aside = beside(&path_beside(state), ".damaged");
        let keep = || private_file().create(true).append(true).open(aside)?.write_all(&self.bytes(end, length)?);
        keep().map_err(|error| Fault::Io("keeping a damaged part of the journal", error))
    }

    /// Reads the groups from `from` to `to`, both ends of groups or the end of the file.
    pub fn read(&self, from: u64, to: u64) -> Result<(Vec<Group>, Tail), Fault> {
        let bytes = self.bytes(from, to).map_err(|error| Fault::Io("reading the journal", error))?;
        Ok(groups(&bytes, from, &self.id, self.seal.as_ref()))
    }

    /// The same without looking at seals: what can be made out.
    pub fn read_unsealed(&self, from: u64, to: u64) -> Result<(Vec<Group>, Tail), Fault> {
        let bytes = self.bytes(from, to).map_err(|error| Fault::Io("reading the journal", error))?;
        Ok(groups(&bytes, from, &self.id, None))
    }

    fn bytes(&self, from: u64, to: u64) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).map_err(|_| ErrorKind::FileTooLarge)?];
        let mut done = 0;
        while done < bytes.len() {
            match read_at(&self.file, &mut bytes[done..], from + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    /// Another handle on the same file, for a thread that only reads.
    pub fn reader(&self) -> Journal {
        let Journal { file, seal, id, base, begin, end } = self;
        Journal { file: file.clone(), seal: seal.clone(), id: id.clone(), base: base.clone(), begin: *begin, end: *end }
    }
}

/// Whether a state file has a journal beside it.
pub(crate) fn exists(state: &Path) -> bool {
    path_beside(state).exists()
}

/// Removes the journal of a state file. The caller holds its lock, and the database has all of it.
pub(crate) fn remove(state: &Path) -> std::io::Result<()> {
    std::fs::remove_file(path_beside(state))
}

/// Moves away what cannot be a journal.
pub(crate) fn move_aside(state: &Path) -> Result<(), Fault> {
    let path = path_beside(state);
    std::fs::rename(&path, beside(&path, ".damaged")).map_err(|error| Fault::Io("moving a damaged journal aside", error))
}

fn flush_directory(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        Some(directory) => File::open(directory)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

fn path_beside(state: &Path) -> PathBuf {
    beside(state, ".journal")
}

fn header(start: &[u8], seal: Option<&Seal>) -> Option<(String, Head, u64)> {
    let end = start.iter().position(|byte| *byte == b'\n')?;
    let (text, sealed) = std::str::from_utf8(&start[..end]).ok()?.rsplit_once(' ')?;
    let mut words = text.strip_prefix(MAGIC)?.strip_prefix(' ')?.split(' ');
    let (id, seq, hash) = (words.next()?.to_owned(), words.next()?.parse().ok()?, words.next()?.into());
    if seal.is_some_and(|seal| seal.of(&id, 0, text.as_bytes()) != sealed) {
        return None;
    }
    Some((id, Head { seq, hash }, end as u64 + 1))
}

/// Ends the line of a record, of which the body stands there.
pub(crate) fn end_record(text: &mut String, hash: &str) {
    text.pop();
    text.push_str(r#","hash":""#);
    text.push_str(hash);
    text.push_str("\"}\n");
}

/// The line of an amount that is taken or given back.
pub(crate) fn write_change(text: &mut String, change: &Change) {
    let Change { key, bucket, frees_at, micros } = change;
    if *micros >= 0 {
        text.push('+');
    }
    let mut digits = itoa::Buffer::new();
    for number in [micros, bucket, frees_at] {
        text.push_str(digits.format(*number));
        text.push(' ');
    }
    match key.contains(['\\', '\n']) {
        true => text.push_str(&key.replace('\\', r"\\").replace('\n', r"\n")),
        false => text.push_str(key),
    }
    // So that such a line and the next are never one: the key may be any text.
    text.push_str(";\n");
}

/// The text of a group that says that the database may have gone ahead.
pub(crate) const AHEAD: &str = "!\n";

/// Reads the groups in `bytes`, which begin at `place`.
fn groups(bytes: &[u8], place: u64, journal: &str, seal: Option<&Seal>) -> (Vec<Group>, Tail) {
    let mut all = Vec::new();
    let (mut start, mut at, mut group) = (0, 0, Group::default());
    while let Some(length) = line_length(&bytes[at..]) {
        let line = &bytes[at..at + length];
        if let Some(sealed) = line.strip_prefix(b"=") {
            let is_ours = seal.is_none_or(|seal| seal.of(journal, place + start as u64, &bytes[start..at]).as_bytes() == sealed);
            if !is_ours || sealed.len() != SEAL {
                return (all, Tail::Damaged);
            }
            at += length + 1;
            start = at;
            all.push(Group { end: place + at as u64, ..std::mem::take(&mut group) });
            continue;
        }
        if group.take(line).is_none() {
            return (all, Tail::Damaged);
        }
        at += length + 1;
    }
    let tail = match &bytes[at..] {
        [] if start == at => Tail::Whole,
        // An unfinished group has sound lines, and at last the beginning of one.
        [] | [b'{' | b'+' | b'-', ..] | [b'!'] => match group.records.iter().all(is_sound) {
            true => Tail::Torn,
            false => Tail::Damaged,
        },
        [b'=', digits @ ..] if digits.len() <= SEAL && digits.iter().all(u8::is_ascii_hexdigit) => Tail::Torn,
        _ => Tail::Damaged,
    };
    (all, tail)
}

/// How long the first line is without its end, if it has one.
fn line_length(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes)
}

fn is_sound(row: &Row) -> bool {
    *sha256(row.body.as_bytes()) == *row.hash
}

impl Group {
    fn take(&mut self, line: &[u8]) -> Option<()> {
        let line = std::str::from_utf8(line).ok()?;
        match line.as_bytes().first()? {
            b'{' => self.records.push(record(line)?),
            b'+' | b'-' => self.changes.push(change(line)?),
            b'!' if line == "!" => self.ahead = true,
            _ => return None,
        }
        Some(())
    }
}

fn record(line: &str) -> Option<Row> {
    let line = line.strip_suffix("\"}")?;
    let (rest, hash) = line.split_at_checked(line.len().checked_sub(64)?)?;
    let rest = rest.strip_suffix(r#","hash":""#)?;
    let digits = rest.strip_prefix(r#"{"seq":"#)?;
    let digits = &digits[..digits.bytes().position(|byte| byte == b',')?];
    let mut body = String::with_capacity(rest.len() + 1);
    body.push_str(rest);
    body.push('}');
    Some(Row { seq: digits.parse().ok()?, body, hash: hash.to_owned() })
}

fn change(line: &str) -> Option<Change> {
    let mut words = line.strip_suffix(';')?.splitn(4, ' ');
    let (micros, bucket, frees_at, key) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let key = if key.contains('\\') { unescaped(key)?.into() } else { key.into() };
    Some(Change { key, bucket: bucket.parse().ok()?, frees_at: frees_at.parse().ok()?, micros: micros.parse().ok()? })
}

fn unescaped(key: &str) -> Option<String> {
    let mut plain = String::with_capacity(key.len());
    let mut characters = key.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next()? {
                'n' => '\n',
                '\\' => '\\',
                _ => return None,
            },
            character => character,
        });
    }
    Some(plain)
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

/// Who asks for a file's times, as everybody does who asks for all that is known of it, has the next write note its own to the
/// nanosecond, which takes as long again as the write. So nothing is asked for but what is wanted.
#[cfg(target_os = "linux")]
fn length_if_named(file: &File) -> std::io::Result<Option<u64>> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let wanted = StatxFlags::SIZE | StatxFlags::NLINK;
    match statx(file, c"", AtFlags::EMPTY_PATH, wanted) {
        Ok(found) if StatxFlags::from_bits_retain(found.stx_mask).contains(wanted) => {
            Ok((found.stx_nlink > 0).then_some(found.stx_size))
        }
        // A system that is older, or a filter of system calls that is; or a file system that does not know both.
        Ok(_) | Err(_) => length_of_named(file),
    }
}

#[cfg(not(target_os = "linux"))]
fn length_if_named(file: &File) -> std::io::Result<Option<u64>> {
    length_of_named(file)
}

#[cfg(unix)]
fn length_of_named(file: &File) -> std::io::Result<Option<u64>> {
    let metadata = file.metadata()?;
    Ok((std::os::unix::fs::MetadataExt::nlink(&metadata) > 0).then_some(metadata.len()))
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

/// A file that is open keeps its name there.
#[cfg(windows)]
fn length_of_named(file: &File) -> std::io::Result<Option<u64>> {
    Ok(Some(file.metadata()?.len()))
}

const MAGIC: &str = "callgate journal 1";
const SEAL: usize = 64;
const SEAL_LINE: usize = SEAL + 2;
const LONGEST_HEADER: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;

    fn body(seq: i64) -> (String, String) {
        let body = format!(r#"{{"seq":{seq},"id":"ä","prev":"00"}}"#);
        let hash = sha256(body.as_bytes()).to_string();
        (body, hash)
    }

    fn sample(seal: &Seal) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for seq in 1..=3 {
            let mut text = String::new();
            let (body, hash) = body(seq);
            text.push_str(&body);
            end_record(&mut text, &hash);
            write_change(&mut text, &Change { key: "a\\n\n ü".into(), bucket: 5, frees_at: 9, micros: 7 - 8 * (seq & 1) });
            let sealed = seal.of("j", 40 + bytes.len() as u64, text.as_bytes());
            bytes.extend_from_slice(text.as_bytes());
            bytes.extend_from_slice(format!("={sealed}\n").as_bytes());
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn groups_are_read_as_they_were_written() {
        let key = SecretKey::generate().unwrap().0;
        let (bytes, ends) = sample(key.seal());
        let (groups, tail) = groups(&bytes, 40, "j", Some(key.seal()));
        assert_eq!(tail, Tail::Whole);
        assert_eq!(groups.iter().map(|group| group.end as usize - 40).collect::<Vec<_>>(), ends);
        let (text, hash) = body(1);
        assert_eq!(groups[0].records, [Row { seq: 1, body: text, hash }]);
        assert_eq!(groups[0].changes, [Change { key: "a\\n\n ü".into(), bucket: 5, frees_at: 9, micros: -1 }]);
    }

    #[test]
    fn a_beginning_is_torn_wherever_it_ends() {
        let key = SecretKey::generate().unwrap().0;
        let (bytes, ends) = sample(key.seal());
        for length in 0..bytes.len() {
            let (groups, tail) = groups(&bytes[..length], 40, "j", Some(key.seal()));
            let whole = ends.iter().filter(|end| **end <= length).count();
            assert_eq!(groups.len(), whole, "{length} bytes");
            let expected = if length == 0 || ends.contains(&length) { Tail::Whole } else { Tail::Torn };
            assert_eq!(tail, expected, "{length} bytes");
        }
    }

    #[test]
    fn every_changed_byte_is_damage() {
        let key = SecretKey::generate().unwrap().0;
        let (bytes, ends) = sample(key.seal());
        for at in 0..bytes.len() {
            for mask in 1..=255 {
                let mut bytes = bytes.clone();
                bytes[at] ^= mask;
                let (groups, tail) = groups(&bytes, 40, "j", Some(key.seal()));
                assert_eq!(tail, Tail::Damaged, "byte {at} changed by {mask}");
                assert_eq!(groups.len(), ends.iter().filter(|end| **end <= at).count());
            }
        }
    }

    #[test]
    fn a_group_belongs_to_its_place_and_its_journal() {
        let key = SecretKey::generate().unwrap().0;
        let (bytes, ends) = sample(key.seal());
        assert_eq!(groups(&bytes, 41, "j", Some(key.seal())).1, Tail::Damaged);
        assert_eq!(groups(&bytes, 40, "k", Some(key.seal())).1, Tail::Damaged);
        let swapped = [&bytes[ends[0]..ends[1]], &bytes[..ends[0]]].concat();
        assert_eq!(groups(&swapped, 40, "j", Some(key.seal())).1, Tail::Damaged);
        let other = SecretKey::generate().unwrap().0;
        assert_eq!(groups(&bytes, 40, "j", Some(other.seal())).1, Tail::Damaged);
        assert_eq!(groups(&bytes, 40, "j", None).1, Tail::Whole);
    }
}
