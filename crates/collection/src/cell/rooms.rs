//! The inside of a cell on Linux: its tree of files, its loopback device, its limits.
//!
//! Runs as the first process of the namespaces. Whatever fails ends it before the server is started.

use super::{Cell, HOME, Way};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink::SocketAddrNetlink};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use rustix::thread::CapabilitySet;
use std::ffi::CString;
use std::fmt::Display;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

type Result<T> = std::result::Result<T, String>;

/// What fails, of what.
fn failed<E: Display>(doing: impl Display) -> impl FnOnce(E) -> String {
    move |error| format!("cannot {doing}: {error}")
}

pub(crate) fn enter(cell: &Cell, server: &[String]) -> Result<u8> {
    let Some((program, arguments)) = server.split_first() else { return Err("there is no server to run".to_owned()) };
    let mut command = Command::new(program);
    command.args(arguments);
    if cell.way != Way::Nothing {
        rustix::process::umask(Mode::from_raw_mode(0o022));
        furnish(cell)?;
        if !cell.network {
            raise_loopback()?;
        }
        rustix::system::sethostname(b"server").map_err(failed("name the host"))?;
        command.current_dir(HOME);
    }
    limit()?;
    if cell.way != Way::Nothing {
        drop_capabilities()?;
    }
    rustix::thread::set_no_new_privs(true).map_err(failed("renounce privileges"))?;
    if let Way::Superuser(user) = cell.way {
        command.uid(user).gid(user);
    }
    let mut child = command.spawn().map_err(failed(format!("start `{program}`")))?;
    let server = Pid::from_child(&child);
    thread::spawn(move || end_with_input(server));
    let status = child.wait().map_err(failed(format!("wait for `{program}`")))?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Ends the server once nobody can speak to it any more and it has had time to end by itself: who has started us closes its
/// input, or was killed and cannot end anything. All else in the cell ends with us, and we with the server.
fn end_with_input(server: Pid) {
    let input = std::io::stdin();
    // No event is asked for: only the end is told then.
    while !matches!(poll(&mut [PollFd::new(&input, PollFlags::empty())], None), Ok(1..)) {}
    thread::sleep(PATIENCE);
    // Once it has been waited for, this process is at its end.
    let _ = rustix::process::kill_process(server, Signal::KILL);
}

/// Longer than who has started us gives it between the end of its input and its own.
const PATIENCE: Duration = Duration::from_secs(5);

/// Builds the tree of files and makes it the only one.
fn furnish(cell: &Cell) -> Result<()> {
    let root = &cell.root;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(failed("part the mounts from the system's"))?;
    let owner = if let Way::Superuser(user) = cell.way { user } else { 0 };
    room(root, "size=1m,mode=755")?;
    for place in SYSTEM.iter().map(Path::new).filter(|place| place.symlink_metadata().is_ok()) {
        match fs::read_link(place) {
            Ok(target) => symlink(target, below(root, place)).map_err(failed(format!("link {}", place.display())))?,
            Err(_) => show(root, place)?,
        }
    }
    for place in ETC.iter().map(|name| Path::new("/etc").join(name)).filter(|place| place.exists()) {
        show(root, &place)?;
    }
    let users = format!("root:x:0:0:root:/:/bin/sh\nserver:x:{owner}:{owner}:server:{HOME}:/bin/sh\n");
    let (sources, resolver) = match cell.network {
        // Often a link to where nothing is in the cell, so its text is copied.
        true => ("files dns", fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
        false => ("files", String::new()),
    };
    let texts = [
        ("passwd", users),
        ("group", format!("root:x:0:\nserver:x:{owner}:\n")),
        ("hosts", "127.0.0.1 localhost server\n::1 localhost\n".to_owned()),
        ("nsswitch.conf", format!("passwd: files\ngroup: files\nhosts: {sources}\n")),
        ("resolv.conf", resolver),
        ("hostname", "server\n".to_owned()),
    ];
    for (name, text) in texts {
        fs::write(root.join("etc").join(name), text).map_err(failed(format!("write /etc/{name}")))?;
    }
    room(&root.join("dev"), "size=1m,mode=755")?;
    for device in ["null", "zero", "full", "random", "urandom"] {
        show(root, &Path::new("/dev").join(device))?;
    }
    for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        symlink(target, root.join("dev").join(name)).map_err(failed(format!("link /dev/{name}")))?;
    }
    room(&root.join("dev/shm"), "size=64m,mode=1777")?;
    room(&root.join("tmp"), "size=256m,mode=1777")?;
    room(&below(root, Path::new(HOME)), &format!("size=256m,mode=700,uid={owner},gid={owner}"))?;
    let mut reads: Vec<&PathBuf> = cell.reads.iter().collect();
    reads.sort();
    let mut shown: Vec<&Path> = SYSTEM.iter().map(Path::new).collect();
    for place in reads {
        // What lies in another of them, which comes first, can be seen by then.
        if !shown.iter().any(|other| place.starts_with(other)) {
            show(root, place)?;
            shown.push(place);
        }
    }
    let proc = root.join("proc");
    fs::create_dir_all(&proc).map_err(failed("make /proc"))?;
    rustix::mount::mount("proc", &proc, "proc", PLAIN | MountFlags::NOEXEC, None).map_err(failed("mount /proc"))?;
    rustix::process::chdir(root).map_err(failed("enter the cell"))?;
    rustix::process::pivot_root(".", ".").map_err(failed("leave the system's tree of files"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(failed("let go of the system's tree of files"))?;
    rustix::process::chdir("/").map_err(failed("enter the cell"))?;
    lock()
}

/// The system's own programs and libraries. Of `/nix` only the store: beside it lies the socket of a daemon.
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"];

/// What programs need of `/etc`, and what says nothing of this machine.
const ETC: [&str; 12] = [
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates",
    "pki",
    "localtime",
    "mime.types",
    "protocols",
    "services",
];

const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// An empty place in memory, so big.
fn room(place: &Path, options: &str) -> Result<()> {
    let doing = format!("make {}", place.display());
    fs::create_dir_all(place).map_err(failed(&doing))?;
    let options = CString::new(options).map_err(failed(&doing))?;
    rustix::mount::mount("tmpfs", place, "tmpfs", PLAIN, options.as_c_str()).map_err(failed(&doing))
}

/// Shows a file or directory of the system under its own path.
fn show(root: &Path, place: &Path) -> Result<()> {
    let doing = format!("show {}", place.display());
    let target = below(root, place);
    if place.is_dir() {
        fs::create_dir_all(&target).map_err(failed(&doing))?;
    } else {
        target.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed(&doing))?;
        fs::File::create_new(&target).map_err(failed(&doing))?;
    }
    // With what is mounted below: a part of it cannot be left out in a user namespace.
    rustix::mount::mount_bind_recursive(place, &target).map_err(failed(&doing))
}

fn below(root: &Path, place: &Path) -> PathBuf {
    root.join(place.strip_prefix("/").unwrap_or(place))
}

/// Makes everything read only that is not the server's own.
fn lock() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(failed("read the mounts"))?;
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(4);
        let (Some(place), Some(options)) = (fields.next(), fields.next()) else { continue };
        if [HOME, "/tmp", "/dev/shm", "/proc"].contains(&place) {
            continue;
        }
        // Flags that somebody more powerful has set must be kept.
        let kept = options.split(',').filter_map(|option| KEPT.iter().find(|(name, _)| *name == option));
        let mut flags = kept.fold(MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID, |flags, (_, flag)| flags | *flag);
        if !place.starts_with("/dev/") {
            flags |= MountFlags::NODEV;
        }
        rustix::mount::mount_remount(unescaped(place), flags, "").map_err(failed(format!("lock {place}")))?;
    }
    Ok(())
}

