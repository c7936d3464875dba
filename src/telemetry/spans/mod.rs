//! Traces: what is recorded of requests, on its way to a collector.
//!
//! The data plane hands over plain data ([`record`]) and never waits: the queue has a bound in spans and one in bytes, and
//! what is over is dropped and counted. A thread of its own (`otlp`) makes spans of it and sends them, in batches.

#[cfg(feature = "otlp")]
mod otlp;
pub mod record;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use crate::config::{TraceTrust, TracingConfig};
use crate::core::trace_context::SampleShare;
use record::RequestTrace;

/// So many spans are sent at once.
const BATCH: usize = 512;

/// Why traces can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    /// A file that the configuration names.
    #[error("`{key}` of [tracing]: {path}: {why}; {remedy}")]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// No thread for it.
    #[error(
        "can't start the thread that sends traces: {0}; raise the limit on threads (ulimit -u, TasksMax)"
    )]
    Thread(std::io::Error),
    /// The exporter has refused what it was given.
    #[error("can't send traces: {0}; see [tracing]")]
    Exporter(String),
    /// The build has none of it.
    #[error(
        "[tracing]: this lameduck was built without the feature `otlp`; build it with `--features otlp`, or remove the section"
    )]
    NotBuilt,
}

/// Where traces go. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<OpenTracer>>);

#[derive(Debug)]
struct OpenTracer {
    share: SampleShare,
    trust: TraceTrust,
    queue: UnboundedSender<QueueMessage>,
    shared: Arc<QueueShared>,
}

/// Messages to the exporter.
enum QueueMessage {
    /// A request that is over.
    Trace(Box<RequestTrace>),
    /// Send all that came before, and say so.
    Flush(std::sync::mpsc::Sender<()>),
}

impl std::fmt::Debug for QueueMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Trace(_) => "Trace",
            Self::Flush(_) => "Flush",
        })
    }
}

/// What waits, and what became of the rest.
#[derive(Debug)]
struct QueueShared {
    most_spans: usize,
    most_bytes: usize,
    spans: AtomicUsize,
    bytes: AtomicUsize,
    /// Of the spans, those that the exporter hasn't taken from the queue.
    queued: AtomicUsize,
    /// Wakes the exporter when there is a whole batch, or when a flush waits. Nothing else wakes it while it gathers
    /// one.
    hurry: Notify,
    exported: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    queue_full: AtomicU64,
}

impl QueueShared {
    fn new(config: &TracingConfig) -> Self {
        Self {
            most_spans: config.queue_spans,
            most_bytes: usize::try_from(config.queue_bytes).unwrap_or(usize::MAX),
            spans: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            hurry: Notify::new(),
            exported: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            queue_full: AtomicU64::new(0),
        }
    }

    /// Takes room for a trace; what has none is counted as dropped.
    fn reserve(&self, spans: usize, bytes: usize) -> bool {
        let before = (
            self.spans.fetch_add(spans, Ordering::Relaxed),
            self.bytes.fetch_add(bytes, Ordering::Relaxed),
        );
        if before.0 + spans <= self.most_spans && before.1 + bytes <= self.most_bytes {
            return true;
        }
        self.release(spans, bytes);
        self.queue_full.fetch_add(spans as u64, Ordering::Relaxed);
        false
    }

    fn release(&self, spans: usize, bytes: usize) {
        self.spans.fetch_sub(spans, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What became of spans, by outcome, and how many wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceFigures {
    /// Taken by the collector.
    pub exported: u64,
    /// Refused by a collector that took the others of their batch.
    pub rejected: u64,
    /// Their batch could not be delivered.
    pub failed: u64,
    /// There was no room in the queue.
    pub queue_full: u64,
    /// They wait.
    pub waiting: u64,
}

/// Whether traces can be sent by this configuration: its files, and this build.
///
/// # Errors
/// As [`Tracer::start`].
#[cfg(feature = "otlp")]
pub fn check(config: &TracingConfig) -> Result<(), TracingError> {
    otlp::check(config)
}

/// Whether traces can be sent: not by this build.
///
/// # Errors
/// Always.
#[cfg(not(feature = "otlp"))]
pub fn check(_: &TracingConfig) -> Result<(), TracingError> {
    Err(TracingError::NotBuilt)
}

impl Tracer {
    /// Begins to send what is recorded, by this configuration. Nothing is recorded without one.
    ///
    /// # Errors
    /// A file can't be used, the system has no thread left, or this build has no exporter.
    pub fn start(config: Option<&TracingConfig>) -> Result<Self, TracingError> {
        match config {
            None => Ok(Self::default()),
            Some(config) => Self::open(config),
        }
    }

    #[cfg(feature = "otlp")]
    fn open(config: &TracingConfig) -> Result<Self, TracingError> {
        let shared = Arc::new(QueueShared::new(config));
        let (queue, receiver) = tokio::sync::mpsc::unbounded_channel();
        otlp::start(config, receiver, shared.clone())?;
        Ok(Self(Some(Arc::new(OpenTracer {
            share: SampleShare::new(config.sample),
            trust: config.trust,
            queue,
            shared,
        }))))
    }

    #[cfg(not(feature = "otlp"))]
    fn open(_: &TracingConfig) -> Result<Self, TracingError> {
        Err(TracingError::NotBuilt)
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The share of requests that begin a trace, and whose context is taken; `None`: nothing is recorded.
    pub fn policy(&self) -> Option<(SampleShare, TraceTrust)> {
        self.0.as_ref().map(|open| (open.share, open.trust))
    }

    /// Hands over what was recorded of a request that is over. Never waits.
    pub fn send(&self, trace: Box<RequestTrace>) {
        let Some(open) = &self.0 else { return };
        let (spans, bytes) = (trace.span_count(), trace.size());
        let shared = &open.shared;
        if !shared.reserve(spans, bytes) {
            return;
        }
        // Before it is sent: the exporter takes off what it gets.
        let before = shared.queued.fetch_add(spans, Ordering::Relaxed);
        if open.queue.send(QueueMessage::Trace(trace)).is_err() {
            shared.queued.fetch_sub(spans, Ordering::Relaxed);
            shared.release(spans, bytes);
            shared.failed.fetch_add(spans as u64, Ordering::Relaxed);
        } else if before < BATCH && before + spans >= BATCH {
            shared.hurry.notify_one();
        }
    }

    /// Sends what waits; says whether that was done in time.
    pub fn flush(&self, within: Duration) -> bool {
        let Some(open) = &self.0 else { return true };
        let (done, is_done) = std::sync::mpsc::channel();
        let is_asked = open.queue.send(QueueMessage::Flush(done)).is_ok();
        open.shared.hurry.notify_one();
        is_asked && is_done.recv_timeout(within).is_ok()
    }

    /// What became of spans so far; `None`: nothing is recorded.
    pub fn figures(&self) -> Option<TraceFigures> {
        let shared = &self.0.as_ref()?.shared;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(TraceFigures {
            exported: read(&shared.exported),
            rejected: read(&shared.rejected),
            failed: read(&shared.failed),
            queue_full: read(&shared.queue_full),
            waiting: shared.spans.load(Ordering::Relaxed) as u64,
        })
    }
}

#[cfg(test)]
mod tests;
