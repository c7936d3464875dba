//! Follows the EndpointSlices of a Service: a list, then a watch from its version on, and another list if the watch is
//! lost.
//!
//! kube's own `watcher` is not used, because it hides two things: the versions of lists and bookmarks, which are needed
//! to recognise an API server that lags behind; and whether a list or an event has removed something.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, StreamExt as _, pin_mut};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Status;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::access::{ApiAccess, ClusterAccessError, with_causes};
use super::answer_of;
use super::join::{JoinRules, PortProblem, join_slices};
use super::slice::ParsedSlice;
use super::store::{SliceStore, StaleListError};
use super::version::ResourceVersion;
use crate::core::discovery::SourceAnswer;
use crate::discovery::{SourceError, SourceReporter};

/// Slices in one page of a list; a slice usually has up to 100 endpoints.
const PAGE_SIZE: u32 = 100;

/// Most pages of one list: a server that always names a further page is not followed for ever.
const MAX_PAGES: usize = 1000;

/// Most events that are combined to one report if they arrive at once.
const MAX_COMBINED_EVENTS: usize = 256;

/// What is followed, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedSlices {
    /// Access to the API server.
    pub access: ApiAccess,
    /// Namespace; `None`: lameduck's own, or that of the kubeconfig.
    pub namespace: Option<String>,
    /// Label selector of the slices.
    pub selector: String,
    /// Which ports and addresses of the slices are used.
    pub rules: JoinRules,
}

/// Time limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowTimes {
    /// Duration of a watch, up to a quarter less, after which it is started again. This detects a connection that has
    /// died silently, and an account that may no longer watch.
    pub watch: Duration,
    /// Time after which a watch that should have ended is abandoned.
    pub grace: Duration,
    /// Longest wait for an answer, or for a page of a list.
    pub answer: Duration,
    /// Pause after the first failure; each further one is twice as long…
    pub pause: Duration,
    /// …up to this one.
    pub longest_pause: Duration,
    /// Time after which an API server that lags behind counts as restored from a backup, and is believed.
    pub stale: Duration,
}

impl Default for FollowTimes {
    fn default() -> Self {
        Self {
            watch: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            answer: Duration::from_secs(10),
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(15),
            stale: Duration::from_secs(60),
        }
    }
}

/// Reason why the API server could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    /// There is no access.
    #[error(transparent)]
    Access(#[from] ClusterAccessError),
    /// The API server doesn't know the account.
    #[error(
        "the API server doesn't know who asks (401): {0}; is the service account's token mounted, or the kubeconfig's \
         still valid? Both are read again each time"
    )]
    Unauthorized(String),
    /// The account lacks a permission.
    #[error(
        "the API server forbids it (403): {0}; the service account needs `list` and `watch` on `endpointslices` of \
         `discovery.k8s.io` in this namespace (deploy/kubernetes/discovery.yaml has the Role and RoleBinding)"
    )]
    Forbidden(String),
    /// The API server is overloaded or has an error.
    #[error("the API server answers {code}: {message}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// Message of the server.
        message: String,
        /// Time for which the server doesn't want to be asked.
        pause: Option<Duration>,
    },
    /// The requested version is no longer known (410). This is no fault: a list is due.
    #[error("the API server no longer knows the version that was asked from (410): {0}")]
    Gone(String),
    /// The API server can't be reached, or the connection broke.
    #[error("the API server can't be asked: {0}")]
    Broken(String),
    /// The answer can't be parsed.
    #[error("the API server's answer can't be read: {0}")]
    Unreadable(String),
    /// It doesn't answer.
    #[error("the API server doesn't answer: {what} took longer than {limit:?}")]
    Silent {
        /// What lameduck waited for.
        what: &'static str,
        /// How long lameduck waited.
        limit: Duration,
    },
    /// The answer is older than what is known.
    #[error(transparent)]
    Stale(#[from] StaleListError),
}

impl FollowError {
    fn of(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(&status),
            kube::Error::SerdeError(error) => Self::Unreadable(error.to_string()),
            other => Self::Broken(with_causes(&other)),
        }
    }

    fn of_status(status: &Status) -> Self {
        let message = match status.message.is_empty() {
            true => status.reason.clone(),
            false => status.message.clone(),
        };
        match status.code {
            401 => Self::Unauthorized(message),
            403 => Self::Forbidden(message),
            410 => Self::Gone(message),
            code => Self::Refused {
                code,
                message,
                pause: status
                    .details
                    .as_ref()
                    .map(|details| Duration::from_secs(details.retry_after_seconds.into()))
                    .filter(|pause| !pause.is_zero()),
            },
        }
    }

    /// Whether a new list is needed. After a broken connection it is not: a watch from the known version on is shorter.
    fn needs_list(&self) -> bool {
        !matches!(
            self,
            Self::Broken(_) | Self::Silent { .. } | Self::Access(_)
        )
    }

    /// Whether it should be logged: a version that has become too old is normal.
    fn is_trouble(&self) -> bool {
        !matches!(self, Self::Gone(_))
    }
}

