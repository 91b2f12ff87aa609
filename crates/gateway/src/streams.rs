//! This process's own standard streams, without a thread in between.
//!
//! tokio reads and writes standard streams on threads of its own, because not all of them can be waited for, and every
//! message then crosses threads twice. Pipes and sockets can be waited for, if reading and writing them does not block; but
//! that is a property of the open file, which others may hold too. So a pipe is opened anew, which gives one of our own. A
//! socket cannot be; the servers' standard error is all that we share, so a socket that is standard error as well is left to
//! tokio, like files, terminals, and whatever cannot be had in this way.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

/// Standard input. Must be called within a runtime.
pub fn input() -> Box<dyn AsyncRead + Unpin + Send> {
    let stdin = io::stdin();
    if let Some(receiver) = pipe_at(stdin.as_fd(), "/proc/self/fd/0", |options, path| options.open_receiver(path)) {
        return Box::new(receiver);
    }
    match socket_of(stdin.as_fd(), io::stderr().as_fd()) {
        Some(socket) => Box::new(socket),
        None => Box::new(tokio::io::stdin()),
    }
}

/// Standard output. Must be called within a runtime.
pub fn output() -> Box<dyn AsyncWrite + Unpin + Send> {
    let stdout = io::stdout();
    if let Some(sender) = pipe_at(stdout.as_fd(), "/proc/self/fd/1", |options, path| options.open_sender(path)) {
        return Box::new(sender);
    }
    match socket_of(stdout.as_fd(), io::stderr().as_fd()) {
        Some(socket) => Box::new(socket),
        None => Box::new(tokio::io::stdout()),
    }
}

fn pipe_at<T>(stream: BorrowedFd<'_>, path: &str, open: impl Fn(&pipe::OpenOptions, &str) -> io::Result<T>) -> Option<T> {
    let (_, metadata) = known(stream)?;
    // A path outside of `/proc` on other systems would open something else.
    if !metadata.file_type().is_fifo() || !cfg!(target_os = "linux") {
        return None;
    }
    open(&pipe::OpenOptions::new(), path).ok()
}

fn socket_of(stream: BorrowedFd<'_>, stderr: BorrowedFd<'_>) -> Option<UnixStream> {
    let (stream, metadata) = known(stream)?;
    let same = |other: &Metadata| (other.dev(), other.ino()) == (metadata.dev(), metadata.ino());
    if !metadata.file_type().is_socket() || known(stderr).is_none_or(|(_, stderr)| same(&stderr)) {
        return None;
    }
    let socket = std::os::unix::net::UnixStream::from(stream);
    socket.set_nonblocking(true).ok()?;
    UnixStream::from_std(socket).ok()
}

fn known(stream: BorrowedFd<'_>) -> Option<(OwnedFd, Metadata)> {
    let file = File::from(stream.try_clone_to_owned().ok()?);
    let metadata = file.metadata().ok()?;
    Some((file.into(), metadata))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_socket_is_read_and_written() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let stderr = File::open("/dev/null").unwrap();
        let mut socket = socket_of(ours.as_fd(), stderr.as_fd()).unwrap();
        theirs.write_all(b"hello").unwrap();
        let mut read = [0; 5];
        socket.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
        socket.write_all(b"world").await.unwrap();
        theirs.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"world");
        drop(theirs);
        assert_eq!(socket.read(&mut read).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_socket_that_a_server_may_write_to_is_left_alone() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(socket_of(ours.as_fd(), ours.as_fd()).is_none());
    }

    #[tokio::test]
    async fn what_cannot_be_waited_for_is_left_to_tokio() {
        let file = File::open("/dev/null").unwrap();
        assert!(socket_of(file.as_fd(), file.as_fd()).is_none());
        assert!(pipe_at(file.as_fd(), "/dev/null", |options, path| options.open_receiver(path)).is_none());
    }
}
