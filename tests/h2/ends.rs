//! How streams end that don't end well: cancelled, cut off, overtaken.

use h2::Reason;

use lameduck_rig::h2_client::{A_MOMENT, Client, answer, piece, post, rest, rig, soon};
use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wait::until;

#[lameduck_rig::test]
async fn a_cancelled_stream_closes_its_backend() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    // Before the response, in it, and while the request is on its way.
    for begun in [false, true] {
        let (response, mut body) = client.begin(post("/"), begun).await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        if begun {
            backend
                .send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
                .await;
            let mut half = soon(response).await.unwrap().into_body();
            assert_eq!(&piece(&mut half).await[..], b"half");
        }
        body.send_reset(Reason::CANCEL);
        backend.gone().await;
    }
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
    for line in rig.access_log(2).await {
        assert_eq!(line["end"], "client_closed", "{line}");
    }
}

/// Never a clean end on half a body.
#[lameduck_rig::test]
async fn a_response_that_breaks_off_is_a_reset() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    for framing in ["Content-Length: 9", "Transfer-Encoding: chunked"] {
        let response = client.get("/").await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        let half = if framing.starts_with('C') {
            "half"
        } else {
            "4\r\nhalf\r\n"
        };
        backend
            .send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{half}"))
            .await;
        let mut body = soon(response).await.unwrap().into_body();
        assert_eq!(&piece(&mut body).await[..], b"half");
        drop(backend);
        let error = rest(body).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{framing}");
    }
}

/// RFC 9113 §8.1: a whole response, then a reset that says nothing is wrong.
#[lameduck_rig::test]
async fn a_response_that_overtakes_its_request_is_whole() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let (response, mut body) = client.begin(post("/"), false).await;
    body.send_data("some".into(), false).unwrap();
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.expect("4\r\nsome\r\n").await;
    backend.answer("enough").await;
    let answer = answer(response).await;
    assert_eq!((answer.status(), answer.text()), (200, "enough"));
    let reset = soon(std::future::poll_fn(|cx| body.poll_reset(cx))).await;
    assert_eq!(reset.unwrap(), Reason::NO_ERROR);
    backend.gone().await;
}

/// curl before 8 and httpx throw an answer away for RST_STREAM, NO_ERROR: so their body runs out first.
#[lameduck_rig::test]
async fn body_behind_an_early_answer_runs_out_before_its_stream_is_reset() {
    let rig = rig("max_body = \"1KiB\"").await;
    let mut client = Client::new(&rig).await;
    let (response, mut body) = client.begin(post("/"), false).await;
    body.send_data(vec![b'x'; 2000].into(), false).unwrap();
    assert_eq!(answer(response).await.status(), 413);
    // More than the stream's window, in pieces: all of it is taken.
    for n in 0..20 {
        let piece = vec![b'x'; 50_000];
        body.reserve_capacity(piece.len());
        while body.capacity() < piece.len() {
            let room = std::future::poll_fn(|cx| body.poll_capacity(cx));
            soon(room).await.unwrap().unwrap();
        }
        body.send_data(piece.into(), n == 19).unwrap();
    }
    // The stream has ended both ways: nobody resets it.
    let reset = std::future::poll_fn(|cx| body.poll_reset(cx));
    let reset = tokio::time::timeout(A_MOMENT, reset).await;
    assert!(!matches!(reset, Ok(Ok(_))), "{reset:?}");
    assert_eq!(rig.access_log(1).await[0]["status"], 413);
}

/// The client's connection breaks: every backend is told.
#[lameduck_rig::test]
async fn a_connection_that_breaks_ends_all_its_streams() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let mut backends = Vec::new();
    let mut responses = Vec::new();
    for _ in 0..5 {
        responses.push(client.get("/").await);
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        backends.push(backend);
    }
    tokio::time::sleep(A_MOMENT).await;
    client.connection.abort();
    for mut backend in backends {
        backend.gone().await;
    }
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
    until("no connection", async || {
        rig.metric("lameduck_connections{side=\"client\"}").await == Some(0)
    })
    .await;
}

/// A held stream whose share of the hold is full is not read, and its end is heard all the same: by a reset, and by that
/// of the whole connection.
#[lameduck_rig::test]
async fn a_held_stream_that_is_not_read_gives_its_place_back() {
    let rig = Rig::new(Setup {
        tables: "http2 = true",
        pool: "[pool.hold]\nmax_bytes = \"16KiB\"\ntimeout = \"60s\"",
        ..Setup::default()
    })
    .await;
    rig.begin_drain(0, "60s", "resumed").await;
    for resets in [true, false] {
        let mut client = Client::new(&rig).await;
        let (_response, mut body) = client.begin(post("/"), false).await;
        rig.until("held", |pool| pool.held == 1).await;
        body.send_data(vec![7; 60_000].into(), false).unwrap();
        let held_bytes = "lameduck_held_bytes{pool=\"app\"}";
        until(held_bytes, async || {
            rig.metric(held_bytes).await >= Some(16 * 1024)
        })
        .await;
        match resets {
            true => body.send_reset(Reason::CANCEL),
            false => client.connection.abort(),
        }
        rig.until("nobody is held", |pool| pool.held == 0).await;
    }
}
