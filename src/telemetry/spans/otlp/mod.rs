//! The thread that sends traces: it collects a batch, converts it to spans, and waits for the collector's answer.
//!
//! OpenTelemetry's crate encodes and retries; `client` sends, and `spans` converts our records.

mod client;
mod spans;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::sync::mpsc::UnboundedReceiver;

use super::record::RequestTrace;
use super::{BATCH, QueueMessage, QueueShared, TracingError};
use crate::config::{TracingConfig, plain_file};
use crate::rt::clock::{self, ClockReading};
use client::CollectorClient;

/// Longest time that a batch waits, unless it has [`BATCH`] spans before.
const LINGER: Duration = Duration::from_secs(1);

/// Least time between two warnings about lost spans.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Largest file of header fields, in bytes.
const LARGEST_HEADERS: u64 = 64 << 10;

/// Checks whether the files that the configuration names can be used.
pub(super) fn check(config: &TracingConfig) -> Result<(), TracingError> {
    if let Some(file) = &config.headers_file {
        read_headers(file)?;
    }
    CollectorClient::new(config).map(drop)
}

/// Starts the thread. It ends when the last sender of traces is dropped.
pub(super) fn start(
    config: &TracingConfig,
    queue: UnboundedReceiver<QueueMessage>,
    shared: Arc<QueueShared>,
) -> Result<(), TracingError> {
    let client = CollectorClient::new(config)?;
    let headers = match &config.headers_file {
        Some(file) => read_headers(file)?,
        None => HashMap::new(),
    };
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client.clone())
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(config.endpoint.as_str())
        .with_headers(headers)
        .with_timeout(config.timeout)
        .build()
        .map_err(|error| TracingError::Exporter(error.to_string()))?;
    exporter.set_resource(&resource(config));
    let sender = BatchSender {
        endpoint: config.endpoint.as_str().to_owned(),
        exporter,
        client,
        shared,
        losses: LossReport::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(TracingError::Thread)?;
    std::thread::Builder::new()
        .name("traces".to_owned())
        .spawn(move || runtime.block_on(sender.send_batches(queue)))
        .map_err(TracingError::Thread)?;
    Ok(())
}

fn resource(config: &TracingConfig) -> Resource {
    let mut attributes = vec![
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance()),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    if let Some(environment) = &config.environment {
        attributes.push(KeyValue::new(
            "deployment.environment.name",
            environment.clone(),
        ));
    }
    if let Ok(name) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        attributes.push(KeyValue::new("host.name", name.trim().to_owned()));
    }
    // The defaults include OTEL_RESOURCE_ATTRIBUTES.
    Resource::builder()
        .with_service_name(config.service_name.clone())
        .with_attributes(attributes)
        .build()
}

/// Random id of this process (`service.instance.id`), as the convention recommends.
fn instance() -> String {
    format!("{:032x}", super::record::new_trace_id(fastrand::u64(..)))
}

/// Reads header fields for the collector, one in each line.
fn read_headers(file: &Path) -> Result<HashMap<String, String>, TracingError> {
    let fail = |why: String| TracingError::File {
        key: "headers_file",
        path: file.display().to_string(),
        why,
        remedy: "write one `Name: value` in each line",
    };
    let bytes = plain_file::read_file(file, LARGEST_HEADERS)
        .map_err(|error| fail(crate::config::plain(&error)))?;
    let text = String::from_utf8(bytes).map_err(|_| fail("it is not text".to_owned()))?;
    let mut headers = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The message must not contain the line: it is a secret.
        let bad = |what: &str| fail(format!("line {}: {what}", at + 1));
        let (name, value) = line.split_once(':').ok_or_else(|| bad("it has no colon"))?;
        let (name, value) = (name.trim(), value.trim());
        http::HeaderName::try_from(name).map_err(|_| bad("it has no field's name"))?;
        http::HeaderValue::try_from(value).map_err(|_| bad("its value can't be sent"))?;
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    Ok(headers)
}

/// Sends batches, one at a time.
struct BatchSender {
    endpoint: String,
    exporter: SpanExporter,
    client: CollectorClient,
    shared: Arc<QueueShared>,
    losses: LossReport,
}

impl BatchSender {
    async fn send_batches(mut self, mut queue: UnboundedReceiver<QueueMessage>) {
        let mut batch = Vec::new();
        let mut flushes = Vec::new();
        while let Some(first) = queue.recv().await {
            let mut next = Some(first);
            let until = clock::now().saturating_add(LINGER);
            let mut spans = 0;
            loop {
                match next {
                    Some(QueueMessage::Trace(trace)) => {
                        spans += trace.span_count();
                        self.shared
                            .queued
                            .fetch_sub(trace.span_count(), Ordering::Relaxed);
                        batch.push(trace);
                    }
                    Some(QueueMessage::Flush(done)) => flushes.push(done),
                    None => {}
                }
                if spans >= BATCH || !flushes.is_empty() {
                    break;
                }
                next = queue.try_recv().ok();
                if next.is_some() {
                    continue;
                }
                let left = until.saturating_sub(clock::now());
                if left.is_zero() {
                    break;
                }
                // Not by `recv`: each trace would wake this task, at a cost for the request that hands it over.
                let _ = clock::timeout(left, self.shared.hurry.notified()).await;
            }
            self.send(&batch).await;
            batch.clear();
            for done in flushes.drain(..) {
                // The caller may no longer wait.
                let _ = done.send(());
            }
            self.losses.warn_of_losses(&self.shared, &self.endpoint);
        }
    }

    async fn send(&mut self, batch: &[Box<RequestTrace>]) {
        if batch.is_empty() {
            return;
        }
        let reading = ClockReading::take();
        let made: Vec<_> = batch
            .iter()
            .flat_map(|trace| spans::make_spans(trace, &reading))
            .collect();
        let count = made.len() as u64;
        let sent = self.exporter.export(made).await;
        match sent {
            Ok(()) => {
                let rejected = self.client.take_rejected().min(count);
                self.shared
                    .exported
                    .fetch_add(count - rejected, Ordering::Relaxed);
                self.shared.rejected.fetch_add(rejected, Ordering::Relaxed);
            }
            Err(error) => {
                self.shared.failed.fetch_add(count, Ordering::Relaxed);
                let why = self.client.take_problem();
                self.losses.last = Some(why.unwrap_or_else(|| error.to_string()));
            }
        }
        // Their room is released only now, because spans that are being sent take memory, too.
        for trace in batch {
            self.shared.release(trace.span_count(), trace.size());
        }
    }
}

/// Warns about lost spans, at most once in [`WARN_EVERY`].
#[derive(Debug, Default)]
struct LossReport {
    told: u64,
    when: Option<Instant>,
    last: Option<String>,
}

impl LossReport {
    fn warn_of_losses(&mut self, shared: &QueueShared, endpoint: &str) {
        let lost = [&shared.failed, &shared.queue_full, &shared.rejected]
            .iter()
            .map(|counter| counter.load(Ordering::Relaxed))
            .sum();
        if lost == self.told || self.when.is_some_and(|when| when.elapsed() < WARN_EVERY) {
            return;
        }
        let why = self.last.take().unwrap_or_else(|| {
            "it is too slow, or refuses some: see lameduck_trace_spans_total".to_owned()
        });
        tracing::warn!(
            lost = lost - self.told,
            endpoint,
            "spans were lost on their way to the collector of traces: {why}; requests are served as always"
        );
        self.told = lost;
        self.when = Some(Instant::now());
    }
}