/// Follows the slices for ever, and reports the endpoints after each list, after each event that changes a slice, and
/// at each start of a watch. Ends only by being dropped.
pub(super) async fn follow_slices(
    what: &FollowedSlices,
    times: &FollowTimes,
    reports: &SourceReporter,
) -> std::convert::Infallible {
    let mut follower = Follower {
        what,
        times,
        reports,
        store: SliceStore::default(),
        ending: BTreeSet::new(),
        is_listed: false,
        lacks_watch: false,
        told_problem: None,
        stale_since: None,
        failures: 0,
    };
    loop {
        if let Err(error) = follower.go_on().await {
            if error.needs_list() {
                follower.is_listed = false;
            }
            if error.is_trouble() {
                reports.fail(SourceError::new(&error)).await;
            }
            follower.pause_after(&error).await;
        }
    }
}

struct Follower<'a> {
    what: &'a FollowedSlices,
    times: &'a FollowTimes,
    reports: &'a SourceReporter,
    store: SliceStore,
    /// Pods that were reported as terminating since the last report. They may be gone in the next one, which is no
    /// reason for doubt.
    ending: BTreeSet<String>,
    /// Whether the store is complete for its version.
    is_listed: bool,
    /// Whether the last requested watch has failed to start.
    lacks_watch: bool,
    /// Last logged problem with the slices' ports.
    told_problem: Option<PortProblem>,
    /// Time since when lists have been older than what is known.
    stale_since: Option<Instant>,
    /// Number of failures in a row.
    failures: u32,
}

