//! A registry whose probes are the test's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use lameduck::config::{self, Config};
use lameduck::core::Time;
use lameduck::core::backend::{BackendEvent, ProbeResult};
use lameduck::registry::probing::{BackendProber, ProbeCadence, ProbeStarter};
use lameduck::registry::snapshot::PoolSnapshot;
use lameduck::registry::view::{
    BackendView, DrainRequest, DrainResponse, EventView, RegisterRequest, ResumeRequest,
};
use lameduck::registry::{
    self, BackendKey, Endpoint, RegistryError, RegistryHandle, RegistryObserver, persist,
};
use lameduck::rt::clock;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// Longest wait for anything that should happen.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// One prober, as the registry treated it.
pub struct Probed {
    pub endpoint: Arc<Endpoint>,
    pub health: Arc<config::HealthConfig>,
    pub cadence: ProbeCadence,
    /// How often it was told to probe at once.
    pub now: usize,
    /// How often probing this backend was begun.
    pub starts: usize,
    pub running: bool,
}

/// What the test double of probing recorded, by key.
#[derive(Clone, Default)]
pub struct Probes {
    seen: Arc<Mutex<HashMap<BackendKey, Probed>>>,
    /// `now` panics.
    pub faulty: Arc<AtomicBool>,
}

impl Probes {
    pub fn lock(&self) -> MutexGuard<'_, HashMap<BackendKey, Probed>> {
        self.seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

struct One {
    probes: Probes,
    key: BackendKey,
    start: usize,
}

impl ProbeStarter for Probes {
    fn start(
        &self,
        endpoint: Arc<Endpoint>,
        health: Arc<config::HealthConfig>,
        cadence: ProbeCadence,
    ) -> Box<dyn BackendProber> {
        let key = endpoint.key;
        let mut seen = self.lock();
        let start = seen.get(&key).map_or(0, |probed| probed.starts) + 1;
        let probed = Probed {
            endpoint,
            health,
            cadence,
            now: 0,
            starts: start,
            running: true,
        };
        seen.insert(key, probed);
        Box::new(One {
            probes: self.clone(),
            key,
            start,
        })
    }
}

impl BackendProber for One {
    fn now(&self) {
        assert!(!self.probes.faulty.load(Ordering::SeqCst), "a fault");
        if let Some(probed) = self.probes.lock().get_mut(&self.key) {
            probed.now += 1;
        }
    }

    fn set(&self, cadence: ProbeCadence) {
        if let Some(probed) = self.probes.lock().get_mut(&self.key) {
            probed.cadence = cadence;
        }
    }
}

impl Drop for One {
    fn drop(&mut self) {
        if let Some(probed) = self.probes.lock().get_mut(&self.key)
            && probed.starts == self.start
        {
            probed.running = false;
        }
    }
}

/// What the registry told the process.
#[derive(Clone, Default)]
pub struct Told {
    pub first_rounds: Arc<AtomicUsize>,
    pub registered: Arc<AtomicUsize>,
    pub kept: Arc<Mutex<persist::KeptState>>,
    pub ended: Arc<Mutex<Vec<String>>>,
}

impl RegistryObserver for Told {
    fn first_round_finished(&self, _ready: usize, _all: usize) {
        self.first_rounds.fetch_add(1, Ordering::SeqCst);
    }

    fn registered(&self) {
        self.registered.fetch_add(1, Ordering::SeqCst);
    }

    fn persist(&self, state: persist::KeptState) {
        *self.kept.lock().unwrap() = state;
    }

    fn drain_ended(&self, pool: &str, response: &DrainResponse) {
        let ended = format!("{pool} {}", response.outcome);
        self.ended.lock().unwrap().push(ended);
    }
}

pub struct Rig {
    pub handle: RegistryHandle,
    pub probes: Probes,
    pub told: Told,
    pub events: broadcast::Receiver<Arc<EventView>>,
}

/// Two backends, short times. `{pool}` and `{backends}` are for what a test wants otherwise.
pub fn config(text: &str) -> Arc<Config> {
    let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
    let loaded = config::parse("test.toml", &format!("{listener}{text}"));
    Arc::new(
        loaded
            .unwrap_or_else(|error| panic!("{}", error.render(false)))
            .config,
    )
}

/// A pool `app` with these settings and backends, as `(name, port)`.
pub fn pool(settings: &str, backends: &[(&str, u16)]) -> String {
    let mut text = "[[pool]]\nname = \"app\"\n".to_owned();
    for (name, port) in backends {
        let address = format!("127.0.0.1:{port}");
        text += &format!("[[pool.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n");
    }
    text + settings
}

pub const TWO: [(&str, u16); 2] = [("a", 3001), ("b", 3002)];

impl Rig {
    pub fn new(text: &str) -> Self {
        Self::restored(text, persist::KeptState::default())
    }

    pub fn restored(text: &str, state: persist::KeptState) -> Self {
        let (probes, told) = (Probes::default(), Told::default());
        let (double, observer) = (probes.clone(), Box::new(told.clone()));
        let handle = registry::spawn(
            config(text),
            state,
            persist::OwnKeySource::default(),
            |_| Box::new(double),
            observer,
        );
        Self {
            events: handle.subscribe(),
            handle,
            probes,
            told,
        }
    }

    /// Two backends that are ready.
    pub async fn two() -> Self {
        let rig = Self::new(&pool("", &TWO));
        rig.ready("a").await;
        rig.ready("b").await;
        rig
    }

