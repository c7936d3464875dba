//! Balancing by hash, by latency and by zone, and the slow start of both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lameduck_rig::backend::{Backend, backends};
use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::Wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Instances that answer each request with their name, after a time that can be changed.
struct Apps {
    rig: Rig,
    delays: Vec<Arc<AtomicU64>>,
}

/// Answers everything on one connection.
async fn answer(mut stream: TcpStream, name: String, delay: Arc<AtomicU64>) {
    let mut read = Vec::new();
    loop {
        while !read.windows(4).any(|four| four == b"\r\n\r\n") {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        read.clear();
        let millis = delay.load(Ordering::Relaxed);
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        let length = name.len();
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}");
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn serve(backend: &mut Backend, name: String) -> Arc<AtomicU64> {
    let listener = backend.take_listener();
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let delay = Arc::new(AtomicU64::new(0));
    let given = delay.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, name.clone(), given.clone()));
        }
    });
    delay
}

impl Apps {
    /// `b1`, `b2`, … with these keys of their own, of a pool with these.
    async fn start(server: &str, keys: &str, each: &[&str], tables: &str) -> Self {
        let (mut backends, port) = backends(each.len()).await;
        let (mut pool, mut delays) = (format!("{keys}\n"), Vec::new());
        for (index, (backend, own)) in backends.iter_mut().zip(each).enumerate() {
            let name = format!("b{}", index + 1);
            pool += &format!(
                "[[pool.backend]]\nname = \"{name}\"\naddress = \"{}\"\n{own}\n",
                backend.address
            );
            delays.push(serve(backend, name));
        }
        pool += &format!("[pool.health]\nport = {port}\nfast_interval = \"10ms\"\n{tables}");
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::start(dir, server, "", &pool, backends).await;
        for index in 0..each.len() {
            rig.until_state(index, "ready").await;
        }
        Self { rig, delays }
    }

    /// Who answers a request with this target and these fields.
    async fn ask(&self, target: &str, fields: &str) -> String {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        self.rig
            .ask(request)
            .await
            .response()
            .await
            .text()
            .to_owned()
    }

    /// Who answers each of these paths.
    async fn map(&self, count: usize) -> BTreeMap<usize, String> {
        let mut map = BTreeMap::new();
        for n in 0..count {
            map.insert(n, self.ask(&format!("/{n}"), "").await);
        }
        map
    }
}

#[lameduck_rig::test]
async fn key_stays_at_its_backend_and_moves_only_while_that_is_drained() {
    for balance in ["hash", "ketama_nginx"] {
        let keys = format!("balance = \"{balance}\"\nhash_on = \"path\"");
        let apps = Apps::start("", &keys, &[""; 4], "").await;
        let before = apps.map(60).await;
        let used: BTreeSet<_> = before.values().collect();
        assert_eq!(used.len(), 4, "{balance}: all have some: {before:?}");
        assert_eq!(before, apps.map(60).await, "{balance}");
        apps.rig.begin_drain(1, "5s", "resumed").await;
        apps.rig.until_state(1, "drained").await;
        let meanwhile = apps.map(60).await;
        for (key, from) in &before {
            let to = &meanwhile[key];
            match from.as_str() {
                "b2" => assert_ne!(to, "b2", "{balance}"),
                _ => assert_eq!(to, from, "{balance}: no other key moves"),
            }
        }
        apps.rig.resume(1).await;
        apps.rig.until_state(1, "ready").await;
        assert_eq!(
            before,
            apps.map(60).await,
            "{balance}: it has its keys back"
        );
    }
}

/// A restart on another port moves nobody with `hash`: the name counts.
#[lameduck_rig::test]
async fn backend_that_comes_back_at_another_address_keeps_its_keys() {
    let apps = Apps::start("", "balance = \"hash\"\nhash_on = \"path\"", &[""; 3], "").await;
    let before = apps.map(40).await;
    let (mut other, _) = backends(1).await;
    serve(&mut other[0], "b1".into());
    let old = apps.rig.backends[0].address.to_string();
    let (status, body) = apps.rig.reload(&old, &other[0].address.to_string()).await;
    assert_eq!(status, 200, "{body}");
    let new = other[0].address.to_string();
    apps.rig
        .until("it is ready there", |pool| {
            let mut there = pool.backends.iter();
            pool.backends.len() == 3 && there.any(|b| b.address == new && b.state == "ready")
        })
        .await;
    assert_eq!(before, apps.map(40).await);
}