impl Follower<'_> {
    /// Fetches a list if one is due, and then watches.
    async fn go_on(&mut self) -> Result<(), FollowError> {
        let api = self.connect().await?;
        if !self.is_listed {
            let is_news = self.list(&api).await?;
            // If only lists are permitted, the missing watch counts as a failure, and is logged once.
            if is_news || !self.lacks_watch {
                self.report().await;
            }
        }
        self.lacks_watch = true;
        self.watch(&api).await
    }

    async fn report(&mut self) {
        let deleted = std::mem::take(&mut self.ending);
        let joined = join_slices(self.store.slices(), &self.what.rules);
        match joined.problem {
            // A wrong `port` must not look like a Service without pods.
            Some(problem) if joined.endpoints.is_empty() => {
                self.reports.fail(SourceError::new(problem)).await;
            }
            problem => {
                if let Some(problem) = problem.as_ref().filter(|_| problem != self.told_problem) {
                    tracing::warn!("EndpointSlices of `{}`: {problem}", self.what.selector);
                }
                self.told_problem = problem;
                let set = answer_of(joined.endpoints);
                self.reports.answer(SourceAnswer { set, deleted }).await;
            }
        }
    }

    /// A client for one round, with the present token and authorities, and a new connection.
    async fn connect(&self) -> Result<Api<EndpointSlice>, FollowError> {
        let connect = self.what.access.connect();
        let (client, own): (Client, String) = self.within("the way there", connect).await??;
        let namespace = self.what.namespace.as_deref().unwrap_or(own.trim());
        Ok(Api::namespaced(client, namespace))
    }

    /// Lists all slices, page by page, at one version; returns whether they have changed. Without `resourceVersion` the
    /// server must not answer from a cache that lags behind.
    async fn list(&mut self, api: &Api<EndpointSlice>) -> Result<bool, FollowError> {
        let (mut slices, mut pages) = (Vec::new(), 0);
        let mut page = ListParams::default()
            .labels(&self.what.selector)
            .limit(PAGE_SIZE);
        let version = loop {
            let answer = self
                .within("a list", api.list(&page))
                .await?
                .map_err(FollowError::of)?;
            pages += 1;
            if pages > MAX_PAGES {
                let why = format!("a list has more than {MAX_PAGES} pages");
                return Err(FollowError::Unreadable(why));
            }
            slices.extend(answer.items.into_iter().map(ParsedSlice::read));
            match answer.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break answer.metadata.resource_version.unwrap_or_default(),
            }
        };
        let version = ResourceVersion::new(version);
        let is_news = !self.store.is_made_of(&slices);
        let patience = self.stale_since.map(|since| since.elapsed());
        if patience.is_some_and(|waited| waited >= self.times.stale) {
            self.store.replace_anyway(version, slices);
        } else if let Err(stale) = self.store.replace(version, slices) {
            self.stale_since.get_or_insert_with(Instant::now);
            return Err(stale.into());
        }
        self.stale_since = None;
        // If the version has no meaning, only another list can tell what was removed meanwhile.
        self.is_listed = self.store.known().can_resume();
        Ok(is_news)
    }

    async fn watch(&mut self, api: &Api<EndpointSlice>) -> Result<(), FollowError> {
        let asked = self.times.watch.mul_f64(0.75 + 0.25 * fastrand::f64());
        let seconds = u32::try_from(asked.as_secs().max(1)).unwrap_or(u32::MAX);
        let wanted = WatchParams::default()
            .labels(&self.what.selector)
            .timeout(seconds);
        let from = self.store.known().as_str().to_owned();
        let began = Instant::now();
        let end = began + asked.max(Duration::from_secs(1)) + self.times.grace;
        let events = self
            .within("the beginning of a watch", api.watch(&wanted, &from))
            .await?;
        let events = events.map_err(FollowError::of)?;
        self.lacks_watch = false;
        self.report().await;
        let seen = self.take_events(events, end).await?;
        // A watch that ends as soon as it begins, again and again, must not become a busy loop.
        if seen == 0 && began.elapsed() < self.times.pause {
            self.pause().await;
        } else {
            self.failures = 0;
        }
        Ok(())
    }

    /// Handles events until the watch ends; returns their number. Events that arrive at once are one report, because a
    /// rollout of a large Service has hundreds of them.
    async fn take_events(
        &mut self,
        events: impl Stream<Item = kube::Result<WatchEvent<EndpointSlice>>>,
        end: Instant,
    ) -> Result<usize, FollowError> {
        pin_mut!(events);
        let (mut seen, mut unsaid) = (0, 0);
        loop {
            let here = match unsaid {
                MAX_COMBINED_EVENTS.. => None,
                _ => events.next().now_or_never(),
            };
            if unsaid > 0 && !matches!(here, Some(Some(Ok(_)))) {
                self.report().await;
                unsaid = 0;
            }
            let next = match here {
                Some(next) => next,
                // The watch has exceeded its time: the connection has died, or the server doesn't know
                // `timeoutSeconds`. The next watch, over a new connection, will tell.
                None => match timeout_at(end, events.next()).await {
                    Ok(next) => next,
                    Err(_) => return Ok(seen),
                },
            };
            let Some(event) = next else {
                return Ok(seen);
            };
            let outcome = event
                .map_err(FollowError::of)
                .and_then(|event| self.take(event));
            let is_news = match outcome {
                Ok(is_news) => is_news,
                Err(error) => {
                    if unsaid > 0 {
                        self.report().await;
                    }
                    return Err(error);
                }
            };
            self.failures = 0;
            seen += 1;
            unsaid += usize::from(is_news);
        }
    }

    /// Handles one event; returns whether it changes anything.
    fn take(&mut self, event: WatchEvent<EndpointSlice>) -> Result<bool, FollowError> {
        Ok(match event {
            WatchEvent::Added(slice) | WatchEvent::Modified(slice) => {
                let slice = ParsedSlice::read(slice);
                self.ending.extend(slice.ending_pods());
                self.store.put(slice)
            }
            WatchEvent::Deleted(slice) => self.store.remove(&ParsedSlice::read(slice)),
            WatchEvent::Bookmark(bookmark) => {
                let version = bookmark.metadata.resource_version;
                self.store.note_version(ResourceVersion::new(version));
                false
            }
            WatchEvent::Error(status) => return Err(FollowError::of_status(&status)),
        })
    }

    async fn within<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = T>,
    ) -> Result<T, FollowError> {
        let limit = self.times.answer;
        timeout(limit, work)
            .await
            .map_err(|_| FollowError::Silent { what, limit })
    }

    /// Waits after an error; only after the first 410 the next list is fetched at once.
    async fn pause_after(&mut self, error: &FollowError) {
        if matches!(error, FollowError::Gone(_)) && self.failures == 0 {
            self.failures = 1;
            return;
        }
        if let FollowError::Refused {
            pause: Some(asked), ..
        } = error
        {
            let asked = (*asked).min(self.times.longest_pause);
            sleep(asked.mul_f64(1.0 + 0.2 * fastrand::f64())).await;
        }
        self.pause().await;
    }

    /// Waits twice as long as last time, randomly reduced by up to a half, so that proxies that lost the same server do
    /// not come back in step.
    async fn pause(&mut self) {
        let doubled = self.times.pause.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let longest = doubled.min(self.times.longest_pause);
        sleep(longest.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
    }
}
