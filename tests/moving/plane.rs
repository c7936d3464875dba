//! A data plane of the test's own, with its registry, its threads and one listener.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use lameduck::config::{self, AccessLogConfig, LogFormat, LogSink};
use lameduck::core::drain::{DrainActor, DrainSpec, DrainUntil};
use lameduck::core::event::{BackendEvent, ProbeResult};
use lameduck::proxy::data_plane::DataPlane;
use lameduck::registry::unattended::{NoObserver, NoProbes};
use lameduck::registry::{self, Endpoint, RegistryHandle, persist};
use lameduck::rt::clock;
use lameduck::server::listeners::PublicListeners;
use lameduck::server::workers::DataThreads;
use lameduck::telemetry::access_log::AccessLog;

use super::backend::CountingBackend;

pub struct TestPlane {
    pub plane: Arc<DataPlane>,
    pub threads: Arc<DataThreads>,
    handle: RegistryHandle,
    listeners: PublicListeners,
    dir: tempfile::TempDir,
}

/// The first threads have the timers of the process: these never end.
fn keep_timers() {
    static TIMERS: OnceLock<DataThreads> = OnceLock::new();
    TIMERS.get_or_init(|| DataThreads::start(1).unwrap());
}

impl TestPlane {
    /// In front of this backend, with these tables besides.
    pub async fn start(backend: &CountingBackend, tables: &str) -> Self {
        keep_timers();
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n{tables}\n[[pool]]\nname = \"app\"\n\
             [[pool.backend]]\nname = \"one\"\naddress = \"{}\"\n[pool.health]\ntype = \"tcp\"\nrise = 1\n",
            backend.address
        );
        let dir = tempfile::tempdir().unwrap();
        let mut config = config::parse("test.toml", &text).unwrap().config;
        config.access_log = AccessLogConfig {
            sink: LogSink::File(dir.path().join("access")),
            format: LogFormat::Json,
            ..AccessLogConfig::default()
        };
        let access_log = AccessLog::open(&config.access_log).unwrap();
        let config = Arc::new(config);
        let handle = registry::spawn(
            config.clone(),
            persist::KeptState::default(),
            persist::OwnKeySource::default(),
            |_| Box::new(NoProbes),
            Box::new(NoObserver),
        );
        let plane = DataPlane::new(handle.clone(), access_log, Arc::default()).unwrap();
        let plane = Arc::new(plane);
        let threads = Arc::new(DataThreads::start(2).unwrap());
        let mut listeners = PublicListeners::new(threads.clone(), plane.clone());
        let change = listeners.prepare(&config).unwrap();
        listeners.apply(change, &config.server).await.unwrap();
        let plane = Self {
            plane,
            threads,
            handle,
            listeners,
            dir,
        };
        let probe = BackendEvent::Probed {
            probe: ProbeResult::Pass,
            began: clock::now(),
            listener: None,
        };
        plane.report(probe);
        lameduck_rig::wait::until("the backend is ready", async || {
            !plane.handle.snapshot().pools[0].ready.is_empty()
        })
        .await;
        plane
    }

    fn report(&self, event: BackendEvent) {
        self.handle
            .report(self.endpoint().key, event, String::new());
    }

    pub fn address(&self) -> SocketAddr {
        let address = self.listeners.addresses()[0].to_string();
        address.parse().unwrap()
    }

    pub fn endpoint(&self) -> Arc<Endpoint> {
        self.handle.snapshot().pools[0].backends[0].clone()
    }

    pub fn in_flight(&self) -> u32 {
        self.endpoint().gate.in_flight()
    }

    /// Of those in flight, the streams and tunnels.
    pub fn lasting(&self) -> u32 {
        let endpoint = self.endpoint();
        let kinds = endpoint.kinds.split(endpoint.gate.in_flight());
        kinds.stream + kinds.upgrade
    }

    pub async fn until_lasting(&self, count: u32) {
        let began = Instant::now();
        while self.lasting() != count {
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "{} last",
                self.lasting()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub fn kept(&self) -> usize {
        self.endpoint().idle.len()
    }

    pub fn is_quiet(&self) -> bool {
        self.endpoint().is_quiet()
    }

    /// Client connections that it serves.
    pub fn clients(&self) -> u32 {
        self.plane.clients.open()
    }

    pub async fn until_in_flight(&self, count: u32) {
        let began = Instant::now();
        while self.in_flight() != count {
            let waited = began.elapsed();
            assert!(
                waited < Duration::from_secs(10),
                "{} in flight",
                self.in_flight()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub async fn until_kept(&self, count: usize) -> usize {
        let began = Instant::now();
        while self.kept() != count && began.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.kept()
    }

    /// Has the backend drained, and waits until its gate is closed.
    pub async fn drain(&self) {
        self.report(BackendEvent::Drain(DrainSpec {
            actor: DrainActor::Operator,
            id: "operator".to_owned(),
            reason: String::new(),
            deadline: None,
            until: DrainUntil::Resumed,
            expires: None,
        }));
        let endpoint = self.endpoint();
        lameduck_rig::wait::until("the gate is closed", async || endpoint.gate.is_closed()).await;
    }

    /// The line of the request for this, which has been answered a moment ago.
    pub async fn logged(&self, target: &str) -> serde_json::Value {
        let mut found = None;
        lameduck_rig::wait::until("its line", async || {
            let lines = self.access_log().into_iter();
            found = lines.into_iter().find(|line| line["target"] == target);
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Its lines of the access log so far.
    pub fn access_log(&self) -> Vec<serde_json::Value> {
        assert!(self.plane.access_log.flush(Duration::from_secs(5)));
        let text = std::fs::read_to_string(self.dir.path().join("access")).unwrap();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}
