//! The ends of pods with `lame_duck = "auto"`, against a front that goes on sending for a while: nothing is lost, and
//! there is no sleep anywhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use lameduck::tools::demo::client::LoadConnection;

use crate::rig::{PATIENCE, Rig, figure, proving, turn, until};

/// Who gets the signal first, when a pod ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The launcher, and the proxy when the app has gone: Kubernetes' native sidecars.
    LauncherFirst,
    /// Both at once: a sidecar that is a container like any other.
    Together,
}

/// Between two requests, a front that stands still for longer says that it has gone: `auto` takes that for the end of traffic
/// (from 750 ms on), and is right. What such a front sends later has nobody to go to.
const STANDSTILL: Duration = Duration::from_millis(600);

struct Front {
    lost: Vec<String>,
}

/// What the pod's clients do: so many requests a second until the lag is over, on connections that are kept until they
/// are told to go. `order`: when the pod's end was ordered.
async fn send(
    to: SocketAddr,
    rate: f64,
    lag: Duration,
    mut ordered: tokio::sync::watch::Receiver<Option<Instant>>,
    sent: Arc<AtomicUsize>,
) -> Front {
    let mut front = Front { lost: Vec::new() };
    let mut kept: Option<LoadConnection> = None;
    let mut last = Instant::now();
    loop {
        let pause = Duration::from_secs_f64((0.2 + 1.6 * fastrand::f64()) / rate);
        let until = Instant::now() + pause;
        tokio::time::sleep_until(until.into()).await;
        let order = *ordered.borrow_and_update();
        let stood_still = last.elapsed() > STANDSTILL;
        if order.is_some_and(|at| at.elapsed() >= lag || stood_still) {
            return front;
        }
        last = Instant::now();
        sent.fetch_add(1, Ordering::Relaxed);
        let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\n\r\n");
        let connection = match kept.take() {
            Some(connection) => Ok(connection),
            None => LoadConnection::open(to).await,
        };
        let answered = match connection {
            Ok(mut connection) => {
                let answered = connection.exchange(request.as_bytes()).await;
                if connection.is_reusable() && answered.as_ref().is_ok_and(|one| !one.closing) {
                    kept = Some(connection);
                }
                answered
            }
            Err(loss) => Err(loss),
        };
        match answered {
            Ok(response) if response.status == 200 => {}
            other => front.lost.push(format!(
                "{other:?} {:?} after the order",
                order.map(|at| at.elapsed())
            )),
        }
    }
}

async fn end_pod(
    n: usize,
    order: Order,
    rate: f64,
    lag: Duration,
    longest: Duration,
) -> (usize, Duration) {
    let most = format!("{}ms", longest.as_millis());
    let server = format!("lame_duck = \"auto\"\nlame_duck_max = \"{most}\"\ndeadline = \"90s\"");
    let mut rig = Rig::start_with(&server).await;
    let mut launched = rig.launch(
        "app",
        &[
            "--lame-duck",
            "auto",
            "--lame-duck-max",
            &most,
            "--drain-timeout",
            "10s",
        ],
    );
    rig.ready("app").await;
    let (tell, ordered) = tokio::sync::watch::channel(None);
    let sent = Arc::new(AtomicUsize::new(0));
    let front = send(rig.proxy.address(), rate, lag, ordered, sent.clone());
    let front = tokio::spawn(front);
    // What it knows of its traffic before the end is what it judges silence by.
    tokio::time::sleep(Duration::from_secs(12)).await;
    until("traffic", async || sent.load(Ordering::Relaxed) > 50).await;
    let begun = Instant::now();
    launched.process.signal(libc::SIGTERM).unwrap();
    if order == Order::Together {
        rig.proxy.process().signal(libc::SIGTERM).unwrap();
    }
    tell.send(Some(begun)).unwrap();
    assert!(launched.exited().await.success(), "{}", launched.said());
    if order == Order::LauncherFirst {
        rig.proxy.process().signal(libc::SIGTERM).unwrap();
    }
    rig.proxy.process().wait(PATIENCE).await.unwrap();
    let took = begun.elapsed();
    let front = front.await.unwrap();
    let sent = sent.load(Ordering::Relaxed);
    assert!(
        front.lost.is_empty(),
        "pod {n}, {order:?}, {rate:.0}/s, lag {lag:?}: {} of {} lost: {:?}\n{}\n{}",
        front.lost.len(),
        sent,
        &front.lost[..front.lost.len().min(3)],
        launched.said(),
        rig.proxy.process().last_words(),
    );
    (sent, took)
}

#[lameduck_rig::test(threads = 2)]
async fn pods_end_without_a_loss_and_without_a_sleep_whatever_the_lag() {
    let _turn = turn().await;
    let (batches, at_once, longest) = match proving() {
        true => (10, 20, 30.0),
        false => (1, 20, 4.0),
    };
    let seed = std::env::var("LAMEDUCK_SIM_SEED").ok();
    let seed = seed.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("replay with LAMEDUCK_SIM_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut over = Vec::new();
    for batch in 0..batches {
        let pods: Vec<_> = (0..at_once)
            .map(|n| {
                let order = match n % 2 {
                    0 => Order::LauncherFirst,
                    _ => Order::Together,
                };
                let rate = 10_f64.powf(1.0 + 0.5 * rng.f64());
                let lag = Duration::from_secs_f64(longest * rng.f64());
                let most = Duration::from_secs_f64(longest + 1.0);
                (batch * at_once + n, order, rate, lag, most)
            })
            .collect();
        let ends = pods
            .iter()
            .map(|(n, order, rate, lag, most)| end_pod(*n, *order, *rate, *lag, *most));
        for ((n, order, rate, lag, most), (sent, took)) in pods.iter().zip(join_all(ends).await) {
            let late = took.saturating_sub(*lag);
            figure(&format!(
                "pod {n}, {order:?}, {rate:.0}/s, lag {lag:?}: {sent} sent, over after {took:?}"
            ));
            // It never takes longer than the longest lame duck, and what the processes need to end.
            assert!(
                took < *most + Duration::from_secs(6),
                "pod {n}: {took:?}, lag {lag:?}"
            );
            over.push(late);
        }
    }
    over.sort();
    figure(&format!(
        "{} ends, {:?} after the lag in the median, {:?} at most",
        over.len(),
        over[over.len() / 2],
        over[over.len() - 1]
    ));
}
