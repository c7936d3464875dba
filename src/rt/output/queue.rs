//! A bounded queue in front of a standard stream, so that writers never wait for its reader.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::lines::LineWriter;

/// Most bytes in the queue. A longer message is accepted if the queue is empty.
const MAX_WAITING: usize = 1 << 20;
/// Most bytes of capacity that an empty buffer keeps.
const MAX_KEPT: usize = 64 << 10;
/// Stack size of the thread, which does little.
const STACK_SIZE: usize = 128 << 10;

/// Called with the number of lost messages once one could be written again.
pub(super) type OutputLossReport = Box<dyn Fn(u64) + Send>;

/// A queue of messages for one descriptor, and the thread that writes them. Messages that don't fit or can't be written
/// are dropped and counted.
#[derive(Debug)]
pub(super) struct OutputQueue(Arc<OutputQueueShared>);

#[derive(Debug, Default)]
struct OutputQueueShared {
    waiting: Mutex<QueuedOutput>,
    /// Notified when there is something to write.
    filled: Condvar,
    /// Notified when everything was written, or has failed.
    emptied: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct QueuedOutput {
    bytes: Vec<u8>,
    messages: u64,
    /// Whether the thread is writing messages that it has taken.
    writing: bool,
    /// First error of a write.
    failure: Option<io::Error>,
}

impl OutputQueue {
    /// Starts the thread. `report` is called on that thread, and may use this queue.
    ///
    /// # Errors
    /// The system can't start another thread.
    pub(super) fn start(
        name: &str,
        out: impl Write + Send + 'static,
        report: OutputLossReport,
    ) -> io::Result<Self> {
        let shared = Arc::new(OutputQueueShared::default());
        let of_thread = shared.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_SIZE)
            .spawn(move || of_thread.write_all(&mut LineWriter::new(out), &report))?;
        Ok(Self(shared))
    }

    /// Puts a message into the queue. Never waits for a reader or a disk.
    pub(super) fn push(&self, message: &[u8]) {
        let mut waiting = self.0.waiting.lock();
        if !waiting.bytes.is_empty() && waiting.bytes.len() + message.len() > MAX_WAITING {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes.extend_from_slice(message);
        waiting.messages += 1;
        self.0.filled.notify_one();
    }

    /// Waits until everything was written or has failed; returns whether that was before `until`.
    pub(super) fn flush(&self, until: Instant) -> bool {
        let mut waiting = self.0.waiting.lock();
        while waiting.writing || !waiting.bytes.is_empty() {
            if self.0.emptied.wait_until(&mut waiting, until).timed_out() {
                return !waiting.writing && waiting.bytes.is_empty();
            }
        }
        true
    }

    /// Number of messages lost so far: there was no room, or they could not be written.
    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Takes the first error of a write.
    pub(super) fn take_failure(&self) -> Option<io::Error> {
        self.0.waiting.lock().failure.take()
    }
}

impl OutputQueueShared {
    /// Main loop of the thread.
    fn write_all(&self, out: &mut LineWriter<impl Write>, report: &OutputLossReport) {
        let (mut taken, mut told) = (Vec::new(), 0);
        loop {
            let messages = self.take(&mut taken);
            let ended = out.write(&taken, || false);
            let written = ended.is_ok();
            {
                let mut waiting = self.waiting.lock();
                waiting.writing = false;
                if let Err(error) = ended {
                    self.dropped.fetch_add(messages, Ordering::Relaxed);
                    waiting.failure.get_or_insert(error);
                }
                if waiting.bytes.is_empty() {
                    self.emptied.notify_all();
                }
            }
            let dropped = self.dropped.load(Ordering::Relaxed);
            if written && dropped > told {
                report(dropped - told);
                told = dropped;
            }
        }
    }

    /// Waits for messages, takes all of them, and returns their number.
    fn take(&self, taken: &mut Vec<u8>) -> u64 {
        taken.clear();
        taken.shrink_to(MAX_KEPT);
        let mut waiting = self.waiting.lock();
        while waiting.bytes.is_empty() {
            self.filled.wait(&mut waiting);
        }
        std::mem::swap(&mut waiting.bytes, taken);
        waiting.writing = true;
        std::mem::take(&mut waiting.messages)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    fn quiet() -> OutputLossReport {
        Box::new(|_| ())
    }

    #[test]
    fn messages_arrive_in_order() {
        let (mut reader, writer) = pipe().unwrap();
        let queue = OutputQueue::start("test", writer, quiet()).unwrap();
        for n in 0..100 {
            queue.push(format!("{n}\n").as_bytes());
        }
        assert!(queue.flush(soon()));
        let mut bytes = vec![0; 290];
        reader.read_exact(&mut bytes).unwrap();
        let expected: String = (0..100).map(|n| format!("{n}\n")).collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn unread_pipe_blocks_no_writer_and_its_losses_are_reported_once_it_is_read() {
        let (mut reader, writer) = pipe().unwrap();
        let (told, tells) = std::sync::mpsc::channel();
        let report = Box::new(move |lost| assert!(told.send(lost).is_ok()));
        let queue = OutputQueue::start("test", writer, report).unwrap();
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        let asked = 4000;
        for _ in 0..asked {
            queue.push(&line);
        }
        assert!(queue.dropped() > 1000, "{}", queue.dropped());
        assert!(!queue.flush(Instant::now() + Duration::from_millis(50)));
        let arrived = std::thread::spawn(move || {
            let (mut lines, mut buffer) = (0, vec![0; 1 << 16]);
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                lines += buffer[..length].iter().filter(|b| **b == b'\n').count() as u64;
                if buffer[..length].ends_with(b"end\n") {
                    break;
                }
            }
            lines
        });
        assert!(queue.flush(soon()));
        let lost = tells.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(lost, queue.dropped());
        queue.push(b"end\n");
        assert_eq!(arrived.join().unwrap() + lost, asked + 1);
    }

    #[test]
    fn failed_write_is_counted_and_its_error_kept() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let queue = OutputQueue::start("test", writer, quiet()).unwrap();
        for n in 1..=3 {
            queue.push(b"nobody reads this\n");
            assert!(queue.flush(soon()));
            assert_eq!(queue.dropped(), n);
        }
        let failure = queue.take_failure().unwrap();
        assert_eq!(failure.kind(), io::ErrorKind::BrokenPipe);
    }
}
