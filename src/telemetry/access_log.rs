//! The access log: one line a request, and no request ever waits for it.
//!
//! A line is formatted straight into one of a few buffers, each with its own lock that is only ever *tried*;
//! one thread swaps the buffers out and writes them. If the disk or the reader of a pipe can't keep up, the
//! buffers fill to a bound, and further lines are dropped and counted.
//!
//! `record` has the fields, `format` writes them in both forms, `escape` and `timestamp` their values. `buffer` is the
//! room for one line; `writer` has the buffers and the thread, and `sink` is where lines go: a file, or by `remote` to
//! syslog or (`journal`) to systemd's journal. `layout` is what the configuration says of lines, `chosen` writes those of
//! chosen fields.

mod buffer;
mod chosen;
mod escape;
mod format;
mod journal;
mod layout;
mod record;
mod remote;
mod sink;
mod timestamp;
mod writer;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub use record::AccessRecord;
pub use sink::AccessLogError;

use crate::config;
use layout::LineLayout;
use sink::AccessLogSink;
use writer::WriterShared;

/// How long the last lines may take when the log is dropped; a stuck disk must not keep the process alive.
const LAST_FLUSH: Duration = Duration::from_secs(1);

/// The access log. Cheap to clone; the last clone to be dropped writes what is left.
#[derive(Clone, Debug)]
pub struct AccessLog(Option<Arc<OpenSink>>);

#[derive(Debug)]
struct OpenSink {
    shared: Arc<WriterShared>,
    writer: Option<JoinHandle<()>>,
}

impl AccessLog {
    /// Opens it. Nothing is opened, and [`AccessLog::record`] does nothing, where the configuration says `off`.
    ///
    /// # Errors
    /// When its file can't be opened, or the system has no thread left.
    pub fn open(config: &config::AccessLogConfig) -> Result<Self, AccessLogError> {
        match AccessLogSink::open(&config.sink)? {
            None => Ok(Self::off()),
            Some(sink) => Self::start(sink, LineLayout::new(config)),
        }
    }

    /// A log that goes nowhere.
    pub fn off() -> Self {
        Self(None)
    }

    fn start(sink: AccessLogSink, layout: LineLayout) -> Result<Self, AccessLogError> {
        let shared = Arc::new(WriterShared::new(layout, sink.lot()));
        let writer = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn({
                let shared = shared.clone();
                move || writer::write_lines(&shared, sink)
            })
            .map_err(AccessLogError::Thread)?;
        Ok(Self(Some(Arc::new(OpenSink {
            shared,
            writer: Some(writer),
        }))))
    }

    /// Whether lines go anywhere: callers may skip the work of filling a [`AccessRecord`].
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Notes one request. Never waits, and allocates nothing once the buffers have grown to their size.
    pub fn record(&self, record: &AccessRecord<'_>) {
        let Some(open) = &self.0 else { return };
        if !open.shared.takes(record) {
            return;
        }
        if open.shared.push(own_shard(), record)
            && let Some(writer) = &open.writer
        {
            writer.thread().unpark();
        }
    }

    /// Opens the file anew (after a log rotation); the old one is kept, with a warning, if that fails.
    pub fn reopen(&self) {
        if let Some(open) = &self.0 {
            open.shared.ask_reopen();
            open.wake();
        }
    }

    /// Writes out everything recorded so far; says whether that was done in time.
    pub fn flush(&self, within: Duration) -> bool {
        self.0.as_ref().is_none_or(|open| open.flush(within))
    }

    /// Lines lost so far, because the sink could not keep up or refused them.
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |open| open.shared.dropped())
    }
}

impl OpenSink {
    fn wake(&self) {
        if let Some(writer) = &self.writer {
            writer.thread().unpark();
        }
    }

    fn flush(&self, within: Duration) -> bool {
        let ticket = self.shared.ask_flush();
        self.wake();
        self.shared.await_flush(ticket, within)
    }
}

impl Drop for OpenSink {
    fn drop(&mut self) {
        let flushed = self.flush(LAST_FLUSH);
        self.shared.ask_stop();
        self.wake();
        // A writer that is stuck in `write` is left behind: it holds no lock that other code waits for.
        if let Some(writer) = self.writer.take()
            && flushed
        {
            let _ = writer.join();
        }
    }
}

/// This thread's preferred buffer: threads are dealt out in turn.
fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    const UNSET: usize = usize::MAX;
    thread_local!(static OWN: Cell<usize> = const { Cell::new(UNSET) });
    OWN.with(|own| {
        if own.get() == UNSET {
            own.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        own.get()
    })
}

#[cfg(test)]
mod tests;
