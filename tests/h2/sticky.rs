//! `[pool.sticky]` with clients of HTTP/2: the cookie comes in pieces, many streams share a session, and WebSockets are
//! streams, too.

use std::time::Duration;

use h2::ext::Protocol;
use http::Request;
use lameduck_rig::h2_client::{Answer, Client, answer, soon};
use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wire::{Wire, field};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::upgrade::switching;

/// A proxy that speaks HTTP/2, and backends that answer with their name and the head that they got, or open a WebSocket.
struct StickyApps {
    rig: Rig,
    /// They end with it.
    _apps: JoinSet<()>,
}

impl StickyApps {
    async fn new(backends: usize, pool: &'static str) -> Self {
        let mut rig = Rig::new(Setup {
            backends,
            pool,
            tables: "http2 = true",
            ..Setup::default()
        })
        .await;
        let mut apps = JoinSet::new();
        for backend in &mut rig.backends {
            let name = backend.name.clone();
            let listener = TcpListener::from_std(backend.take_listener()).unwrap();
            apps.spawn(async move {
                let mut connections = JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    connections.spawn(serve(Wire::new(stream), name.clone()));
                }
            });
        }
        Self { rig, _apps: apps }
    }

    /// A `GET`, with these fields.
    async fn ask(&self, client: &mut Client, fields: &[(&str, &str)]) -> Answer {
        let mut request = Request::get("http://a/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (response, _) = client.begin(request.body(()).unwrap(), true).await;
        answer(response).await
    }

    fn index_of(&self, name: &str) -> usize {
        let mut backends = self.rig.backends.iter();
        backends.position(|backend| backend.name == name).unwrap()
    }
}

async fn serve(mut wire: Wire, name: String) {
    while let Some(head) = wire.head_or_end().await {
        if let Some(key) = field(&head, "sec-websocket-key") {
            let answer = switching(key).replace("\r\n\r\n", &format!("\r\nX-App: {name}\r\n\r\n"));
            wire.send(answer).await;
            // Until its client closes it.
            wire.rest().await;
            return;
        }
        let body = format!("{name}\n{head}");
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        if wire.try_send(head + &body).await.is_err() {
            return;
        }
    }
}

fn app_of(answer: &Answer) -> &str {
    answer.text().lines().next().unwrap()
}

/// `lameduck=…`, as the client sends it back.
fn pair_of(set: &str) -> String {
    let pair = set.split(';').next().unwrap();
    assert!(pair.starts_with("lameduck=1"), "{set}");
    pair.to_owned()
}

/// RFC 9113, section 8.2.3: each cookie may be in a field of its own.
#[lameduck_rig::test]
async fn session_is_found_among_cookies_in_several_fields_and_taken_out_for_the_app() {
    let apps = StickyApps::new(3, "[pool.sticky]").await;
    let mut client = Client::new(&apps.rig).await;
    let first = apps.ask(&mut client, &[]).await;
    assert_eq!(first.field("cache-control"), Some("private"));
    let pair = pair_of(first.field("set-cookie").unwrap());
    for crumbs in [
        &["a=1", &*pair, "b=2"][..],
        &["a=1; b=2", &*pair],
        &[&*format!("a=1; {pair}"), "b=2"],
    ] {
        let fields: Vec<_> = crumbs.iter().map(|crumb| ("cookie", *crumb)).collect();
        let again = apps.ask(&mut client, &fields).await;
        assert_eq!(app_of(&again), app_of(&first));
        assert_eq!(again.field("set-cookie"), None);
        assert!(
            again.text().contains("\r\ncookie: a=1; b=2\r\n"),
            "{}",
            again.text()
        );
    }
    let alone = apps.ask(&mut client, &[("cookie", &pair)]).await;
    assert_eq!(app_of(&alone), app_of(&first));
    assert!(!alone.text().contains("cookie"), "{}", alone.text());
    // What is no token of ours, and what is there twice, begins anew, and reaches no app.
    let long = format!("lameduck={}", "1".repeat(8192));
    let cut = &pair[..pair.len() - 1];
    for crumbs in [
        &[&*pair, &*pair][..],
        &[&*pair, "lameduck=x"],
        &[&*format!("{pair}; {pair}")],
        &[&*long],
        &[cut],
        &["lameduck="],
    ] {
        let fields: Vec<_> = crumbs.iter().map(|crumb| ("cookie", *crumb)).collect();
        let fresh = apps.ask(&mut client, &fields).await;
        let set: Vec<_> = fresh.head.headers().get_all("set-cookie").iter().collect();
        assert_eq!(set.len(), 1, "{crumbs:?}");
        assert_ne!(pair_of(set[0].to_str().unwrap()), pair);
        assert!(!fresh.text().contains("lameduck="), "{}", fresh.text());
    }
    // The one whose token it was doesn't notice.
    let own = apps.ask(&mut client, &[("cookie", &pair)]).await;
    assert_eq!(
        (app_of(&own), own.field("set-cookie")),
        (app_of(&first), None)
    );
}

