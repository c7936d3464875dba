//! Requests that the old process holds go where the new one's go: it alone is told of resumes, pauses and new backends.

use std::time::{Duration, Instant};

use lameduck::tools::demo::admin;
use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::Wire;
use serde_json::json;

use super::{EndOnDrop, PATIENCE, upgraded};

/// One backend, and an old process that would keep what it holds for a minute.
async fn rig() -> Rig {
    Rig::new(Setup {
        server: "lame_duck = \"0s\"\ndeadline = \"60s\"",
        pool: "[pool.hold]\ntimeout = \"60s\"",
        ..Setup::default()
    })
    .await
}

async fn held(rig: &Rig) -> Wire {
    let client = rig.ask(GET).await;
    rig.until("a held request", |pool| pool.held == 1).await;
    client
}

async fn is_answered(rig: &Rig, mut client: Wire) {
    let served = async {
        let mut backend = rig.backends[0].accept().await;
        backend.request().await;
        backend.answer_and_close("served").await;
        client.response().await.text().to_owned()
    };
    let served = tokio::time::timeout(PATIENCE, served).await;
    assert_eq!(served.expect("it waits on in the old process"), "served");
}

#[lameduck_rig::test]
async fn request_held_by_the_old_process_goes_on_when_the_new_one_s_pause_ends() {
    let rig = rig().await;
    let path = "/v1/pools/app/pause";
    let pause = json!({ "for": "5s" });
    admin::call(&rig.socket, "POST", path, Some(&pause))
        .await
        .unwrap();
    let paused = Instant::now();
    let client = held(&rig).await;
    let _ended = EndOnDrop::of(&upgraded(&rig.socket).await);
    // Somebody needs more time: what the old process holds waits, too.
    let pause = json!({ "for": "50s" });
    admin::call(&rig.socket, "POST", path, Some(&pause))
        .await
        .unwrap();
    let past_the_first = Duration::from_secs(6).saturating_sub(paused.elapsed());
    assert!(!rig.backends[0].is_called(past_the_first).await);
    admin::call(&rig.socket, "DELETE", path, None)
        .await
        .unwrap();
    is_answered(&rig, client).await;
}

#[lameduck_rig::test]
async fn request_held_by_the_old_process_goes_to_a_backend_that_the_new_one_opens() {
    let rig = rig().await;
    rig.begin_drain(0, "5s", "resumed").await;
    rig.until_state(0, "drained").await;
    let client = held(&rig).await;
    let _ended = EndOnDrop::of(&upgraded(&rig.socket).await);
    rig.resume(0).await;
    is_answered(&rig, client).await;
}
