//! What the tests share: instances of apps, a proxy in front of them, load, streams, and the results file.

pub mod apps;
pub mod front;
mod standstill;
pub mod stops;
pub mod streams;
pub mod supervisor;
pub mod watch;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lameduck::tools::demo::instance::{DemoInstance, Program};
use lameduck::tools::demo::load::LoadPlan;
use lameduck::tools::demo::oracle::{Evidence, LoadAccount, Sent};
use lameduck::tools::demo::scratch::ScratchDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use apps::App;
use front::Front;
use lameduck_rig::oracle;
pub use lameduck_rig::place::exe;
pub use lameduck_rig::setting::{proving, skip};
pub use lameduck_rig::wait::until_within as until;

/// A test's right to load the machine, for as long as it is held.
pub type Turn = SemaphorePermit<'static>;

/// Into how many shares two cores are divided: a test under load keeps about two of them busy.
const SHARES: u32 = 6;

/// Shares are given in the order in which they were asked for, so a test that takes all of them gets them.
static MACHINE: Semaphore = Semaphore::const_new(SHARES as usize);

async fn shares(count: u32) -> Turn {
    MACHINE.acquire_many(count).await.unwrap()
}

/// Waits for this test's turn among those that only count what was lost: three of them run side by side.
pub async fn turn() -> Turn {
    shares(2).await
}

/// Waits until one other test at most is under load: for tests that judge times and leave room for a busy machine.
pub async fn turn_beside_one() -> Turn {
    shares(3).await
}

/// Waits until no other test is under load: for tests that judge milliseconds, memory or processor time, and those that
/// stop an app without telling the proxy, where the moment decides what can be saved. Those of Oxmgr's order, too: beside
/// another load, an old process once took longer to end than Oxmgr waits.
pub async fn turn_alone() -> Turn {
    shares(SHARES).await
}

/// How much load, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Requests a second.
    pub rate: u32,
    /// The least that a run takes.
    pub run: Duration,
    /// WebSockets, and as many event streams.
    pub streams: usize,
    /// How long the slow requests take.
    pub slow: Duration,
    /// A drain's deadline: above that. Streams are ended over its last second.
    pub deadline: Duration,
}

pub fn scale() -> Scale {
    if proving() {
        Scale {
            rate: 500,
            run: Duration::from_secs(60),
            streams: 20,
            slow: Duration::from_secs(2),
            deadline: Duration::from_secs(5),
        }
    } else {
        Scale {
            rate: 150,
            run: Duration::from_secs(5),
            streams: 6,
            slow: Duration::from_secs(1),
            deadline: Duration::from_secs(2),
        }
    }
}

/// The usual mix of requests, as many and as slow as this run has them.
pub fn usual_load(address: SocketAddr) -> LoadPlan {
    let Scale { rate, slow, .. } = scale();
    LoadPlan {
        slow,
        ..LoadPlan::new(address, rate)
    }
}

/// Three instances of an app and a directory for their files.
pub struct Bench {
    pub instances: Vec<DemoInstance>,
    // Last: instances that still run write into it.
    pub scratch: ScratchDir,
}

impl Bench {
    /// Starts `count` instances named `app-1`…; `None` if this machine lacks what they need.
    pub async fn start(test: &str, app: App, count: usize) -> Option<Self> {
        let Some(program) = app.program() else {
            skip(test, "node (run tests/setup.sh)");
            return None;
        };
        Some(Self::of(&program, count).await)
    }

    /// The same, of any program.
    pub async fn of(program: &Program, count: usize) -> Self {
        let scratch = ScratchDir::new("lameduck-e2e").unwrap();
        let instances = oracle::launch(oracle::names(count), program, scratch.path()).await;
        Self { instances, scratch }
    }

    /// The account of what was sent.
    pub async fn account(&self, sent: Vec<Sent>, front: &Front) -> LoadAccount {
        LoadAccount::of(&self.evidence(sent, front).await)
    }

    /// Everything that is known of the run.
    pub async fn evidence(&self, sent: Vec<Sent>, front: &Front) -> Evidence {
        let lives = oracle::lives_of(&self.instances);
        let (held, retried) = match front {
            Front::Lameduck(proxy) => proxy.counts().await.unwrap(),
            Front::Peer { .. } | Front::Direct(_) => (None, None),
        };
        Evidence {
            sent,
            lives,
            held,
            retried,
        }
    }
}

/// The lines of the access log that tell of a failure: a lost request's reason is there.
pub fn failures(access_log: &Path) -> String {
    let text = std::fs::read_to_string(access_log).unwrap_or_default();
    let is_failure = |line: &&str| line.contains("\"cause\":");
    text.lines()
        .filter(is_failure)
        .take(20)
        .collect::<Vec<_>>()
        .join("\n")
}

/// One request on a connection of its own: status and body.
pub async fn get(
    address: SocketAddr,
    path: &str,
) -> Result<(u16, String), lameduck::tools::demo::oracle::Loss> {
    let mut connection = lameduck::tools::demo::client::LoadConnection::open(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let response = connection.exchange(request.as_bytes()).await?;
    Ok((
        response.status,
        String::from_utf8_lossy(&response.body).into_owned(),
    ))
}
