//! `[pool.sticky]`: sessions stay with their backend, and leave it when it drains.

mod drained;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use lameduck::config::StickyConfig;
use lameduck::core::sticky::token::{SessionToken, backend_id, write_token};
use lameduck::registry::sticky::{OwnKey, StickyKeys};
use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wire::{Message, Wire};
use tokio::sync::Notify;

const KEY: &str = "a key that only tests know";
const MOVE: &str = "[pool.sticky]\nkeys = [\"a key that only tests know\"]";
const FINISH: &str =
    "[pool.sticky]\nkeys = [\"a key that only tests know\"]\non_drain = \"finish\"";

/// A proxy whose backends answer by themselves: with their name, and the head that they got. For `/logout` they clear the
/// cookie, for `/slow` they wait for the test's word.
struct StickyRig {
    rig: Rig,
    apps: Vec<tokio::task::JoinHandle<()>>,
    /// Lets one answer to `/slow` go.
    slow: Arc<Notify>,
}

impl Drop for StickyRig {
    fn drop(&mut self) {
        self.apps.iter().for_each(|app| app.abort());
    }
}

impl StickyRig {
    async fn new(backends: usize, pool: &'static str) -> Self {
        let mut rig = Rig::new(Setup {
            backends,
            pool,
            ..Setup::default()
        })
        .await;
        let (mut apps, slow) = (Vec::new(), Arc::<Notify>::default());
        for backend in &mut rig.backends {
            let slow = slow.clone();
            let name = backend.name.clone();
            let listener = tokio::net::TcpListener::from_std(backend.take_listener()).unwrap();
            apps.push(tokio::spawn(async move {
                // They end with it.
                let mut connections = tokio::task::JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    connections.spawn(serve(Wire::new(stream), name.clone(), slow.clone()));
                }
            }));
        }
        Self { rig, apps, slow }
    }

    /// One request on a connection of its own.
    async fn ask(&self, fields: &str) -> Message {
        self.ask_for("/", fields).await
    }

    /// One request that is held. Its answer is still to come.
    async fn ask_and_be_held(&self, fields: &str) -> Wire {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let waiting = self.rig.ask(request).await;
        self.rig
            .until("a held request", |pool| pool.held == 1)
            .await;
        waiting
    }

    async fn ask_for(&self, path: &str, fields: &str) -> Message {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        self.rig.ask(request).await.response().await
    }

    /// A new session: its `Cookie` field, and its backend.
    async fn begin(&self) -> (String, String) {
        let answer = self.ask("").await;
        (cookie_of(&answer), backend_of(&answer).to_owned())
    }

    fn index_of(&self, name: &str) -> usize {
        let mut backends = self.rig.backends.iter();
        backends.position(|backend| backend.name == name).unwrap()
    }
}

async fn serve(mut wire: Wire, name: String, slow: Arc<Notify>) {
    while let Some(head) = wire.head_or_end().await {
        if head.starts_with("GET /slow ") {
            slow.notified().await;
        }
        let clear = match head.starts_with("GET /logout ") {
            true => "Set-Cookie: lameduck=; Path=/; Max-Age=0\r\n",
            false => "",
        };
        let body = format!("{name}\n{head}");
        let answer = format!(
            "HTTP/1.1 200 OK\r\n{clear}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if wire.try_send(answer).await.is_err() {
            return;
        }
    }
}

fn backend_of(answer: &Message) -> &str {
    assert_eq!(answer.status(), 200);
    answer.text().lines().next().unwrap()
}

/// The token that an answer sets, as the client sends it back.
fn cookie_of(answer: &Message) -> String {
    let set = answer.field("set-cookie").expect("a new cookie");
    let pair = set.split(';').next().unwrap();
    assert!(pair.starts_with("lameduck=1"), "{set}");
    format!("Cookie: {pair}\r\n")
}

fn unix_time() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// A token as a proxy with this key would write it.
fn token(key: &str, pool: &str, backend: &str, issued: u64) -> String {
    let config = StickyConfig {
        keys: vec![key.to_owned()],
        ..StickyConfig::default()
    };
    let keys = StickyKeys::new(&config, &OwnKey::new([0; 32]));
    let token = SessionToken {
        backend: backend_id(&keys, 0, pool, backend),
        issued,
        session: 7,
    };
    String::from_utf8(write_token(&keys, pool, &token).to_vec()).unwrap()
}

