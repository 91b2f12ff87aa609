//! A cell: where a server is started that nobody trusts.
//!
//! It has namespaces of its own: no network but a loopback device (unless somebody says that it needs the machine's), no process
//! but its own, and a tree of files made for it, in which only the system's programs, its own package and an empty home can be seen. All that is left of it ends with its
//! first process, and that one is ours: the server cannot stop it, and cannot outlive it.
//!
//! `unshare` of util-linux makes the namespaces; what is done inside them, before the server is started, is done by this
//! program, started anew there ([`Cell::enter`]). Where somebody waives all this, there is still that process, which sets the
//! limits; then the server can do whatever its user can.

#[cfg(target_os = "linux")]
mod rooms;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What one server may see and use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// An empty directory, over which its tree is built.
    pub root: PathBuf,
    /// What it may read besides the system's own files.
    pub reads: Vec<PathBuf>,
    /// How it is kept from the rest.
    pub way: Way,
    /// Whether it has the machine's network, all of it, instead of a loopback device of its own.
    pub network: bool,
}

/// How a server is kept from the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Namespaces that the superuser has made; inside, the server is this user and nobody else is.
    Superuser(u32),
    /// Namespaces in a user namespace: inside, the server is called root, and has no capability.
    UserNamespace,
    /// None.
    Nothing,
}

/// The home of a server in its cell.
pub(crate) const HOME: &str = "/home/server";

/// Whether a place cannot be shown to a server, since the cell has something of its own there: the home, what is in memory, or
/// the processes and devices. What is above them would bring the machine's own along.
pub(crate) fn is_taken(place: &Path) -> bool {
    ["/tmp", "/dev", "/dev/shm", "/proc", HOME].iter().any(|own| Path::new(own).starts_with(place))
        || ["/dev", "/proc"].iter().any(|own| place.starts_with(own))
}

/// The first user that the superuser gives to a server; unused on Debian, Fedora and by systemd.
const FIRST_USER: u32 = 64_100;

impl Way {
    /// A way for the server of this place among those that are asked at the same time.
    pub(crate) fn at(self, place: usize) -> Way {
        match self {
            Way::Superuser(_) => Way::Superuser(FIRST_USER + u32::try_from(place % 256).unwrap_or_default()),
            way => way,
        }
    }

    /// The way that this machine has; it is tried, since what a kernel offers is not what it permits. `unshare` is what
    /// [`unshare`] has found, `program` this program, with the words that make it call [`Cell::enter`].
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn find(unshare: &str, program: &[String], root: &Path) -> Result<Way, String> {
        let mut why = String::new();
        for way in ways() {
            let cell = Cell { root: root.to_owned(), reads: Vec::new(), way: way.at(0), network: false };
            match cell.has_room(unshare, program) {
                Ok(()) => return Ok(way),
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}

/// Where `unshare` lies on our own path. A bare word would be looked up on the path of the server, which begins with the
/// directory of its package, and a program of that name there would be started outside of any cell. For the same reason nothing
/// counts that lies below `work`, where packages are, or that depends on where we stand.
///
/// # Errors
/// That it lies nowhere.
pub(crate) fn unshare(work: &Path) -> Result<String, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let work = std::fs::canonicalize(work).map_err(|error| format!("cannot find {}: {error}", work.display()))?;
    let own = |place: PathBuf| std::fs::canonicalize(place).ok().filter(|place| place.is_file() && !place.starts_with(&work));
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .filter_map(|directory| own(directory.join("unshare")).map(|_| directory.join("unshare")))
        .find_map(|place| place.to_str().map(str::to_owned))
        .ok_or_else(|| "`unshare` of util-linux is not installed here".to_owned())
}

#[cfg(target_os = "linux")]
fn ways() -> Vec<Way> {
    match rustix::process::geteuid().is_root() {
        true => vec![Way::Superuser(FIRST_USER), Way::UserNamespace],
        false => vec![Way::UserNamespace],
    }
}

#[cfg(not(target_os = "linux"))]
fn ways() -> Vec<Way> {
    Vec::new()
}

impl Cell {
    /// The words that start `server` in this cell. `unshare` is what [`unshare`] has found, `program` this program, with the words
    /// that make it call [`Cell::enter`].
    pub(crate) fn words(&self, unshare: &str, program: &[String], server: &[String]) -> Vec<String> {
        let namespaces = ["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child"];
        let mut words: Vec<String> = match self.way {
            Way::Superuser(_) => [&[unshare], &namespaces[..]].concat(),
            Way::UserNamespace => [&[unshare, "--user", "--map-root-user"], &namespaces[..]].concat(),
            Way::Nothing => Vec::new(),
        }
        .into_iter()
        .map(str::to_owned)
        .collect();
        words.retain(|word| !(self.network && word == "--net"));
        if !words.is_empty() {
            words.push("--".to_owned());
        }
        words.extend_from_slice(program);
        words.push("--root".to_owned());
        words.push(self.root.display().to_string());
        for place in &self.reads {
            words.push("--read".to_owned());
            words.push(place.display().to_string());
        }
        match self.way {
            Way::Superuser(user) => words.extend(["--user".to_owned(), user.to_string()]),
            Way::UserNamespace => {}
            Way::Nothing => words.push("--unisolated".to_owned()),
        }
        if self.network {
            words.push("--network".to_owned());
        }
        words.push("--".to_owned());
        words.extend_from_slice(server);
        words
    }

    fn has_room(&self, unshare: &str, program: &[String]) -> Result<(), String> {
        let words = self.words(unshare, program, &["true".to_owned()]);
        let Some((first, rest)) = words.split_first() else { return Err("there is no command".to_owned()) };
        let tried = Command::new(first).args(rest).stdin(Stdio::null()).output();
        match tried {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(said.lines().last().unwrap_or("it fails without a word").trim().to_owned())
            }
            Err(error) => Err(format!("`{first}` cannot be started: {error}")),
        }
    }

    /// Makes the cell, runs `server` in it, and gives its exit status; called where [`Cell::words`] have led to.
    ///
    /// # Errors
    /// What could not be made. The server has not been started then.
    #[cfg(target_os = "linux")]
    pub fn enter(&self, server: &[String]) -> Result<u8, String> {
        rooms::enter(self, server)
    }

    /// Elsewhere there are no cells.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub fn enter(&self, _server: &[String]) -> Result<u8, String> {
        Err("only Linux has the namespaces that are needed".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_say_what_the_cell_is() {
        let cell = Cell { root: "/tmp/r".into(), reads: vec!["/p".into()], way: Way::Superuser(7), network: false };
        let words = |way| {
            Cell { way, ..cell.clone() }
                .words("/bin/unshare", &["callgate".into(), "cell".into()], &["serve".into(), "-x".into()])
                .join(" ")
        };
        let namespaces = "--mount --net --pid --ipc --uts --fork --kill-child -- callgate cell --root /tmp/r --read /p";
        assert_eq!(words(Way::Superuser(7)), format!("/bin/unshare {namespaces} --user 7 -- serve -x"));
        assert_eq!(words(Way::UserNamespace), format!("/bin/unshare --user --map-root-user {namespaces} -- serve -x"));
        assert_eq!(words(Way::Nothing), "callgate cell --root /tmp/r --read /p --unisolated -- serve -x");
        let networked = Cell { network: true, ..cell }.words("/bin/unshare", &["cell".into()], &["serve".into()]).join(" ");
        let expected =
            "/bin/unshare --mount --pid --ipc --uts --fork --kill-child -- cell --root /tmp/r --read /p --user 7 --network";
        assert_eq!(networked, format!("{expected} -- serve"));
    }
}
