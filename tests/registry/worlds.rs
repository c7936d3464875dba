//! Requests on several threads against drains, moves and reloads: whoever is told "drained" finds nothing of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lameduck::core::backend::ProbeResult;
use lameduck::registry::RegistryHandle;

use crate::rig::{PATIENCE, Rig, TWO, pool, within};

/// Threads that do what requests do, as fast as they can.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn new(handle: &RegistryHandle, threads: usize) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let thread = |_| {
            let (handle, stop, served) = (handle.clone(), stop.clone(), Arc::clone(&served));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let pool = handle.snapshot().pools[0].clone();
                    for endpoint in &pool.ready {
                        let Some(permit) = endpoint.permit(0) else {
                            continue;
                        };
                        let connection = endpoint.connection_opened();
                        served.fetch_add(1, Ordering::Relaxed);
                        // Sometimes the connection outlives the request.
                        if served.load(Ordering::Relaxed).is_multiple_of(3) {
                            drop(permit);
                            drop(connection);
                        } else {
                            drop(connection);
                            drop(permit);
                        }
                    }
                    std::thread::yield_now();
                }
            })
        };
        Self {
            threads: (0..threads).map(thread).collect(),
            stop,
            served,
        }
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.served.load(Ordering::Relaxed)
    }
}

#[lameduck_rig::test(threads = 2)]
async fn drained_is_always_true_and_always_told() {
    let rig = Rig::two().await;
    let load = Load::new(&rig.handle, 3);
    for round in 0..300 {
        let name = if round % 2 == 0 { "a" } else { "b" };
        let endpoint = rig.endpoint(name);
        let drain = rig.handle.drain("app", name, within("20s"));
        let answer = tokio::time::timeout(PATIENCE, drain).await;
        assert_eq!(answer.expect("nobody told us").unwrap().outcome, "drained");
        assert!(endpoint.is_quiet(), "round {round}");
        rig.resume(name, false).await.unwrap();
        rig.probe(name, ProbeResult::Pass);
        rig.probe(name, ProbeResult::Pass);
    }
    assert!(load.end() > 0);
}

#[lameduck_rig::test(threads = 2)]
async fn what_leaves_under_load_is_gone_in_the_end() {
    let rig = Rig::two().await;
    let load = Load::new(&rig.handle, 2);
    for round in 0..100_u16 {
        rig.register("api", 4000 + round).await.unwrap();
        let port = 5000 + round;
        rig.apply(&pool("", &[TWO[0], ("b", port)])).await;
        for (shown, _) in rig.states().await {
            rig.probe(&shown, ProbeResult::Pass);
            rig.probe(&shown, ProbeResult::Pass);
        }
    }
    let three = async {
        while rig.states().await.len() != 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, three).await.unwrap();
    load.end();
    rig.settled().await;
    let running = rig
        .probes
        .lock()
        .values()
        .filter(|probed| probed.running)
        .count();
    assert_eq!(running, 3, "each that left took its prober along");
}
