//! Notifies the supervisor of the proxy's state over sd_notify(3). If `NOTIFY_SOCKET` is not set, this does nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, warn};

use crate::core::backend::DerivedState;
use crate::net::sd_notify::{NOTIFY_SOCKET, notify};
use crate::registry::RegistryHandle;
use crate::rt::syscall::monotonic_ns;
use crate::rt::vitals::ProcessVitals;

/// Minimum interval between two `STATUS=` messages.
const STATUS_SPACING: Duration = Duration::from_secs(1);
/// Time by which the stop timeout is extended while stopping.
const EXTENSION: Duration = Duration::from_secs(15);
/// Interval of these extensions.
const EXTEND_EVERY: Duration = Duration::from_secs(5);

/// Notifies the supervisor.
#[derive(Clone, Default)]
pub struct ServiceNotifier {
    stopping: Arc<AtomicBool>,
    /// Whether another process notifies the supervisor now.
    silent: Arc<AtomicBool>,
}

impl ServiceNotifier {
    /// Reports that the proxy serves: `READY=1`. From then on, the pools' state is reported whenever it changes, and,
    /// if the supervisor has a watchdog, that the proxy is alive.
    pub fn ready(
        &self,
        registry: &RegistryHandle,
        data: &[runtime::Handle],
        vitals: Arc<ProcessVitals>,
    ) {
        if std::env::var_os(NOTIFY_SOCKET).is_none_or(|address| address.is_empty()) {
            return;
        }
        notify_supervisor("READY=1");
        tokio::spawn(status(registry.clone(), self.stopping.clone()));
        if let Some(time) = watchdog_time() {
            let pulse = Pulse {
                registry: registry.clone(),
                data: data.to_vec(),
                vitals,
            };
            tokio::spawn(watchdog(pulse, time / 2, self.silent.clone()));
        }
    }

    /// Reports that another process is the service's main process from now on.
    pub fn hand_over_to(&self, pid: u32) {
        notify_supervisor(&format!("MAINPID={pid}"));
    }

    /// Reports that this process is the service's main process, since the process before it may not have done so.
    pub fn is_main(&self) {
        notify_supervisor(&format!("MAINPID={}", std::process::id()));
    }

    /// Stops all reports: another process sends them.
    pub fn be_silent(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Reports that the configuration is about to be read again.
    pub fn reloading(&self) {
        notify_supervisor(&format!(
            "RELOADING=1\nMONOTONIC_USEC={}",
            monotonic_ns() / 1000
        ));
    }

    /// Reports that the reload is complete, successful or not.
    pub fn reloaded(&self) {
        notify_supervisor("READY=1");
    }

    /// Reports that the process is about to end; `deadline` is when it will have ended, whatever is in flight.
    pub fn stopping(&self, deadline: Duration) {
        self.stopping.store(true, Ordering::Relaxed);
        if !notify_supervisor("STOPPING=1\nSTATUS=stopping: finishing what is in flight") {
            return;
        }
        let end = Instant::now() + deadline;
        tokio::spawn(async move {
            while Instant::now() < end {
                notify_supervisor(&format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros()));
                sleep(EXTEND_EVERY).await;
            }
        });
    }
}

/// Notifies the supervisor of `state`. Returns true if there is one, and it got the message.
fn notify_supervisor(state: &str) -> bool {
    notify(state).unwrap_or_else(|error| {
        warn!(%error, "the supervisor could not be told: {}", state.lines().next().unwrap_or_default());
        false
    })
}

/// Like [`notify_supervisor`], for use in a loop: a supervisor that doesn't read must not block other tasks.
async fn notify_supervisor_aside(state: String) {
    let _ = tokio::task::spawn_blocking(move || notify_supervisor(&state)).await;
}

/// Returns a text like `app: 3 ready, 1 draining; web: 2 ready`.
fn describe<'a>(
    pools: impl Iterator<Item = (&'a str, impl Iterator<Item = DerivedState>)>,
) -> String {
    let pools = pools.map(|(name, backends)| {
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        for state in backends {
            *states.entry(state.as_str()).or_default() += 1;
        }
        // Ready backends come first.
        let mut states: Vec<_> = states.into_iter().collect();
        states.sort_by_key(|(state, _)| *state != "ready");
        let counts: Vec<_> = states
            .iter()
            .map(|(state, n)| format!("{n} {state}"))
            .collect();
        match counts.as_slice() {
            [] => format!("{name}: no backends"),
            counts => format!("{name}: {}", counts.join(", ")),
        }
    });
    pools.collect::<Vec<_>>().join("; ")
}

