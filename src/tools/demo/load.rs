//! An open-loop load: requests are sent at a constant rate, whether or not earlier ones were answered.
//!
//! Its clients behave like real ones: a limited set of keep-alive connections, each used for one request at a time and
//! replaced when it is closed, and no retries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::client::{LoadConnection, Response};
use super::oracle::{DemoRequestKind, Loss, Sent};
use crate::rt::syscall::monotonic_ns;

/// Most requests of one run, because the log of a run without end would fill the memory (about 100 MB at this number).
const MAX_REQUESTS: u64 = 2_000_000;

/// Description of a load.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// Address to send requests to.
    pub address: SocketAddr,
    /// Requests a second.
    pub rate: u32,
    /// Most connections at once; a request without one waits, and the wait counts as latency.
    pub connections: usize,
    /// Longest duration of one request, including the connect.
    pub timeout: Duration,
    /// Duration of the slow requests.
    pub slow: Duration,
    /// Share of `POST /echo`, in percent.
    pub post_percent: u64,
    /// Share of `GET /slow`, in percent. The rest is `GET /`.
    pub slow_percent: u64,
    /// Idle time after which a connection is not used again. A server that stops closes idle connections at some
    /// moment, and a request sent at that moment is lost (RFC 9112, section 9.5, leaves this to clients). So a client
    /// without retries has to stay below the server's lame duck.
    pub max_idle: Duration,
    /// TLS configuration; `None`: no TLS.
    pub tls: Option<Arc<ClientConfig>>,
}

impl LoadPlan {
    /// The usual mix: 80 % GET, 10 % POST with a body, 10 % GET that take 2 s.
    pub fn new(address: SocketAddr, rate: u32) -> Self {
        Self {
            address,
            rate,
            connections: 1024,
            timeout: Duration::from_secs(30),
            slow: Duration::from_secs(2),
            post_percent: 10,
            slow_percent: 10,
            max_idle: Duration::from_millis(500),
            tls: None,
        }
    }

    /// Requests of a kind are spread evenly, the same in each run: multiples of 37 reach all 100 residues.
    fn kind(&self, id: u64) -> DemoRequestKind {
        match id * 37 % 100 {
            r if r < self.slow_percent => DemoRequestKind::Slow,
            r if r < self.slow_percent + self.post_percent => DemoRequestKind::Post,
            _ => DemoRequestKind::Get,
        }
    }
}

/// Figures of a running load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadProgress {
    /// Requests sent.
    pub sent: u64,
    /// Answered by the app.
    pub answered: u64,
    /// Lost.
    pub lost: u64,
}

impl LoadProgress {
    /// Requests without a result yet.
    pub fn in_flight(&self) -> u64 {
        self.sent.saturating_sub(self.answered + self.lost)
    }
}

struct LoadShared {
    plan: LoadPlan,
    permits: Semaphore,
    idle: Mutex<Vec<(LoadConnection, Instant)>>,
    log: Mutex<Vec<Sent>>,
    answered: AtomicU64,
    lost: AtomicU64,
}

