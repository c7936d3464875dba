//! Sticky sessions in rolling restarts, with the oracle's load beside them: who meets a second instance, and when.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lameduck::tools::demo::admin;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::demo::roll::{self, DemoStep};
use lameduck_rig::wire::Wire;
use parking_lot::Mutex;

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::{Bench, turn_beside_one, until};

const PATIENCE: Duration = Duration::from_secs(30);

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
    /// What hashing goes by, where it is asked for.
    number: u32,
    stays: Vec<Stay>,
}

impl StickyClient {
    async fn new(address: SocketAddr) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        Self {
            wire: Wire::connect(address).await,
            cookie: String::new(),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            stays: Vec::new(),
        }
    }

    async fn ask(&mut self) {
        let from = Instant::now();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Visitor: {}\r\n{}\r\n",
            self.number, self.cookie
        );
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
    let _turn = turn_beside_one().await;
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

/// When each instance was away, and why a client of its own may have met another one.
#[derive(Default)]
struct Absences(HashMap<String, Vec<(Instant, Instant)>>);

impl Absences {
    fn note(&mut self, instance: &str, from: Instant, until: Instant) {
        let all = self.0.entry(instance.to_owned()).or_default();
        all.push((from, until));
    }

    /// Whether it was away at some time between these two.
    fn explain(&self, instance: &str, from: Instant, until: Instant) -> bool {
        let all = self.0.get(instance).into_iter().flatten();
        all.clone()
            .any(|(left, back)| *left <= until && from <= *back)
    }
}

/// Notes who is ejected, whoever it is: on a busy machine it may be others than the test means.
async fn watch_ejections(socket: PathBuf, pool: String, away: Arc<Mutex<Absences>>) {
    let path = format!("/v1/pools/{pool}");
    let mut last = Instant::now();
    loop {
        let look = Instant::now();
        let view = admin::call(&socket, "GET", &path, None).await.unwrap();
        for backend in view["backends"].as_array().into_iter().flatten() {
            if backend.get("ejected").is_some() {
                // It began after the last look.
                let name = backend["name"].as_str().unwrap();
                away.lock().note(name, last, Instant::now());
            }
        }
        last = look;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Everything at once: hashing, zones, a backup, an instance that is ejected because it has become slow,
/// and a restart of each one, with the oracle's load. A client that keeps its cookie leaves its instance only when
/// that one is ejected or drained; nobody meets the backup; and nothing is lost.
#[lameduck_rig::test]
async fn client_leaves_its_instance_only_when_that_is_ejected_or_drained() {
    let _turn = turn_beside_one().await;
    let mut bench = Bench::start("together", App::BuiltIn, 4).await.unwrap();
    let mut pool = String::from(
        "balance = \"hash\"\nhash_on = \"header:X-Visitor\"\nslow_start = { window = \"500ms\" }\n",
    );
    for (place, instance) in bench.instances.iter().enumerate() {
        let more = [
            "zone = \"a\"",
            "zone = \"a\"",
            "zone = \"a\"",
            "backup = true",
        ][place];
        pool += &format!(
            "[[pool.backend]]\nname = {:?}\naddress = \"{}\"\n{more}\n",
            instance.name(),
            instance.address()
        );
    }
    pool += "[pool.drain]\nclose_spread = \"1s\"\n[pool.sticky]\n\
             [pool.outlier]\nwindow = \"1s\"\nmin_requests = 10\nejection = \"1s\"\n";
    let settings = ProxySettings {
        pool,
        server: "zone = \"a\"".into(),
        ..ProxySettings::default()
    };
    let front = Front::lameduck_before(&bench, &[], &settings).await;
    let proxy = front.proxy();
    // Whoever is ready first takes what comes, the backup too.
    until("all to be ready", PATIENCE, async || {
        proxy.pool().await.unwrap().eligible == 4
    })
    .await;
    let load = Load::start(LoadPlan::new(front.address(), 100));
    let over = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..20)
        .map(|_| tokio::spawn(stay_long(front.address(), over.clone())))
        .collect();
    let away = Arc::new(Mutex::new(Absences::default()));
    let watch = tokio::spawn(watch_ejections(
        proxy.socket().to_owned(),
        proxy.pool().await.unwrap().name,
        away.clone(),
    ));
    until("everybody has come", PATIENCE, async || {
        let pool = proxy.pool().await.unwrap();
        let sessions = pool.backends.iter().filter_map(|view| view.sessions);
        sessions.sum::<u32>() >= 20
    })
    .await;
    // Slow for a while: it stands still for most of the time.
    let ejected = async |proxy: &DemoProxy, name: &str| {
        let pool = proxy.pool().await.unwrap();
        let view = pool.backends.iter().find(|view| view.name == name);
        view.unwrap().ejected.clone()
    };
    let slow = &mut bench.instances[0];
    let (name, began) = (slow.name().to_owned(), Instant::now());
    while ejected(proxy, &name).await.is_none() {
        assert!(began.elapsed() < PATIENCE, "it is never ejected");
        slow.process().signal(libc::SIGSTOP).unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
        slow.process().signal(libc::SIGCONT).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until("it is back", PATIENCE, async || {
        ejected(proxy, &name).await.is_none()
    })
    .await;
    // Each one restarted, drained before.
    for instance in &mut bench.instances {
        let began = Instant::now();
        roll::restart(instance, proxy, Duration::from_secs(10), &|_, _| {})
            .await
            .unwrap();
        let mut away = away.lock();
        away.note(instance.name(), began, Instant::now());
    }
    over.store(true, Ordering::SeqCst);
    watch.abort();
    let (mut moves, mut all) = (0, 0);
    let backup = bench.instances[3].name().to_owned();
    for visitor in visitors {
        let stays = visitor.await.unwrap();
        all += 1;
        for pair in stays.windows(2) {
            moves += 1;
            assert!(
                away.lock()
                    .explain(&pair[0].instance, pair[0].from, pair[1].until),
                "it left {} for {}, which was neither ejected nor drained",
                pair[0].instance,
                pair[1].instance
            );
        }
        assert!(
            stays.iter().all(|stay| stay.instance != backup),
            "somebody has met the backup"
        );
    }
    let account = bench.account(load.stop().await, &front).await;
    assert!(account.is_clean(), "{account}");
    assert_eq!(
        (account.delivered_twice, account.app_errors),
        (0, 0),
        "{account}"
    );
    assert!(moves >= all, "{moves} moves of {all}");
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
#[lameduck_rig::test]
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
#[lameduck_rig::test]
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
