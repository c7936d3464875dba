//! Traces over an upgrade: the span of a request that the old process still has is sent by it, before it ends.

use std::time::{Duration, Instant};

use lameduck_rig::collector::{Collector, Mood, attribute, events};
use lameduck_rig::proxy::{Rig, Setup};
use opentelemetry_proto::tonic::trace::v1::Span;

use super::{EndOnDrop, PATIENCE, upgraded, view};
use crate::harness::until;

const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";

async fn rig(collector: &Collector) -> Rig {
    Rig::new(Setup {
        tables: collector.tables("sample = 1\ntimeout = \"30s\""),
        server: "lame_duck = \"0s\"",
        ..Setup::default()
    })
    .await
}

async fn until_alone(rig: &Rig) {
    until("the end of the old process", PATIENCE, async || {
        view(&rig.socket).await.predecessor.is_none()
    })
    .await;
}

fn of_path<'a>(spans: &'a [Span], path: &str) -> Vec<&'a Span> {
    let spans = spans.iter();
    let is_it = |span: &&Span| attribute(span, "url.path").as_deref() == Some(path);
    spans.filter(is_it).collect()
}

#[lameduck_rig::test]
async fn spans_of_the_old_process_are_sent_before_it_ends_and_those_that_move_say_so() {
    let collector = Collector::new(Mood::Good).await;
    let rig = rig(&collector).await;
    // One that moves…
    let mut tunnel = rig
        .ask("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        .await;
    let mut far_end = rig.backends[0].accept().await;
    far_end.head().await;
    far_end
        .send("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        .await;
    tunnel.head().await;
    // …and one that stays.
    let mut client = rig.ask(SLOW).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    let _ended = EndOnDrop::of(&upgraded(&rig.socket).await);
    let spans = collector.spans(2).await;
    let moved = of_path(&spans, "/ws");
    assert!(events(moved[0]).contains(&"moved"), "{moved:#?}");
    far_end.send("still there").await;
    tunnel.expect("still there").await;
    backend.answer_and_close("done").await;
    assert_eq!(client.response().await.text(), "done");
    until_alone(&rig).await;
    // Not a moment later.
    let spans = collector.all();
    let slow = of_path(&spans, "/slow");
    assert_eq!(slow.len(), 1, "{spans:#?}");
    assert_eq!(
        slow[0]
            .start_time_unix_nano
            .cmp(&slow[0].end_time_unix_nano),
        std::cmp::Ordering::Less
    );
    let attempt = spans
        .iter()
        .filter(|span| span.parent_span_id == slow[0].span_id);
    assert_eq!(attempt.count(), 1, "{spans:#?}");
}

/// Two seconds, and no more.
#[lameduck_rig::test]
async fn collector_that_says_nothing_does_not_keep_the_old_process() {
    let collector = Collector::new(Mood::Silent).await;
    let rig = rig(&collector).await;
    let mut client = rig.ask(SLOW).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    let _ended = EndOnDrop::of(&upgraded(&rig.socket).await);
    backend.answer_and_close("done").await;
    assert_eq!(client.response().await.text(), "done");
    let began = Instant::now();
    until_alone(&rig).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    rig.logs("the last traces could not be sent").await;
}