    /// The newest backend that is shown so, or was.
    pub fn key(&self, shown: &str) -> BackendKey {
        let probes = self.probes.lock();
        let named = probes
            .values()
            .filter(|probed| &*probed.endpoint.name == shown);
        let newest = named.max_by_key(|probed| (probed.running, probed.endpoint.key));
        newest.unwrap().endpoint.key
    }

    pub fn endpoint(&self, shown: &str) -> Arc<Endpoint> {
        let key = self.key(shown);
        self.probes.lock()[&key].endpoint.clone()
    }

    pub fn probed<T>(&self, shown: &str, look: impl Fn(&Probed) -> T) -> T {
        let key = self.key(shown);
        look(&self.probes.lock()[&key])
    }

    /// A probe that begins and ends now.
    pub fn probe(&self, shown: &str, probe: ProbeResult) {
        self.probe_of(shown, probe, None);
    }

    pub fn probe_of(&self, shown: &str, probe: ProbeResult, listener: Option<u64>) {
        self.probe_begun(shown, probe, listener, clock::now());
    }

    pub fn probe_begun(&self, shown: &str, probe: ProbeResult, listener: Option<u64>, began: Time) {
        let event = BackendEvent::Probed {
            probe,
            began,
            listener,
        };
        self.handle
            .report(self.key(shown), event, format!("{probe}"));
    }

    /// Passes often enough to become ready.
    pub async fn ready(&self, shown: &str) {
        self.probe(shown, ProbeResult::Pass);
        self.probe(shown, ProbeResult::Pass);
        self.settled().await;
        assert_eq!(self.state(shown).await, "ready");
    }

    /// Waits until everything sent so far has been dealt with, and what came of it.
    pub async fn settled(&self) {
        for _ in 0..3 {
            self.handle.pools().await.unwrap();
        }
    }

    pub async fn view(&self, shown: &str) -> Option<BackendView> {
        let pool = self.handle.pool("app").await.unwrap();
        pool.backends.into_iter().find(|view| view.name == shown)
    }

    pub async fn state(&self, shown: &str) -> String {
        let view = self.view(shown).await;
        view.map_or_else(|| "gone".to_owned(), |view| view.state)
    }

    pub async fn becomes(&self, shown: &str, state: &str) {
        let wait = async {
            while self.state(shown).await != state {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("`{shown}` is {:?}, not {state}", self.view(shown).await);
        }
    }

    /// Every backend with its state.
    pub async fn states(&self) -> Vec<(String, String)> {
        let pool = self.handle.pool("app").await.unwrap();
        let states = pool.backends.into_iter();
        states.map(|view| (view.name, view.state)).collect()
    }

    pub fn snapshot(&self) -> Arc<PoolSnapshot> {
        self.handle.snapshot().pools[0].clone()
    }

    /// Asks for a drain in the background; it has been taken in when this returns.
    pub async fn draining(&self, name: &str, request: DrainRequest) -> Waiting {
        let (handle, name) = (self.handle.clone(), name.to_owned());
        let task = in_background(async move { handle.drain("app", &name, request).await }).await;
        self.settled().await;
        task
    }

    pub async fn drain(&self, name: &str) -> Result<DrainResponse, RegistryError> {
        let drain = self.handle.drain("app", name, DrainRequest::default());
        tokio::time::timeout(PATIENCE, drain).await.unwrap()
    }

    pub async fn resume(&self, name: &str, all: bool) -> Result<BackendView, RegistryError> {
        let request = ResumeRequest {
            all,
            ..ResumeRequest::default()
        };
        self.handle.resume("app", name, request).await
    }

    pub async fn register(&self, name: &str, port: u16) -> Result<BackendView, RegistryError> {
        let request = RegisterRequest {
            address: format!("127.0.0.1:{port}"),
            ..RegisterRequest::default()
        };
        self.handle.register("app", name, request).await
    }

    pub async fn apply(&self, text: &str) -> Vec<String> {
        self.handle.apply(config(text)).await.unwrap()
    }

    pub fn kept(&self) -> persist::KeptState {
        self.told.kept.lock().unwrap().clone()
    }

    /// The kinds of events so far, with the backend and what it became.
    pub fn events(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            let words = [Some(&event.kind), event.backend.as_ref(), event.to.as_ref()];
            let words: Vec<_> = words.into_iter().flatten().map(String::as_str).collect();
            lines.push(words.join(" "));
        }
        lines
    }
}

pub type Waiting = JoinHandle<Result<DrainResponse, RegistryError>>;

/// Goes on in the background with what asks the registry. What it asks first has been sent when this returns, so that
/// whatever the test asks then comes behind it.
pub async fn in_background(
    asking: impl Future<Output = Result<DrainResponse, RegistryError>> + Send + 'static,
) -> Waiting {
    let mut asking = Box::pin(asking);
    let first = futures_util::poll!(&mut asking);
    tokio::spawn(async move {
        match first {
            Poll::Ready(answer) => answer,
            Poll::Pending => asking.await,
        }
    })
}

/// The answer, which must come soon.
pub async fn told(waiting: Waiting) -> DrainResponse {
    let answer = tokio::time::timeout(PATIENCE, waiting).await;
    answer.expect("nobody told us").unwrap().unwrap()
}

pub fn within(timeout: &str) -> DrainRequest {
    DrainRequest {
        timeout: Some(timeout.into()),
        ..DrainRequest::default()
    }
}

pub fn restarted(timeout: &str) -> DrainRequest {
    DrainRequest {
        until: Some("restarted".into()),
        ..within(timeout)
    }
}

pub fn supervisor(id: &str) -> DrainRequest {
    DrainRequest {
        actor: Some("supervisor".into()),
        id: Some(id.into()),
        ..DrainRequest::default()
    }
}
