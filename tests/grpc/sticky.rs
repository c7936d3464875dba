//! Sticky sessions and outliers where calls are streams to backends of HTTP/2: whose session a call belongs to, and which
//! ends of calls speak against a backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request, Response};
use lameduck_rig::h2_client::{Answer, Client, try_answer};
use lameduck_rig::proxy::{Rig, Setup};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How a backend ends a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// A message, and this status in the trailers.
    Status(&'static str),
    /// This status in the head, and nothing else.
    Early(&'static str),
    /// A message, and no status.
    Statusless,
    /// Nothing but a reset.
    Reset(Reason),
    /// A message, and then a reset.
    BrokenOff,
}

struct CallApp {
    name: String,
    mood: Arc<Mutex<Mood>>,
    calls: Arc<AtomicU64>,
}

struct CallRig {
    rig: Rig,
    apps: Vec<CallApp>,
    /// They end with it.
    _serving: JoinSet<()>,
}

impl CallRig {
    /// So many backends, with these sections of the pool.
    async fn new(backends: usize, pool: &'static str) -> Self {
        let mut rig = Rig::new(Setup {
            backends,
            pool,
            tables: "http2 = true",
            ..Setup::default()
        })
        .await;
        let (mut apps, mut serving) = (Vec::new(), JoinSet::new());
        for backend in &mut rig.backends {
            let app = CallApp {
                name: backend.name.clone(),
                mood: Arc::new(Mutex::new(Mood::Status("0"))),
                calls: Arc::default(),
            };
            let (name, mood, calls) = (app.name.clone(), app.mood.clone(), app.calls.clone());
            apps.push(app);
            let listener = TcpListener::from_std(backend.take_listener()).unwrap();
            serving.spawn(async move {
                let mut connections = JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (name, mood, calls) = (name.clone(), mood.clone(), calls.clone());
                    connections.spawn(async move {
                        let Ok(mut connection) = h2::server::handshake(stream).await else {
                            return;
                        };
                        while let Some(Ok((request, respond))) = connection.accept().await {
                            calls.fetch_add(1, Ordering::Relaxed);
                            let mood = *mood.lock();
                            // The proxy may have gone.
                            let _ = end_call(&name, &request, respond, mood);
                        }
                    });
                }
            });
        }
        Self {
            rig,
            apps,
            _serving: serving,
        }
    }

    async fn call(
        &self,
        client: &mut Client,
        fields: &[(&str, &str)],
    ) -> Result<Answer, h2::Error> {
        let mut request = Request::post("http://a/app.Shop/Buy")
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (response, mut up) = client.begin(request.body(()).unwrap(), false).await;
        up.send_data(Bytes::from_static(b"\0\0\0\0\0"), true)
            .unwrap();
        try_answer(response).await
    }

    /// A call that goes well; which backend has answered.
    async fn call_well(&self, client: &mut Client, fields: &[(&str, &str)]) -> (String, Answer) {
        let answer = self.call(client, fields).await.unwrap();
        let trailers = answer.trailers.as_ref().unwrap();
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
        let name = answer.field("x-app").unwrap().to_owned();
        (name, answer)
    }

    async fn ejected(&self, name: &str) -> Option<String> {
        let pool = self.rig.pool().await;
        let backend = pool.backends.iter().find(|backend| backend.name == name);
        Some(backend.unwrap().ejected.as_ref()?.reason.clone())
    }

    fn app(&self, name: &str) -> &CallApp {
        self.apps.iter().find(|app| app.name == name).unwrap()
    }
}

fn end_call(
    name: &str,
    request: &Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    mood: Mood,
) -> Result<(), h2::Error> {
    let head = || {
        let cookie = request.headers().get("cookie");
        let cookie = cookie.map_or("none", |value| value.to_str().unwrap());
        let field = request.headers().get("x-session");
        Response::builder()
            .header("content-type", "application/grpc")
            .header("x-app", name)
            .header("x-seen", format!("{cookie} {}", field.is_some()))
    };
    let message = Bytes::from_static(b"\0\0\0\0\0");
    match mood {
        Mood::Status(status) => {
            let mut down = respond.send_response(head().body(()).unwrap(), false)?;
            down.send_data(message, false)?;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.parse().unwrap());
            down.send_trailers(trailers)
        }
        Mood::Early(status) => {
            let head = head().header("grpc-status", status).body(()).unwrap();
            respond.send_response(head, true).map(drop)
        }
        Mood::Statusless => {
            let mut down = respond.send_response(head().body(()).unwrap(), false)?;
            down.send_data(message, true)
        }
        Mood::Reset(reason) => {
            respond.send_reset(reason);
            Ok(())
        }
        Mood::BrokenOff => {
            let mut down = respond.send_response(head().body(()).unwrap(), false)?;
            down.send_data(message, false)?;
            down.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
    }
}

