//! Starts and stops sources as configured. A source whose section has not changed goes on.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

use super::follow::{FollowedSource, SharedJudge};
use crate::config::{Config, DiscoveryConfig};
use crate::core::discovery::DiscoveredSet;
use crate::registry::event_kind::EventKind;
use crate::registry::{RegistryError, RegistryHandle};
use crate::rt::owned_task::OwnedTask;

/// A running source; dropping this stops it.
struct RunningSource {
    config: DiscoveryConfig,
    judge: SharedJudge,
    again: Arc<Notify>,
    has_been_heard: bool,
    heard: Arc<Notify>,
    _task: OwnedTask,
}

/// Key of a source: pool and label.
type SourceKey = (String, Arc<str>);

/// All running sources.
struct RunningSources {
    registry: RegistryHandle,
    running: HashMap<SourceKey, RunningSource>,
    /// Sources that are no longer configured. Their backends stay until each new source of the same pool has answered
    /// or failed, because it may name the same ones.
    ended: Vec<SourceKey>,
}

/// Runs the sources of the current configuration, for as long as the process runs.
pub async fn keep_sources(registry: RegistryHandle) {
    let mut events = registry.subscribe();
    let mut sources = RunningSources {
        registry: registry.clone(),
        running: HashMap::new(),
        ended: Vec::new(),
    };
    let mut followed: Option<Arc<Config>> = None;
    loop {
        let config = registry.snapshot().config.clone();
        if !followed
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, &config))
        {
            sources.agree_with(&config);
            followed = Some(config);
        }
        sources.withdraw_ended().await;
        tokio::select! {
            () = sources.is_heard() => {}
            is_over = has_changed(&mut events) => if is_over {
                return;
            },
        }
    }
}

/// Waits until the configuration may have changed. Returns whether there will be no further changes.
async fn has_changed(
    events: &mut tokio::sync::broadcast::Receiver<Arc<crate::registry::view::EventView>>,
) -> bool {
    loop {
        match events.recv().await {
            Ok(event) if event.kind != EventKind::Config.as_str() => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return false,
            Err(RecvError::Closed) => return true,
        }
    }
}

impl RunningSources {
    /// Starts new and changed sources, and stops removed ones.
    fn agree_with(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.running);
        for pool in &config.pools {
            for wanted in &pool.discovery {
                let key: SourceKey = (pool.name.clone(), wanted.label().into());
                let running = match before.remove(&key) {
                    Some(running) if running.config == *wanted => {
                        // A backend of the configuration file may have taken a name from the source, or freed one.
                        running.again.notify_one();
                        running
                    }
                    former => {
                        let judge = former.map(|former| former.judge.clone());
                        self.start(&key.0, wanted, judge.unwrap_or_default())
                    }
                };
                self.ended.retain(|ended| *ended != key);
                self.running.insert(key, running);
            }
        }
        self.ended.extend(before.into_keys());
    }

    fn start(&self, pool: &str, config: &DiscoveryConfig, judge: SharedJudge) -> RunningSource {
        let (again, heard) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let source = FollowedSource::new(
            self.registry.clone(),
            pool.to_owned(),
            config.clone(),
            judge.clone(),
        );
        RunningSource {
            config: config.clone(),
            judge,
            _task: OwnedTask::spawn(source.follow(again.clone(), heard.clone())),
            has_been_heard: false,
            again,
            heard,
        }
    }

    /// Waits for the first answer of a source that removed sources wait for.
    async fn is_heard(&mut self) {
        if self.ended.is_empty() {
            return std::future::pending().await;
        }
        let pools: Vec<String> = self.ended.iter().map(|(pool, _)| pool.clone()).collect();
        let silent = self.running.iter_mut();
        let silent = silent.filter(|((pool, _), one)| pools.contains(pool) && !one.has_been_heard);
        let silent = silent.map(|(_, one)| {
            Box::pin(async move {
                one.heard.notified().await;
                one.has_been_heard = true;
            })
        });
        let silent: Vec<_> = silent.collect();
        if !silent.is_empty() {
            futures_util::future::select_all(silent).await;
        }
    }

    /// Withdraws the backends of removed sources if all new sources of their pool have answered or failed.
    async fn withdraw_ended(&mut self) {
        let is_waited_for = |ended: &SourceKey| {
            let mut running = self.running.iter();
            running.any(|((pool, _), one)| *pool == ended.0 && !one.has_been_heard)
        };
        let (later, now): (Vec<_>, Vec<_>) = self.ended.drain(..).partition(is_waited_for);
        self.ended = later;
        for (pool, source) in now {
            let nothing = Arc::new(DiscoveredSet::default());
            let outcome = self
                .registry
                .discovered(&pool, &source, nothing, false)
                .await;
            // The pool was removed, and its backends with it.
            if let Err(error) = outcome
                && !matches!(
                    error,
                    RegistryError::UnknownPool { .. }
                        | RegistryError::ShuttingDown
                        | RegistryError::HandedOver
                )
            {
                tracing::warn!(pool, source = &*source, %error, "backends of a former source were not withdrawn");
            }
            self.registry.live_figures().forget_source(&pool, &source);
        }
    }
}
