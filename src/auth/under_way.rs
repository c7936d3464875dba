//! Password checks in progress: a request with the same credentials waits for the running check instead of starting
//! another one. A browser that opens a page requests six parts of it at once, all with one password that was not
//! checked yet.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::verified::CredentialTag;

/// The result of a check: the user; `None`: the credentials are wrong.
pub type CheckOutcome = Option<Arc<str>>;

/// The value is `None` until the outcome is known.
type OutcomeReceiver = watch::Receiver<Option<CheckOutcome>>;

/// Checks in progress.
#[derive(Default)]
pub struct ChecksUnderWay {
    all: Mutex<HashMap<CredentialTag, OutcomeReceiver>>,
}

/// Whether this request has to check.
pub enum CheckTurn<'a> {
    /// This request makes the check, and others wait for it.
    Own(OwnCheck<'a>),
    /// Another request makes the check already.
    Others(OthersCheck),
}

/// A check that others may wait for. If it is dropped without an outcome, they check for themselves.
pub struct OwnCheck<'a> {
    checks: &'a ChecksUnderWay,
    tag: CredentialTag,
    sender: watch::Sender<Option<CheckOutcome>>,
}

/// A check by another request.
pub struct OthersCheck(OutcomeReceiver);

impl ChecksUnderWay {
    /// Joins the check of these credentials, or starts it.
    pub fn join(&self, tag: CredentialTag) -> CheckTurn<'_> {
        let mut all = self.all.lock();
        if let Some(receiver) = all.get(&tag) {
            return CheckTurn::Others(OthersCheck(receiver.clone()));
        }
        let (sender, receiver) = watch::channel(None);
        all.insert(tag, receiver);
        CheckTurn::Own(OwnCheck {
            checks: self,
            tag,
            sender,
        })
    }
}

impl OwnCheck<'_> {
    /// Publishes the outcome to the requests that wait.
    pub fn publish_outcome(self, outcome: CheckOutcome) {
        self.sender.send_replace(Some(outcome));
    }
}

impl Drop for OwnCheck<'_> {
    fn drop(&mut self) {
        self.checks.all.lock().remove(&self.tag);
    }
}

impl OthersCheck {
    /// Waits for the outcome; `None`: the check was abandoned.
    pub async fn wait(mut self) -> Option<CheckOutcome> {
        let told = self.0.wait_for(Option::is_some).await;
        told.ok().and_then(|outcome| outcome.clone())
    }
}

impl fmt::Debug for ChecksUnderWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChecksUnderWay")
    }
}

impl fmt::Debug for CheckTurn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own(_) => "Own",
            Self::Others(_) => "Others",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(turn: CheckTurn<'_>) -> OwnCheck<'_> {
        match turn {
            CheckTurn::Own(own) => own,
            CheckTurn::Others(_) => panic!("somebody else's"),
        }
    }

    fn others(turn: CheckTurn<'_>) -> OthersCheck {
        match turn {
            CheckTurn::Others(others) => others,
            CheckTurn::Own(_) => panic!("nobody else's"),
        }
    }

    #[tokio::test]
    async fn one_check_serves_all_who_bring_the_same_credentials() {
        let checks = ChecksUnderWay::default();
        let first = own(checks.join([1; 16]));
        let waiting = [others(checks.join([1; 16])), others(checks.join([1; 16]))];
        let other = own(checks.join([2; 16]));
        first.publish_outcome(Some("ann".into()));
        for waiting in waiting {
            assert_eq!(waiting.wait().await, Some(Some("ann".into())));
        }
        drop(other);
        assert!(checks.all.lock().is_empty());
    }

    #[tokio::test]
    async fn abandoned_check_is_made_by_the_waiting_requests() {
        let checks = ChecksUnderWay::default();
        let first = own(checks.join([1; 16]));
        let waiting = others(checks.join([1; 16]));
        drop(first);
        assert_eq!(waiting.wait().await, None);
        let _second = own(checks.join([1; 16]));
    }
}
