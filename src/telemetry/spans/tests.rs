use std::pin::pin;

use super::*;

fn shared(spans: usize, bytes: usize) -> QueueShared {
    let config = TracingConfig {
        queue_spans: spans,
        queue_bytes: bytes as u64,
        ..TracingConfig::default()
    };
    QueueShared::new(&config)
}

#[test]
fn queue_is_bounded_in_spans_and_in_bytes() {
    let queue = shared(10, 1000);
    assert!(queue.reserve(8, 100));
    assert!(!queue.reserve(3, 100), "there are no more than ten");
    assert!(queue.reserve(2, 900));
    assert!(!queue.reserve(0, 1), "the bytes are all taken");
    queue.release(8, 100);
    assert!(queue.reserve(3, 100));
    let dropped = queue.queue_full.load(Ordering::Relaxed);
    assert_eq!(dropped, 3);
}

#[test]
fn tracer_without_configuration_records_nothing() {
    let tracer = Tracer::start(None).unwrap();
    assert!(!tracer.is_on() && tracer.policy().is_none() && tracer.figures().is_none());
    tracer.send(Box::default());
    assert!(tracer.flush(Duration::ZERO));
}

#[test]
fn exporter_wakes_for_a_whole_batch_and_not_for_each_trace() {
    let shared = Arc::new(shared(2 * BATCH, 1 << 30));
    let (queue, receiver) = tokio::sync::mpsc::unbounded_channel();
    let tracer = Tracer(Some(Arc::new(OpenTracer {
        share: SampleShare::new(1.0),
        trust: TraceTrust::All,
        queue,
        shared: shared.clone(),
    })));
    let is_told = || pin!(shared.hurry.notified()).enable();
    for _ in 1..BATCH {
        tracer.send(Box::default());
    }
    assert!(!is_told(), "a batch lacks one span");
    tracer.send(Box::default());
    assert!(is_told());
    tracer.send(Box::default());
    assert!(!is_told(), "it has been told already");
    assert_eq!(receiver.len(), BATCH + 1);
    assert!(!tracer.flush(Duration::ZERO), "nobody sends");
    assert!(is_told(), "somebody waits");
}
