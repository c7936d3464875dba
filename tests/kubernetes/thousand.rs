//! 3 → 1,000 → 3 pods under load, while everything goes wrong with the API server that can.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lameduck_rig::kubernetes::{ApiServer, GoneAs, Pod, WatchEnd};
use lameduck_rig::proxy::Rig;
use lameduck_rig::setting::{proving, say};
use lameduck_rig::wait::until;
use lameduck_rig::wire::{Bytes as _, Wire};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::real_apps::proxy;

/// What a pod does about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// It answers.
    Running,
    /// It answers still, but the proxy has been told, and shows that it has understood: nothing may come.
    Stopping,
}

/// All pods: one socket on all of 127.0.0.0/8, so that each has an address of its own and the same port.
struct Pods {
    port: u16,
    lives: Mutex<BTreeMap<IpAddr, Life>>,
    served: AtomicU64,
    /// Requests at pods that were to get none.
    wrong: Mutex<Vec<String>>,
}

impl Pods {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let pods = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            lives: Mutex::default(),
            served: AtomicU64::new(0),
            wrong: Mutex::default(),
        });
        let serving = pods.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        pods
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let pod = stream.local_addr().unwrap().ip();
        let mut head = Vec::new();
        let mut piece = [0; 4096];
        loop {
            // Gone: nobody listens there.
            if !self.lives.lock().contains_key(&pod) {
                stream.make_reset();
                return;
            }
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(n) => head.extend_from_slice(&piece[..n]),
            }
            if !head.ends_with(b"\r\n\r\n") {
                continue;
            }
            let is_probe = head.starts_with(b"GET /health");
            head.clear();
            let life = self.lives.lock().get(&pod).copied();
            match life {
                None => {
                    if !is_probe {
                        self.wrong.lock().push(format!("{pod} has gone"));
                    }
                    stream.make_reset();
                    return;
                }
                Some(Life::Stopping) if !is_probe => {
                    self.wrong.lock().push(format!("{pod} is stopping"));
                }
                Some(_) => {}
            }
            self.served
                .fetch_add(u64::from(!is_probe), Ordering::Relaxed);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }

    fn set(&self, pod: &Pod, life: Option<Life>) {
        let mut lives = self.lives.lock();
        match life {
            Some(life) => lives.insert(pod.address, life),
            None => lives.remove(&pod.address),
        };
    }
}

fn pod(number: u16) -> Pod {
    let [high, low] = number.to_be_bytes();
    Pod::ready(format!("pod-{number}"), IpAddr::from([127, 1, high, low]))
}

/// Clients that ask one after the other, each on one connection as long as it holds; what isn't answered with 200 is lost.
struct Clients {
    stopped: Arc<AtomicBool>,
    /// For each client.
    answered: Vec<Arc<AtomicU64>>,
    tasks: Vec<tokio::task::JoinHandle<(u64, Vec<String>)>>,
}

impl Clients {
    fn start(address: SocketAddr, count: usize) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let answered: Vec<Arc<AtomicU64>> = (0..count).map(|_| Arc::default()).collect();
        let client = |stopped: Arc<AtomicBool>, answered: Arc<AtomicU64>| async move {
            let (mut sent, mut lost) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                let mut wire = Wire::connect(address).await;
                for _ in 0..50 {
                    sent += 1;
                    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                    let answer = wire.response().await;
                    answered.fetch_add(1, Ordering::Relaxed);
                    if answer.status() != 200 {
                        lost.push(answer.head);
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            (sent, lost)
        };
        let tasks = answered
            .iter()
            .map(|answered| tokio::spawn(client(stopped.clone(), answered.clone())))
            .collect();
        Self {
            stopped,
            answered,
            tasks,
        }
    }

    /// Waits until each of them has got an answer: whatever was on its way when this was called has arrived.
    async fn each_is_answered(&self) {
        let counts = || {
            self.answered
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
        };
        let before: Vec<u64> = counts().collect();
        until("each client's answer", async || {
            counts().zip(&before).all(|(now, before)| now > *before)
        })
        .await;
    }

    async fn stop(self) -> (u64, Vec<String>) {
        self.stopped.store(true, Ordering::Relaxed);
        let (mut sent, mut lost) = (0, Vec::new());
        for task in self.tasks {
            let (more, of_them) = task.await.unwrap();
            sent += more;
            lost.extend(of_them);
        }
        (sent, lost)
    }
}

/// What goes wrong while the n-th step is written.
fn go_wrong(server: &ApiServer, step: usize) -> &'static str {
    match step % 8 {
        0 => {
            server.cut_watches(WatchEnd::Reset);
            "reset"
        }
        1 => {
            server.fail(|faults| faults.gone_as = GoneAs::Event);
            server.compact();
            server.cut_watches(WatchEnd::Clean);
            "410 as an event"
        }
        2 => {
            server.bookmark();
            server.cut_watches(WatchEnd::Clean);
            "bookmark"
        }
        3 => {
            server.fail(|faults| faults.slow_lists = Duration::from_millis(300));
            server.compact();
            server.cut_watches(WatchEnd::Reset);
            "slow list"
        }
        4 => {
            server.cut_watches(WatchEnd::MidEvent);
            "half an event"
        }
        5 => {
            server.fail(|faults| faults.gone_as = GoneAs::Status);
            server.compact();
            server.cut_watches(WatchEnd::Reset);
            "410 as a status"
        }
        6 => {
            let old = server.version();
            server.fail(|faults| faults.lag = Some(old.saturating_sub(5)));
            server.cut_watches(WatchEnd::Reset);
            "stale lists"
        }
        _ => {
            server.fail(|faults| faults.away = true);
            server.cut_watches(WatchEnd::Reset);
            "away"
        }
    }
}

