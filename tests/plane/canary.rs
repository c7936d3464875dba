//! Plans that move a split in steps: a pool that turns bad is taken back within seconds, and a good one gets all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lameduck::registry::plan_view::{PlanState, PlanView};
use lameduck::tools::demo::admin;
use serde_json::{Value, json};

use lameduck_rig::backend::backends;
use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::Wire;

const PLAN: &str = "/v1/routes/shop/split/plan";

/// What the pool `next` does with requests.
#[derive(Clone, Copy, PartialEq)]
#[repr(usize)]
enum Mood {
    Good,
    Failing,
    Slow,
    Hanging,
}

/// The pools `app` and `next`, each with one backend that answers with its pool's name; `next` as its mood is.
struct Canary {
    rig: Rig,
    mood: Arc<AtomicUsize>,
}

impl Canary {
    async fn start(split: &str) -> Self {
        let (mut backends, port) = backends(2).await;
        let mood = Arc::new(AtomicUsize::new(Mood::Good as usize));
        let mut pools = String::new();
        for (name, backend) in ["app", "next"].into_iter().zip(&mut backends) {
            if name == "next" {
                pools.push_str("[[pool]]\nname = \"next\"\n");
            }
            pools.push_str(&format!(
                "[[pool.backend]]\nname = \"b\"\naddress = \"{}\"\n[pool.health]\nport = {port}\nrise = 1\n\
                 fast_interval = \"10ms\"\n",
                backend.address
            ));
            let listener = backend.take_listener();
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tokio::spawn(serve(listener, name, mood.clone()));
        }
        let route = format!("[[route]]\nname = \"shop\"\n{split}\n");
        let rig = Rig::start(tempfile::tempdir().unwrap(), "", &route, &pools, backends).await;
        Self { rig, mood }
    }

    fn turn(&self, mood: Mood) {
        self.mood.store(mood as usize, Ordering::SeqCst);
    }

    async fn begin(&self, plan: Value) -> PlanView {
        let plan = admin::call(&self.rig.socket, "POST", PLAN, Some(&plan)).await;
        serde_json::from_value(plan.unwrap()).unwrap()
    }

    async fn plan(&self) -> PlanView {
        let plan = admin::call(&self.rig.socket, "GET", PLAN, None).await;
        serde_json::from_value(plan.unwrap()).unwrap()
    }

    async fn until(&self, what: &str, holds: impl Fn(&PlanView) -> bool) -> PlanView {
        let began = Instant::now();
        loop {
            let plan = self.plan().await;
            if holds(&plan) {
                return plan;
            }
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{what}: {plan:#?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn weights(&self) -> Value {
        let split = admin::call(&self.rig.socket, "GET", "/v1/routes/shop/split", None).await;
        split.unwrap()["weights"].clone()
    }
}

async fn serve(listener: tokio::net::TcpListener, name: &'static str, mood: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        let mood = mood.clone();
        tokio::spawn(async move {
            let mut backend = Wire::new(stream);
            while backend.head_or_end().await.is_some() {
                let mood = match name {
                    "next" => mood.load(Ordering::SeqCst),
                    _ => Mood::Good as usize,
                };
                if mood == Mood::Failing as usize {
                    let head = "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nnext";
                    backend.send(head).await;
                    continue;
                }
                if mood == Mood::Slow as usize {
                    tokio::time::sleep(Duration::from_millis(1_200)).await;
                }
                if mood == Mood::Hanging as usize {
                    std::future::pending::<()>().await;
                }
                backend.answer(name).await;
            }
        });
    }
}

/// What a client has seen, by pool: requests, and answers with 5xx.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    app: [u64; 2],
    next: [u64; 2],
}

impl Seen {
    fn note(&mut self, pool: &str, status: u16) {
        let counts = match pool {
            "app" => &mut self.app,
            "next" => &mut self.next,
            other => panic!("{other} answers"),
        };
        counts[0] += 1;
        counts[1] += u64::from(status >= 500);
    }

