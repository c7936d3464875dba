//! What an attempt is made for, what it sends, and what it comes to.

use super::Transaction;
use super::changes::MessageChanges;
use super::intercept::interceptable;
use super::judge::FailedAttempt;
use super::record::RequestRecord;
use crate::config::Config;
use crate::core::Time;
use crate::proxy::buffer::Buffer;
use crate::proxy::forward::headers::{RequestEdit, write_request};
use crate::proxy::forward::scratch::AttemptScratch;
use crate::proxy::forward::{ForwardFailure, ForwardParams, TransferStats};
use crate::proxy::h1::method::UpgradeProtocol;
use crate::proxy::h1::request::RequestHead;
use crate::registry::endpoint::{Endpoint, IdleConnection};

/// Whom an attempt is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptPurpose {
    /// The client.
    Answer,
    /// Nobody: the request is a copy.
    Copy,
}

/// What an attempt has come to.
pub(super) enum AttemptEnd {
    /// The answer was delivered whole.
    Delivered {
        /// The client's connection can carry another request.
        keep_alive: bool,
    },
    /// The client got nothing of the answer, and is to get a page in its place.
    Intercepted {
        /// The answer's status.
        status: u16,
        /// The lines of the answer's head that go on.
        fields: String,
    },
    /// Both sides speak another protocol now.
    Upgraded(UpgradedAttempt),
    /// The answer is a stream of events that stands still, to move to another process.
    AtRest(RestingAttempt),
    /// Nothing was sent.
    Unsent(FailedAttempt),
    /// It broke off.
    Broken(BrokenAttempt),
}

/// An attempt behind whose 101 another protocol begins.
pub(super) struct UpgradedAttempt {
    pub(super) connection: Box<IdleConnection>,
    /// What the backend has said of it already.
    pub(super) incoming: Buffer,
    pub(super) upgrade: Option<UpgradeProtocol>,
}

/// An attempt whose answer is a stream of events at a still point.
pub(super) struct RestingAttempt {
    pub(super) connection: Box<IdleConnection>,
    /// What was read of the backend and not looked at.
    pub(super) incoming: Buffer,
    /// The answer's head, what is left of it to be sent, and where its events stand.
    pub(super) scratch: Box<AttemptScratch>,
}

/// An attempt that broke off, on a connection that is still open.
pub(super) struct BrokenAttempt {
    pub(super) failure: ForwardFailure,
    pub(super) connection: Box<IdleConnection>,
    pub(super) stats: TransferStats,
    pub(super) began: Time,
}

impl Transaction<'_> {
    /// Writes the request's head as the backend is to get it.
    pub(super) fn write_head(&mut self, endpoint: &Endpoint, out: &mut Vec<u8>) {
        out.clear();
        let preserve = self.pool.config.upstream.preserve_host;
        let changes = self.account.changes();
        let host = changes.and_then(MessageChanges::host);
        let changes = changes.map(MessageChanges::request);
        let edit = RequestEdit {
            policy: &self.config.headers,
            client_ip: self.client.origin.forwarded_ip(),
            trusted: self.client.origin.trusted,
            scheme: self.client.origin.scheme,
            identity: self.client.origin.identity.as_deref().unwrap_or_default(),
            request_id: self.id.as_bytes(),
            host_override: host.or((!preserve).then_some(&*endpoint.authority)),
            fallback_host: &endpoint.authority,
            changes: changes.as_ref(),
        };
        write_request(out, self.client.buffer.bytes(), self.head, &edit);
        // One test for all of them: most requests have none.
        let is_guarded = self.account.admission.is_some();
        if is_guarded | self.session.is_some() | self.client.followed.is_some() {
            self.edit_head(endpoint, out);
        }
    }

    /// What guards, the session and the trace have to say in the written head.
    #[inline(never)]
    fn edit_head(&mut self, endpoint: &Endpoint, out: &mut Vec<u8>) {
        if let Some(admission) = &self.account.admission {
            admission.edit_head(out);
        }
        if let Some(session) = &self.session {
            session.edit_head(out);
        }
        if self.client.followed.is_some() {
            self.edit_context(endpoint, out);
        }
    }
}

/// What the request's route has of its own for an attempt.
#[inline(never)]
pub(super) fn follow_route<'a>(
    params: &mut ForwardParams<'a>,
    account: &'a RequestRecord,
    head: &RequestHead,
    config: &'a Config,
) {
    let Some(rule) = &account.rule else {
        return;
    };
    let route = &*rule.route;
    if let Some(own) = route.read_timeout {
        params.read_timeout = own;
    }
    params.ends = account.ends(config);
    params.changes = account.response_changes();
    params.compression = params.compression.filter(|_| route.compression);
    params.intercept = interceptable(head, route, config);
}