/// Waits until the proxy shows so many ready ones, and none of `ending` among them; says how long that took.
async fn until_shown(rig: &Rig, step: &str, ready: usize, ending: &[Pod]) -> Duration {
    let began = Instant::now();
    let end = began + Duration::from_secs(40);
    loop {
        let pool = rig.pool().await;
        let is_ready = |name: &str| {
            pool.backends
                .iter()
                .any(|one| one.name == name && one.state == "ready")
        };
        if pool.eligible == ready && !ending.iter().any(|pod| is_ready(&pod.name)) {
            return began.elapsed();
        }
        assert!(
            Instant::now() < end,
            "{step}: {} of {ready} ready; {:#?}\n{}",
            pool.eligible,
            pool.discovery,
            rig.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[lameduck_rig::test(threads = 2)]
async fn three_to_a_thousand_and_back_under_load_and_faults_loses_nothing() {
    let most: u16 = 1000;
    let step: u16 = if proving() { 37 } else { 125 };
    let server = ApiServer::start().await;
    let pods = Pods::start().await;
    let mut running: Vec<Pod> = (1..=3).map(pod).collect();
    for pod in &running {
        pods.set(pod, Some(Life::Running));
    }
    server.set_pods("app", pods.port, &running, 100);
    let health = "interval = \"30s\"\nfast_interval = \"1s\"\n";
    let rig = proxy(&server, health).await;
    until_shown(&rig, "the first three", 3, &[]).await;
    let clients = Clients::start(rig.address, 8);
    let (mut slowest, mut steps) = (Duration::ZERO, 0);

    let mut next = 4;
    while next <= most {
        let last = (next + step - 1).min(most);
        for number in next..=last {
            pods.set(&pod(number), Some(Life::Running));
            running.push(pod(number));
        }
        next = last + 1;
        let wrong = go_wrong(&server, steps);
        server.set_pods("app", pods.port, &running, 100);
        tokio::time::sleep(Duration::from_millis(50)).await;
        heal(&server);
        let took = until_shown(&rig, &format!("up, {wrong}"), running.len(), &[]).await;
        slowest = slowest.max(took);
        steps += 1;
    }
    let (mut told, mut stepped) = (Vec::new(), 0);
    while running.len() > 3 {
        let ending = running.split_off(running.len().saturating_sub(usize::from(step)).max(3));
        let marked: Vec<Pod> = ending.iter().cloned().map(Pod::terminating).collect();
        let wrong = go_wrong(&server, stepped);
        let all: Vec<Pod> = running.iter().chain(&marked).cloned().collect();
        server.set_pods("app", pods.port, &all, 100);
        tokio::time::sleep(Duration::from_millis(50)).await;
        heal(&server);
        let took = until_shown(&rig, &format!("down, {wrong}"), running.len(), &ending).await;
        told.push(took);
        // From here on nothing may come, and what had been picked before has arrived.
        clients.each_is_answered().await;
        for pod in &ending {
            pods.set(pod, Some(Life::Stopping));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        for pod in &ending {
            pods.set(pod, None);
        }
        server.set_pods("app", pods.port, &running, 100);
        stepped += 1;
    }
    rig.until("three again", |pool| pool.backends.len() == 3)
        .await;
    let (sent, lost) = clients.stop().await;
    told.sort_unstable();
    let wrong = pods.wrong.lock().clone();
    say(&format!(
        "3 → 1,000 → 3 pods in {} steps: {sent} requests, {} lost, {} at stopping pods; pods in use at the latest {slowest:.1?} \
         after they were written, out of use after {:.1?} (median; latest {:.1?}); {:?} lists and watches",
        steps + stepped,
        lost.len(),
        wrong.len(),
        told[told.len() / 2],
        told[told.len() - 1],
        {
            let asked = server.asked();
            (asked.lists, asked.watched_from.len())
        },
    ));
    assert_eq!(
        (lost, wrong),
        (Vec::new(), Vec::new()),
        "of {sent}\n{}",
        rig.log()
    );
    assert!(sent > 100 && pods.served.load(Ordering::Relaxed) >= sent);
}

fn heal(server: &ApiServer) {
    server.fail(|faults| {
        faults.away = false;
        faults.lag = None;
        faults.slow_lists = Duration::ZERO;
    });
}