    /// The same by the report.
    fn reported(plan: &PlanView) -> Self {
        let mut seen = Self::default();
        for pool in plan.records.iter().flat_map(|record| &record.pools) {
            let counts = match pool.pool.as_str() {
                "app" => &mut seen.app,
                _ => &mut seen.next,
            };
            counts[0] += pool.requests;
            counts[1] += pool.status_5xx;
        }
        seen
    }
}

/// One request after the other, until it is enough.
async fn ask(canary: &Canary, seen: &mut Seen, is_enough: impl Fn(&Seen) -> bool) {
    let mut client = canary.rig.client().await;
    while !is_enough(seen) {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let response = client.response().await;
        seen.note(response.text(), response.status());
    }
}

#[lameduck_rig::test]
async fn good_pool_reaches_its_share_and_the_report_has_the_clients_figures() {
    let canary = Canary::start("split = { app = 80, next = 20 }").await;
    let begun = canary
        .begin(json!({
            "pool": "next", "to": 100, "in": "6s", "steps": 3,
            "abort_on": ["5xx>1%", "failed>1%", "p99>20s", "p50>1000x"],
        }))
        .await;
    assert_eq!(
        (begun.state, begun.step, begun.from),
        (PlanState::Running, 1, 20.0)
    );
    let series = "lameduck_split_plan_running{route=\"shop\"}";
    canary.rig.counts(series, 1).await;
    let mut seen = Seen::default();
    ask(&canary, &mut seen, |seen| seen.next[0] >= 20).await;
    canary.until("the second step", |plan| plan.step == 2).await;
    let share = canary
        .rig
        .metric("lameduck_split_weight{route=\"shop\",pool=\"next\"}")
        .await;
    assert_eq!(share, Some(7333));
    ask(&canary, &mut seen, |seen| seen.next[0] >= 60).await;
    let ended = canary
        .until("its end", |plan| plan.state != PlanState::Running)
        .await;
    assert_eq!(ended.state, PlanState::Reached, "{ended:#?}");
    assert_eq!(Seen::reported(&ended), seen, "{ended:#?}");
    assert_eq!(ended.records.len(), 3);
    assert!(ended.records[0].pools[1].p99_ms.is_some());
    assert_eq!(canary.weights().await, json!({"app": 0, "next": 100}));
    assert_eq!(canary.rig.metric(series).await, Some(0));
    canary.rig.logs("the plan has reached its end").await;
}

#[lameduck_rig::test]
async fn pool_that_fails_is_taken_back_and_the_report_says_why() {
    let canary = Canary::start("split = { app = 95, next = 5 }").await;
    // Moved by hand before: that is what it goes back to.
    let moved = json!({"weights": {"app": 7, "next": 1}});
    let path = "/v1/routes/shop/split";
    admin::call(&canary.rig.socket, "PUT", path, Some(&moved))
        .await
        .unwrap();
    canary
        .begin(json!({
            "pool": "next", "to": 75, "in": "60s", "steps": 2, "abort_on": ["5xx>1%"],
        }))
        .await;
    let mut seen = Seen::default();
    ask(&canary, &mut seen, |seen| seen.next[0] >= 20).await;
    let (status, refused) = admin::request(&canary.rig.socket, "PUT", path, Some(&moved))
        .await
        .unwrap();
    let refused = String::from_utf8_lossy(&refused).into_owned();
    assert!(status == 409 && refused.contains("--back"), "{refused}");
    canary.turn(Mood::Failing);
    let turned = Instant::now();
    ask(&canary, &mut seen, |seen| seen.next[1] >= 3).await;
    let ended = canary
        .until("back", |plan| plan.state != PlanState::Running)
        .await;
    assert!(
        turned.elapsed() < Duration::from_secs(20),
        "{:?}",
        turned.elapsed()
    );
    assert_eq!(ended.state, PlanState::WentBack, "{ended:#?}");
    let reason = ended.reason.as_deref().unwrap();
    let says = format!(
        "5xx>1%: 3 of {} requests were answered with 5xx",
        seen.next[0]
    );
    assert!(reason.starts_with(&says), "{reason}");
    assert_eq!(Seen::reported(&ended), seen, "{ended:#?}");
    assert_eq!(canary.weights().await, moved["weights"]);
    canary.rig.logs("the plan ended before its time").await;
}

