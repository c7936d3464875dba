//! A Kubernetes API server for EndpointSlices, written from the API's documentation ("API concepts": resource versions,
//! chunks, watches, bookmarks, 410), with everything that goes wrong with one at hand.
//!
//! [`ApiServer`] has the slices and their history; [`connection`] speaks HTTP; [`pods`] are what slices are made of.

mod connection;
mod pods;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wait::until;
pub use pods::{Pod, slice, slices};

/// How a watch is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchEnd {
    /// In order: the last chunk, as when its time is up.
    Clean,
    /// By a reset.
    Reset,
    /// In the middle of an event, by FIN.
    MidEvent,
    /// Not at all: nothing more comes, and its time is never up.
    Hang,
}

/// How a version that has been forgotten is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GoneAs {
    /// As the answer's status.
    #[default]
    Status,
    /// As an event of a watch that began well.
    Event,
}

/// A refusal of all requests of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiRefusal {
    /// Its status.
    pub code: u16,
    /// `details.retryAfterSeconds`.
    pub retry_after: u32,
}

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub struct ApiFaults {
    /// Lists are refused.
    pub refuse_lists: Option<ApiRefusal>,
    /// Watches are refused.
    pub refuse_watches: Option<ApiRefusal>,
    /// Lists take so long.
    pub slow_lists: Duration,
    /// Connections are reset as soon as they are accepted.
    pub away: bool,
    /// No request is answered.
    pub mute: bool,
    /// Lists are of this version: a server that lags behind.
    pub lag: Option<u64>,
    /// New watches hang from their first event on.
    pub hang_watches: bool,
    /// How a forgotten version is refused.
    pub gone_as: GoneAs,
    /// Only these tokens are known; `None`: everybody is.
    pub tokens: Option<Vec<String>>,
}

/// What was asked.
#[derive(Debug, Clone, Default)]
pub struct ApiAsked {
    /// First pages of lists.
    pub lists: usize,
    /// Pages of lists.
    pub pages: usize,
    /// Watches that began.
    pub watches: usize,
    /// From which version each watch was asked.
    pub watched_from: Vec<String>,
    /// Those that go on.
    pub open_watches: usize,
    /// Requests with a token that nobody knows.
    pub unauthorized: usize,
    /// The last label selector.
    pub selector: String,
}

#[derive(Debug, Clone)]
struct HistoryEvent {
    version: u64,
    kind: &'static str,
    object: Arc<Value>,
}

type Slices = BTreeMap<String, Arc<Value>>;

#[derive(Debug, Default)]
struct ApiState {
    version: u64,
    slices: Slices,
    history: Vec<HistoryEvent>,
    /// Every state there was, by its version.
    past: BTreeMap<u64, Slices>,
    /// History up to this version is forgotten.
    forgotten: u64,
    faults: ApiFaults,
    asked: ApiAsked,
    /// How watches that began before the number of this end are cut off.
    cut: (u64, Option<WatchEnd>),
}

#[derive(Debug)]
struct ApiShared {
    state: Mutex<ApiState>,
    /// Counts what happens, so that watches look.
    ticks: watch::Sender<u64>,
}

