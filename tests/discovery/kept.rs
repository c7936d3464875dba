//! A proxy that starts while its source is away.

use std::path::Path;
use std::time::{Duration, Instant};

use lameduck::registry::view::DiscoveryView;
use lameduck_rig::proxy::Rig;

use crate::crowd::{Crowd, CrowdLoad, ip};
use crate::dns_server::{Behaviour, DnsServer, Zone};
use crate::rig::{all_ready, pool, pool_becomes, proxy_of, state};

fn named(count: u16) -> Vec<(String, Vec<std::net::Ipv4Addr>)> {
    vec![("app.internal".to_owned(), (0..count).map(ip).collect())]
}

async fn started(server: &DnsServer, crowd: &Crowd, state_dir: &Path) -> Rig {
    let source = format!(
        "type = \"dns\"\nname = \"app.internal\"\nport = {}\nserver = \"{}\"\nmin_ttl = \"50ms\"\n\
         max_ttl = \"200ms\"\ntimeout = \"300ms\"\nconfirm_after = \"30s\"\n",
        crowd.port, server.address
    );
    let keeps = format!("state_dir = {state_dir:?}\n");
    proxy_of(tempfile::tempdir().unwrap(), &keeps, &source).await
}

/// Waits until so many backends of sources are on the disk.
async fn are_kept(state_dir: &Path, count: usize) {
    let begun = Instant::now();
    loop {
        let text = std::fs::read(state_dir.join("state.json")).unwrap_or_default();
        let kept: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let of_source = kept["sources"][0]["backends"].as_array();
        if of_source.map_or(0, Vec::len) == count {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{kept:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn source(rig: &Rig) -> DiscoveryView {
    pool(rig).await.discovery.remove(0)
}

#[lameduck_rig::test(threads = 2)]
async fn restart_while_the_source_is_away_goes_on_with_what_it_said() {
    let (crowd, dir) = (Crowd::start().await, tempfile::tempdir().unwrap());
    let server = DnsServer::start(Zone {
        addresses: named(4),
        ..Zone::default()
    })
    .await;
    let rig = started(&server, &crowd, dir.path()).await;
    all_ready(&rig, 4).await;
    are_kept(dir.path(), 4).await;
    // Killed, and its source is away.
    drop(rig);
    server.behaves(Behaviour::Silent);
    let rig = started(&server, &crowd, dir.path()).await;
    all_ready(&rig, 4).await;
    let load = CrowdLoad::start(rig.address, 2);
    load.answers(50).await;
    pool_becomes(&rig, "failing", |pool| state(pool) == "failing").await;
    let seen = source(&rig).await;
    assert!(seen.of_earlier_run && seen.backends == 4, "{seen:?}");
    assert!(seen.answer_age_ms.is_some(), "{seen:?}");
    rig.logs("before the last restart is used until it answers")
        .await;
    // It is back, and names one of four: doubted, as if there had been no restart.
    server.change(|zone| {
        zone.addresses = named(1);
        zone.behaviour = Behaviour::Honest;
    });
    let seen = pool_becomes(&rig, "doubted", |pool| state(pool) == "doubted").await;
    assert_eq!((seen.eligible, seen.backends.len()), (4, 4));
    assert!(!seen.discovery[0].of_earlier_run, "{:?}", seen.discovery);
    load.answers(50).await;
    let (_, lost) = load.finish().await;
    assert!(lost.is_empty(), "{lost:?}");
    // What the next one would begin with is what is in force, not what the last answer names.
    are_kept(dir.path(), 4).await;
    // An answer that says more is taken at once, and another restart begins with that.
    server.change(|zone| zone.addresses = named(5));
    all_ready(&rig, 5).await;
    are_kept(dir.path(), 5).await;
    drop(rig);
    // What can't be read is left aside, and nothing is made of it.
    server.behaves(Behaviour::ServFail);
    let path = dir.path().join("state.json");
    let torn = std::fs::read(&path).unwrap();
    std::fs::write(&path, &torn[..torn.len() / 2]).unwrap();
    let rig = started(&server, &crowd, dir.path()).await;
    pool_becomes(&rig, "failing", |pool| state(pool) == "failing").await;
    assert!(pool(&rig).await.backends.is_empty());
    assert!(!source(&rig).await.of_earlier_run);
    server.behaves(Behaviour::Honest);
    all_ready(&rig, 5).await;
}
