//! `type = "dns"`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::crowd::{Crowd, CrowdLoad, ip};
use crate::dns_server::{Behaviour, DnsServer, Zone};
use crate::rig::{all_ready, grows_and_shrinks, pool, pool_becomes, proxy_with, state};

const NAME: &str = "app.internal";

fn named(count: u16) -> Vec<(String, Vec<std::net::Ipv4Addr>)> {
    vec![(NAME.to_owned(), (0..count).map(ip).collect())]
}

async fn server(count: u16) -> DnsServer {
    let zone = Zone {
        addresses: named(count),
        ttl: 0,
        ..Zone::default()
    };
    DnsServer::start(zone).await
}

fn source(server: &DnsServer, crowd: &Crowd, more: &str) -> String {
    format!(
        "type = \"dns\"\nname = \"{NAME}\"\nport = {}\nserver = \"{}\"\nmin_ttl = \"50ms\"\nmax_ttl = \"200ms\"\n\
         timeout = \"300ms\"\n{more}",
        crowd.port, server.address
    )
}

#[lameduck_rig::test(threads = 2)]
async fn a_name_that_grows_to_a_thousand_and_back_costs_no_request() {
    let (crowd, server) = (Crowd::start().await, server(3).await);
    let dir = tempfile::tempdir().unwrap();
    let source =
        source(&server, &crowd, "confirm_after = \"500ms\"\n").replace("\"300ms\"", "\"5s\"");
    let rig = proxy_with(dir, &source).await;
    grows_and_shrinks(&rig, &crowd, 1000, async |count| {
        server.change(|zone| zone.addresses = named(count));
    })
    .await;
    assert!(
        server.by_tcp.load(Ordering::Relaxed) > 0,
        "16 KiB don't fit into a datagram"
    );
}

#[lameduck_rig::test(threads = 2)]
async fn storms_of_wrong_and_missing_answers_change_nothing() {
    let (crowd, server) = (Crowd::start().await, server(4).await);
    let dir = tempfile::tempdir().unwrap();
    let rig = proxy_with(dir, &source(&server, &crowd, "confirm_after = \"100ms\"")).await;
    all_ready(&rig, 4).await;
    let ids = |pool: &lameduck::registry::view::PoolView| -> Vec<u64> {
        pool.backends.iter().map(|one| one.id).collect()
    };
    let before = ids(&pool(&rig).await);
    let load = CrowdLoad::start(rig.address, 2);
    for (behaviour, becomes) in [
        (Behaviour::NxDomain, "doubted"),
        (Behaviour::ServFail, "failing"),
        (Behaviour::Silent, "failing"),
        (Behaviour::Garbage, "failing"),
    ] {
        server.behaves(behaviour);
        pool_becomes(&rig, becomes, |pool| state(pool) == becomes).await;
        // Many times over what it takes to confirm an answer.
        let asked = server.asked.load(Ordering::Relaxed);
        while server.asked.load(Ordering::Relaxed) < asked + 6 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        load.answers(20).await;
        let seen = pool(&rig).await;
        assert_eq!(seen.eligible, 4, "{becomes}");
        assert_eq!(ids(&seen), before, "{becomes}");
        server.behaves(Behaviour::Honest);
        pool_becomes(&rig, "ok again", |pool| state(pool) == "ok").await;
    }
    // A name without records is no name without backends, either.
    server.change(|zone| zone.addresses.clear());
    pool_becomes(&rig, "doubted", |pool| state(pool) == "doubted").await;
    load.answers(20).await;
    assert_eq!(ids(&pool(&rig).await), before);
    let (_, lost) = load.finish().await;
    assert!(lost.is_empty(), "{lost:?}");
    let drains: Vec<_> = pool(&rig)
        .await
        .backends
        .iter()
        .flat_map(|one| one.drains.clone())
        .collect();
    assert!(drains.is_empty(), "{drains:?}");
}

#[lameduck_rig::test]
async fn answers_hold_for_their_ttl_within_the_bounds() {
    let (crowd, server) = (Crowd::start().await, server(2).await);
    server.change(|zone| zone.ttl = 3600);
    let dir = tempfile::tempdir().unwrap();
    let text = source(&server, &crowd, "").replace("\"200ms\"", "\"1h\"");
    let rig = proxy_with(dir, &text).await;
    all_ready(&rig, 2).await;
    let asked = server.asked.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        server.asked.load(Ordering::Relaxed),
        asked,
        "an hour is not over"
    );
    // A ceiling below the TTL, by a reload: the same backends, asked for more often.
    rig.reload("\"1h\"", "\"100ms\"").await;
    server.change(|zone| zone.addresses = named(3));
    all_ready(&rig, 3).await;
}

#[lameduck_rig::test]
async fn services_bring_ports_weights_and_backups() {
    let (crowd, dir) = (Crowd::start().await, tempfile::tempdir().unwrap());
    let service = |priority, weight, host: &str| (priority, weight, crowd.port, host.to_owned());
    let server = DnsServer::start(Zone {
        services: vec![
            service(1, 10, "a.internal"),
            service(1, 30, "b.internal"),
            service(2, 10, "c.internal"),
        ],
        addresses: vec![
            ("a.internal".into(), vec![ip(0)]),
            ("b.internal".into(), vec![ip(1)]),
            ("c.internal".into(), vec![ip(2)]),
        ],
        ..Zone::default()
    })
    .await;
    let text = source(&server, &crowd, "record = \"srv\"")
        .replace(NAME, "_http._tcp.app.internal")
        .replace(&format!("port = {}\n", crowd.port), "");
    let rig = proxy_with(dir, &text).await;
    all_ready(&rig, 3).await;
    let seen = pool(&rig).await;
    let one = |host: &str| {
        let name = format!("{host}.internal-{}", crowd.port);
        seen.backends
            .iter()
            .find(|one| one.name == name)
            .unwrap()
            .clone()
    };
    assert_eq!((one("a").weight, one("b").weight), (10, 30));
    assert!(!one("a").backup && one("c").backup);
    // A target that moves is another process under the same name.
    server.change(|zone| zone.addresses[0].1 = vec![ip(9)]);
    let name = one("a").name;
    pool_becomes(&rig, "moved", |pool| {
        pool.backends.len() == 3
            && pool.eligible == 3
            && pool
                .backends
                .iter()
                .any(|one| one.address == crowd.address(9).to_string())
    })
    .await;
    let moved = pool(&rig).await;
    let moved = moved
        .backends
        .iter()
        .find(|one| one.address == crowd.address(9).to_string());
    assert!(moved.unwrap().name.starts_with(&name));
    assert_eq!(moved.unwrap().incarnation, one("a").incarnation + 1);
}

#[lameduck_rig::test]
async fn one_family_alone_is_asked_for_where_the_section_says_so() {
    let (crowd, server) = (Crowd::start().await, server(2).await);
    let dir = tempfile::tempdir().unwrap();
    // The zone has A records only.
    let rig = proxy_with(dir, &source(&server, &crowd, "family = \"ipv6\"")).await;
    let seen = pool_becomes(&rig, "an answer", |pool| state(pool) == "ok").await;
    assert!(seen.backends.is_empty(), "{:?}", seen.backends);
    rig.reload("\"ipv6\"", "\"ipv4\"").await;
    all_ready(&rig, 2).await;
}
