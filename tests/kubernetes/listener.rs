//! A source that is followed, and what it has reported.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use lameduck::core::discovery::DiscoveredState;
use lameduck::discovery::kubernetes::{
    ApiAccess, FollowTimes, FollowedSlices, JoinRules, KubernetesSource, PortChoice,
};
use lameduck::discovery::{DiscoverySource, SourceReport, SourceReporter};
use lameduck_rig::kubernetes::{ApiServer, Pod};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// Times for tests: a second where the API knows no less. An answer is waited for as long as on a machine that stands still
/// for a moment; who tests that wait has one of its own.
pub const FAST: FollowTimes = FollowTimes {
    watch: Duration::from_secs(1),
    grace: Duration::from_millis(300),
    answer: Duration::from_secs(15),
    pause: Duration::from_millis(20),
    longest_pause: Duration::from_millis(200),
    stale: Duration::from_millis(600),
};

/// A follower of the Service `app` in the namespace `shop`.
pub struct Listener {
    reports: mpsc::Receiver<SourceReport>,
    task: JoinHandle<()>,
    /// Answers so far.
    pub answers: usize,
    /// The last failure.
    pub failure: Option<String>,
    /// Failures so far.
    pub failures: usize,
    /// All that were said to end, in answers that may have them no longer.
    pub ended: std::collections::BTreeSet<String>,
    /// The last answer: `pod-1 serving`.
    pub set: Vec<String>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    /// By the server's URL, as nobody in particular.
    pub fn start(server: &ApiServer) -> Self {
        Self::with(ApiAccess::Url(server.url()), FAST)
    }

    /// By a kubeconfig.
    pub fn by_kubeconfig(path: &Path) -> Self {
        Self::with(ApiAccess::Kubeconfig(path.to_owned()), FAST)
    }

    pub fn with(access: ApiAccess, times: FollowTimes) -> Self {
        let what = FollowedSlices {
            access,
            namespace: Some("shop".to_owned()),
            selector: "kubernetes.io/service-name=app".to_owned(),
            rules: JoinRules {
                port: PortChoice::Only,
                family: None,
            },
        };
        let source = KubernetesSource::new(what, times);
        let (reporter, reports) = SourceReporter::new();
        let task = tokio::spawn(async move {
            source.follow(&reporter).await;
        });
        Self {
            reports,
            task,
            answers: 0,
            failure: None,
            failures: 0,
            ended: std::collections::BTreeSet::new(),
            set: Vec::new(),
        }
    }

    /// Takes one report.
    pub async fn hear(&mut self) {
        let report = timeout(PATIENCE, self.reports.recv()).await;
        match report.unwrap_or_else(|_| panic!("nothing was heard after {:?}", self.set)) {
            Some(SourceReport::Answer(answer)) => {
                self.answers += 1;
                self.ended.extend(answer.deleted);
                let shown =
                    |(name, one): (&str, &lameduck::core::discovery::DiscoveredBackend<_>)| {
                        let state: DiscoveredState = one.state;
                        format!("{name} {}", state.as_str())
                    };
                self.set = answer.set.iter().map(shown).collect();
            }
            Some(SourceReport::Failure(error)) => {
                self.failures += 1;
                self.failure = Some(error.to_string());
            }
            None => panic!("the source has ended"),
        }
    }

    /// Takes reports until the set is this one.
    pub async fn until_set(&mut self, wanted: &[&str]) {
        self.until(&format!("{wanted:?}"), |listener| listener.set == wanted)
            .await;
    }

    /// Takes reports until it has failed with words that contain this.
    pub async fn until_failure(&mut self, wanted: &str) {
        self.until(wanted, |listener| {
            listener
                .failure
                .as_ref()
                .is_some_and(|failure| failure.contains(wanted))
        })
        .await;
    }

    pub async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(
                tokio::time::Instant::now() < end,
                "never came: {what}; the set is {:?}, the last failure {:?}",
                self.set,
                self.failure
            );
            self.hear().await;
        }
    }
}

/// `pod-1`, `pod-2` and so on, ready.
pub fn pods(count: u16) -> Vec<Pod> {
    (1..=count).map(pod).collect()
}

/// One of them.
pub fn pod(number: u16) -> Pod {
    let [high, low] = number.to_be_bytes();
    Pod::ready(format!("pod-{number}"), IpAddr::from([10, 0, high, low]))
}
