//! A backend that sends what is cheap to send and dear to take (RFC 9113 §10.5): its connection is closed, and the next
//! one serves.

use lameduck_rig::frames::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    frame,
};
use lameduck_rig::h2_client::{Client, answer, post, try_answer};

use super::early_ends::{broken_sessions, is_broken};
use super::fake::{Fake, HTTP2, rig};

/// `:status: 200`, and `:status: 103`.
const OK: &[u8] = b"\x88";
const INTERIM: &[u8] = b"\x08\x03103";

#[lameduck_rig::test(threads = 2)]
async fn floods_of_a_backend_close_their_connection_and_the_next_one_serves() {
    type Frames = fn(u32) -> Vec<u8>;
    const NOTHING: Frames = |_| vec![];
    let floods: [(&str, Frames, Frames); 9] = [
        ("PING", NOTHING, |_| frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", NOTHING, |_| frame(SETTINGS, 0, 0, &[])),
        ("PRIORITY", NOTHING, |id| frame(PRIORITY, 0, id, &[0; 5])),
        ("unknown frames", NOTHING, |_| frame(0xfa, 0, 0, &[])),
        ("WINDOW_UPDATE", NOTHING, |_| {
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])
        }),
        ("RST_STREAM", NOTHING, |id| {
            frame(RST_STREAM, 0, id, &[0; 4])
        }),
        ("interim responses", NOTHING, |id| {
            frame(HEADERS, END_HEADERS, id, INTERIM)
        }),
        (
            "empty DATA",
            |id| frame(HEADERS, END_HEADERS, id, OK),
            |id| frame(DATA, 0, id, &[]),
        ),
        (
            "CONTINUATION",
            |id| frame(HEADERS, 0, id, OK),
            |id| frame(CONTINUATION, 0, id, &[]),
        ),
    ];
    for (name, begin, next) in floods {
        let (rig, listeners) = rig(1, HTTP2).await;
        let mut client = Client::new(&rig).await;
        let (response, mut body) = client.begin(post("/"), false).await;
        body.send_data("body".into(), true).unwrap();
        let mut backend = Fake::accept(&listeners[0], &[]).await;
        let (id, _) = backend.request().await;
        backend.flood(&begin(id), &next(id)).await;
        // An answer that had begun breaks off.
        if let Ok(broken) = try_answer(response).await {
            assert_eq!(broken.status(), 502, "{name}");
        }
        is_broken(&rig, name).await;

        let (response, mut body) = client.begin(post("/next"), false).await;
        body.send_data("body".into(), true).unwrap();
        let mut backend = Fake::accept(&listeners[0], &[]).await;
        let (id, _) = backend.request().await;
        backend.answer(id, "served").await;
        assert_eq!(answer(response).await.text(), "served", "{name}");
    }
}

/// What real servers send beside their answers: windows for each piece of an upload, and a PING for each (gRPC's look at the
/// bandwidth).
#[lameduck_rig::test]
async fn backend_that_opens_windows_and_pings_for_every_piece_is_served() {
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut client = Client::new(&rig).await;
    let (response, mut body) = client.begin(post("/"), false).await;
    body.send_data("a".into(), false).unwrap();
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let id = backend.began().await;
    let mut pings = 0;
    while pings < 4_000 {
        body.reserve_capacity(1024);
        body.send_data(vec![b'x'; 1024].into(), false).unwrap();
        let received = backend.piece(id).await;
        let more = received as u32;
        if more > 0 {
            backend.window(id, more).await;
            backend.window(0, more).await;
        }
        backend.frame(PING, 0, 0, &[0; 8]).await;
        pings += 1;
    }
    body.send_data("end".into(), true).unwrap();
    backend.answer(id, "all of it").await;
    assert_eq!(answer(response).await.text(), "all of it");
    assert_eq!(broken_sessions(&rig).await, 0);
}
