//! Traces: requests are recorded and sent to a collector.
//!
//! The data plane hands over plain data ([`record`]) and never waits. The queue is limited in spans and in bytes; what
//! exceeds a limit is dropped and counted. A thread of its own (`otlp`) converts the data to spans and sends them in
//! batches.

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

/// Number of spans that are sent in one batch.
const BATCH: usize = 512;

/// Reason why traces can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    /// A file that the configuration names can't be used.
    #[error("`{key}` of [tracing]: {path}: {why}; {remedy}")]
    File {
        /// Key of the configuration that names it.
        key: &'static str,
        /// Path of the file.
        path: String,
        /// What is wrong with it.
        why: String,
        /// What the user can do.
        remedy: &'static str,
    },
    /// The system can't start another thread.
    #[error(
        "can't start the thread that sends traces: {0}; raise the limit on threads (ulimit -u, TasksMax)"
    )]
    Thread(std::io::Error),
    /// The exporter refuses its settings.
    #[error("can't send traces: {0}; see [tracing]")]
    Exporter(String),
    /// This build has no exporter.
    #[error(
        "[tracing]: this lameduck was built without the feature `otlp`; build it with `--features otlp`, or remove the section"
    )]
    NotBuilt,
}

/// Receiver of traces. Cheap to clone.
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
    /// A finished request.
    Trace(Box<RequestTrace>),
    /// Sends everything before it, and then reports by this channel.
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

/// Size of the queue, and the outcomes of spans.
#[derive(Debug)]
struct QueueShared {
    most_spans: usize,
    most_bytes: usize,
    spans: AtomicUsize,
    bytes: AtomicUsize,
    /// Number of spans that the exporter has yet to take from the queue; `spans` also counts those that it is sending.
    queued: AtomicUsize,
    /// Wakes the exporter for a whole batch or a flush. Nothing else wakes it while it collects a batch.
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

    /// Reserves room for a trace; if there is none, the trace is counted as dropped.
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

/// Number of spans by outcome, and number of waiting ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceFigures {
    /// Accepted by the collector.
    pub exported: u64,
    /// Refused by a collector that accepted others of the same batch.
    pub rejected: u64,
    /// In a batch that could not be delivered.
    pub failed: u64,
    /// Dropped because the queue was full.
    pub queue_full: u64,
    /// In the queue, or being sent.
    pub waiting: u64,
}

/// Checks whether traces can be sent with this configuration and by this build, and reads its files.
///
/// # Errors
/// As for [`Tracer::start`].
#[cfg(feature = "otlp")]
pub fn check(config: &TracingConfig) -> Result<(), TracingError> {
    otlp::check(config)
}

/// Reports that this build can't send traces.
///
/// # Errors
/// Always.
#[cfg(not(feature = "otlp"))]
pub fn check(_: &TracingConfig) -> Result<(), TracingError> {
    Err(TracingError::NotBuilt)
}

impl Tracer {
    /// Starts to send traces by this configuration. Without one, nothing is recorded.
    ///
    /// # Errors
    /// A file can't be used, the system can't start another thread, or this build has no exporter.
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

    /// Whether requests are recorded.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Share of requests that begin a trace, and whose trace context is trusted; `None`: nothing is recorded.
    pub fn policy(&self) -> Option<(SampleShare, TraceTrust)> {
        self.0.as_ref().map(|open| (open.share, open.trust))
    }

    /// Hands over a finished request. Never waits.
    pub fn send(&self, trace: Box<RequestTrace>) {
        let Some(open) = &self.0 else { return };
        let (spans, bytes) = (trace.span_count(), trace.size());
        let shared = &open.shared;
        if !shared.reserve(spans, bytes) {
            return;
        }
        // Counted before it is sent, because the exporter subtracts what it receives.
        let before = shared.queued.fetch_add(spans, Ordering::Relaxed);
        if open.queue.send(QueueMessage::Trace(trace)).is_err() {
            shared.queued.fetch_sub(spans, Ordering::Relaxed);
            shared.release(spans, bytes);
            shared.failed.fetch_add(spans as u64, Ordering::Relaxed);
        } else if before < BATCH && before + spans >= BATCH {
            shared.hurry.notify_one();
        }
    }

    /// Sends everything in the queue; returns whether that took no longer than `within`.
    pub fn flush(&self, within: Duration) -> bool {
        let Some(open) = &self.0 else { return true };
        let (done, is_done) = std::sync::mpsc::channel();
        let is_asked = open.queue.send(QueueMessage::Flush(done)).is_ok();
        open.shared.hurry.notify_one();
        is_asked && is_done.recv_timeout(within).is_ok()
    }

    /// Outcomes of spans so far; `None`: nothing is recorded.
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