/// A running load. Dropping it ends it at once.
pub struct Load {
    shared: Arc<LoadShared>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Load {
    /// Starts it on the current runtime.
    pub fn start(plan: LoadPlan) -> Self {
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(LoadShared {
            permits: Semaphore::new(plan.connections),
            plan,
            idle: Mutex::default(),
            log: Mutex::default(),
            answered: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let task = tokio::spawn(dispatch(shared.clone(), stopped));
        Self { shared, stop, task }
    }

    /// Current figures.
    pub fn progress(&self) -> LoadProgress {
        LoadProgress {
            answered: self.shared.answered.load(Ordering::Relaxed),
            lost: self.shared.lost.load(Ordering::Relaxed),
            sent: self.shared.log.lock().len() as u64,
        }
    }

    /// Stops sending, waits for requests in flight (limited by the plan's time-out), and returns the log.
    pub async fn stop(mut self) -> Vec<Sent> {
        self.stop.send_replace(true);
        let _ = (&mut self.task).await;
        std::mem::take(&mut *self.shared.log.lock())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn dispatch(shared: Arc<LoadShared>, mut stopped: watch::Receiver<bool>) {
    let period = Duration::from_secs(1) / shared.plan.rate.max(1);
    let mut due = tokio::time::interval(period);
    // Requests that a busy machine could not send in time are sent late and not skipped; their latency counts from when
    // they were due.
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begun = (monotonic_ns(), tokio::time::Instant::now());
    let mut running = JoinSet::new();
    for id in 0..MAX_REQUESTS {
        let at = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break,
            at = due.tick() => begun.0 + at.saturating_duration_since(begun.1).as_nanos() as u64,
        };
        let kind = shared.plan.kind(id);
        shared.log.lock().push(Sent {
            id,
            kind,
            at,
            latency: 0,
            outcome: Err(Loss::Unfinished),
            closing: false,
            retry_after: None,
        });
        running.spawn(send_and_record(shared.clone(), id, kind, at));
        while running.try_join_next().is_some() {}
    }
    while running.join_next().await.is_some() {}
}

/// Sends one request, and records the result.
async fn send_and_record(shared: Arc<LoadShared>, id: u64, kind: DemoRequestKind, at: u64) {
    let response = match tokio::time::timeout(shared.plan.timeout, send(&shared, id, kind)).await {
        Ok(response) => response,
        Err(_) => Err(Loss::TimedOut),
    };
    let closing = response.as_ref().is_ok_and(|response| response.closing);
    let retry_after = response
        .as_ref()
        .ok()
        .and_then(|response| response.retry_after);
    let outcome = response.and_then(|response| judge(kind, &body(id, kind), &response));
    let counter = if outcome.is_ok() {
        &shared.answered
    } else {
        &shared.lost
    };
    counter.fetch_add(1, Ordering::Relaxed);
    let latency = monotonic_ns().saturating_sub(at);
    // Ids are indexes in the log: each entry was pushed before its request was spawned.
    if let Some(sent) = shared.log.lock().get_mut(id as usize) {
        *sent = Sent {
            id,
            kind,
            at,
            latency,
            outcome,
            closing,
            retry_after,
        };
    }
}

async fn send(shared: &LoadShared, id: u64, kind: DemoRequestKind) -> Result<Response, Loss> {
    // The semaphore is never closed.
    let _permit = shared.permits.acquire().await;
    let mut connection = match take_reusable(shared) {
        Some(connection) => connection,
        None => match &shared.plan.tls {
            Some(config) => LoadConnection::open_tls(shared.plan.address, config.clone()).await?,
            None => LoadConnection::open(shared.plan.address).await?,
        },
    };
    let request = request(&shared.plan, id, kind, &body(id, kind));
    let response = connection.exchange(&request).await?;
    shared.idle.lock().push((connection, Instant::now()));
    Ok(response)
}

/// The open connection that was used last; closed ones and those idle for too long are dropped.
fn take_reusable(shared: &LoadShared) -> Option<LoadConnection> {
    let mut idle = shared.idle.lock();
    while let Some((connection, since)) = idle.pop() {
        if since.elapsed() < shared.plan.max_idle && connection.is_reusable() {
            return Some(connection);
        }
    }
    None
}

fn body(id: u64, kind: DemoRequestKind) -> String {
    match kind {
        // A few hundred bytes that no other request has.
        DemoRequestKind::Post => format!("body of request {id}\n").repeat(20),
        DemoRequestKind::Get | DemoRequestKind::Slow => String::new(),
    }
}

fn request(plan: &LoadPlan, id: u64, kind: DemoRequestKind, body: &str) -> Vec<u8> {
    let target = match kind {
        DemoRequestKind::Get => "GET /".to_owned(),
        DemoRequestKind::Post => "POST /echo".to_owned(),
        DemoRequestKind::Slow => format!("GET /slow?ms={}", plan.slow.as_millis()),
    };
    let length = match kind {
        DemoRequestKind::Post => format!(
            "Content-Type: text/plain\r\nContent-Length: {}\r\n",
            body.len()
        ),
        DemoRequestKind::Get | DemoRequestKind::Slow => String::new(),
    };
    format!(
        "{target} HTTP/1.1\r\nHost: {}\r\nx-demo-id: {id}\r\nx-request-id: {id}\r\n{length}\r\n{body}",
        plan.address
    )
    .into_bytes()
}

fn judge(kind: DemoRequestKind, body: &str, response: &Response) -> Result<u16, Loss> {
    if response.app.is_none() {
        return Err(Loss::ProxyError(response.status));
    }
    if kind == DemoRequestKind::Post && response.status == 200 && response.body != body.as_bytes() {
        return Err(Loss::Corrupted);
    }
    Ok(response.status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn plan() -> LoadPlan {
        LoadPlan::new("127.0.0.1:1".parse().unwrap(), 100)
    }

    #[test]
    fn the_mix_is_exact_and_spread() {
        let kinds: Vec<DemoRequestKind> = (0..100).map(|id| plan().kind(id)).collect();
        assert_eq!(
            kinds
                .iter()
                .filter(|&&k| k == DemoRequestKind::Post)
                .count(),
            10
        );
        assert_eq!(
            kinds
                .iter()
                .filter(|&&k| k == DemoRequestKind::Slow)
                .count(),
            10
        );
        assert!((0..90).all(|from| {
            kinds[from..from + 10]
                .iter()
                .filter(|&&k| k == DemoRequestKind::Slow)
                .count()
                <= 4
        }));
    }

    #[test]
    fn an_answer_that_no_app_gave_is_lost_and_a_wrong_echo_too() {
        let response = |app: Option<&str>, status, body: &str| Response {
            status,
            app: app.map(str::to_owned),
            retry_after: None,
            closing: false,
            body: body.as_bytes().to_vec(),
        };
        assert_eq!(
            judge(DemoRequestKind::Get, "", &response(None, 502, "")),
            Err(Loss::ProxyError(502))
        );
        assert_eq!(
            judge(DemoRequestKind::Get, "", &response(Some("a"), 500, "")),
            Ok(500)
        );
        assert_eq!(
            judge(DemoRequestKind::Post, "x", &response(Some("a"), 200, "x")),
            Ok(200)
        );
        assert_eq!(
            judge(DemoRequestKind::Post, "x", &response(Some("a"), 200, "y")),
            Err(Loss::Corrupted)
        );
    }

    /// A server that drops every third connection without an answer, and closes each after one answer.
    #[tokio::test]
    async fn counts_what_a_bad_server_loses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut requests = 0u64;
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                // A connection that is closed without a request is no loss.
                if stream.read(&mut request).await.is_ok_and(|count| count > 0) {
                    requests += 1;
                } else {
                    continue;
                }
                if !requests.is_multiple_of(3) {
                    let answer = b"HTTP/1.1 200 OK\r\nx-demo-app: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                    let _ = stream.write_all(answer).await;
                }
            }
        });
        let load = Load::start(LoadPlan {
            rate: 500,
            post_percent: 0,
            ..LoadPlan::new(address, 500)
        });
        while load.progress().sent < 60 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let log = load.stop().await;
        server.abort();
        let lost = log.iter().filter(|sent| sent.outcome.is_err()).count();
        assert!(lost.abs_diff(log.len() / 3) <= 1, "{lost} of {}", log.len());
        assert!(
            log.iter()
                .all(|sent| matches!(sent.outcome, Ok(200) | Err(Loss::Empty | Loss::Reset)))
        );
        assert!(
            log.iter()
                .enumerate()
                .all(|(index, sent)| sent.id == index as u64)
        );
    }

    #[tokio::test]
    async fn missing_server_counts_as_refused() {
        // An address of its own, where no other test listens.
        let address = "127.78.0.2:9".parse().unwrap();
        let load = Load::start(LoadPlan::new(address, 1000));
        while load.progress().lost < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(
            load.stop()
                .await
                .iter()
                .all(|sent| sent.outcome == Err(Loss::Refused))
        );
    }
}
