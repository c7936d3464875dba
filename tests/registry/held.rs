//! Requests that wait because nothing is eligible: all of them go when something is, at a pace.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use lameduck::core::backend::ProbeResult;
use lameduck::core::hold::second_look;
use lameduck::registry::RegistryHandle;
use lameduck::registry::snapshot::{PoolShared, PoolSnapshot};
use tokio::time::{sleep, timeout};

use crate::rig::{PATIENCE, Rig, TWO, pool};

struct Place(Arc<PoolShared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What `proxy::hold` does, without a client: counted first, then a look, then the wait. `stall`: how long the
/// thread is away in between.
async fn hold(handle: &RegistryHandle, pool: &PoolSnapshot, stall: Duration) {
    let shared = &pool.shared;
    shared.held.fetch_add(1, Ordering::SeqCst);
    let _place = Place(shared.clone());
    fence(Ordering::SeqCst);
    let ready = handle
        .snapshot()
        .pools
        .iter()
        .any(|pool| !pool.ready.is_empty());
    if !stall.is_zero() {
        sleep(stall).await;
    }
    let look_again = async {
        match ready {
            true => sleep(second_look(0)).await,
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        permit = shared.queue.release.acquire() => permit.unwrap().forget(),
        () = look_again => {}
    }
}

/// A whole request: tries, waits, tries again; says when it got in.
async fn request(handle: RegistryHandle, mut pool: Arc<PoolSnapshot>, stall: Duration) -> Instant {
    loop {
        if pool
            .ready
            .iter()
            .any(|endpoint| endpoint.permit(0).is_some())
        {
            return Instant::now();
        }
        hold(&handle, &pool, stall).await;
        let snapshot = handle.snapshot();
        pool = snapshot.pools[0].clone();
    }
}

fn requests(rig: &Rig, count: usize, stall: Duration) -> tokio::task::JoinSet<Instant> {
    let pool = rig.snapshot();
    let one = |_| request(rig.handle.clone(), pool.clone(), stall);
    (0..count).map(one).collect()
}

async fn all_held(rig: &Rig, count: usize) {
    let shared = rig.snapshot().shared.clone();
    while shared.held.load(Ordering::SeqCst) < count {
        tokio::task::yield_now().await;
    }
}

#[lameduck_rig::test(threads = 2)]
async fn held_requests_are_released_gradually() {
    let rig = Rig::new(&pool("", &TWO));
    let requests = requests(&rig, 200, Duration::ZERO);
    all_held(&rig, 200).await;
    assert_eq!(rig.handle.pool("app").await.unwrap().held, 200);
    let began = Instant::now();
    rig.ready("a").await;
    let entered = timeout(PATIENCE, requests.join_all()).await.unwrap();
    // 4 + 8 + 16 + 32 + 64 + the rest, 10 ms apart.
    let last = entered.into_iter().max().unwrap();
    assert!(
        last - began >= Duration::from_millis(50),
        "{:?}",
        last - began
    );
    assert_eq!(rig.handle.pool("app").await.unwrap().held, 0);
}

#[lameduck_rig::test(threads = 2)]
async fn one_that_is_slow_to_ask_is_let_go_too() {
    let rig = Rig::new(&pool("", &TWO));
    let requests = requests(&rig, 3, Duration::from_millis(300));
    all_held(&rig, 3).await;
    rig.ready("a").await;
    timeout(PATIENCE, requests.join_all()).await.unwrap();
}

#[lameduck_rig::test(threads = 2)]
async fn held_requests_are_all_answered_while_the_pool_flips() {
    let rig = Rig::new(&pool("", &[TWO[0]]));
    let mut all = tokio::task::JoinSet::new();
    for round in 0..60 {
        let pool = rig.snapshot();
        for n in 0..20 {
            let (handle, pool) = (rig.handle.clone(), pool.clone());
            all.spawn(async move {
                sleep(Duration::from_micros(n * 137 % 3000)).await;
                request(handle, pool, Duration::ZERO).await
            });
        }
        rig.probe("a", ProbeResult::Pass);
        rig.probe("a", ProbeResult::Pass);
        sleep(Duration::from_micros(round * 61 % 2000)).await;
        rig.probe("a", ProbeResult::Unavailable);
        sleep(Duration::from_micros(round * 97 % 1000)).await;
    }
    rig.probe("a", ProbeResult::Pass);
    rig.probe("a", ProbeResult::Pass);
    let entered = timeout(PATIENCE, all.join_all()).await;
    assert_eq!(entered.expect("somebody waits for ever").len(), 1200);
}
