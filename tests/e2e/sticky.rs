//! Sticky sessions in rolling restarts, with the oracle's load beside them: who meets a second instance, and when.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::proxy::ProxySettings;
use lameduck::tools::demo::roll::{self, DemoStep};
use lameduck_rig::wire::Wire;
use parking_lot::Mutex;

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::{Bench, turn_alone};

/// What is seen of a client that keeps its cookie: which instance has answered, from when until when.
struct Stay {
    instance: String,
    from: Instant,
    until: Instant,
}

/// When each drain began, by instance.
type DrainLog = Arc<Mutex<HashMap<String, Vec<Instant>>>>;

struct StickyClient {
    wire: Wire,
    cookie: String,
    stays: Vec<Stay>,
}

impl StickyClient {
    async fn new(address: SocketAddr) -> Self {
        Self {
            wire: Wire::connect(address).await,
            cookie: String::new(),
            stays: Vec::new(),
        }
    }

    async fn ask(&mut self) {
        let from = Instant::now();
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", self.cookie);
        self.wire.send(request).await;
        let answer = self.wire.response().await;
        assert_eq!(answer.status(), 200, "{}", answer.head);
        let instance = answer.field("x-demo-app").expect("the app's answer");
        if let Some(set) = answer.field("set-cookie") {
            self.cookie = format!("Cookie: {}\r\n", set.split(';').next().unwrap());
        }
        let until = Instant::now();
        match self.stays.last_mut() {
            Some(stay) if stay.instance == instance => stay.until = until,
            _ => self.stays.push(Stay {
                instance: instance.to_owned(),
                from,
                until,
            }),
        }
    }
}

/// Restarts three instances, one after the other, under load and with clients that `visit` until it is over.
async fn roll_under_load<F: Future<Output = Vec<Stay>> + Send + 'static>(
    on_drain: &str,
    drain: Duration,
    visit: impl Fn(SocketAddr, Arc<AtomicBool>) -> F,
) -> (Vec<Vec<Stay>>, DrainLog) {
    let _turn = turn_alone().await;
    let mut bench = Bench::start("sticky", App::BuiltIn, 3).await.unwrap();
    let settings = ProxySettings {
        pool: format!(
            "[pool.drain]\nclose_spread = \"1s\"\n[pool.sticky]\non_drain = \"{on_drain}\""
        ),
        ..ProxySettings::default()
    };
    let front = Front::lameduck(&bench, &settings).await;
    let proxy = front.proxy();
    let plan = LoadPlan {
        slow: Duration::from_millis(500),
        ..LoadPlan::new(front.address(), 100)
    };
    let load = Load::start(plan);
    let over = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..20)
        .map(|_| tokio::spawn(visit(front.address(), over.clone())))
        .collect();
    let drains = DrainLog::default();
    for instance in &mut bench.instances {
        let tell = |name: &str, step| {
            if step == DemoStep::Draining {
                let mut drains = drains.lock();
                drains
                    .entry(name.to_owned())
                    .or_default()
                    .push(Instant::now());
            }
        };
        roll::restart(instance, proxy, drain, &tell).await.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    let mut all = Vec::new();
    for visitor in visitors {
        all.push(visitor.await.unwrap());
    }
    let account = bench.account(load.stop().await, &front).await;
    assert!(account.is_clean(), "{on_drain}:\n{account}");
    assert_eq!(
        (account.delivered_twice, account.app_errors),
        (0, 0),
        "{account}"
    );
    (all, drains)
}

/// Stays from the beginning to the end.
async fn stay_long(address: SocketAddr, over: Arc<AtomicBool>) -> Vec<Stay> {
    let mut client = StickyClient::new(address).await;
    while !over.load(Ordering::SeqCst) {
        client.ask().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.stays
}

/// A client that keeps its cookie leaves an instance only while that drains.
#[tokio::test]
async fn client_meets_a_second_instance_only_when_its_own_drains() {
    let (visits, drains) = roll_under_load("move", Duration::from_secs(10), stay_long).await;
    let drains = drains.lock();
    let mut moves = 0;
    for stays in &visits {
        for pair in stays.windows(2) {
            moves += 1;
            let began = &drains[&pair[0].instance];
            assert!(
                began
                    .iter()
                    .any(|at| *at <= pair[1].until && pair[0].from <= *at),
                "it left {} for {}, which did not drain",
                pair[0].instance,
                pair[1].instance
            );
        }
    }
    // Each instance had some, and all of them left.
    assert!(moves >= visits.len(), "{moves} moves of {}", visits.len());
}

/// Sessions of a second and their next ones, until all is over.
async fn stay_a_second(address: SocketAddr, over: Arc<AtomicBool>) -> Vec<Stay> {
    let mut all = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let mut client = StickyClient::new(address).await;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) {
            client.ask().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let count = client.stays.len();
        let instances: Vec<_> = client
            .stays
            .iter()
            .map(|stay| stay.instance.clone())
            .collect();
        assert_eq!(count, 1, "a session of a second was on {instances:?}");
        all.append(&mut client.stays);
    }
    all
}

/// An app that keeps sessions in memory loses none that ends before the deadline: each was on one instance from its first
/// request to its last, over three restarts. What does not end by itself leaves in time for the deadline to cut nothing.
#[tokio::test]
async fn session_that_ends_before_the_deadline_is_finished_where_it_began() {
    let (visits, drains) = roll_under_load("finish", Duration::from_secs(4), stay_a_second).await;
    let drains = drains.lock();
    let mut finished = 0;
    for stay in visits.iter().flatten() {
        let began = &drains[&stay.instance];
        finished += usize::from(began.iter().any(|at| stay.from < *at && *at < stay.until));
    }
    assert!(
        finished > 5,
        "{finished} sessions were under way when their instance drained"
    );
}
