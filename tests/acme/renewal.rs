//! Certificates are replaced in time, and nobody notices.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::authority::TestAuthority;
use super::rig::{Ports, Proxy, scratch, until};

const DAY: i64 = 86_400;

#[lameduck_rig::test]
async fn renewal_under_load_fails_no_handshake() {
    let dir = scratch();
    let ports = Ports::free();
    let authority = TestAuthority::start(dir.path(), &[ports.plain]).await;
    // Of six days, and past its half; then of ninety.
    authority.script.lock().lives = [(-4 * DAY, 2 * DAY), (-3600, 90 * DAY)].into();
    // The second one not before everybody has seen the first.
    authority.script.lock().most_orders = 1;
    let acme = authority.keys(&["a.test", "b.test"]);
    let proxy = Arc::new(Proxy::start(&dir.path().join("proxy"), ports, "", &acme).await);
    let client = authority.client();
    let first = proxy.until_served("a.test", &client).await.certificate;
    let is_over = Arc::new(AtomicBool::new(false));
    let handshakes = Arc::new(AtomicUsize::new(0));
    let clients = (0..4).map(|n| {
        let (proxy, client, is_over) = (proxy.clone(), client.clone(), is_over.clone());
        let handshakes = handshakes.clone();
        tokio::spawn(async move {
            let mut seen = HashSet::new();
            while !is_over.load(Ordering::Relaxed) {
                let name = ["a.test", "b.test"][n % 2];
                let got = proxy.get(name, &client).await.unwrap();
                assert!(got.answer.ends_with("hello"));
                seen.insert(got.certificate);
                handshakes.fetch_add(1, Ordering::Relaxed);
            }
            seen
        })
    });
    let clients: Vec<_> = clients.collect();
    until("handshakes", async || {
        handshakes.load(Ordering::Relaxed) > 50
    })
    .await;
    authority.script.lock().most_orders = 2;
    until("the renewal", async || authority.orders() == 2).await;
    proxy.until_state("good").await;
    until("the new one", async || {
        proxy.get("a.test", &client).await.unwrap().certificate != first
    })
    .await;
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        let seen = client.await.unwrap();
        assert!(seen.len() <= 2, "{}", seen.len());
    }
    assert_eq!(authority.orders(), 2);
    let left = proxy.listener().await["certificates"][0]["days_left"].as_u64();
    assert!(left >= Some(89), "{left:?}");
}

#[lameduck_rig::test]
async fn authority_that_wants_a_renewal_gets_it_and_is_told_what_it_replaces() {
    let dir = scratch();
    let ports = Ports::free();
    let authority = TestAuthority::start(dir.path(), &[ports.plain]).await;
    // It has to revoke the first one; the second one has time.
    authority.script.lock().windows = Some(vec![(-2 * DAY, -DAY), (40 * DAY, 41 * DAY)]);
    let acme = authority.keys(&["a.test"]);
    let proxy = Proxy::start(&dir.path().join("proxy"), ports, "", &acme).await;
    until("the second order", async || authority.orders() == 2).await;
    let replaces = authority.heard.lock().orders[1]["replaces"].clone();
    let (signer, serial) = replaces.as_str().unwrap().split_once('.').unwrap();
    assert!(signer.len() > 10 && serial == "AQ", "{replaces}");
    assert!(authority.heard.lock().orders[0].get("replaces").is_none());
    // In the window, and not a third before the end of its 90 days: that is the date until the authority has told its window.
    let days_left = |good: &serde_json::Value| {
        let next = humantime::parse_rfc3339(good["next_order"].as_str()?).ok()?;
        let left = next.duration_since(std::time::SystemTime::now()).ok()?;
        Some(left.as_secs() / 86_400)
    };
    until("the second window", async || {
        let good = proxy.until_state("good").await;
        days_left(&good).is_some_and(|days| (39..=41).contains(&days))
    })
    .await;
    assert_eq!(authority.asked("ari"), 2);
    proxy.logs("https://authority.test/why").await;
}

#[lameduck_rig::test]
async fn reload_that_adds_a_name_serves_the_old_certificate_until_the_new_one_is_there() {
    let dir = scratch();
    let ports = Ports::free();
    let authority = TestAuthority::start(dir.path(), &[ports.plain]).await;
    let keys = |domains: &[&str]| authority.keys(domains);
    let proxy = Proxy::start(&dir.path().join("proxy"), ports, "", &keys(&["a.test"])).await;
    let client = authority.client();
    proxy.until_served("a.test", &client).await;
    let changes = proxy.reload("", &keys(&["a.test", "b.test"])).await;
    assert!(changes.to_string().contains("domains"), "{changes}");
    // Nothing is refused in between.
    let mut tries = 0;
    while proxy.get("b.test", &client).await.is_err() {
        assert!(proxy.get("a.test", &client).await.is_ok());
        tries += 1;
        assert!(tries < 3000, "{}", proxy.log());
    }
    assert_eq!(authority.orders(), 2);
    // A name less is no reason for an order: it goes with the next renewal.
    proxy.reload("", &keys(&["a.test"])).await;
    proxy.until_state("good").await;
    assert!(proxy.get("a.test", &client).await.is_ok());
    assert_eq!(authority.orders(), 2);
}
