//! Channel for the reports of a source.

use tokio::sync::mpsc;

use super::SourceError;
use crate::config::Address;
use crate::core::discovery::SourceAnswer;

/// Most reports that wait; a source that is faster waits itself.
const MAX_WAITING: usize = 4;

/// A report of a source.
#[derive(Debug)]
pub enum SourceReport {
    /// All backends that there are.
    Answer(SourceAnswer<Address>),
    /// The source can't be asked at the moment; known backends stay.
    Failure(SourceError),
}

/// Sender of a source's reports.
#[derive(Debug, Clone)]
pub struct SourceReporter(mpsc::Sender<SourceReport>);

impl SourceReporter {
    /// A reporter, and the receiver of its reports.
    pub fn new() -> (Self, mpsc::Receiver<SourceReport>) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        (Self(sender), receiver)
    }

    /// Reports all backends that there are. An answer that is the same as the one before is useful, because it shows
    /// that the source works. It is not needed while nothing changes, if the source reliably reports changes.
    ///
    /// A [`DiscoveredSet`](crate::core::discovery::DiscoveredSet) can be passed as an answer, too.
    pub async fn answer(&self, answer: impl Into<SourceAnswer<Address>>) {
        // If the receiver is gone, the source is about to be dropped.
        let _ = self.0.send(SourceReport::Answer(answer.into())).await;
    }

    /// Reports that the source can't be asked at the moment.
    pub async fn fail(&self, error: SourceError) {
        let _ = self.0.send(SourceReport::Failure(error)).await;
    }
}
