//! `[pool.outlier]`: backends that do much worse than the others get nothing new for a while.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use lameduck::tools::demo::admin;
use lameduck_rig::proxy::{GET, Rig};
use lameduck_rig::wire::Wire;
use serde_json::json;
use tokio::net::TcpListener;

/// How an app answers anything but health checks, which it always passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// A status, and fields.
    Status(u16, &'static str),
    /// Two of three.
    MostlyFailing,
    Silent,
    Slow(Duration),
    Resetting,
    /// A head, and half of a body.
    BreakingOff,
    /// A call of gRPC with this status in its trailers.
    Call(u8),
}

struct MoodyApp {
    address: SocketAddr,
    mood: Arc<parking_lot::Mutex<Mood>>,
    asked: Arc<AtomicU64>,
}

impl MoodyApp {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = Self {
            address: listener.local_addr().unwrap(),
            mood: Arc::new(parking_lot::Mutex::new(Mood::Well)),
            asked: Arc::default(),
        };
        let (mood, asked) = (app.mood.clone(), app.asked.clone());
        tokio::spawn(async move {
            let turn = Arc::new(AtomicU32::new(0));
            while let Ok((stream, _)) = listener.accept().await {
                let (mood, asked, turn) = (mood.clone(), asked.clone(), turn.clone());
                tokio::spawn(async move {
                    let mut wire = Wire::new(stream);
                    while let Some(head) = wire.head_or_end().await {
                        if head.starts_with("GET /health") {
                            wire.answer("fine").await;
                            continue;
                        }
                        asked.fetch_add(1, Ordering::Relaxed);
                        let now = *mood.lock();
                        if !answer(&mut wire, now, &turn).await {
                            return;
                        }
                    }
                });
            }
        });
        app
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Says whether the connection goes on. The proxy may have given up: nobody minds.
async fn answer(wire: &mut Wire, mood: Mood, turn: &AtomicU32) -> bool {
    let status = |status: u16, fields: &str| {
        format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: 1\r\n\r\nx")
    };
    let text = match mood {
        Mood::Well => status(200, ""),
        Mood::Status(code, fields) => status(code, fields),
        Mood::MostlyFailing => match turn.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => status(200, ""),
            _ => status(500, ""),
        },
        Mood::Slow(time) => {
            tokio::time::sleep(time).await;
            status(200, "")
        }
        Mood::Silent => {
            std::future::pending::<()>().await;
            return false;
        }
        Mood::Resetting => return false,
        Mood::BreakingOff => {
            let _ = wire
                .try_send("HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nx")
                .await;
            return false;
        }
        Mood::Call(code) => format!(
            "HTTP/1.1 200 X\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\n\0\0\0\0\0\r\n0\r\ngrpc-status: {code}\r\n\r\n"
        ),
    };
    wire.try_send(text).await.is_ok()
}

struct OutlierRig {
    rig: Rig,
    apps: Vec<MoodyApp>,
}

/// Short times, so that a test is: the defaults are the core's tests'.
const QUICK: &str = "window = \"5s\"\nmin_requests = 10\nejection = \"1m\"";

impl OutlierRig {
    async fn start(apps: usize, outlier: &str, pool: &str) -> Self {
        let mut started = Vec::new();
        let mut text = String::from("balance = \"round_robin\"\n");
        for index in 0..apps {
            let app = MoodyApp::start().await;
            text += &format!(
                "[[pool.backend]]\nname = \"b{index}\"\naddress = \"{}\"\n",
                app.address
            );
            started.push(app);
        }
        text += &format!(
            "[pool.health]\npath = \"/health\"\nrise = 1\ninterval = \"200ms\"\nfast_interval = \"10ms\"\n\
             [pool.outlier]\n{outlier}\n{pool}"
        );
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::start(dir, "", "", &text, Vec::new()).await;
        rig.until("all ready", |pool| pool.eligible == apps).await;
        Self { rig, apps: started }
    }

    /// One request on a connection of its own; its status, or 0 where it was cut.
    async fn ask(&self, request: &str) -> u16 {
        let mut client = self.rig.ask(request).await;
        let head = client.head_or_end().await;
        let status = head.and_then(|head| head.split(' ').nth(1)?.parse().ok());
        status.unwrap_or(0)
    }