#[lameduck_rig::test]
async fn session_stays_with_its_backend_and_the_app_never_sees_the_cookie() {
    let sticky = StickyRig::new(3, MOVE).await;
    let first = sticky.ask("").await;
    let set = first.field("set-cookie").unwrap();
    assert!(
        set.ends_with("; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"),
        "{set}"
    );
    assert!(first.has("Cache-Control: private"), "{}", first.head);
    let cookie = cookie_of(&first);
    let (name, value) = (
        backend_of(&first),
        &cookie["Cookie: ".len()..cookie.len() - 2],
    );
    for _ in 0..20 {
        let answer = sticky.ask(&format!("cookie: a=1; {value}; b=2\r\n")).await;
        assert_eq!(backend_of(&answer), name);
        assert_eq!(answer.field("set-cookie"), None);
        assert_eq!(answer.field("cache-control"), None);
        assert!(
            answer.text().contains("\r\ncookie: a=1; b=2\r\n"),
            "{}",
            answer.text()
        );
    }
    let alone = sticky.ask(&cookie).await;
    assert!(
        !alone.text().to_lowercase().contains("cookie:"),
        "{}",
        alone.text()
    );
    let log = sticky.rig.access_log(22).await;
    assert_eq!(log[0]["sticky"], "new");
    assert!(log[1..].iter().all(|line| line["sticky"] == "kept"));
    let kept = "lameduck_sticky_requests_total{pool=\"app\",session=\"kept\"}";
    sticky.rig.counts(kept, 21).await;
    let moved = "lameduck_sticky_moved_total{pool=\"app\"}";
    assert_eq!(sticky.rig.metric(moved).await, Some(0));
    let view = sticky.rig.view(sticky.index_of(name)).await;
    assert_eq!(view.sessions, Some(1));
}

/// What a client sends by that name decides about its own backend at most, and is answered like a first request.
#[lameduck_rig::test]
async fn what_is_no_token_of_ours_is_replaced_without_a_word() {
    let sticky = StickyRig::new(2, MOVE).await;
    let (cookie, name) = sticky.begin().await;
    let good = cookie["Cookie: lameduck=".len()..cookie.len() - 2].to_owned();
    let now = unix_time();
    let mut flipped = good.clone().into_bytes();
    flipped[20] = if flipped[20] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let lines = [
        format!("Cookie: lameduck={flipped}"),
        format!("Cookie: lameduck={}", &good[..good.len() - 1]),
        format!("Cookie: lameduck={good}A"),
        format!("Cookie: lameduck={}", "1".repeat(8192)),
        "Cookie: lameduck=".to_owned(),
        "Cookie: lameduck=127.0.0.1:1".to_owned(),
        format!("Cookie: lameduck={good}; lameduck={good}"),
        format!("Cookie: lameduck={good}\r\nCookie: lameduck={good}"),
        format!(
            "Cookie: lameduck={}",
            token("another key of tests", "app", &name, now)
        ),
        format!("Cookie: lameduck={}", token(KEY, "other", &name, now)),
        format!("Cookie: lameduck={}", token(KEY, "app", &name, now + 3600)),
        format!(
            "Cookie: lameduck={}",
            token(KEY, "app", &name, now - 86_500)
        ),
        format!("Cookie: Lameduck={good}"),
    ];
    for line in &lines {
        let answer = sticky.ask(&format!("{line}\r\n")).await;
        let fresh = cookie_of(&answer);
        assert!(!fresh.contains(&good), "{line}");
        assert_eq!(answer.head.matches("Set-Cookie").count(), 1, "{line}");
        assert!(
            !answer.text().contains("lameduck=1"),
            "{line}: the app has seen it"
        );
        // The one whose token it was doesn't notice.
        let own = sticky.ask(&cookie).await;
        assert_eq!(backend_of(&own), name, "{line}");
        assert_eq!(own.field("set-cookie"), None, "{line}");
    }
    let log = sticky.rig.access_log(1 + 2 * lines.len()).await;
    let news = log.iter().filter(|line| line["sticky"] == "new").count();
    assert_eq!(news, 1 + lines.len());
}

#[lameduck_rig::test]
async fn token_is_renewed_when_half_of_its_time_is_over_and_when_it_names_nobody() {
    let sticky = StickyRig::new(2, MOVE).await;
    let name = sticky.rig.backends[1].name.clone();
    let ask = async |text: String| sticky.ask(&format!("Cookie: lameduck={text}\r\n")).await;
    let now = unix_time();
    for _ in 0..4 {
        let young = ask(token(KEY, "app", &name, now - 40_000)).await;
        assert_eq!(
            (backend_of(&young), young.field("set-cookie")),
            (&*name, None)
        );
        let old = ask(token(KEY, "app", &name, now - 50_000)).await;
        assert_eq!(backend_of(&old), name);
        cookie_of(&old);
        let ahead = ask(token(KEY, "app", &name, now + 200)).await;
        assert_eq!(
            (backend_of(&ahead), ahead.field("set-cookie")),
            (&*name, None)
        );
    }
    let gone = ask(token(KEY, "app", "app-17", now)).await;
    cookie_of(&gone);
}

