//! Whether the state that has to survive the process is on the disk: the registry asks for a version to be saved, the
//! process around it reports the result, and clients whose request is done learn whether it will last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;

use crate::core::Time;
use crate::rt::clock;

/// Timeout of an answer for its state to be on the disk. The change itself, above all a closed gate, is in force
/// before.
const SAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Error: the change is in force, and would be lost in a restart.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "it is in force, but not saved: a restart of lameduck would forget it ({why}); saving is tried again until it works"
)]
pub struct NotSavedError {
    why: String,
}

/// Error: saving fails at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveError {
    /// Time since which saving fails.
    pub since: Time,
    /// The last error.
    pub why: String,
}

/// Record of what was saved. Versions are numbered; each contains the whole kept state.
#[derive(Debug, Default)]
pub struct SaveLedger {
    asked: AtomicU64,
    failures: AtomicU64,
    progress: watch::Sender<SaveProgress>,
}

#[derive(Debug, Clone, Default)]
struct SaveProgress {
    /// The newest version on the disk.
    saved: u64,
    trouble: Option<SaveError>,
}

impl SaveLedger {
    /// Returns the number of a new version that has to be saved.
    pub fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Notes that a version is on the disk. Returns the error if saving failed before.
    pub fn saved(&self, version: u64) -> Option<SaveError> {
        let mut before = None;
        self.progress.send_modify(|progress| {
            progress.saved = progress.saved.max(version);
            before = progress.trouble.take();
        });
        before
    }

    /// Notes that a version could not be saved.
    pub fn failed(&self, why: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.progress.send_modify(|progress| {
            let before = progress.trouble.take();
            let since = before.map_or_else(clock::now, |trouble| trouble.since);
            progress.trouble = Some(SaveError { since, why });
        });
    }

    /// Returns how often saving has failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Returns the present error, if saving fails.
    pub fn trouble(&self) -> Option<SaveError> {
        self.progress.borrow().trouble.clone()
    }

    /// Waits, at most `SAVE_TIMEOUT`, until all versions up to now are saved.
    ///
    /// # Errors
    /// They are not on the disk.
    pub async fn settled(&self) -> Result<(), NotSavedError> {
        let wanted = self.asked.load(Ordering::Acquire);
        let mut progress = self.progress.subscribe();
        let saved = progress.wait_for(|progress| progress.saved >= wanted);
        if let Ok(Ok(_)) = tokio::time::timeout(SAVE_TIMEOUT, saved).await {
            return Ok(());
        }
        let why = match self.trouble() {
            Some(trouble) => trouble.why,
            None => format!("the disk has not taken it within {SAVE_TIMEOUT:?}"),
        };
        Err(NotSavedError { why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_for_its_version_and_not_for_ever() {
        let saves = SaveLedger::default();
        saves.settled().await.unwrap();
        let first = saves.ask();
        let late = saves.settled().await.unwrap_err();
        assert!(late.to_string().contains("within 1s"), "{late}");
        saves.failed("disk full".to_owned());
        let since = saves.trouble().unwrap().since;
        saves.failed("disk still full".to_owned());
        assert_eq!(saves.trouble().unwrap().since, since);
        assert_eq!(saves.failures(), 2);
        let failed = saves.settled().await.unwrap_err();
        assert!(failed.to_string().contains("(disk still full)"), "{failed}");
        assert_eq!(saves.saved(first).unwrap().why, "disk still full");
        saves.settled().await.unwrap();
        assert_eq!((saves.trouble(), saves.failures()), (None, 2));
        // An older version does not count for a newer one.
        saves.ask();
        assert_eq!(saves.saved(first), None);
        assert!(saves.settled().await.is_err());
    }
}