#[lameduck_rig::test]
async fn hash_goes_by_what_hash_on_names_and_spreads_requests_that_lack_it() {
    for (on, same, other) in [
        ("header:X-Tenant", "x-tenant: 7", "X-Tenant: "),
        ("cookie:sid", "Cookie: a=b; sid=7", "Cookie: sid="),
    ] {
        let keys = format!("balance = \"hash\"\nhash_on = \"{on}\"");
        let apps = Apps::start("", &keys, &[""; 4], "").await;
        let (mut alike, mut unlike, mut without) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for n in 0..40 {
            alike.insert(apps.ask(&format!("/{n}"), &format!("{same}\r\n")).await);
            unlike.insert(apps.ask("/", &format!("{other}{n}\r\n")).await);
            without.insert(apps.ask("/", "").await);
        }
        assert_eq!(
            (alike.len(), unlike.len(), without.len()),
            (1, 4, 4),
            "{on}"
        );
    }
    for (on, by_path, by_query) in [("client", 1, 1), ("path", 4, 1), ("uri", 4, 4)] {
        let keys = format!("balance = \"hash\"\nhash_on = \"{on}\"");
        let apps = Apps::start("", &keys, &[""; 4], "").await;
        let (mut paths, mut queries) = (BTreeSet::new(), BTreeSet::new());
        for n in 0..40 {
            paths.insert(apps.ask(&format!("/{n}"), "").await);
            queries.insert(apps.ask(&format!("/?{n}"), "").await);
        }
        assert_eq!((paths.len(), queries.len()), (by_path, by_query), "{on}");
    }
}

/// All requests have one key and none ends: no backend gets more than 1.25 times its part, rounded up.
#[lameduck_rig::test]
async fn hash_load_bounds_what_one_key_brings_to_its_backend() {
    for (load, most) in [("1.25", 8), ("0", 24)] {
        let keys = format!("balance = \"hash\"\nhash_on = \"path\"\nhash_load = {load}");
        let apps = Apps::start("", &keys, &[""; 4], "").await;
        for delay in &apps.delays {
            delay.store(3_600_000, Ordering::Relaxed);
        }
        let mut clients = Vec::new();
        for n in 1..=24 {
            let client = apps.rig.ask("GET /same HTTP/1.1\r\nHost: a\r\n\r\n").await;
            clients.push(client);
            let all = |pool: &lameduck::registry::view::PoolView| {
                pool.backends.iter().map(|b| b.in_flight).sum::<u32>() == n
            };
            apps.rig.until("it is under way", all).await;
        }
        let pool = apps.rig.pool().await;
        let loads: Vec<_> = pool.backends.iter().map(|b| b.in_flight).collect();
        assert_eq!(
            loads.iter().max(),
            Some(&most),
            "hash_load {load}: {loads:?}"
        );
    }
}

#[lameduck_rig::test]
async fn slow_backend_gets_few_requests_from_peak_ewma() {
    let apps = Apps::start("", "balance = \"peak_ewma\"", &[""; 3], "").await;
    apps.delays[0].store(60, Ordering::Relaxed);
    let mut counts = BTreeMap::new();
    for _ in 0..120 {
        *counts.entry(apps.ask("/", "").await).or_insert(0) += 1;
    }
    // Its first answer tells; one after the other, by turns, would be 40.
    assert!(counts["b1"] <= 10, "{counts:?}");
    assert!(counts["b2"] >= 20 && counts["b3"] >= 20, "{counts:?}");
}

/// What fails at once must not look fast.
#[lameduck_rig::test]
async fn failing_backend_gets_few_requests_from_peak_ewma() {
    let apps = Apps::start("", "balance = \"peak_ewma\"", &[""; 3], "").await;
    let (mut other, _) = backends(1).await;
    let listener = other[0].take_listener();
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let tries = Arc::new(AtomicU64::new(0));
    let counted = tries.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let failed = "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(failed.as_bytes()).await;
        }
    });
    let old = apps.rig.backends[0].address.to_string();
    let new = other[0].address.to_string();
    let (status, body) = apps.rig.reload(&old, &new).await;
    assert_eq!(status, 200, "{body}");
    apps.rig
        .until("it is ready there", |pool| {
            let mut there = pool.backends.iter();
            pool.backends.len() == 3 && there.any(|b| b.address == new && b.state == "ready")
        })
        .await;
    for _ in 0..120 {
        apps.ask("/", "").await;
    }
    assert!(tries.load(Ordering::Relaxed) <= 10, "{tries:?}");
}

