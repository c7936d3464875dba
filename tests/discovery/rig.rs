//! The proxy, and what it says of its sources.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use lameduck::registry::view::{ChangeView, PoolView};
use lameduck::tools::demo::admin;
use lameduck_rig::proxy::Rig;

use crate::crowd::{Crowd, CrowdLoad, ip};

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A proxy with this source, and short times.
pub async fn proxy_with(dir: tempfile::TempDir, source: &str) -> Rig {
    proxy_of(dir, "", source).await
}

/// The same, with these lines in `[server]`.
pub async fn proxy_of(dir: tempfile::TempDir, server: &str, source: &str) -> Rig {
    let pool = format!(
        "balance = \"round_robin\"\n[[pool.discovery]]\n{source}\n[pool.health]\npath = \"/health\"\nrise = 1\n\
         interval = \"2s\"\ntimeout = \"2s\"\nfast_interval = \"50ms\"\n[pool.drain]\ndeadline = \"5s\"\n"
    );
    Rig::start(dir, server, "", &pool, Vec::new()).await
}

pub async fn pool(rig: &Rig) -> PoolView {
    let pool = admin::call(&rig.socket, "GET", "/v1/pools/app", None)
        .await
        .unwrap();
    serde_json::from_value(pool).unwrap()
}

pub async fn changes(rig: &Rig) -> Vec<ChangeView> {
    let changes = admin::call(&rig.socket, "GET", "/v1/changes", None)
        .await
        .unwrap();
    serde_json::from_value(changes).unwrap()
}

/// Waits until the pool is as it shall be.
pub async fn pool_becomes(rig: &Rig, what: &str, is_so: impl Fn(&PoolView) -> bool) -> PoolView {
    let begun = Instant::now();
    loop {
        let pool = pool(rig).await;
        if is_so(&pool) {
            return pool;
        }
        if begun.elapsed() > PATIENCE {
            let states: Vec<_> = pool
                .backends
                .iter()
                .map(|one| (&one.name, &one.state))
                .collect();
            panic!(
                "{what}: {} of {}, {:?}, {states:?}\n{}",
                pool.eligible,
                pool.backends.len(),
                pool.discovery,
                rig.log()
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until so many backends are there, and all of them take requests.
pub async fn all_ready(rig: &Rig, count: usize) {
    pool_becomes(rig, &format!("{count} ready"), |pool| {
        pool.eligible == count && pool.backends.len() == count
    })
    .await;
}

/// The source's state.
pub fn state(pool: &PoolView) -> &str {
    pool.discovery.first().map_or("", |one| &one.state)
}

/// 3 → `many` → 3 backends under load, whoever names them. `name` has the source name this many from now on.
pub async fn grows_and_shrinks(
    rig: &Rig,
    crowd: &Crowd,
    many: u16,
    mut name: impl AsyncFnMut(u16),
) {
    all_ready(rig, 3).await;
    let load = CrowdLoad::start(rig.address, 4);
    load.answers(100).await;
    name(many).await;
    all_ready(rig, many.into()).await;
    let since = Instant::now();
    // In turn: each of them comes once in as many requests, on each of the clients' way at the latest.
    load.answers(u64::from(many) * 2).await;
    let used = crowd.used_since(since);
    let missed: Vec<_> = (0..many)
        .map(ip)
        .map(IpAddr::from)
        .filter(|ip| !used.contains(ip))
        .collect();
    assert!(missed.is_empty(), "never used though ready: {missed:?}");
    name(3).await;
    // Told: those that are no longer named get nothing from here on.
    pool_becomes(rig, "3 left", |pool| pool.eligible == 3).await;
    // A request may have been given to one of them just before, and still be on its way there.
    load.each_is_answered().await;
    let since = Instant::now();
    load.answers(300).await;
    let three: BTreeSet<IpAddr> = (0..3).map(ip).map(IpAddr::from).collect();
    assert_eq!(crowd.used_since(since), three);
    all_ready(rig, 3).await;
    let (answered, lost) = load.finish().await;
    assert!(
        lost.is_empty(),
        "{} of {answered} lost: {:?}",
        lost.len(),
        &lost[..lost.len().min(5)]
    );
    println!("3 → {many} → 3: {answered} answered, 0 lost");
}

/// Replaces a file in one step.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}
