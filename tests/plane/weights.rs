//! What a backend's weight means to a running proxy.

use lameduck_rig::backend::backends;
use lameduck_rig::proxy::{GET, Rig};

/// Not even where nothing else is ready: `weight = 0` is no share at all, until a reload gives it one.
#[lameduck_rig::test]
async fn weight_zero_gets_no_request_until_a_reload_gives_it_a_weight() {
    let (backends, port) = backends(1).await;
    let pool = format!(
        "[[pool.backend]]\nname = \"b1\"\naddress = \"{}\"\nweight = 0\n\
         [pool.health]\nport = {port}\nfast_interval = \"10ms\"\n[pool.hold]\non_empty = \"fail\"\n",
        backends[0].address
    );
    let rig = Rig::start(tempfile::tempdir().unwrap(), "", "", &pool, backends).await;
    rig.until_state(0, "ready").await;
    assert_eq!(rig.pool().await.eligible, 0);
    let answer = rig.ask(GET).await.response().await;
    assert!(answer.head.starts_with("HTTP/1.1 503"), "{}", answer.head);
    let (status, body) = rig.reload("weight = 0", "weight = 1").await;
    assert_eq!(status, 200, "{body}");
    rig.canary().await;
}