#[lameduck_rig::test]
async fn local_zone_comes_first_and_others_take_what_it_has_no_room_for() {
    let zone = |zone: &str| format!("zone = \"{zone}\"");
    let (here, there) = (zone("a"), zone("b"));
    let own = [here.as_str(), &there, "backup = true"];
    let limit = "[pool.upstream]\nmax_in_flight = 2";
    let apps = Apps::start("zone = \"a\" # of the proxy", "", &own, limit).await;
    for _ in 0..10 {
        assert_eq!(apps.ask("/", "").await, "b1");
    }
    let view = apps.rig.view(1).await;
    assert_eq!(view.zone.as_deref(), Some("b"));
    // Full: the others take it, and the backup waits.
    let waiting = |count: u32, index: usize| {
        move |pool: &lameduck::registry::view::PoolView| pool.backends[index].in_flight == count
    };
    apps.delays[0].store(3_600_000, Ordering::Relaxed);
    let mut clients = Vec::new();
    for n in 1..=2 {
        clients.push(apps.rig.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await);
        apps.rig.until("it is at b1", waiting(n, 0)).await;
    }
    for _ in 0..5 {
        assert_eq!(apps.ask("/", "").await, "b2");
    }
    clients.into_iter().for_each(Wire::reset);
    apps.rig.until("it has room", waiting(0, 0)).await;
    apps.delays[0].store(0, Ordering::Relaxed);
    assert_eq!(apps.ask("/", "").await, "b1");
    // Drained: the others serve, and when they are drained, too, the backup.
    for (index, serves) in [(0, "b2"), (1, "b3")] {
        apps.rig.begin_drain(index, "5s", "resumed").await;
        apps.rig.until_state(index, "drained").await;
        assert_eq!(apps.ask("/", "").await, serves);
    }
    apps.rig.resume(0).await;
    apps.rig.until_state(0, "ready").await;
    assert_eq!(apps.ask("/", "").await, "b1");
    // The proxy has moved.
    let (status, body) = apps.rig.reload("\"a\" # of", "\"b\" # of").await;
    assert_eq!(status, 200, "{body}");
    apps.rig.resume(1).await;
    apps.rig.until_state(1, "ready").await;
    assert_eq!(apps.ask("/", "").await, "b2");
}

/// While it warms up, a backend has ever more of its keys, and no other key moves.
#[lameduck_rig::test]
async fn backend_that_warms_up_gets_its_keys_back_one_after_the_other() {
    let window = Duration::from_millis(1500);
    let tables = "[pool.slow_start]\nwindow = \"1500ms\"";
    let keys = "balance = \"hash\"\nhash_on = \"path\"";
    let apps = Apps::start("", keys, &[""; 3], tables).await;
    tokio::time::sleep(window).await;
    let before = apps.map(60).await;
    apps.rig.begin_drain(0, "5s", "resumed").await;
    apps.rig.until_state(0, "drained").await;
    apps.rig.resume(0).await;
    apps.rig.until_state(0, "ready").await;
    let ready = tokio::time::Instant::now();
    let its: Vec<_> = before.iter().filter(|(_, name)| *name == "b1").collect();
    let (mut counts, mut back, mut first) = (Vec::new(), BTreeSet::new(), None);
    while ready.elapsed() < window + Duration::from_millis(200) {
        let now = apps.map(60).await;
        for (key, name) in before.iter().filter(|(_, name)| *name != "b1") {
            assert_eq!(now[key], *name, "a key of another backend has moved");
        }
        let here: BTreeSet<_> = now.into_iter().filter(|(_, name)| name == "b1").collect();
        assert!(
            here.is_superset(&back),
            "a key that was back has gone again"
        );
        counts.push(here.len());
        first.get_or_insert(ready.elapsed());
        back = here;
    }
    // On a machine that is so busy that the first round took longer, there is nothing to see.
    if first.is_some_and(|first| first < window / 2) {
        assert!(counts[0] < its.len(), "{counts:?} of {}", its.len());
    }
    assert_eq!(before, apps.map(60).await);
}