/// Another key signs, and the former one still verifies: nobody moves.
#[lameduck_rig::test]
async fn rotated_key_keeps_sessions_and_renews_their_tokens() {
    let sticky = StickyRig::new(3, MOVE).await;
    let (cookie, name) = sticky.begin().await;
    let reloaded = sticky
        .rig
        .reload("keys = [", "keys = [\"the next key, which signs\", ")
        .await;
    assert_eq!(reloaded.0, 200, "{}", reloaded.1);
    let mut renewed = String::new();
    for _ in 0..5 {
        let answer = sticky.ask(&cookie).await;
        assert_eq!(backend_of(&answer), name);
        renewed = cookie_of(&answer);
        assert_ne!(renewed, cookie);
    }
    let reloaded = sticky
        .rig
        .reload(", \"a key that only tests know\"", "")
        .await;
    assert_eq!(reloaded.0, 200, "{}", reloaded.1);
    for _ in 0..5 {
        let answer = sticky.ask(&renewed).await;
        assert_eq!(
            (backend_of(&answer), answer.field("set-cookie")),
            (&*name, None)
        );
    }
    cookie_of(&sticky.ask(&cookie).await);
}

#[lameduck_rig::test]
async fn request_waits_for_room_on_the_backend_of_its_session() {
    const POOL: &str = "[pool.upstream]\nmax_in_flight = 1\n[pool.sticky]\nkeys = [\"a key that only tests know\"]";
    let sticky = StickyRig::new(2, POOL).await;
    let (cookie, name) = sticky.begin().await;
    let slow = format!("GET /slow HTTP/1.1\r\nHost: a\r\n{cookie}\r\n");
    let mut blocking = sticky.rig.ask(slow).await;
    let index = sticky.index_of(&name);
    sticky
        .rig
        .until("a request in flight", |pool| {
            pool.backends[index].in_flight == 1
        })
        .await;
    let mut waiting = sticky.ask_and_be_held(&cookie).await;
    // The other one has room, for those who have no session.
    let (_, other) = sticky.begin().await;
    assert_ne!(other, name);
    sticky.slow.notify_one();
    assert_eq!(backend_of(&blocking.response().await), name);
    let answer = waiting.response().await;
    assert_eq!(
        (backend_of(&answer), answer.field("set-cookie")),
        (&*name, None)
    );
}

#[lameduck_rig::test]
async fn token_travels_in_a_field_of_its_own_where_that_is_configured() {
    const POOL: &str =
        "[pool.sticky]\nheader = \"X-Session\"\nkeys = [\"a key that only tests know\"]";
    let sticky = StickyRig::new(3, POOL).await;
    let first = sticky.ask("Cookie: lameduck=mine\r\n").await;
    assert_eq!(first.field("set-cookie"), None);
    assert!(
        first.text().contains("Cookie: lameduck=mine"),
        "that cookie is the app's"
    );
    let (name, text) = (backend_of(&first), first.field("x-session").unwrap());
    for _ in 0..10 {
        let answer = sticky.ask(&format!("x-session: {text}\r\n")).await;
        assert_eq!(
            (backend_of(&answer), answer.field("x-session")),
            (name, None)
        );
        assert!(!answer.text().to_lowercase().contains("x-session"));
    }
    let twice = format!("X-Session: {text}\r\nX-Session: {text}\r\n");
    assert!(sticky.ask(&twice).await.field("x-session").is_some());
}

