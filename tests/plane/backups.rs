//! Backups: backends that get requests only while no other can.

use std::time::Duration;

use lameduck_rig::backend::backends;
use lameduck_rig::proxy::{GET, Rig};
use lameduck_rig::wire::Wire;

/// `b1` and its backup `b2`.
async fn rig(pool: &str) -> Rig {
    let (backends, port) = backends(2).await;
    let (first, second) = (backends[0].address, backends[1].address);
    let pool = format!(
        "[[pool.backend]]\nname = \"b1\"\naddress = \"{first}\"\n\
         [[pool.backend]]\nname = \"b2\"\naddress = \"{second}\"\nbackup = true\n\
         [pool.health]\nport = {port}\nfast_interval = \"10ms\"\n{pool}"
    );
    let rig = Rig::start(tempfile::tempdir().unwrap(), "", "", &pool, backends).await;
    rig.until_state(0, "ready").await;
    rig.until_state(1, "ready").await;
    rig
}

async fn served_by(rig: &Rig, index: usize) {
    let mut client = rig.ask(GET).await;
    let mut backend = rig.backends[index].accept().await;
    backend.request().await;
    backend.answer_and_close("x").await;
    assert_eq!(client.response().await.text(), "x");
}

#[lameduck_rig::test]
async fn backup_gets_requests_while_the_other_is_drained_and_none_afterwards() {
    let rig = rig("").await;
    for _ in 0..5 {
        served_by(&rig, 0).await;
    }
    rig.begin_drain(0, "5s", "resumed").await;
    rig.until_state(0, "drained").await;
    served_by(&rig, 1).await;
    rig.resume(0).await;
    rig.until_state(0, "ready").await;
    for _ in 0..5 {
        served_by(&rig, 0).await;
    }
    assert_eq!(rig.view(1).await.requests, 1);
}

/// Its first backend refuses a request before anybody knows: the backup has it at once, and nobody waits.
#[lameduck_rig::test]
async fn backup_takes_a_request_that_the_others_refuse() {
    let mut rig = rig("[pool.hold]\non_empty = \"fail\"").await;
    rig.backends[0].refuse();
    served_by(&rig, 1).await;
    let line = &rig.access_log(1).await[0];
    assert_eq!(
        (&line["backend"], &line["status"]),
        (&"b2".into(), &200.into())
    );
}

/// As with HAProxy: more load is no failure, so a backend that is only full is waited for.
#[lameduck_rig::test]
async fn full_backend_is_waited_for_and_not_replaced_by_a_backup() {
    let rig = rig("[pool.upstream]\nmax_in_flight = 1").await;
    let mut first = rig.ask(GET).await;
    let mut backend: Wire = rig.backends[0].accept().await;
    backend.request().await;
    let mut second = rig.ask(GET).await;
    rig.until("one waits", |pool| pool.held == 1).await;
    assert!(!rig.backends[1].is_called(Duration::from_millis(100)).await);
    backend.answer_and_close("x").await;
    assert_eq!(first.response().await.text(), "x");
    let mut backend = rig.backends[0].accept().await;
    backend.request().await;
    backend.answer_and_close("y").await;
    assert_eq!(second.response().await.text(), "y");
}