/// Cookies are metadata like others, and an API takes a field of its own.
#[lameduck_rig::test]
async fn calls_of_a_session_go_to_one_backend_until_it_drains() {
    const COOKIE: &str = "[pool.upstream]\nhttp2 = true\n[pool.sticky]";
    const FIELD: &str = "[pool.upstream]\nhttp2 = true\n[pool.sticky]\nheader = \"X-Session\"";
    for (pool, set, sent) in [
        (COOKIE, "set-cookie", "cookie"),
        (FIELD, "x-session", "x-session"),
    ] {
        let calls = CallRig::new(3, pool).await;
        let mut client = Client::new(&calls.rig).await;
        let (name, first) = calls.call_well(&mut client, &[]).await;
        let token_of = |answer: &Answer| {
            let value = answer.field(set).unwrap();
            value.split(';').next().unwrap().to_owned()
        };
        let token = token_of(&first);
        for _ in 0..6 {
            let (again, answer) = calls.call_well(&mut client, &[(sent, &token)]).await;
            assert_eq!((&again, answer.field(set)), (&name, None));
            assert_eq!(
                answer.field("x-seen"),
                Some("none false"),
                "the app sees no token"
            );
        }
        let mut backends = calls.rig.backends.iter();
        let index = backends.position(|backend| backend.name == name).unwrap();
        calls.rig.drain(index, "5s", "resumed").await.unwrap();
        let (other, moved) = calls.call_well(&mut client, &[(sent, &token)]).await;
        assert_ne!(other, name);
        let moved = token_of(&moved);
        calls.rig.resume(index).await;
        let (again, answer) = calls.call_well(&mut client, &[(sent, &moved)]).await;
        assert_eq!((&again, answer.field(set)), (&other, None));
    }
}

const OUTLIER: &str = "[pool.upstream]\nhttp2 = true\n[pool.retry]\nattempts = 1\n\
    [pool.sticky]\nheader = \"X-Session\"\n\
    [pool.outlier]\nerror_rate = 0\nlatency_factor = 0\nejection = \"1m\"";

/// What speaks against a backend, each in a row of five; and the session that was there goes elsewhere, and stays there.
#[lameduck_rig::test]
async fn failed_calls_in_a_row_eject_their_backend_and_its_sessions_move() {
    for (mood, words) in [
        (Mood::Status("13"), "grpc-status 13"),
        (Mood::Early("14"), "grpc-status 14"),
        (Mood::Statusless, "grpc-status 2"),
        (
            Mood::Reset(Reason::INTERNAL_ERROR),
            "closed without an answer",
        ),
        // Whether the message is sent before the reset is the connection's choice.
        (Mood::BrokenOff, "the last: "),
    ] {
        let calls = CallRig::new(3, OUTLIER).await;
        let mut client = Client::new(&calls.rig).await;
        let (name, first) = calls.call_well(&mut client, &[]).await;
        let token = first.field("x-session").unwrap().to_owned();
        let fields = [("x-session", &*token)];
        *calls.app(&name).mood.lock() = mood;
        for _ in 0..5 {
            // However it ends: it stays with its backend until that is ejected.
            let _ = calls.call(&mut client, &fields).await;
        }
        assert_eq!(
            calls.app(&name).calls.load(Ordering::Relaxed),
            6,
            "{mood:?}"
        );
        calls
            .rig
            .until("it is ejected", |pool| pool.eligible == 2)
            .await;
        let reason = calls.ejected(&name).await.unwrap();
        assert!(reason.starts_with("5 errors in a row"), "{reason}");
        assert!(reason.contains(words), "{mood:?}: {reason}");
        let (other, moved) = calls.call_well(&mut client, &fields).await;
        assert_ne!(other, name, "{mood:?}");
        let token = moved.field("x-session").unwrap().to_owned();
        let (again, answer) = calls.call_well(&mut client, &[("x-session", &token)]).await;
        assert_eq!((&again, answer.field("x-session")), (&other, None));
    }
}

/// What the call or its client is to blame for ejects nobody, and neither does a stream that was refused.
#[lameduck_rig::test]
async fn calls_that_end_by_no_fault_of_the_backend_eject_nobody() {
    let calls = CallRig::new(2, OUTLIER).await;
    let mut client = Client::new(&calls.rig).await;
    let (name, first) = calls.call_well(&mut client, &[]).await;
    let token = first.field("x-session").unwrap().to_owned();
    for mood in [
        Mood::Status("1"),
        Mood::Status("4"),
        Mood::Status("5"),
        Mood::Early("7"),
        Mood::Status("8"),
        Mood::Early("12"),
        Mood::Status("16"),
        Mood::Reset(Reason::REFUSED_STREAM),
    ] {
        *calls.app(&name).mood.lock() = mood;
        for _ in 0..6 {
            let _ = calls.call(&mut client, &[("x-session", &token)]).await;
        }
    }
    // Longer than a probe is waited for, before errors in a row count.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(calls.ejected(&name).await, None);
    assert_eq!(calls.rig.pool().await.eligible, 2);
    // Four errors, a call that goes well, and four more: none of them is five in a row.
    for _ in 0..2 {
        *calls.app(&name).mood.lock() = Mood::Status("14");
        for _ in 0..4 {
            let _ = calls.call(&mut client, &[("x-session", &token)]).await;
        }
        *calls.app(&name).mood.lock() = Mood::Status("0");
        calls.call_well(&mut client, &[("x-session", &token)]).await;
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(calls.ejected(&name).await, None);
}