/// Another proxy behind this one that uses the same name, or an app that doesn't know of ours: in the client's hands, its
/// cookie would take the place of the token.
#[lameduck_rig::test]
async fn cookie_of_the_app_by_the_tokens_name_never_reaches_the_client() {
    const HEADER: &str = "[pool.sticky]\nheader = \"X-Session\"";
    for (pool, lines, name) in [
        (
            "[pool.sticky]",
            "set-cookie: lameduck=theirs; Path=/\r\nSet-Cookie: sid=1\r\nX-Session: a\r\n",
            "set-cookie",
        ),
        (
            HEADER,
            "x-session: theirs\r\nSet-Cookie: lameduck=b\r\n",
            "x-session",
        ),
    ] {
        let rig = Rig::new(Setup {
            pool,
            ..Setup::default()
        })
        .await;
        let answer = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
        let mut token = String::new();
        let mut backend = None;
        for round in 0..3 {
            let field = match name {
                "x-session" => format!("X-Session: {token}\r\n"),
                _ => format!("Cookie: {token}\r\n"),
            };
            let mut client = rig
                .ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"))
                .await;
            if backend.is_none() {
                backend = Some(rig.backends[0].accept().await);
            }
            let wire = backend.as_mut().unwrap();
            wire.head().await;
            wire.send(&answer).await;
            let head = client.response().await.head;
            assert!(!head.contains("theirs"), "{head}");
            let others = [
                "Set-Cookie: sid=1",
                "X-Session: a",
                "Set-Cookie: lameduck=b",
            ];
            let passed = others.iter().filter(|line| head.contains(**line)).count();
            assert_eq!(passed, if name == "x-session" { 1 } else { 2 }, "{head}");
            let told = head.lines().find_map(|line| {
                let (of, value) = line.split_once(": ")?;
                let is_ours = value.contains("lameduck=1") || name == "x-session";
                (of.eq_ignore_ascii_case(name) && is_ours).then(|| value.split(';').next())?
            });
            assert_eq!(told.is_some(), round == 0, "{head}");
            if let Some(told) = told {
                told.clone_into(&mut token);
            }
        }
    }
}

/// The page is ours, and the session is with the app that has said 500: the next request goes there, too.
#[lameduck_rig::test]
async fn page_in_place_of_the_apps_answer_tells_of_its_session() {
    let pages = tempfile::tempdir().unwrap();
    let page = pages.path().join("500.html");
    std::fs::write(&page, "<h1>sorry</h1>").unwrap();
    let route = format!(
        "[[route]]\npool = \"app\"\nintercept = true\nerror_pages = {{ \"500\" = {page:?} }}\n"
    );
    let rig = Rig::new(Setup {
        backends: 2,
        pool: MOVE,
        tables: route.leak(),
        ..Setup::default()
    })
    .await;
    let failed = "HTTP/1.1 500 Oh\r\nSet-Cookie: secret=1\r\nContent-Length: 4\r\n\r\noops";
    let ask = async |fields: &str| {
        let fields = format!("Accept: text/html\r\n{fields}");
        rig.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
            .await
    };
    let mut client = ask("").await;
    let (index, mut app) = rig.first().await;
    app.head().await;
    app.send(failed).await;
    let told = client.response().await;
    assert_eq!((told.status(), told.text()), (500, "<h1>sorry</h1>"));
    assert!(
        told.has("Cache-Control: private") && !told.head.contains("secret"),
        "{}",
        told.head
    );
    let set = told.field("set-cookie").expect("its token");
    let cookie = format!("Cookie: {}\r\n", set.split(';').next().unwrap());
    for clears in [false, true] {
        let mut client = ask(&cookie).await;
        app.head().await;
        let ended = "Set-Cookie: lameduck=; Path=/; Max-Age=0\r\nContent-Length";
        match clears {
            true => app.send(failed.replace("Content-Length", ended)).await,
            false => app.send(failed).await,
        }
        let kept = client.response().await;
        let expected = clears.then_some("lameduck=; Path=/; Max-Age=0");
        assert_eq!(kept.field("set-cookie"), expected, "{}", kept.head);
        let sessions = rig.view(index).await.sessions;
        assert_eq!(sessions, Some(u32::from(!clears)));
    }
}

/// A WebSocket's handshake is a request like others: it goes to its session's backend, and its answer may begin one.
#[lameduck_rig::test]
async fn upgrade_belongs_to_a_session_like_other_requests() {
    let rig = Rig::new(Setup {
        backends: 2,
        pool: MOVE,
        ..Setup::default()
    })
    .await;
    let upgrade = |fields: &str| {
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: bare\r\n{fields}\r\n")
    };
    let mut client = rig.ask(upgrade("")).await;
    let (index, mut app) = rig.first().await;
    app.head().await;
    app.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: bare\r\n\r\n")
        .await;
    let head = client.head().await;
    let set = lameduck_rig::wire::field(&head, "set-cookie").unwrap();
    let cookie = format!("Cookie: {}\r\n", set.split(';').next().unwrap());
    for _ in 0..4 {
        let mut again = rig.ask(upgrade(&cookie)).await;
        let mut app = rig.backends[index].accept().await;
        app.head().await;
        app.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: bare\r\n\r\n",
        )
        .await;
        let head = again.head().await;
        assert!(
            head.starts_with("HTTP/1.1 101") && !head.contains("Set-Cookie"),
            "{head}"
        );
    }
}
