//! The tasks: one that watches which pools have a supervisor and which backends they have, and one for each of these
//! pools.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use super::listener::{WatchedBackend, WordListener};
use super::source_for;
use crate::config::{Config, SupervisorConfig};
use crate::core::drain::DrainActor;
use crate::core::supervisor_word::WordEffect;
use crate::registry::event_kind::EventKind;
use crate::registry::supervised::{SupervisedChange, WATCH};
use crate::registry::view::{BackendView, EventView, PoolView};
use crate::registry::{RegistryError, RegistryHandle};
use crate::rt::clock;
use crate::rt::owned_task::OwnedTask;
use crate::rt::panics;

/// Longest time between two checks of the pools, even without an event.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Wait after an event, so that events of the same burst are handled together.
const BURST_TIME: Duration = Duration::from_millis(100);
/// Wait before the first new attempt to reach a supervisor…
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// …which doubles up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Task of one pool.
struct PoolWatch {
    config: SupervisorConfig,
    backends: watch::Sender<Vec<WatchedBackend>>,
    _task: OwnedTask,
}

/// Listens to the supervisors of all pools that name one, for as long as the process runs.
pub async fn watch_supervisors(handle: RegistryHandle) {
    let mut events = handle.subscribe();
    let mut watches: BTreeMap<String, PoolWatch> = BTreeMap::new();
    let mut seen: Option<Arc<Config>> = None;
    loop {
        let config = handle.snapshot().config.clone();
        let wanted = config.pools.iter();
        let wanted = wanted.filter_map(|pool| Some((&pool.name, pool.supervisor.as_ref()?)));
        let wanted: BTreeMap<_, _> = wanted.collect();
        watches.retain(|pool, running| {
            let stays = wanted.get(pool) == Some(&&running.config);
            if !stays {
                let kind = running.config.kind.as_str();
                WordListener::new(handle.clone(), pool, kind).stop();
            }
            stays
        });
        let is_news = !seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &config));
        seen = Some(config.clone());
        let names = wanted.keys().map(|name| name.as_str());
        let Ok(views) = pools_to_look_at(&handle, is_news, names).await else {
            return;
        };
        for view in &views {
            let supervisor = wanted.get(&view.name).copied();
            lift_leftovers(&handle, view, supervisor);
            let Some(supervisor) = supervisor else {
                continue;
            };
            let backends = watched_of(view, supervisor);
            match watches.get(&view.name) {
                Some(running) => {
                    running.backends.send_if_modified(|before| {
                        let changed = *before != backends;
                        *before = backends;
                        changed
                    });
                }
                None => {
                    let (sender, receiver) = watch::channel(backends);
                    let (of, pool) = (handle.clone(), view.name.clone());
                    let settings = supervisor.clone();
                    let start = move || {
                        watch_pool(of.clone(), pool.clone(), settings.clone(), receiver.clone())
                    };
                    let task = panics::restart("the watch over a supervisor", start);
                    let running = PoolWatch {
                        config: supervisor.clone(),
                        backends: sender,
                        _task: OwnedTask::spawn(task),
                    };
                    watches.insert(view.name.clone(), running);
                }
            }
        }
        // A burst, such as a fleet that registers, is handled by one check.
        clock::sleep(BURST_TIME).await;
        let _ = timeout(CHECK_INTERVAL, change_of_pools(&mut events)).await;
    }
}

