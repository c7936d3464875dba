//! A real proxy process between scripted clients and scripted backends.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use lameduck::registry::view::{BackendView, DrainResponse, PoolView};
use lameduck::tools::demo::admin;
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::backend::{Backend, backends};
use crate::place::exe;
use crate::wire::{PATIENCE, Wire};
use crate::{process, wait};

/// What differs from the defaults.
#[derive(Default)]
pub struct Setup {
    /// How many backends; 0 means 1.
    pub backends: usize,
    /// Keys of `[server]`.
    pub server: &'static str,
    /// Sub-tables of the pool.
    pub pool: &'static str,
    /// Whole tables, before the pool.
    pub tables: &'static str,
}

/// The proxy and its backends.
pub struct Rig {
    pub backends: Vec<Backend>,
    pub address: SocketAddr,
    pub socket: PathBuf,
    child: Child,
    log: PathBuf,
    dir: tempfile::TempDir,
}

impl Rig {
    /// One backend, everything as by default.
    pub async fn one() -> Self {
        Self::new(Setup::default()).await
    }

    /// So many backends, everything as by default.
    pub async fn of(backends: usize) -> Self {
        Self::new(Setup {
            backends,
            ..Setup::default()
        })
        .await
    }

    pub async fn new(setup: Setup) -> Self {
        let (backends, port) = backends(setup.backends.max(1)).await;
        let dir = tempfile::tempdir().unwrap();
        let mut pool = String::new();
        for backend in &backends {
            let Backend { name, address, .. } = backend;
            let _ = writeln!(
                pool,
                "[[pool.backend]]\nname = {name:?}\naddress = \"{address}\""
            );
        }
        let _ = writeln!(
            pool,
            "[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1\ninterval = \"200ms\"\nfast_interval = \"10ms\"\n{}",
            setup.pool
        );
        Self::start(dir, setup.server, setup.tables, &pool, backends).await
    }

    /// A proxy in front of a pool whose tables the test has written.
    pub async fn start(
        dir: tempfile::TempDir,
        server: &str,
        tables: &str,
        pool: &str,
        backends: Vec<Backend>,
    ) -> Self {
        let command = Command::new(exe());
        Self::start_by(command, dir, server, tables, pool, backends).await
    }

    /// The same, started by this command, to which its arguments are added.
    pub async fn start_by(
        mut command: Command,
        dir: tempfile::TempDir,
        server: &str,
        tables: &str,
        pool: &str,
        backends: Vec<Backend>,
    ) -> Self {
        let (socket, config, log) = (
            dir.path().join("s"),
            dir.path().join("c.toml"),
            dir.path().join("log"),
        );
        // With one thread a connection is back before the next client is served: most tests count on it.
        let threads = match server.contains("threads") {
            true => "",
            false => "threads = 1\n",
        };
        let text = format!(
            "[server]\n{threads}{server}\n[admin]\nsocket = {socket:?}\nhttp = \"\"\n\
             [access_log]\npath = {:?}\n[[listener]]\naddress = \"127.0.0.1:0\"\n{tables}\n\
             [[pool]]\nname = \"app\"\n{pool}\n",
            dir.path().join("access"),
        );
        std::fs::write(&config, text).unwrap();
        let child = command
            .arg("run")
            .arg("-c")
            .arg(&config)
            .env_remove("LAMEDUCK_ADMIN")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut rig = Self {
            backends,
            address,
            socket,
            child,
            log,
            dir,
        };
        rig.wait_until_ready().await;
        let listeners = admin::call(&rig.socket, "GET", "/v1/listeners", None)
            .await
            .unwrap();
        rig.address = listeners[0]["address"].as_str().unwrap().parse().unwrap();
        rig
    }

