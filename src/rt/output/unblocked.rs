//! A standard stream without a thread, and without ever waiting for its reader: for the launcher, which is small and
//! may fork.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::rt::syscall;

/// Most bytes in the queue.
const MAX_WAITING: usize = 16 << 10;
/// Bytes that a pipe takes without blocking if poll(2) calls it writable.
const CHUNK: usize = 4096;

/// A stream that is never waited for, with the bytes that could not be written yet.
#[derive(Debug)]
pub(super) struct UnblockedOutput<S>(Mutex<UnblockedState<S>>);

#[derive(Debug)]
struct UnblockedState<S> {
    way: Way<S>,
    waiting: Vec<u8>,
    dropped: u64,
    told: u64,
}

/// Way of writing without waiting and without changing what other processes share: the flag `O_NONBLOCK` would apply to
/// the app, too.
#[derive(Debug)]
enum Way<S> {
    /// A pipe or a terminal, opened a second time for this process.
    Reopened(File),
    /// A socket; each message is sent with `MSG_DONTWAIT`.
    Socket(S),
    /// A descriptor that is written only if poll(2) says there is room. In between, another process may take that room.
    Polled(S),
}

impl<S: AsFd> Way<S> {
    fn to(stream: S) -> Self {
        let path = format!("/proc/self/fd/{}", stream.as_fd().as_raw_fd());
        let kind = std::fs::metadata(&path).map(|data| data.file_type());
        match kind {
            Ok(kind) if kind.is_socket() => return Self::Socket(stream),
            Ok(kind) if kind.is_fifo() || kind.is_char_device() => {}
            _ => return Self::Polled(stream),
        }
        let mut options = OpenOptions::new();
        options
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        // The pipe of another user can't be opened again.
        match options.open(path) {
            Ok(file) => Self::Reopened(file),
            Err(_) => Self::Polled(stream),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Reopened(file) => file.write(bytes),
            Self::Socket(stream) => syscall::send_now(stream, bytes),
            Self::Polled(stream) if syscall::is_writable(&*stream, Duration::ZERO) => {
                syscall::write(stream, &bytes[..bytes.len().min(CHUNK)])
            }
            Self::Polled(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Reopened(file) => file.as_fd(),
            Self::Socket(stream) | Self::Polled(stream) => stream.as_fd(),
        }
    }
}

impl<S: AsFd> UnblockedOutput<S> {
    /// Output to this stream.
    pub(super) fn new(stream: S) -> Self {
        Self(Mutex::new(UnblockedState {
            way: Way::to(stream),
            waiting: Vec::new(),
            dropped: 0,
            told: 0,
        }))
    }

    /// Writes a message, or keeps it for [`UnblockedOutput::retry`], or drops and counts it.
    pub(super) fn push(&self, message: &[u8]) {
        let mut state = self.0.lock();
        // Older messages come first.
        state.write_waiting();
        if state.waiting.len() + message.len() > MAX_WAITING && !state.waiting.is_empty() {
            state.dropped += 1;
            return;
        }
        state.waiting.extend_from_slice(message);
        state.write_waiting();
    }

    /// Writes pending bytes as far as possible without waiting; returns whether some are left.
    pub(super) fn retry(&self) -> bool {
        let mut state = self.0.lock();
        state.write_waiting();
        !state.waiting.is_empty()
    }

    /// Messages lost so far.
    pub(super) fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }

    /// Waits for a reader, but no longer than this.
    pub(super) fn flush(&self, until: Instant) {
        let mut state = self.0.lock();
        state.write_waiting();
        while !state.waiting.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !syscall::is_writable(state.way.descriptor(), left) {
                return;
            }
            state.write_waiting();
        }
    }
}

impl<S: AsFd> UnblockedState<S> {
    fn write_waiting(&mut self) {
        let mut done = 0;
        let mut failed = false;
        while done < self.waiting.len() {
            match self.way.write(&self.waiting[done..]) {
                Ok(written @ 1..) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // If the reader is gone or the disk is full, pending bytes are dropped, so that new messages are tried.
                _ => {
                    let lost = self.waiting[done..].iter().filter(|byte| **byte == b'\n');
                    self.dropped += lost.count() as u64;
                    self.waiting.clear();
                    failed = true;
                    break;
                }
            }
        }
        self.waiting.drain(..done.min(self.waiting.len()));
        if !failed && done > 0 && self.waiting.is_empty() && self.dropped > self.told {
            let lost = self.dropped - self.told;
            self.told = self.dropped;
            self.waiting
                .extend_from_slice(super::describe_losses(lost).as_bytes());
            self.write_waiting();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Fills the stream without ever waiting; then reads everything, and expects the kept messages and the number of
    /// lost ones.
    fn fills_and_recovers(stream: impl AsFd, mut reader: impl Read) {
        let output = UnblockedOutput::new(stream);
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        let asked = 20_000;
        for _ in 0..asked {
            output.push(&line);
        }
        let dropped = output.dropped();
        assert!(dropped > 0);
        let mut text = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while !text.ends_with(b"too slow, or gone\n") {
            let length = reader.read(&mut buffer).unwrap();
            text.extend_from_slice(&buffer[..length]);
            output.retry();
        }
        let text = String::from_utf8(text).unwrap();
        let lines = text.lines().filter(|line| line.starts_with('x')).count() as u64;
        assert_eq!(lines + dropped, asked);
        assert!(text.contains(&format!("{dropped} lines said")), "{dropped}");
    }

    #[test]
    fn unread_pipe_is_never_waited_for() {
        let (reader, writer) = pipe().unwrap();
        fills_and_recovers(writer, reader);
    }

    #[test]
    fn unread_socket_is_never_waited_for() {
        let (reader, writer) = UnixStream::pair().unwrap();
        fills_and_recovers(writer, reader);
    }

    #[test]
    fn descriptor_of_others_stays_blocking() {
        let (_reader, writer) = pipe().unwrap();
        let _output = UnblockedOutput::new(&writer);
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", writer.as_raw_fd()));
        let flags = info.unwrap();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = i32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, 0);
    }

    #[test]
    fn reader_that_is_gone_costs_lines_and_nothing_else() {
        let (reader, writer) = pipe().unwrap();
        let output = UnblockedOutput::new(&writer);
        drop(reader);
        output.push(b"one\n");
        output.push(b"two\n");
        assert_eq!(output.dropped(), 2);
        output.flush(Instant::now());
    }
}
