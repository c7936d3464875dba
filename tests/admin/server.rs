//! A real admin server on real sockets, over a real registry whose backends pass every probe.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lameduck::admin::{self, AdminToken, ProxyProcess};
use lameduck::core::backend::{BackendEvent, ProbeResult};
use lameduck::registry::persist;
use lameduck::registry::probing::{BackendProber, ProbeCadence, ProbeStarter};
use lameduck::registry::unattended::NoObserver;
use lameduck::registry::{Endpoint, RegistryHandle};
use lameduck::rt::clock;
use lameduck::{config, registry};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::http::{Answer, Http};

/// One pool with two backends, both of which become ready by themselves.
pub const CONFIG: &str = r#"
[[listener]]
address = "127.0.0.1:0"
[[pool]]
name = "app"
[[pool.backend]]
name = "app-1"
address = "127.0.0.1:3001"
[[pool.backend]]
name = "app-2"
address = "127.0.0.1:3002"
"#;

/// Longest wait for anything that should happen.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Which doors to open beside the unix socket.
#[derive(Default)]
pub struct Doors {
    pub http: Option<&'static str>,
    pub probes: bool,
    pub token: bool,
    pub apps: bool,
}

pub struct Server {
    pub socket: PathBuf,
    pub http: Option<SocketAddr>,
    pub probes: Option<SocketAddr>,
    pub token_file: PathBuf,
    pub registry: RegistryHandle,
    pub process: Arc<Stage>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<std::io::Result<()>>,
    _dir: TempDir,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(Doors::default()).await
    }

    /// Gives it a second pool, and a route that is split between both.
    pub async fn split(&self) {
        let text = format!(
            "{CONFIG}[[pool]]\nname = \"next\"\n[[pool.backend]]\naddress = \"127.0.0.1:3003\"\n\
             [[route]]\nname = \"shop\"\nsplit = {{ app = 95, next = 5 }}\n"
        );
        let loaded = config::parse("test.toml", &text).unwrap();
        self.registry.apply(Arc::new(loaded.config)).await.unwrap();
    }

    pub async fn with(doors: Doors) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let loaded = config::parse("test.toml", CONFIG).unwrap();
        let token_file = dir.path().join("token");
        std::fs::write(&token_file, "s3cret\n").unwrap();
        let mut config = loaded.config;
        config.admin = config::AdminConfig {
            socket: Some(dir.path().join("sock")),
            mode: 0o600,
            group: None,
            http: doors.http.map(|at| at.parse().unwrap()),
            token_file: doors.token.then(|| token_file.clone()),
            probes: doors.probes.then(|| "127.0.0.1:0".parse().unwrap()),
            hosts: vec!["duck.example".to_owned()],
            apps_socket: doors.apps.then(|| dir.path().join("apps")),
            ..config::AdminConfig::default()
        };
        let bound = admin::bind(&config).unwrap();
        let token = config.admin.token_file.as_deref().map(AdminToken::load);
        let token = token.transpose().unwrap();
        let registry = registry::spawn(
            Arc::new(config),
            persist::KeptState::default(),
            persist::OwnKeySource::default(),
            |handle| Box::new(Fit(handle.clone())),
            Box::new(NoObserver),
        );
        let process = Arc::new(Stage::default());
        let (stop, stopped) = watch::channel(false);
        let (socket, http, probes) = (
            bound.socket().unwrap().to_owned(),
            bound.http(),
            bound.probes(),
        );
        let serving = tokio::spawn(admin::serve(
            bound,
            registry.clone(),
            process.clone(),
            admin::DoorSettings {
                phase: None,
                token,
                hosts: vec!["duck.example".to_owned()],
                apps_pools: vec!["app".to_owned()],
                ..admin::DoorSettings::default()
            },
            stopped,
        ));
        let server = Self {
            socket,
            http,
            probes,
            token_file,
            registry,
            process,
            stop,
            serving,
            _dir: dir,
        };
        server.until(|pool| pool["eligible"] == 2).await;
        server
    }

    /// A request through the unix socket.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let request = Http::new(method, path);
        match body {
            Some(body) => request.json(&body.to_string()),
            None => request,
        }
        .over_unix(&self.socket)
        .await
    }

    /// What `/v1/pools` says, without what changes by itself.
    pub async fn world(&self) -> Value {
        let mut world = self.ask("GET", "/v1/pools", None).await.json();
        for pool in world.as_array_mut().unwrap() {
            for backend in pool["backends"].as_array_mut().unwrap() {
                backend["last_probe"] = Value::Null;
            }
        }
        world
    }

    /// Waits until the pool is as wanted, looking again at each event.
    pub async fn until(&self, wanted: impl Fn(&Value) -> bool) {
        let mut events = self.registry.subscribe();
        let looked = async {
            while !wanted(&self.ask("GET", "/v1/pools/app", None).await.json()) {
                // Numbers change without events.
                let _ = tokio::time::timeout(Duration::from_millis(50), events.recv()).await;
            }
        };
        if tokio::time::timeout(PATIENCE, looked).await.is_err() {
            panic!("not in time: {}", self.world().await);
        }
    }

    /// A ready backend, as the data plane sees it.
    pub fn endpoint(&self, name: &str) -> Arc<Endpoint> {
        let snapshot = self.registry.snapshot();
        let mut found = snapshot.pools[0].backends.iter();
        found
            .find(|endpoint| &*endpoint.name == name)
            .unwrap()
            .clone()
    }

    /// Stops it, in good order.
    pub async fn stop(self) {
        self.stop.send(true).unwrap();
        let ended = tokio::time::timeout(PATIENCE, self.serving).await;
        ended.expect("it stops").unwrap().unwrap();
    }
}

