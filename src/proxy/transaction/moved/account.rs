//! The record of a request that moves to another process.

use crate::core::Time;
use crate::core::retry::RetryReason;
use crate::proxy::moving::state::{CarriedBytes, MovedRequest};
use crate::proxy::transaction::record::RequestRecord;
use crate::proxy::transaction::request_id::RequestId;
use crate::rt::clock;

impl RequestRecord {
    /// Exports the record in the form from which another process continues it. `head` is the request's head.
    pub(super) fn export(&self, id: &RequestId, head: &[u8]) -> MovedRequest {
        let rule = self.rule.as_ref();
        MovedRequest {
            head: CarriedBytes(head.to_vec()),
            id: id.as_str().to_owned(),
            began_ns: clock::to_machine(self.began),
            complete_ns: clock::to_machine(self.complete),
            answered_ns: self.answered.map(clock::to_machine),
            held_ns: u64::try_from(self.held.as_nanos()).unwrap_or(u64::MAX),
            attempts: self.attempts,
            retry_reason: (self.retry_reason)
                .map_or_else(String::new, |reason| reason.as_str().to_owned()),
            session: self.session.to_owned(),
            route: rule.and_then(|rule| rule.name.as_deref().map(str::to_owned)),
            user: self.user.as_deref().map(str::to_owned),
            status: self.status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            trace_id: String::new(),
        }
    }

    /// Imports a record, the reverse of [`Self::export`]. Backend and route are left out: the caller has to look them
    /// up in the registry.
    pub(super) fn import(moved: &MovedRequest) -> Self {
        let mut account = Self::new(
            clock::from_machine(moved.began_ns),
            clock::from_machine(moved.complete_ns),
        );
        account.answered = moved.answered_ns.map(clock::from_machine);
        account.held = Time::from_nanos(moved.held_ns);
        account.attempts = moved.attempts;
        account.retry_reason = RetryReason::named(&moved.retry_reason);
        let sessions = ["new", "kept", "moved"];
        let session = sessions.into_iter().find(|name| *name == moved.session);
        account.session = session.unwrap_or_default();
        account.user = moved.user.as_deref().map(Into::into);
        account.status = moved.status;
        account.bytes_in = moved.bytes_in;
        account.bytes_out = moved.bytes_out;
        account
    }
}