/// The server. It ends with its value.
#[derive(Debug)]
pub struct ApiServer {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<ApiShared>,
    accepting: JoinHandle<()>,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl ApiServer {
    /// One without slices.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(ApiShared {
            state: Mutex::new(ApiState {
                version: 100,
                ..ApiState::default()
            }),
            ticks: watch::channel(0).0,
        });
        let serving = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection::serve(stream, serving.clone()));
            }
        });
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig for it, whose token is in a file.
    pub fn kubeconfig(&self, token_file: &std::path::Path) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test", "namespace": "shop" } }],
            "clusters": [{ "name": "test", "cluster": { "server": self.url() } }],
            "users": [{ "name": "test", "user": { "tokenFile": token_file } }],
        })
        .to_string()
    }

    /// Writes a slice (`ADDED` or `MODIFIED`, nothing if it is there as it is).
    pub fn put(&self, mut slice: Value) {
        self.change(|state| {
            let name = slice["metadata"]["name"].as_str().unwrap().to_owned();
            let old = state.slices.get(&name);
            let same = |key: &str| old.is_some_and(|old| old[key] == slice[key]);
            if same("endpoints") && same("ports") && same("addressType") {
                return;
            }
            let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
            state.version += 1;
            slice["metadata"]["resourceVersion"] = state.version.to_string().into();
            slice["metadata"]["uid"] = format!("uid-{name}").into();
            let object = Arc::new(slice);
            state.slices.insert(name, object.clone());
            state.record(kind, object);
        });
    }

    /// Deletes a slice.
    pub fn delete(&self, name: &str) {
        self.change(|state| {
            let Some(slice) = state.slices.remove(name) else {
                return;
            };
            state.version += 1;
            let mut last = (*slice).clone();
            last["metadata"]["resourceVersion"] = state.version.to_string().into();
            state.record("DELETED", Arc::new(last));
        });
    }

    /// Does what the EndpointSlice controller does: writes the slices of a Service that have changed, and deletes those
    /// that are left over.
    pub fn set_pods(&self, service: &str, port: u16, pods: &[Pod], per_slice: usize) {
        let wanted = slices(service, port, pods, per_slice);
        let prefix = format!("{service}-");
        let there: Vec<String> = self.shared.state.lock().slices.keys().cloned().collect();
        for slice in &wanted {
            self.put(slice.clone());
        }
        let is_left_over = |name: &&String| {
            name.starts_with(&prefix)
                && !wanted
                    .iter()
                    .any(|slice| slice["metadata"]["name"] == **name)
        };
        for name in there.iter().filter(is_left_over) {
            self.delete(name);
        }
    }

    /// Sends a bookmark to whoever watches: other resources have changed.
    pub fn bookmark(&self) {
        self.change(|state| {
            state.version += 1;
            let bookmark = json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": { "resourceVersion": state.version.to_string(), "creationTimestamp": null },
                "endpoints": null,
                "addressType": "",
                "ports": null,
            });
            state.record("BOOKMARK", Arc::new(bookmark));
        });
    }

    /// Forgets all history (etcd's compaction): a watch from an older version is refused.
    pub fn compact(&self) {
        self.change(|state| {
            state.version += 1;
            state.forgotten = state.version;
            state.history.clear();
            let now = state.slices.clone();
            state.past = BTreeMap::from([(state.version, now)]);
        });
    }

    /// Cuts off the watches that there are.
    pub fn cut_watches(&self, end: WatchEnd) {
        self.change(|state| state.cut = (state.cut.0 + 1, Some(end)));
    }

    /// Changes what goes wrong.
    pub fn fail(&self, change: impl FnOnce(&mut ApiFaults)) {
        self.change(|state| change(&mut state.faults));
    }

    /// The newest version.
    pub fn version(&self) -> u64 {
        self.shared.state.lock().version
    }

    /// What was asked so far.
    pub fn asked(&self) -> ApiAsked {
        self.shared.state.lock().asked.clone()
    }

    /// Waits until what was asked is as the test wants it.
    pub async fn wait_until(&self, what: &str, is_so: impl Fn(&ApiAsked) -> bool) {
        until(what, async || is_so(&self.shared.state.lock().asked)).await;
    }

    fn change(&self, change: impl FnOnce(&mut ApiState)) {
        change(&mut self.shared.state.lock());
        self.shared.ticks.send_modify(|ticks| *ticks += 1);
    }
}

impl ApiState {
    fn record(&mut self, kind: &'static str, object: Arc<Value>) {
        let version = self.version;
        self.history.push(HistoryEvent {
            version,
            kind,
            object,
        });
        self.past.insert(version, self.slices.clone());
    }

    /// The slices as they were at a version.
    fn at(&self, version: u64) -> Slices {
        match self.past.range(..=version).next_back() {
            Some((_, slices)) => slices.clone(),
            None => Slices::new(),
        }
    }
}