#[lameduck_rig::test]
async fn token_in_a_field_of_its_own_comes_and_goes_in_lower_case() {
    let apps = StickyApps::new(3, "[pool.sticky]\nheader = \"X-Session\"").await;
    let mut client = Client::new(&apps.rig).await;
    let first = apps.ask(&mut client, &[]).await;
    let token = first.field("x-session").unwrap().to_owned();
    for _ in 0..6 {
        let again = apps.ask(&mut client, &[("x-session", &token)]).await;
        assert_eq!(
            (app_of(&again), again.field("x-session")),
            (app_of(&first), None)
        );
        assert!(!again.text().contains("x-session"), "{}", again.text());
    }
    let twice = apps
        .ask(&mut client, &[("x-session", &token), ("x-session", &token)])
        .await;
    assert!(twice.field("x-session").is_some_and(|other| other != token));
}

/// One connection with sessions on several backends: a drain moves the streams of its sessions, and no others.
#[lameduck_rig::test]
async fn streams_of_one_connection_move_with_the_session_they_belong_to() {
    let apps = StickyApps::new(2, "[pool.sticky]").await;
    let mut client = Client::new(&apps.rig).await;
    let mut pairs = Vec::new();
    while pairs.len() < 2 {
        let begun = apps.ask(&mut client, &[]).await;
        if pairs.first().is_none_or(|(name, _)| name != app_of(&begun)) {
            pairs.push((
                app_of(&begun).to_owned(),
                pair_of(begun.field("set-cookie").unwrap()),
            ));
        }
    }
    let index = apps.index_of(&pairs[0].0);
    let ended = apps.rig.drain(index, "5s", "resumed").await.unwrap();
    assert_eq!(ended.outcome, "drained");
    let moved = apps.ask(&mut client, &[("cookie", &pairs[0].1)]).await;
    assert_eq!(app_of(&moved), pairs[1].0);
    let moved = pair_of(moved.field("set-cookie").unwrap());
    apps.rig.resume(index).await;
    for pair in [&moved, &pairs[1].1] {
        let kept = apps.ask(&mut client, &[("cookie", pair)]).await;
        assert_eq!(
            (app_of(&kept), kept.field("set-cookie")),
            (&*pairs[1].0, None)
        );
    }
}

/// A WebSocket is as long a request as there is: while it is open its session is there, however long it has been silent.
#[lameduck_rig::test]
async fn open_websocket_is_a_session_that_a_drain_lets_finish() {
    const POOL: &str = "[pool.sticky]\non_drain = \"finish\"\nidle = \"1s\"";
    let apps = StickyApps::new(2, POOL).await;
    let mut client = Client::new(&apps.rig).await;
    let connect = |cookie: Option<&str>| {
        let mut request = Request::connect("http://a/ws")
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13");
        if let Some(pair) = cookie {
            request = request.header("cookie", pair);
        }
        request.body(()).unwrap()
    };
    let (response, mut up) = client.begin(connect(None), false).await;
    let (head, _down) = soon(response).await.unwrap().into_parts();
    assert_eq!(head.status, 200);
    let text = |name| head.headers.get(name).unwrap().to_str().unwrap();
    let (name, pair) = (text("x-app").to_owned(), pair_of(text("set-cookie")));
    // Another one of the same session: there, and without news.
    let (response, mut other) = client.begin(connect(Some(&pair)), false).await;
    let (again, _other_down) = soon(response).await.unwrap().into_parts();
    assert_eq!(again.headers.get("x-app").unwrap(), name.as_str());
    assert!(!again.headers.contains_key("set-cookie"));
    other.send_reset(h2::Reason::CANCEL);
    // By `idle` alone, it would be over.
    tokio::time::sleep(Duration::from_millis(2200)).await;
    let index = apps.index_of(&name);
    assert_eq!(apps.rig.view(index).await.sessions, Some(1));
    let drain = apps.rig.begin_drain(index, "60s", "resumed").await;
    for _ in 0..3 {
        let kept = apps.ask(&mut client, &[("cookie", &pair)]).await;
        assert_eq!((app_of(&kept), kept.field("set-cookie")), (&*name, None));
        assert_ne!(app_of(&apps.ask(&mut client, &[]).await), name);
    }
    assert!(!drain.is_finished());
    up.send_reset(h2::Reason::CANCEL);
    let ended = drain.await.unwrap();
    assert_eq!((ended.outcome.as_str(), ended.cut), ("drained", 0));
    assert!(ended.waited_ms < 20_000, "{ended:?}");
}
