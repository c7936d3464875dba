//! WebSockets' spans: each lasts as long as its WebSocket, and says how that ended.

use std::time::Duration;

use lameduck_rig::collector::{Collector, Mood, attribute, events};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::{one, rig};
use crate::upgrade::{bare, masked, websocket};

#[lameduck_rig::test]
async fn websockets_span_lasts_until_its_drain_has_closed_it() {
    let collector = Collector::new(Mood::Good).await;
    let rig = rig(&collector, 1, "sample = 1").await;
    let (mut client, mut backend) = websocket(&rig).await;
    client.send(masked(1, b"hello")).await;
    backend.expect(masked(1, b"hello")).await;
    // As long as a batch waits, and longer.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(collector.all(), []);
    let drain = rig.begin_drain(0, "4s", "resumed").await;
    // Going away, to both; they agree.
    let close = [b"\x88\x0c\x03\xe9".as_slice(), b"going away"].concat();
    client.expect(&close).await;
    client.send(masked(8, &close[2..])).await;
    backend.send(bare(8, &close[2..])).await;
    // Who hangs up before the proxy has read that is another end.
    drain.await.unwrap();
    drop((client, backend));
    let spans = collector.spans(2).await;
    let (server, attempt) = (one(&spans, SpanKind::Server), one(&spans, SpanKind::Client));
    assert_eq!(
        attribute(server, "lameduck.end").as_deref(),
        Some("closed_orderly")
    );
    assert!(events(server).contains(&"closed_orderly"), "{server:#?}");
    for span in [server, attempt] {
        let status = attribute(span, "http.response.status_code");
        assert_eq!(status.as_deref(), Some("101"));
        let took = span.end_time_unix_nano - span.start_time_unix_nano;
        assert!(took >= 1_500_000_000, "{took}");
        // Its end was in order: nobody is to blame.
        assert_eq!(span.status.as_ref().map_or(0, |status| status.code), 0);
    }
}
