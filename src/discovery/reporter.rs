//! What a source reports, on its way to the code that judges it.

use tokio::sync::mpsc;

use super::SourceError;
use crate::config::Address;
use crate::core::discovery::SourceAnswer;

/// Reports that may wait. A source that is faster waits itself.
const WAITING: usize = 4;

/// What a source says.
#[derive(Debug)]
pub enum SourceReport {
    /// All backends that there are.
    Answer(SourceAnswer<Address>),
    /// It can't be asked at the moment. What is known stays.
    Failure(SourceError),
}

/// Where a source reports to.
#[derive(Debug, Clone)]
pub struct SourceReporter(mpsc::Sender<SourceReport>);

impl SourceReporter {
    /// One, and where its reports come out.
    pub fn new() -> (Self, mpsc::Receiver<SourceReport>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// All backends that there are. An answer that is the same as the one before is welcome: it shows that the source is
    /// there. It need not be repeated while nothing changes and the source can be trusted to tell.
    ///
    /// A [`DiscoveredSet`](crate::core::discovery::DiscoveredSet) is an answer, too.
    pub async fn answer(&self, answer: impl Into<SourceAnswer<Address>>) {
        // The receiver is gone: the source is about to be dropped.
        let _ = self.0.send(SourceReport::Answer(answer.into())).await;
    }

    /// It can't be asked at the moment.
    pub async fn fail(&self, error: SourceError) {
        let _ = self.0.send(SourceReport::Failure(error)).await;
    }
}