    async fn wait_until_ready(&mut self) {
        let end = Instant::now() + wait::PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the proxy exited: {status}\n{}", self.log());
            }
            if matches!(
                admin::request(&self.socket, "GET", "/-/ready", None).await,
                Ok((200, _))
            ) {
                return;
            }
            // Nothing tells us when; asking is all there is.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the proxy isn't ready\n{}", self.log());
    }

    /// Reads the configuration again, with `from` changed to `to`: what has changed, or why it is refused.
    pub async fn reload(&self, from: &str, to: &str) -> (u16, String) {
        self.rewrite(from, to);
        let (status, body) = admin::request(&self.socket, "POST", "/v1/config/reload", None)
            .await
            .unwrap();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// Changes the configuration's file.
    pub fn rewrite(&self, from: &str, to: &str) {
        let config = self.dir.path().join("c.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        assert!(text.contains(from), "{from:?} is not in {text}");
        std::fs::write(&config, text.replace(from, to)).unwrap();
    }

    /// What the proxy wrote to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the proxy has written this to standard error: its log has a queue.
    pub async fn logs(&self, text: &str) {
        let end = Instant::now() + wait::PATIENCE;
        while Instant::now() < end {
            if self.log().contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the log has no {text:?}:\n{}", self.log());
    }

    /// The access log, once it has at least `lines` lines.
    pub async fn access_log(&self, lines: usize) -> Vec<serde_json::Value> {
        let path = self.dir.path().join("access");
        let end = Instant::now() + wait::PATIENCE;
        while Instant::now() < end {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.lines().count() >= lines {
                return text
                    .lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the access log has no {lines} lines");
    }

    /// All metrics.
    pub async fn metrics(&self) -> String {
        let (_, text) = admin::request(&self.socket, "GET", "/metrics", None)
            .await
            .unwrap();
        String::from_utf8(text.to_vec()).unwrap()
    }

    /// A metric's value, by its whole name with labels.
    pub async fn metric(&self, series: &str) -> Option<u64> {
        let text = self.metrics().await;
        let value = |line: &str| Some(line.strip_prefix(series)?.strip_prefix(' ')?.to_owned());
        Some(text.lines().find_map(value)?.parse().unwrap())
    }

    /// Waits until the metric has reached this value, which it must not pass: what a request costs is counted when its
    /// answer is out, and who reads that answer may be earlier.
    pub async fn counts(&self, series: &str, count: u64) {
        let end = Instant::now() + wait::PATIENCE;
        loop {
            let value = self.metric(series).await;
            if value >= Some(count) || Instant::now() > end {
                assert_eq!(value, Some(count), "{series}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The same of how often clients ran into this limit.
    pub async fn counts_limited(&self, limit: &str, count: u64) {
        let series = format!("lameduck_limited_total{{limit=\"{limit}\"}}");
        self.counts(&series, count).await;
    }

    /// The same of connections and requests that were turned away for this reason.
    pub async fn counts_refused(&self, reason: &str, count: u64) {
        let series = format!("lameduck_refused_total{{reason=\"{reason}\"}}");
        self.counts(&series, count).await;
    }

    /// How often clients ran into this limit.
    pub async fn limited(&self, limit: &str) -> u64 {
        let series = format!("lameduck_limited_total{{limit=\"{limit}\"}}");
        self.metric(&series).await.expect("there is no such limit")
    }

    /// How many connections and requests were turned away for this reason.
    pub async fn refused(&self, reason: &str) -> u64 {
        let series = format!("lameduck_refused_total{{reason=\"{reason}\"}}");
        self.metric(&series).await.unwrap_or(0)
    }

    /// One of the access log's `lines` lines is about this limit, with this status, and the metric counts one.
    pub async fn was_limited(&self, limit: &str, lines: usize, status: u16) -> serde_json::Value {
        // Lines of two threads may change places.
        let log = self.access_log(lines).await;
        let line = log.iter().find(|line| line["end"] == limit);
        let line = line.unwrap_or_else(|| panic!("no line about {limit} in {log:#?}"));
        assert_eq!(line["status"], status, "{line}");
        assert!(line["cause"].is_string(), "{line}");
        self.counts_limited(limit, 1).await;
        line.clone()
    }

    /// A new client.
    pub async fn client(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// A new client that has sent this request.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> Wire {
        let mut client = self.client().await;
        client.send(request).await;
        client
    }

    /// A new client's `GET /`, and the backend's new connection that has read it.
    pub async fn get(&self) -> (Wire, Wire) {
        let client = self.ask(GET).await;
        let mut backend = self.backends[0].accept().await;
        backend.head().await;
        (client, backend)
    }

    /// The first connection that any backend gets, and whose.
    pub async fn first(&self) -> (usize, Wire) {
        let accepting = self
            .backends
            .iter()
            .enumerate()
            .filter(|(_, b)| b.is_listening());
        let accepting = accepting
            .map(|(index, backend)| Box::pin(async move { (index, backend.accept().await) }));
        futures_util::future::select_all(accepting).await.0
    }

    /// A request on a connection of its own is answered by a backend that is called for it.
    pub async fn canary(&self) {
        let mut client = self.ask("GET /canary HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let (_, mut backend) = self.first().await;
        assert!(backend.head().await.starts_with("GET /canary "));
        backend.answer_and_close("also").await;
        assert_eq!(client.response().await.text(), "also");
    }

    /// The pool as the admin API shows it.
    pub async fn pool(&self) -> PoolView {
        let view = admin::call(&self.socket, "GET", "/v1/pools/app", None)
            .await
            .unwrap();
        serde_json::from_value(view).unwrap()
    }

    /// One backend as the admin API shows it.
    pub async fn view(&self, index: usize) -> BackendView {
        let name = &self.backends[index].name;
        self.pool()
            .await
            .backends
            .into_iter()
            .find(|view| view.name == *name)
            .unwrap()
    }

    /// Waits until the pool is as the test needs it.
    pub async fn until(&self, what: &str, condition: impl Fn(&PoolView) -> bool) {
        let mut last = None;
        let end = Instant::now() + wait::PATIENCE;
        while Instant::now() < end {
            let pool = self.pool().await;
            if condition(&pool) {
                return;
            }
            last = Some(pool);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never came: {what}; the pool is {last:#?}\n{}", self.log());
    }

    /// Waits until a backend is in this state.
    pub async fn until_state(&self, index: usize, state: &str) {
        let name = self.backends[index].name.clone();
        self.until(state, |pool| {
            pool.backends
                .iter()
                .any(|view| view.name == name && view.state == state)
        })
        .await;
    }

    /// Asks for a drain; its end comes with the task.
    pub fn drain(&self, index: usize, timeout: &str, until: &str) -> JoinHandle<DrainResponse> {
        let path = format!("/v1/pools/app/backends/{}/drain", self.backends[index].name);
        let body = json!({ "timeout": timeout, "until": until });
        let socket = self.socket.clone();
        tokio::spawn(async move {
            let answer = admin::call(&socket, "POST", &path, Some(&body))
                .await
                .unwrap();
            serde_json::from_value(answer).unwrap()
        })
    }

    /// Begins a drain: it has taken effect when this returns.
    pub async fn begin_drain(
        &self,
        index: usize,
        timeout: &str,
        until: &str,
    ) -> JoinHandle<DrainResponse> {
        let drain = self.drain(index, timeout, until);
        let name = self.backends[index].name.clone();
        self.until("a drain", |pool| {
            pool.backends
                .iter()
                .any(|view| view.name == name && view.state.starts_with("drain"))
        })
        .await;
        drain
    }

    /// Lifts the operator's drain and waits until it is ready.
    pub async fn resume(&self, index: usize) {
        let path = format!(
            "/v1/pools/app/backends/{}/resume",
            self.backends[index].name
        );
        admin::call(&self.socket, "POST", &path, Some(&json!({ "wait": "20s" })))
            .await
            .unwrap();
    }

    /// The proxy's resident memory, in bytes.
    pub fn memory(&self) -> usize {
        let kib = process::status_kib(self.child.id().unwrap(), "VmRSS");
        kib.unwrap() as usize * 1024
    }

    /// CPU time that the proxy has used, in milliseconds (steps of 10).
    pub fn cpu_ms(&self) -> u64 {
        process::cpu_ms(self.child.id().unwrap())
    }

    /// Asks the proxy to stop.
    pub fn terminate(&self) {
        lameduck::rt::syscall::kill(self.child.id().unwrap(), libc::SIGTERM).unwrap();
    }

    /// Waits for its exit.
    pub async fn exited(&mut self) -> std::process::ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("it doesn't exit")
            .unwrap()
    }
}

/// A plain request.
pub const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
