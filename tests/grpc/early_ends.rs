//! A backend that ends requests early in bulk, by resets or by frames that have us reset them: its session is closed,
//! and nobody else's request fails for that (CVE-2025-8671 from the other side).

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use tokio::net::TcpListener;

use super::fake::{CANCEL, Event, Fake, HTTP2, INTERNAL_ERROR, NO_ERROR, rig_of};
use lameduck_rig::h2_client::{Client, answer, post};
use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wait::until;

const LIMIT: usize = 20;

async fn limited() -> (Rig, Vec<TcpListener>) {
    rig_of(Setup {
        pool: HTTP2,
        server: "max_stream_resets = 20",
        ..Setup::default()
    })
    .await
}

/// Ways to end a request early.
#[derive(Debug, Clone, Copy)]
enum Early {
    MalformedHead,
    WindowOverflow,
    MoreThanSaid,
    LessThanSaid,
    Reset(u32),
}

impl Early {
    async fn end(self, backend: &mut Fake, id: u32) {
        match self {
            Self::MalformedHead => backend.block(id, &[("X", "")], true).await,
            Self::WindowOverflow => backend.window(id, 0x7fff_ffff).await,
            Self::MoreThanSaid => {
                backend.head(id, &[("content-length", "1")], false).await;
                backend.data(id, b"22", true).await;
            }
            Self::LessThanSaid => {
                backend.head(id, &[("content-length", "9")], false).await;
                backend.data(id, b"22", true).await;
            }
            Self::Reset(code) => backend.reset(id, code).await,
        }
    }
}

/// Sends a request that is not repeated; its stream at the backend. Unless it is whole, its body goes on.
async fn ask(
    client: &mut Client,
    backend: &mut Fake,
    is_whole: bool,
) -> (u32, (ResponseFuture, SendStream<Bytes>)) {
    let (response, mut body) = client.begin(post("/"), false).await;
    body.send_data("body".into(), is_whole).unwrap();
    let id = backend
        .until(|event| match event {
            Event::Request(id, _) => Some(*id),
            _ => None,
        })
        .await;
    (id, (response, body))
}

pub async fn broken_sessions(rig: &Rig) -> u64 {
    let backend = &rig.backends[0].name;
    let series =
        format!("lameduck_backend_sessions_broken_total{{pool=\"app\",backend=\"{backend}\"}}");
    rig.metric(&series).await.unwrap()
}

/// Waits until one session is counted as broken: that may come a little behind what its clients see of it.
pub async fn is_broken(rig: &Rig, what: &str) {
    until(what, async || broken_sessions(rig).await > 0).await;
    assert_eq!(broken_sessions(rig).await, 1, "{what}");
}

#[lameduck_rig::test]
async fn early_ends_in_bulk_close_the_session_behind_its_other_requests() {
    for way in [
        Early::MalformedHead,
        Early::WindowOverflow,
        Early::MoreThanSaid,
        Early::LessThanSaid,
        Early::Reset(INTERNAL_ERROR),
        Early::Reset(CANCEL),
    ] {
        let (rig, listeners) = limited().await;
        let mut client = Client::new(&rig).await;
        let (good, mut body) = client.begin(post("/good"), false).await;
        body.send_data("body".into(), true).unwrap();
        let mut backend = Fake::accept(&listeners[0], &[]).await;
        let (good_id, _) = backend.request().await;
        for n in 1..=LIMIT {
            assert_eq!(broken_sessions(&rig).await, 0, "{way:?}, {n}");
            // The window of a whole request matters to nobody.
            let is_whole = !matches!(way, Early::WindowOverflow);
            // One of its own: an upload that is given up counts against its client.
            let mut other = Client::new(&rig).await;
            let (id, (response, _body)) = ask(&mut other, &mut backend, is_whole).await;
            way.end(&mut backend, id).await;
            // Truncated, where its head was good.
            let _ = lameduck_rig::h2_client::try_answer(response).await;
        }
        // The reset may be written a little behind the answer.
        is_broken(&rig, &format!("{way:?}")).await;
        // The next one goes elsewhere; this one waits for what is under way.
        let next = client.get("/next").await;
        let mut other = Fake::accept(&listeners[0], &[]).await;
        let (id, _) = other.request().await;
        other.answer(id, "next").await;
        assert_eq!(answer(next).await.text(), "next", "{way:?}");
        backend.answer(good_id, "good").await;
        assert_eq!(answer(good).await.text(), "good", "{way:?}");
        backend.goodbye().await;
        assert_eq!(broken_sessions(&rig).await, 1, "{way:?}");
        rig.logs("ended most of the latest requests there early")
            .await;
    }
}

