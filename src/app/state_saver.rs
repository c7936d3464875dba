//! Keeps drains and registrations in `state_dir`: the newest version, again and again until it is on the disk.

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

/// After a failure, the first pause; each is twice as long as the one before…
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// …up to this.
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// Between two looks at the wall clock.
const LOOK: Duration = Duration::from_secs(10);
/// A wall clock that was set by more than this makes the saved times wrong.
const STEP: Duration = Duration::from_secs(1);

/// How long the last save may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// What has to be on the disk.
#[derive(Clone)]
struct StateVersion {
    number: u64,
    state: Arc<persist::KeptState>,
    /// When its times were made the wall clock's.
    clock: ClockReading,
}

/// Keeps drains and registrations.
pub struct StateSaver {
    dir: PathBuf,
    newest: watch::Sender<Option<StateVersion>>,
    saves: Arc<SaveLedger>,
    registry: OnceLock<RegistryHandle>,
    /// One save at a time: they share the temporary file.
    saving: Mutex<()>,
    /// Another process may have the directory now.
    rests: AtomicBool,
}

impl StateSaver {
    /// Keeps them in `dir`. A slow disk skips versions; it never delays the registry.
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

    /// The account of what is on the disk.
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

    /// The wall clock was set, or the machine was suspended: what was saved says other times than what is in force.
    fn look_at_clock(&self) {
        let saved = self.newest.borrow().as_ref().map(|version| version.clock);
        if let (Some(saved), Some(registry)) = (saved, self.registry.get())
            && ClockReading::take().step_since(&saved) > STEP
        {
            registry.save_again();
        }
    }

    /// Writes the newest version; says whether it is on the disk.
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

    /// Writes nothing any more: another process is about to. When this returns, nothing is being written.
    pub async fn stop_saving(self: &Arc<Self>) {
        self.rests.store(true, Ordering::Release);
        let saver = self.clone();
        // A disk that hangs doesn't stop the hand-over: the successor gets newer state anyway.
        let idle = tokio::task::spawn_blocking(move || drop(saver.saving.lock()));
        let _ = tokio::time::timeout(FAREWELL, idle).await;
    }

    /// Writes again, and first what has come meanwhile.
    pub fn go_on(&self) {
        self.rests.store(false, Ordering::Release);
        self.newest.send_modify(|_| {});
    }

    /// The last save: the last change may be younger than the one before. A disk that hangs doesn't stop the exit.
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
    fn pauses_grow_up_to_a_bound() {
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
        // In the way, as a full disk is: no directory can be made here.
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