/// A prober that finds every backend fit, again and again.
struct Fit(RegistryHandle);

struct Probes(JoinHandle<()>);

impl ProbeStarter for Fit {
    fn start(
        &self,
        endpoint: Arc<Endpoint>,
        _: Arc<config::HealthConfig>,
        _: ProbeCadence,
    ) -> Box<dyn BackendProber> {
        let handle = self.0.clone();
        Box::new(Probes(tokio::spawn(async move {
            loop {
                let event = BackendEvent::Probed {
                    probe: ProbeResult::Pass,
                    began: clock::now(),
                    listener: None,
                };
                handle.report(endpoint.key, event, "200 in 1ms".to_owned());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })))
    }
}

impl BackendProber for Probes {
    fn now(&self) {}
    fn set(&self, _: ProbeCadence) {}
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The process's part, played with switches.
#[derive(Default)]
pub struct Stage {
    pub dead: AtomicBool,
    pub unstarted: AtomicBool,
    pub unready: AtomicBool,
    pub lame: AtomicBool,
    pub bad_config: AtomicBool,
}

#[async_trait]
impl ProxyProcess for Stage {
    fn live(&self) -> Result<(), String> {
        match self.dead.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err("The scribe has ended.".to_owned()),
        }
    }

    fn started(&self) -> bool {
        !self.unstarted.load(Ordering::SeqCst)
    }

    fn ready(&self) -> Result<(), String> {
        match self.unready.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err("The first round of probes is not over.".to_owned()),
        }
    }

    fn listeners(&self) -> Vec<config::ListenAddress> {
        vec!["127.0.0.1:41234".parse().unwrap()]
    }

    fn lame_duck(&self, on: bool, _: &str) {
        self.lame.store(on, Ordering::SeqCst);
    }

    fn is_lame_duck(&self) -> bool {
        self.lame.load(Ordering::SeqCst)
    }

    fn config_json(&self) -> Value {
        json!({ "pool": [{ "name": "app" }] })
    }

    async fn reload(&self) -> Result<Vec<String>, String> {
        match self.bad_config.load(Ordering::SeqCst) {
            false => Ok(vec!["pool app: balance random".to_owned()]),
            true => Err("error: unknown key `pol`\n --> lameduck.toml:3:1".to_owned()),
        }
    }

    fn metrics(&self) -> String {
        "lameduck_build_info 1\n".to_owned()
    }
}