const KEPT: [(&str, MountFlags); 5] = [
    ("nodev", MountFlags::NODEV),
    ("noexec", MountFlags::NOEXEC),
    ("noatime", MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME),
    ("relatime", MountFlags::RELATIME),
];

/// The kernel writes blanks, tabs, line breaks and backslashes of paths as three octal digits.
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escape, character)| path.replace(escape, character))
}

/// Servers speak to themselves over loopback; a new network has that device, switched off.
fn raise_loopback() -> Result<()> {
    let doing = "switch loopback on";
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None).map_err(failed(doing))?;
    // rtnetlink(7): a header (length, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, number, port), then an ifinfomsg: family and
    // type unspecified, the first device, IFF_UP as flag and as the mask of what changes.
    let words: [u32; 8] = [32, u32::from_ne_bytes(halves(16, 1 | 4)), 1, 0, 0, 1, 1, 1];
    let message: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).map_err(failed(doing))?;
    let mut answer = [0u8; 64];
    let (_, length) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()).map_err(failed(doing))?;
    // NLMSG_ERROR: behind the header stands an error number, zero for none.
    match answer.get(16..20).filter(|_| length >= 20).and_then(|number| number.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        number => Err(format!("cannot {doing}: error {}", number.unwrap_or_default())),
    }
}

fn halves(first: u16, second: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    [a, b, c, d]
}

/// What a server may use, each process of it. Virtual memory is not limited: V8 and others reserve far more than they use.
fn limit() -> Result<()> {
    const MEBI: u64 = 1024 * 1024;
    for (resource, most) in [
        (Resource::Cpu, 300),
        (Resource::Data, 4096 * MEBI),
        (Resource::Fsize, 256 * MEBI),
        (Resource::Nofile, 4096),
        (Resource::Nproc, 512),
        (Resource::Core, 0),
    ] {
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |allowed| allowed.min(most));
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(failed("set limits"))?;
    }
    Ok(())
}

/// No program that is started from here on has any, whoever it runs as.
fn drop_capabilities() -> Result<()> {
    for capability in CapabilitySet::all().iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // One that this kernel does not know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(failed("drop capabilities")(error)),
        }
    }
    Ok(())
}