/// Reports the pools' state: immediately, then after each change, at most once a second.
async fn status(registry: RegistryHandle, stopping: Arc<AtomicBool>) {
    let mut events = registry.subscribe();
    let mut told = String::new();
    loop {
        // After this answer, earlier changes are in the snapshot.
        if registry.answers().await.is_err() {
            return;
        }
        let text = {
            let snapshot = registry.snapshot();
            let pools = snapshot.pools.iter();
            describe(pools.map(|pool| {
                let states = pool.backends.iter().map(|backend| backend.state());
                (&*pool.name, states)
            }))
        };
        if text != told && !stopping.load(Ordering::Relaxed) {
            notify_supervisor_aside(format!("STATUS={text}")).await;
            told = text;
        }
        sleep(STATUS_SPACING).await;
        // Whatever was missed or has accumulated, one look at the snapshot is enough.
        if let Err(tokio::sync::broadcast::error::RecvError::Closed) = events.recv().await {
            return;
        }
        events = events.resubscribe();
    }
}

/// Returns the interval of the supervisor's watchdog: `WATCHDOG_USEC`, unless `WATCHDOG_PID` names another process.
fn watchdog_time() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    let time = Duration::from_micros(number("WATCHDOG_USEC")?);
    (!time.is_zero()).then_some(time)
}

/// The parts that must respond for the proxy to count as alive.
struct Pulse {
    registry: RegistryHandle,
    data: Vec<runtime::Handle>,
    vitals: Arc<ProcessVitals>,
}

impl Pulse {
    /// Returns whether the proxy is alive: the registry answers a command, the data plane's threads run a task, and
    /// no vital part has ended.
    async fn is_there(&self, patience: Duration) -> bool {
        if self.vitals.check().is_err() {
            return false;
        }
        let registry = async { self.registry.answers().await.is_ok() };
        let data = async {
            let beats: Vec<_> = self.data.iter().map(|data| data.spawn(async {})).collect();
            futures_util::future::try_join_all(beats).await.is_ok()
        };
        let both = async { tokio::join!(registry, data) };
        timeout(patience, both).await == Ok((true, true))
    }
}

/// Sends `WATCHDOG=1` as long as the proxy is alive.
async fn watchdog(pulse: Pulse, every: Duration, silent: Arc<AtomicBool>) {
    let mut round = interval(every);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    debug!(?every, "the supervisor has a watchdog");
    loop {
        round.tick().await;
        if silent.load(Ordering::Relaxed) {
            return;
        }
        if pulse.is_there(every).await {
            notify_supervisor_aside("WATCHDOG=1".to_owned()).await;
        } else {
            warn!(
                "registry or data plane don't answer, or a task has died: the watchdog is not told"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::registry::unattended::{NoObserver, NoProbes};
    use crate::registry::{persist, spawn};

    #[tokio::test]
    async fn proxy_is_not_alive_without_the_data_plane_or_the_registry() {
        let text = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[pool]]\nname = \"app\"";
        let config = Arc::new(config::parse("test", text).unwrap().config);
        let control = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let data = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let started = control.spawn(async move {
            let kept = persist::KeptState::default();
            spawn(
                config,
                kept,
                persist::OwnKeySource::default(),
                |_| Box::new(NoProbes),
                Box::new(NoObserver),
            )
        });
        let registry = started.await.unwrap();
        let pulse = Pulse {
            registry,
            data: vec![data.handle().clone()],
            vitals: Arc::default(),
        };
        let (soon, long) = (Duration::from_millis(100), Duration::from_secs(10));
        assert!(pulse.is_there(long).await);
        for runtime in [&data, &control] {
            let (release, blocked) = std::sync::mpsc::channel::<()>();
            let (enter, entered) = std::sync::mpsc::channel();
            runtime.spawn(async move {
                let _ = enter.send(());
                blocked.recv().is_ok()
            });
            // Before that, the only worker may still run the check.
            entered.recv().unwrap();
            assert!(!pulse.is_there(soon).await);
            release.send(()).unwrap();
            assert!(pulse.is_there(long).await);
        }
        pulse.vitals.lost("the scribe", "a test");
        assert!(!pulse.is_there(long).await);
        data.shutdown_background();
        control.shutdown_background();
    }

    #[test]
    fn status_counts_states_and_begins_with_ready_backends() {
        use DerivedState::{Down, Draining, Ready};
        let pools = [("api", vec![Ready, Draining, Ready, Down]), ("web", vec![])];
        let pools = pools.into_iter();
        assert_eq!(
            describe(pools.map(|(name, states)| (name, states.into_iter()))),
            "api: 2 ready, 1 down, 1 draining; web: no backends"
        );
    }
}
