//! The access log: one line for each request, and no request ever waits for it.
//!
//! A line is formatted straight into one of a few buffers, each with its own lock that is only ever *tried*;
//! one thread swaps the buffers out and writes them. If the disk or the reader of a pipe can't keep up, the
//! buffers fill to a bound, and further lines are dropped and counted.
//!
//! `record` has the fields, `format` writes them in both forms, `escape` and `timestamp` write single values. `buffer`
//! is the space for one line; `writer` has the buffers and the thread. `sink` is the destination: standard output or a
//! file, or by `remote` syslog or (`journal`) systemd's journal. `layout` is the configuration of lines, and `chosen`
//! writes lines of chosen fields.

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

/// Longest time for the last lines when the log is dropped; a stuck disk must not keep the process alive.
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
    /// Opens the log. If the configuration says `off`, nothing is opened, and [`AccessLog::record`] does nothing.
    ///
    /// # Errors
    /// Its file can't be opened, or the system can't start another thread.
    pub fn open(config: &config::AccessLogConfig) -> Result<Self, AccessLogError> {
        match AccessLogSink::open(&config.sink)? {
            None => Ok(Self::off()),
            Some(sink) => Self::start(sink, LineLayout::new(config)),
        }
    }

    /// A log that discards all lines.
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

    /// Whether lines are written: callers may skip the work of filling an [`AccessRecord`].
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Logs one request. Never waits, and allocates nothing once the buffers have grown to their size.
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

    /// Opens the file again (after a log rotation); if that fails, the old one stays in use, with a warning.
    pub fn reopen(&self) {
        if let Some(open) = &self.0 {
            open.shared.ask_reopen();
            open.wake();
        }
    }

    /// Writes everything recorded so far; returns whether that took no longer than `within`.
    pub fn flush(&self, within: Duration) -> bool {
        self.0.as_ref().is_none_or(|open| open.flush(within))
    }

    /// Number of lines lost so far, because the sink could not keep up or returned an error.
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

/// Index of this thread's preferred buffer; threads get them in turn.
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
