//! Whether the process is alive: its control thread makes progress, and its indispensable tasks run.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tracing::error;

/// Time between two beats of the control thread, and between two checks of them.
pub const BEAT: Duration = Duration::from_secs(1);
/// Checks in a row without a beat that count as a stall.
const MISSED_BEATS: u32 = 5;
/// Delay after which a check says nothing: the whole process stood still (SIGSTOP, a suspended machine), and not one
/// thread.
const MAX_DELAY: Duration = Duration::from_secs(3);

/// State of the process's life. The control thread beats, and another thread checks.
#[derive(Debug, Default)]
pub struct ProcessVitals {
    beats: AtomicU64,
    stalled: AtomicBool,
    stalls: AtomicU64,
    /// Tasks that have ended although they should run, and how they ended.
    dead: Mutex<BTreeMap<&'static str, String>>,
}

/// A change that a check has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VitalChange {
    /// The control thread has made no progress for this long.
    Stalled(Duration),
    /// The control thread makes progress again.
    Recovered,
}

/// Checks the beats of the control thread from another thread.
#[derive(Debug, Default)]
pub struct StallWatch {
    seen: u64,
    missed: u32,
}

impl StallWatch {
    /// Must be called every [`BEAT`]; `passed` is the time since the last call.
    pub fn check_vitals(
        &mut self,
        vitals: &ProcessVitals,
        passed: Duration,
    ) -> Option<VitalChange> {
        let beats = vitals.beats.load(Ordering::Relaxed);
        if beats != self.seen || passed > MAX_DELAY {
            (self.seen, self.missed) = (beats, 0);
            return (beats > 0 && vitals.stalled.swap(false, Ordering::Relaxed))
                .then_some(VitalChange::Recovered);
        }
        self.missed += 1;
        if self.missed < MISSED_BEATS || vitals.stalled.swap(true, Ordering::Relaxed) {
            return None;
        }
        vitals.stalls.fetch_add(1, Ordering::Relaxed);
        Some(VitalChange::Stalled(BEAT * self.missed))
    }
}

impl ProcessVitals {
    /// Records that the control thread makes progress. Must be called on it every [`BEAT`].
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of stalls of the control thread so far.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// Whether the process is alive.
    ///
    /// # Errors
    /// Why it is not, as a message for users.
    pub fn check(&self) -> Result<(), String> {
        if let Some((task, how)) = self.dead.lock().first_key_value() {
            return Err(format!(
                "{task} has ended and can't be started again ({how}). Restart lameduck; its log says more."
            ));
        }
        if self.stalled.load(Ordering::Relaxed) {
            return Err(format!(
                "The control thread had not turned for {} s or more: no drain, health check or reload was handled. It \
                 is coming back; ask again.",
                (BEAT * MISSED_BEATS).as_secs()
            ));
        }
        Ok(())
    }

    /// Records that an indispensable task has ended.
    pub fn lost(&self, task: &'static str, how: &str) {
        error!(
            task,
            how, "an essential task has ended: lameduck is not alive any more, restart it"
        );
        self.dead.lock().insert(task, how.to_owned());
    }

    /// Runs an indispensable task, which can't be started again and should end only with the process.
    pub fn watch(
        self: &Arc<Self>,
        name: &'static str,
        task: impl Future<Output = std::io::Result<()>> + Send + 'static,
    ) -> JoinHandle<()> {
        let vitals = self.clone();
        let task = tokio::spawn(task);
        tokio::spawn(async move {
            // The end of the runtime aborts both tasks.
            match task.await {
                Err(fault) if fault.is_panic() => vitals.lost(name, "it panicked"),
                Ok(Err(error)) => vitals.lost(name, &error.to_string()),
                _ => {}
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stall_is_counted_once_and_ends_with_the_next_beat() {
        let (vitals, mut watch) = (ProcessVitals::default(), StallWatch::default());
        vitals.beat();
        assert_eq!(watch.check_vitals(&vitals, BEAT), None);
        for _ in 1..MISSED_BEATS {
            assert_eq!(watch.check_vitals(&vitals, BEAT), None);
            assert!(vitals.check().is_ok());
        }
        assert_eq!(
            watch.check_vitals(&vitals, BEAT),
            Some(VitalChange::Stalled(BEAT * MISSED_BEATS))
        );
        assert_eq!(watch.check_vitals(&vitals, BEAT), None);
        assert!(vitals.check().unwrap_err().contains("5 s"));
        vitals.beat();
        assert_eq!(
            watch.check_vitals(&vitals, BEAT),
            Some(VitalChange::Recovered)
        );
        assert!(vitals.check().is_ok());
        assert_eq!(vitals.stalls(), 1);
    }

    #[test]
    fn stopped_process_is_not_a_stalled_thread() {
        let (vitals, mut watch) = (ProcessVitals::default(), StallWatch::default());
        vitals.beat();
        for _ in 0..20 {
            assert_eq!(watch.check_vitals(&vitals, Duration::from_secs(60)), None);
        }
        assert_eq!(vitals.stalls(), 0);
    }

    #[tokio::test]
    async fn panicked_task_makes_the_process_not_alive() {
        let vitals = Arc::new(ProcessVitals::default());
        let watched = vitals.watch("the scribe", async { panic!("of a test") });
        watched.await.unwrap();
        let why = vitals.check().unwrap_err();
        assert!(why.starts_with("the scribe has ended"), "{why}");
        assert!(why.contains("it panicked"), "{why}");
    }
}
