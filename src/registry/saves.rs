//! Whether what has to survive the process is on the disk: the registry asks for a version to be saved, whoever keeps it
//! says how that went, and those who are told "done" hear whether it will last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;

use crate::core::Time;
use crate::rt::clock;

/// How long an answer waits for what it says to be on the disk. What it is about, a closed gate above all, is in force
/// before.
const SAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// What was asked for is in force, and would be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "it is in force, but not saved: a restart of lameduck would forget it ({why}); saving is tried again until it works"
)]
pub struct NotSavedError {
    why: String,
}

/// Saving fails at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveError {
    /// Since when.
    pub since: Time,
    /// The last failure.
    pub why: String,
}

/// The account of what was saved. Versions are numbered; each has all that has to be kept.
#[derive(Debug, Default)]
pub struct SaveLedger {
    asked: AtomicU64,
    failures: AtomicU64,
    progress: watch::Sender<SaveProgress>,
}

#[derive(Debug, Clone, Default)]
struct SaveProgress {
    /// The newest version that is on the disk.
    saved: u64,
    trouble: Option<SaveError>,
}

impl SaveLedger {
    /// A new version has to be saved: its number.
    pub fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// A version is on the disk. Says whether saving had failed before.
    pub fn saved(&self, version: u64) -> Option<SaveError> {
        let mut before = None;
        self.progress.send_modify(|progress| {
            progress.saved = progress.saved.max(version);
            before = progress.trouble.take();
        });
        before
    }

    /// A version could not be saved.
    pub fn failed(&self, why: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.progress.send_modify(|progress| {
            let before = progress.trouble.take();
            let since = before.map_or_else(clock::now, |trouble| trouble.since);
            progress.trouble = Some(SaveError { since, why });
        });
    }

    /// How often saving has failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether saving fails at present, and why.
    pub fn trouble(&self) -> Option<SaveError> {
        self.progress.borrow().trouble.clone()
    }

    /// Waits a moment for all that was asked for up to now.
    ///
    /// # Errors
    /// It is not on the disk.
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
        // An older version says nothing of a newer one.
        saves.ask();
        assert_eq!(saves.saved(first), None);
        assert!(saves.settled().await.is_err());
    }
}