/// Pools to check. After a change of the configuration (`is_news`) these are all pools, because there may be drains
/// from a supervisor that it no longer names; otherwise only those with a supervisor, because other pools may have a
/// hundred thousand backends.
async fn pools_to_look_at(
    handle: &RegistryHandle,
    is_news: bool,
    watched: impl Iterator<Item = &str>,
) -> Result<Vec<PoolView>, RegistryError> {
    if is_news {
        return handle.pools().await;
    }
    let mut views = Vec::new();
    for name in watched {
        match handle.pool(name).await {
            Ok(view) => views.push(view),
            // The configuration is changing right now.
            Err(RegistryError::UnknownPool { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(views)
}

/// Backends whose processes the supervisor is asked about.
fn watched_of(view: &PoolView, supervisor: &SupervisorConfig) -> Vec<WatchedBackend> {
    let backends = view.backends.iter();
    let mut watched: Vec<_> = backends
        .filter_map(|backend| {
            Some(WatchedBackend {
                process: process_of(backend, supervisor)?,
                backend: base_name(backend).to_owned(),
            })
        })
        .collect();
    watched.sort();
    watched.dedup();
    watched
}

/// Name of a backend's process at the supervisor; `None`: the supervisor is not asked about it. A backend of a launcher
/// reports by itself.
fn process_of(backend: &BackendView, supervisor: &SupervisorConfig) -> Option<String> {
    match backend.source.as_str() {
        "lease" => None,
        _ => supervisor.process_of(base_name(backend)),
    }
}

fn base_name(backend: &BackendView) -> &str {
    backend.name.split('~').next().unwrap_or_default()
}

/// Lifts drains that came from a supervisor which is no longer listened to, or no longer asked about the backend,
/// because nothing else would lift them. They may be from an earlier run, or from before an upgrade with another
/// configuration.
fn lift_leftovers(handle: &RegistryHandle, view: &PoolView, supervisor: Option<&SupervisorConfig>) {
    for backend in &view.backends {
        let supervisor = supervisor.filter(|supervisor| process_of(backend, supervisor).is_some());
        let heard = supervisor.map(|supervisor| format!("{WATCH}{}", supervisor.kind.as_str()));
        let drains = backend.drains.iter();
        let left = drains.filter(|drain| {
            drain.actor == DrainActor::Supervisor.as_str()
                && drain.id.starts_with(WATCH)
                && Some(&drain.id) != heard.as_ref()
        });
        for drain in left {
            handle.heed_supervisor(SupervisedChange {
                pool: view.name.clone(),
                backend: backend.name.clone(),
                id: drain.id.clone(),
                effect: WordEffect::Lift,
                reason: "the supervisor is no longer watched".to_owned(),
            });
        }
    }
}

/// Waits until pools or backends may have changed. A receiver that lags behind counts as a change.
async fn change_of_pools(events: &mut broadcast::Receiver<Arc<EventView>>) {
    while let Ok(event) = events.recv().await {
        let others = [
            EventKind::State,
            EventKind::Drain,
            EventKind::Supervisor,
            EventKind::Sessions,
            EventKind::Outlier,
        ];
        if !others.iter().any(|kind| kind.as_str() == event.kind) {
            return;
        }
    }
}

/// Listens to the supervisor of one pool, for as long as it is configured.
async fn watch_pool(
    handle: RegistryHandle,
    pool: String,
    config: SupervisorConfig,
    mut backends: watch::Receiver<Vec<WatchedBackend>>,
) {
    let mut listener = WordListener::new(handle, &pool, config.kind.as_str());
    let mut source = source_for(&config);
    let mut wait = FIRST_WAIT;
    loop {
        let watched = backends.borrow_and_update().clone();
        listener.watch(&watched);
        let ended = tokio::select! {
            biased;
            changed = backends.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            ended = source.listen(&mut listener) => ended,
        };
        if listener.has_caught_up() {
            wait = FIRST_WAIT;
        }
        let why = match ended {
            Ok(()) => "the connection has ended".to_owned(),
            Err(error) => error.to_string(),
        };
        let jittered = wait.mul_f64(0.5 + fastrand::f64());
        listener.lose(&why, jittered);
        wait = (wait * 2).min(LONGEST_WAIT);
        let _ = timeout(jittered, backends.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::SupervisorKind;
    use crate::registry::persist;
    use crate::registry::unattended::{NoObserver, NoProbes};
    use crate::registry::view::RegisterRequest;

    /// A registry with this configuration, and without probes.
    fn registry_of(text: &str) -> RegistryHandle {
        let config = config::parse("test.toml", text).unwrap().config;
        crate::registry::spawn(
            Arc::new(config),
            persist::KeptState::default(),
            persist::OwnKeySource::default(),
            |_| Box::new(NoProbes),
            Box::new(NoObserver),
        )
    }

    #[tokio::test]
    async fn pools_without_supervisor_are_looked_at_once_for_each_configuration() {
        let text = "[[listener]]\naddress = \"127.0.0.1:0\"\n[[pool]]\nname = \"watched\"\n[[pool]]\nname = \"other\"\n[[route]]\npool = \"watched\"";
        let handle = registry_of(text);
        for (is_news, expected) in [(true, &["watched", "other"][..]), (false, &["watched"])] {
            // A pool that a reload has just removed is skipped.
            let asked = ["watched", "gone"].into_iter();
            let views = pools_to_look_at(&handle, is_news, asked).await.unwrap();
            let names: Vec<_> = views.iter().map(|view| view.name.as_str()).collect();
            assert_eq!(names, expected);
        }
    }

    /// After a reload, or an upgrade with another configuration, processes may be named without numbers.
    #[tokio::test]
    async fn drain_by_a_word_about_a_process_that_is_no_longer_asked_about_is_lifted() {
        let text = "[[listener]]\naddress = \"127.0.0.1:0\"\n[[pool]]\nname = \"app\"\n[[pool.backend]]\nname = \"api-1\"\naddress = \"127.0.0.1:1\"\n[[route]]\npool = \"app\"";
        let handle = registry_of(text);
        let request = RegisterRequest {
            address: "127.0.0.1:2".to_owned(),
            ..RegisterRequest::default()
        };
        handle.register("app", "blue", request).await.unwrap();
        for backend in ["api-1", "blue"] {
            handle.heed_supervisor(SupervisedChange {
                pool: "app".to_owned(),
                backend: backend.to_owned(),
                id: format!("{WATCH}docker"),
                effect: WordEffect::Drain,
                reason: "docker is stopping it".to_owned(),
            });
        }
        let supervisor = SupervisorConfig {
            kind: SupervisorKind::Docker,
            process: Some("shop-{number}".to_owned()),
            address: None,
            poll_interval: Duration::from_secs(1),
        };
        let view = handle.pool("app").await.unwrap();
        assert!(view.backends.iter().all(|one| one.drains.len() == 1));
        lift_leftovers(&handle, &view, Some(&supervisor));
        let view = handle.pool("app").await.unwrap();
        let left = view
            .backends
            .iter()
            .map(|one| (&*one.name, one.drains.len()));
        assert_eq!(left.collect::<Vec<_>>(), [("api-1", 1), ("blue", 0)]);
    }
}
