//! The proxy goes and comes back under running launchers.

use std::time::{Duration, Instant};

use crate::rig::{PATIENCE, Rig, figure, proving, until};

async fn comes_back(signal: i32) {
    let mut rig = Rig::start().await;
    let mut running = vec![rig.launch("api-0", &[]), rig.launch("api-1", &[])];
    rig.ready("api-0").await;
    rig.ready("api-1").await;
    rig.proxy.process().signal(signal).unwrap();
    rig.proxy.process().wait(PATIENCE).await.unwrap();
    let begun = Instant::now();
    rig.proxy_again().await;
    until("both are back", async || {
        let backends = rig.backends().await;
        let drained = backends.iter().any(|backend| !backend.drains.is_empty());
        assert!(!drained, "none is drained by mistake: {backends:?}");
        backends
            .iter()
            .filter(|backend| backend.state == "ready")
            .count()
            == 2
    })
    .await;
    let took = begun.elapsed();
    figure(&format!(
        "after signal {signal} to the proxy, back {took:?} after its start"
    ));
    let limit = if proving() { 1 } else { 10 };
    assert!(took < Duration::from_secs(limit), "{took:?}");
    for launched in &mut running {
        assert!(launched.stop().await.success(), "{}", launched.said());
    }
}

#[lameduck_rig::test]
async fn launchers_register_again_when_the_proxy_is_restarted() {
    comes_back(libc::SIGTERM).await;
}

#[lameduck_rig::test]
async fn launchers_register_again_when_the_proxy_has_crashed() {
    comes_back(libc::SIGKILL).await;
}

#[lameduck_rig::test]
async fn without_a_proxy_the_app_starts_and_stops_in_time() {
    let mut rig = Rig::start().await;
    rig.proxy.stop(PATIENCE).await.unwrap();
    let mut launched = rig.launch("api-0", &["--drain-timeout", "60s"]);
    launched.says("Starting the app anyway").await;
    launched.says("not registered: can't reach the proxy").await;
    rig.proxy_again().await;
    rig.ready("api-0").await;
    // Gone again: now it was registered, and something may be in flight.
    rig.proxy.stop(PATIENCE).await.unwrap();
    until("the launcher says so again", async || {
        launched.said().matches("not registered").count() >= 2
    })
    .await;
    let begun = Instant::now();
    assert!(launched.stop().await.success(), "{}", launched.said());
    // Far from the drain's deadline.
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert!(
        launched.said().contains("without a drain"),
        "{}",
        launched.said()
    );
}

#[lameduck_rig::test]
async fn leases_survive_a_reload_and_follow_their_pool() {
    let mut rig = Rig::start().await;
    let mut launched = rig.launch("api-0", &[]);
    rig.ready("api-0").await;
    let before = rig.backends().await;
    let config = std::fs::read_to_string(rig.proxy.config()).unwrap();
    std::fs::write(
        rig.proxy.config(),
        config.replace("name = \"app\"", "name = \"app\"\nbalance = \"random\""),
    )
    .unwrap();
    reload(&rig).await;
    let after = rig.backends().await;
    assert_eq!(rig.proxy.pool().await.unwrap().balance, "random");
    assert_eq!(
        (after[0].incarnation, &*after[0].state, &*after[0].source),
        (before[0].incarnation, "ready", "lease")
    );
    // Without its pool it waits, and comes back with it.
    std::fs::write(
        rig.proxy.config(),
        config.replace("name = \"app\"", "name = \"other\""),
    )
    .unwrap();
    reload(&rig).await;
    launched.says("there is no pool `app`").await;
    std::fs::write(rig.proxy.config(), &config).unwrap();
    reload(&rig).await;
    rig.ready("api-0").await;
    assert!(launched.stop().await.success(), "{}", launched.said());
}

async fn reload(rig: &Rig) {
    let path = "/v1/config/reload";
    lameduck::tools::demo::admin::call(rig.proxy.socket(), "POST", path, None)
        .await
        .unwrap();
}
