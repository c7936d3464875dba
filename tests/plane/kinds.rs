//! What is in flight, by kind: in the API, in the metrics, and in a drain's answer.

use lameduck::registry::view::InFlight;

use super::upgrade::websocket;
use lameduck_rig::proxy::Rig;

const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// One request, two streams and an upgrade are told apart for as long as they last, and so are those that are cut.
#[lameduck_rig::test]
async fn requests_streams_and_upgrades_are_told_apart() {
    let rig = Rig::one().await;
    let (_waiting, _unanswered) = rig.get().await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (mut client, mut backend) = rig.get().await;
        backend.send(EVENTS).await;
        backend.send("9\r\ndata: 1\n\n\r\n").await;
        client.head().await;
        client.expect("9\r\ndata: 1\n\n\r\n").await;
        streams.push((client, backend));
    }
    let _websocket = websocket(&rig).await;
    let all = InFlight {
        request: 1,
        stream: 2,
        upgrade: 1,
    };
    // The client may hear of the switch before it is counted.
    rig.until("all of them", |pool| {
        pool.backends[0].in_flight_by_kind == all
    })
    .await;
    assert_eq!(rig.view(0).await.in_flight, 4);
    for (kind, number) in all.kinds() {
        let series =
            format!("lameduck_in_flight_by_kind{{pool=\"app\",backend=\"b1\",kind=\"{kind}\"}}");
        assert_eq!(rig.metric(&series).await, Some(number.into()), "{series}");
    }
    let (mut client, mut backend) = streams.pop().unwrap();
    backend.send("0\r\n\r\n").await;
    client.expect("0\r\n\r\n").await;
    rig.until("one stream", |pool| pool.backends[0].in_flight == 3)
        .await;
    assert_eq!(rig.view(0).await.in_flight_by_kind.stream, 1);
    // In the middle of an event, and with peers that answer nothing, neither ends in order.
    let (_client, backend) = &mut streams[0];
    backend.send("8\r\ndata: 2\n\r\n").await;
    let outcome = rig.drain(0, "0s", "resumed").await.unwrap();
    assert_eq!((outcome.outcome.as_str(), outcome.cut), ("timed_out", 3));
    let left = InFlight { stream: 1, ..all };
    assert_eq!(outcome.cut_by_kind, left);
    rig.until("none", |pool| pool.backends[0].in_flight == 0)
        .await;
    assert_eq!(rig.view(0).await.in_flight_by_kind, InFlight::default());
}
