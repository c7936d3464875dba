//! Counts a request, where a plan moves the split that it has come by.

use super::Transaction;
use super::record::{RequestEnd, RequestRecord};
use crate::metrics::MeteredRequest;
use crate::proxy::client::ClientConnection;
use crate::rt::clock;

impl Transaction<'_> {
    /// The request is here as far as it has to be, and goes to a backend now.
    #[cold]
    pub(super) fn begin_metering(&mut self) {
        let rule = self.account.rule.as_ref();
        let Some(split) = rule.and_then(|rule| rule.split.as_ref()) else {
            return;
        };
        let metered = split
            .meter()
            .and_then(|meter| MeteredRequest::begin(meter, &self.pool.name, clock::now()));
        self.client.metered = metered.map(Box::new);
    }
}

/// The request is over.
#[cold]
pub(super) fn end_metering(client: &mut ClientConnection, account: &RequestRecord) {
    let Some(metered) = client.metered.take() else {
        return;
    };
    // Who was cut by a deadline of ours, or has gone, says nothing about the backend.
    let is_broken = matches!(
        account.end,
        RequestEnd::UpstreamDied
            | RequestEnd::Timeout
            | RequestEnd::BadResponse
            | RequestEnd::Truncated
    );
    metered.end(account.status(), account.attempts, is_broken, clock::now());
}
