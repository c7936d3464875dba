//! Saves drains and registrations in `state_dir`: the newest version, with retries until it is on the disk.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::registry::RegistryHandle;
use crate::registry::persist;
use crate::registry::saves::SaveLedger;
use crate::rt::clock::ClockReading;

/// First pause after a failed save; it doubles with each retry.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Maximum pause between two retries.
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// Interval of the checks of the wall clock.
const LOOK: Duration = Duration::from_secs(10);
/// Change of the wall clock that makes the saved times wrong.
const STEP: Duration = Duration::from_secs(1);

/// Longest time for the last save.
const FAREWELL: Duration = Duration::from_secs(2);

/// A version of the state that has to be saved.
#[derive(Clone)]
struct StateVersion {
    number: u64,
    state: Arc<persist::KeptState>,
    /// The clock reading by which its times were converted to wall-clock time.
    clock: ClockReading,
}

/// Saves drains and registrations.
pub struct StateSaver {
    dir: PathBuf,
    newest: watch::Sender<Option<StateVersion>>,
    saves: Arc<SaveLedger>,
    registry: OnceLock<RegistryHandle>,
    /// Allows one save at a time: saves share the temporary file.
    saving: Mutex<()>,
    /// Whether saving is suspended, because another process may use the directory.
    rests: AtomicBool,
}

impl StateSaver {
    /// Starts saving to `dir`. A slow disk skips versions; it never delays the registry.
    pub fn start(dir: PathBuf) -> Arc<Self> {
        let saver = Arc::new(Self {
            dir,
            newest: watch::Sender::new(None),
            saves: Arc::default(),
            registry: OnceLock::new(),
            saving: Mutex::new(()),
            rests: AtomicBool::new(false),
        });
        tokio::spawn(saver.clone().keep_saving(saver.newest.subscribe()));
        saver
    }

    /// Sets the registry that is asked for a new version when the wall clock was set.
    pub fn set_registry(&self, registry: RegistryHandle) {
        let _ = self.registry.set(registry);
    }

    /// Returns the record of what is on the disk.
    pub fn saves(&self) -> Arc<SaveLedger> {
        self.saves.clone()
    }

    /// Takes a newer version.
    pub fn keep(&self, state: persist::KeptState) {
        self.newest.send_replace(Some(StateVersion {
            number: self.saves.ask(),
            state: Arc::new(state),
            clock: ClockReading::take(),
        }));
    }

    async fn keep_saving(self: Arc<Self>, mut newest: watch::Receiver<Option<StateVersion>>) {
        let mut pause = None;
        loop {
            let patience = pause.unwrap_or(LOOK);
            let changed = tokio::time::timeout(patience, newest.changed()).await;
            if changed.is_err() && pause.is_none() {
                self.look_at_clock();
                continue;
            }
            newest.mark_unchanged();
            let saver = self.clone();
            let saved = tokio::task::spawn_blocking(move || saver.save()).await;
            pause = match saved {
                Ok(true) => None,
                _ => Some(next_pause(pause)),
            };
        }
    }

    /// Handles a changed wall clock or a suspended machine: the saved times then differ from those in effect.
    fn look_at_clock(&self) {
        let saved = self.newest.borrow().as_ref().map(|version| version.clock);
        if let (Some(saved), Some(registry)) = (saved, self.registry.get())
            && ClockReading::take().step_since(&saved) > STEP
        {
            registry.save_again();
        }
    }

    /// Writes the newest version; returns whether it is on the disk.
    fn save(&self) -> bool {
        let _turn = self.saving.lock();
        if self.rests.load(Ordering::Acquire) {
            return true;
        }
        let Some(newest) = self.newest.borrow().clone() else {
            return true;
        };
        match persist::save(&self.dir, &newest.state) {
            Ok(()) => {
                if self.saves.saved(newest.number).is_some() {
                    info!("drains and registrations are saved again");
                }
                true
            }
            Err(error) => {
                if self.saves.trouble().is_none() {
                    warn!(%error, "drains and registrations could not be saved: a restart of the proxy would forget \
                                   them; it is tried again until it works");
                }
                self.saves.failed(error.to_string());
                false
            }
        }
    }

    /// Suspends saving: another process is about to save. When this returns, no save is running.
    pub async fn stop_saving(self: &Arc<Self>) {
        self.rests.store(true, Ordering::Release);
        let saver = self.clone();
        // A disk that hangs doesn't prevent the hand-over: the successor gets newer state anyway.
        let idle = tokio::task::spawn_blocking(move || drop(saver.saving.lock()));
        let _ = tokio::time::timeout(FAREWELL, idle).await;
    }

    /// Resumes saving, beginning with the changes made meanwhile.
    pub fn go_on(&self) {
        self.rests.store(false, Ordering::Release);
        self.newest.send_modify(|_| {});
    }

    /// Saves for the last time, since there may be unsaved changes. A disk that hangs doesn't delay the exit.
    pub async fn finish(self: Arc<Self>) {
        let saving = tokio::task::spawn_blocking(move || self.save());
        if !matches!(tokio::time::timeout(FAREWELL, saving).await, Ok(Ok(true))) {
            warn!(
                "the latest drains and registrations are not saved: the next run won't know of them"
            );
        }
    }
}

fn next_pause(before: Option<Duration>) -> Duration {
    before.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LAST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_maximum() {
        let mut pause = None;
        let pauses: Vec<_> = std::iter::repeat_with(|| {
            pause = Some(next_pause(pause));
            pause.unwrap().as_millis()
        })
        .take(9)
        .collect();
        assert_eq!(
            pauses,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
    }

    #[tokio::test]
    async fn a_save_that_failed_is_tried_again_until_it_works() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("state");
        // An obstacle like a full disk: no directory can be created here.
        std::fs::write(&state_dir, "").unwrap();
        let saver = StateSaver::start(state_dir.clone());
        let saves = saver.saves();
        saver.keep(persist::KeptState::default());
        let failed = saves.settled().await.unwrap_err();
        assert!(failed.to_string().contains("state_dir"), "{failed}");
        assert!(saves.failures() > 1);
        std::fs::remove_file(&state_dir).unwrap();
        let mut waited = 0;
        while saves.settled().await.is_err() {
            waited += 1;
            assert!(waited < 20);
        }
        assert!(saves.trouble().is_none());
        assert!(state_dir.join(persist::FILE).exists());
        saver.finish().await;
    }
}