/// Clients that each ask once, every few milliseconds, and don't wait for each other.
async fn crowd(canary: &Canary) {
    loop {
        let address = canary.rig.address;
        tokio::spawn(async move {
            let mut client = Wire::connect(address).await;
            client
                .send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .await;
            let _ = client.rest().await;
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[lameduck_rig::test]
async fn pool_that_becomes_slow_or_hangs_is_taken_back_within_seconds() {
    for (mood, condition, says) in [
        (Mood::Slow, "p99>1s", "p99>1000ms: "),
        (Mood::Slow, "p50>3x", "(the others' p50 is "),
        (Mood::Hanging, "p99>1s", "p99>1000ms: "),
    ] {
        let canary = Canary::start("split = { app = 1, next = 1 }").await;
        canary
            .begin(json!({
                "pool": "next", "to": 80, "in": "60s", "steps": 2, "abort_on": [condition],
            }))
            .await;
        let following = async {
            canary
                .until("requests", |plan| Seen::reported(plan).next[0] >= 20)
                .await;
            canary.turn(mood);
            let turned = Instant::now();
            let ended = canary
                .until(condition, |plan| plan.state != PlanState::Running)
                .await;
            (turned.elapsed(), ended)
        };
        let (after, ended) = tokio::select! {
            ended = following => ended,
            () = crowd(&canary) => unreachable!(),
        };
        assert_eq!(ended.state, PlanState::WentBack, "{ended:#?}");
        assert!(after < Duration::from_secs(20), "{after:?}");
        let reason = ended.reason.unwrap();
        assert!(reason.contains(says), "{reason}");
        assert_eq!(canary.weights().await, json!({"app": 1, "next": 1}));
    }
}

#[lameduck_rig::test]
async fn pool_without_a_backend_is_taken_back() {
    let canary = Canary::start("split = { app = 1, next = 0 }").await;
    canary
        .begin(json!({"pool": "next", "to": 100, "in": "60s"}))
        .await;
    let path = "/v1/pools/next/backends/b/drain";
    admin::call(&canary.rig.socket, "POST", path, Some(&json!({})))
        .await
        .unwrap();
    let ended = canary
        .until("back", |plan| plan.state != PlanState::Running)
        .await;
    assert_eq!(ended.state, PlanState::WentBack);
    let reason = ended.reason.unwrap();
    assert!(reason.contains("no backend was eligible for 5"), "{reason}");
    assert_eq!(canary.weights().await, json!({"app": 1, "next": 0}));
}

/// A reload that leaves the split leaves the plan, and goes on to count; another split ends it.
#[lameduck_rig::test]
async fn plan_goes_on_over_a_reload_unless_the_split_is_another() {
    let canary = Canary::start("split = { app = 1, next = 1 }").await;
    canary
        .begin(json!({"pool": "next", "to": 100, "in": "60s", "steps": 2}))
        .await;
    let mut seen = Seen::default();
    ask(&canary, &mut seen, |seen| seen.next[0] >= 10).await;
    let (status, _) = canary.rig.reload("rise = 1", "rise = 2").await;
    assert_eq!(status, 200);
    ask(&canary, &mut seen, |seen| seen.next[0] >= 20).await;
    let reported = |plan: &PlanView| Seen::reported(plan) == seen;
    canary.until("all requests", reported).await;
    let (status, _) = canary.rig.reload("next = 1", "next = 2").await;
    assert_eq!(status, 200);
    let ended = canary.plan().await;
    assert_eq!(ended.state, PlanState::Dropped);
    assert_eq!(canary.weights().await, json!({"app": 1, "next": 2}));
}