/// Half of them, or ended behind a whole answer: what servers do day by day.
#[lameduck_rig::test]
async fn session_is_kept_with_early_ends_of_the_few() {
    let (rig, listeners) = limited().await;
    let mut client = Client::new(&rig).await;
    let first = client.get("/first").await;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let (id, _) = backend.request().await;
    backend.answer(id, "first").await;
    assert_eq!(answer(first).await.text(), "first");
    for _ in 0..3 * LIMIT {
        for _ in 0..2 {
            let (id, (good, _body)) = ask(&mut client, &mut backend, true).await;
            backend.answer(id, "good").await;
            backend.reset(id, NO_ERROR).await;
            assert_eq!(answer(good).await.text(), "good");
        }
        let (id, (bad, _body)) = ask(&mut client, &mut backend, true).await;
        backend.reset(id, INTERNAL_ERROR).await;
        assert_eq!(answer(bad).await.status(), 502);
    }
    assert_eq!(broken_sessions(&rig).await, 0);
}

/// Clients that leave are not the backend's doing.
#[lameduck_rig::test]
async fn session_is_kept_when_clients_cancel_in_bulk() {
    let (rig, listeners) = rig_of(Setup {
        pool: HTTP2,
        server: "max_stream_resets = 200",
        ..Setup::default()
    })
    .await;
    let mut backend = None;
    for _ in 0..6 {
        // Each one cancels fewer than a client may.
        let mut client = Client::new(&rig).await;
        for _ in 0..50 {
            let (response, mut body) = client.begin(post("/"), false).await;
            if backend.is_none() {
                backend = Some(Fake::accept(&listeners[0], &[]).await);
            }
            let backend = backend.as_mut().unwrap();
            let id = backend
                .until(|event| match event {
                    Event::Request(id, _) => Some(*id),
                    _ => None,
                })
                .await;
            body.send_reset(h2::Reason::CANCEL);
            drop(response);
            assert_eq!(backend.reset_of(id).await, CANCEL);
        }
    }
    assert_eq!(broken_sessions(&rig).await, 0);
}

/// A session that has been given up, and whose backend goes on ending requests early, is not waited for.
#[lameduck_rig::test]
async fn session_is_closed_at_once_where_early_ends_go_on() {
    let (rig, listeners) = limited().await;
    let mut client = Client::new(&rig).await;
    let first = client.get("/first").await;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let (id, _) = backend.request().await;
    backend.answer(id, "first").await;
    answer(first).await;
    let mut open = Vec::new();
    for _ in 0..2 * LIMIT + 5 {
        open.push(ask(&mut client, &mut backend, false).await);
    }
    for (n, (id, _)) in open.iter().enumerate().take(2 * LIMIT) {
        backend.window(*id, 0x7fff_ffff).await;
        if n + 1 < 2 * LIMIT {
            backend.reset_of(*id).await;
        }
    }
    // Not with a reset of the last five: their requests fail, as when a connection is lost.
    backend.goodbye().await;
    // A body that is dropped resets its stream, and so many resets end the client's own connection.
    let (responses, _bodies): (Vec<_>, Vec<_>) = open.into_iter().map(|(_, call)| call).unzip();
    for response in responses {
        assert_eq!(answer(response).await.status(), 502);
    }
    is_broken(&rig, "early ends that go on").await;
}
