//! Metrics of spans for the collector.

use super::families::FamilyBuilder;
use crate::telemetry::spans::Tracer;

/// Only if traces are recorded.
pub(super) fn collect(tracer: Option<&Tracer>) -> [FamilyBuilder; 2] {
    let mut spans = FamilyBuilder::counter(
        "lameduck_trace_spans_total",
        "Spans by what became of them: exported, rejected by the collector, failed to be delivered, or without room in the queue.",
    );
    let mut waiting = FamilyBuilder::gauge(
        "lameduck_trace_queue_spans",
        "Spans that wait for the collector, or are on their way to it.",
    );
    if let Some(figures) = tracer.and_then(Tracer::figures) {
        for (outcome, count) in [
            ("exported", figures.exported),
            ("rejected", figures.rejected),
            ("failed", figures.failed),
            ("queue_full", figures.queue_full),
        ] {
            spans.add(&[("outcome", outcome)], count);
        }
        waiting.add(&[], figures.waiting);
    }
    [spans, waiting]
}