    /// Asks until somebody is ejected; the statuses so far.
    async fn until_ejected(&self, name: &str) -> Vec<u16> {
        let mut statuses = Vec::new();
        for _ in 0..2000 {
            statuses.push(self.ask(GET).await);
            if self.reason(name).await.is_some() {
                return statuses;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("{name} is never ejected\n{}", self.rig.log());
    }

    /// Why it is ejected, if it is.
    async fn reason(&self, name: &str) -> Option<String> {
        let pool = self.rig.pool().await;
        let backend = pool.backends.iter().find(|backend| backend.name == name);
        Some(backend?.ejected.as_ref()?.reason.clone())
    }

    async fn ejections(&self, name: &str, reason: &str) -> u64 {
        let labels = format!("{{pool=\"app\",backend=\"{name}\",reason=\"{reason}\"}}");
        let series = format!("lameduck_outlier_ejections_total{labels}");
        self.rig.metric(&series).await.unwrap()
    }

    async fn until_back(&self, name: &str) {
        let is_back = |pool: &lameduck::registry::view::PoolView| {
            let mut backends = pool.backends.iter();
            backends.any(|backend| backend.name == name && backend.ejected.is_none())
        };
        self.rig.until("it is back", is_back).await;
    }
}

#[lameduck_rig::test]
async fn backend_that_always_fails_is_ejected_and_comes_back() {
    // The row alone decides: in so short a window, the share may be first.
    let rows = "window = \"1s\"\nerror_rate = 0\nejection = \"4s\"";
    let outlier = OutlierRig::start(3, rows, "").await;
    outlier.apps[1].set(Mood::Status(500, ""));
    let statuses = outlier.until_ejected("b1").await;
    assert!(statuses.iter().filter(|status| **status == 500).count() >= 5);
    let reason = outlier.reason("b1").await.unwrap();
    assert!(
        reason.ends_with(" errors in a row (the last: status 500)"),
        "{reason}"
    );
    let pool = outlier.rig.pool().await;
    assert_eq!(pool.eligible, 2);
    assert_eq!(pool.backends[1].state, "ready", "it is probed, and passes");
    // The others have taken over.
    let asked = outlier.apps[1].asked();
    for _ in 0..30 {
        assert_eq!(outlier.ask(GET).await, 200);
    }
    assert_eq!(outlier.apps[1].asked(), asked);
    assert_eq!(outlier.ejections("b1", "consecutive_errors").await, 1);
    outlier.rig.logs("ejected: it gets no new requests").await;
    outlier.apps[1].set(Mood::Well);
    outlier.until_back("b1").await;
    outlier.rig.logs("back from ejection").await;
    for _ in 0..6 {
        assert_eq!(outlier.ask(GET).await, 200);
    }
    assert!(outlier.apps[1].asked() > asked);
}

/// Each way to fail has its words. GETs that broke before an answer were repeated elsewhere meanwhile.
#[lameduck_rig::test]
async fn every_fault_of_a_backend_ejects_it() {
    let retry = "[pool.upstream]\nread_timeout = \"50ms\"\n[pool.retry]\nattempts = 3\nbudget = 1";
    // Rows alone: the other ones' answers may be late on a busy machine.
    let rows = "error_rate = 0\nlatency_factor = 0\nejection = \"1m\"";
    let outlier = OutlierRig::start(3, rows, retry).await;
    for (mood, words) in [
        (Mood::Silent, "no answer in time"),
        (Mood::Resetting, "connection closed without an answer"),
        (Mood::BreakingOff, "an answer that broke off"),
        (Mood::Status(503, ""), "status 503"),
    ] {
        outlier.apps[2].set(mood);
        outlier.until_ejected("b2").await;
        let reason = outlier.reason("b2").await.unwrap();
        assert!(
            reason.ends_with(&format!("(the last: {words})")),
            "{reason}"
        );
        outlier.apps[2].set(Mood::Well);
        let resume = "/v1/pools/app/backends/b2/resume";
        admin::call(&outlier.rig.socket, "POST", resume, Some(&json!({})))
            .await
            .unwrap();
        assert_eq!(outlier.reason("b2").await, None, "a person wants it back");
    }
}

#[lameduck_rig::test]
async fn calls_of_grpc_are_judged_by_their_own_status() {
    let outlier = OutlierRig::start(3, QUICK, "").await;
    let call = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
    let calls = async |number| {
        for _ in 0..number {
            let mut client = outlier.rig.ask(call).await;
            client.head().await;
            client.chunks().await;
        }
    };
    // NOT_FOUND is an answer.
    outlier.apps.iter().for_each(|app| app.set(Mood::Call(5)));
    calls(30).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(outlier.reason("b0").await, None);
    outlier.apps[0].set(Mood::Call(14));
    calls(15).await;
    outlier
        .rig
        .until("ejected", |pool| pool.backends[0].ejected.is_some())
        .await;
    let reason = outlier.reason("b0").await.unwrap();
    assert!(reason.ends_with(" (the last: grpc-status 14)"), "{reason}");
}

#[lameduck_rig::test]
async fn share_of_errors_ejects_though_no_row_is_long_enough() {
    let outlier = OutlierRig::start(3, QUICK, "").await;
    outlier.apps[1].set(Mood::MostlyFailing);
    outlier.until_ejected("b1").await;
    assert_eq!(outlier.ejections("b1", "error_rate").await, 1);
    let reason = outlier.reason("b1").await.unwrap();
    assert!(reason.contains(" requests failed in 5 s"), "{reason}");
}

#[lameduck_rig::test]
async fn backend_ten_times_slower_is_ejected() {
    let outlier = OutlierRig::start(3, QUICK, "").await;
    let quick = Mood::Slow(Duration::from_millis(8));
    outlier.apps.iter().for_each(|app| app.set(quick));
    outlier.apps[2].set(Mood::Slow(Duration::from_millis(80)));
    let mut asking = Vec::new();
    for _ in 0..400 {
        asking.push(outlier.rig.ask(GET).await);
        if asking.len() >= 12 {
            for mut client in asking.drain(..) {
                client.response().await;
            }
            if outlier.reason("b2").await.is_some() {
                break;
            }
        }
    }
    let reason = outlier.reason("b2").await.unwrap();
    assert!(reason.starts_with("its answers take "), "{reason}");
    assert_eq!(outlier.ejections("b2", "latency").await, 1);
}

/// An answer with a plan, an answer about the request, a client that leaves: none of them is the backend's failure.
#[lameduck_rig::test]
async fn what_is_no_fault_of_the_backend_ejects_nobody() {
    let outlier = OutlierRig::start(3, QUICK, "").await;
    for mood in [
        Mood::Status(503, "Retry-After: 5\r\n"),
        Mood::Status(501, ""),
        Mood::Status(404, ""),
        Mood::Status(429, ""),
    ] {
        outlier.apps[1].set(mood);
        for _ in 0..24 {
            outlier.ask(GET).await;
        }
    }
    outlier.apps[1].set(Mood::Silent);
    for _ in 0..24 {
        let mut client = outlier.rig.client().await;
        client.send(GET).await;
        // What the others have answered is read, so that theirs is no abandoned request.
        let answered = tokio::time::timeout(Duration::from_millis(30), client.head()).await;
        drop((client, answered));
    }
    // A whole window, and the time in which a probe is waited for.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    for name in ["b0", "b1", "b2"] {
        assert_eq!(outlier.ejections(name, "consecutive_errors").await, 0);
        assert_eq!(outlier.ejections(name, "error_rate").await, 0, "{name}");
    }
}

#[lameduck_rig::test]
async fn neither_of_two_that_both_fail_is_ejected() {
    let outlier = OutlierRig::start(2, QUICK, "").await;
    outlier
        .apps
        .iter()
        .for_each(|app| app.set(Mood::Status(500, "")));
    for _ in 0..100 {
        assert_eq!(outlier.ask(GET).await, 500, "and none of ours");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for name in ["b0", "b1"] {
        assert_eq!(outlier.reason(name).await, None);
        assert_eq!(outlier.ejections(name, "consecutive_errors").await, 0);
    }
}

/// However bad it is, it is better than nothing.
#[lameduck_rig::test]
async fn ejected_backend_is_taken_back_when_the_others_are_drained() {
    let outlier = OutlierRig::start(2, "ejection = \"1m\"", "").await;
    outlier.apps[0].set(Mood::Status(500, ""));
    outlier.until_ejected("b0").await;
    outlier.apps[0].set(Mood::Well);
    let drain = "/v1/pools/app/backends/b1/drain";
    admin::call(&outlier.rig.socket, "POST", drain, Some(&json!({})))
        .await
        .unwrap();
    assert_eq!(outlier.reason("b0").await, None);
    outlier.rig.logs("no other backend is ready").await;
    assert_eq!(outlier.ask(GET).await, 200);
}

#[lameduck_rig::test]
async fn drain_of_an_ejected_backend_ends_its_ejection() {
    let outlier = OutlierRig::start(3, "ejection = \"1m\"", "").await;
    outlier.apps[0].set(Mood::Status(500, ""));
    outlier.until_ejected("b0").await;
    let path = |verb: &str| format!("/v1/pools/app/backends/b0/{verb}");
    admin::call(
        &outlier.rig.socket,
        "POST",
        &path("drain"),
        Some(&json!({})),
    )
    .await
    .unwrap();
    assert_eq!(outlier.reason("b0").await, None);
    assert_eq!(outlier.rig.pool().await.backends[0].state, "drained");
    // What comes back may be another process: it begins without a past.
    outlier.apps[0].set(Mood::Well);
    let wait = json!({ "wait": "5s" });
    admin::call(&outlier.rig.socket, "POST", &path("resume"), Some(&wait))
        .await
        .unwrap();
    let asked = outlier.apps[0].asked();
    for _ in 0..6 {
        assert_eq!(outlier.ask(GET).await, 200);
    }
    assert!(outlier.apps[0].asked() > asked);
}

#[lameduck_rig::test]
async fn reload_without_the_section_takes_everybody_back() {
    let outlier = OutlierRig::start(3, "ejection = \"1m\"", "").await;
    outlier.apps[0].set(Mood::Status(500, ""));
    outlier.until_ejected("b0").await;
    let (status, text) = outlier
        .rig
        .reload("[pool.outlier]\nejection = \"1m\"", "")
        .await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(outlier.reason("b0").await, None);
    outlier.rig.logs("[pool.outlier] is gone").await;
    let metrics = outlier.rig.metrics().await;
    assert!(
        !metrics.contains("lameduck_outlier_"),
        "only where it is used"
    );
}
