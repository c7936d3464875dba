//! An attempt to get a response from one backend: its purpose, the request head it sends, and how it ended.

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

/// What an attempt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptPurpose {
    /// Its response goes to the client.
    Answer,
    /// The request is a mirrored copy; its response is discarded.
    Copy,
}

/// How an attempt ended.
pub(super) enum AttemptEnd {
    /// The response was delivered completely.
    Delivered {
        /// Whether the client's connection can carry another request.
        keep_alive: bool,
    },
    /// Nothing of the response was sent to the client, which gets an error page in its place.
    Intercepted {
        /// Status of the backend's response.
        status: u16,
        /// Header lines of the backend's response that the client still gets.
        fields: String,
    },
    /// The connection was upgraded: both sides now speak another protocol.
    Upgraded(UpgradedAttempt),
    /// The response is an event stream that waits for bytes, and is paused so that it can move to another process.
    AtRest(RestingAttempt),
    /// Nothing was sent to the backend.
    Unsent(FailedAttempt),
    /// The attempt failed on its connection.
    Broken(BrokenAttempt),
}

/// An attempt whose 101 response switched to another protocol.
pub(super) struct UpgradedAttempt {
    pub(super) connection: Box<IdleConnection>,
    /// Bytes that the backend has already sent in the new protocol.
    pub(super) incoming: Buffer,
    pub(super) upgrade: Option<UpgradeProtocol>,
}

/// An attempt whose response is a paused event stream.
pub(super) struct RestingAttempt {
    pub(super) connection: Box<IdleConnection>,
    /// Bytes read from the backend and not yet processed.
    pub(super) incoming: Buffer,
    /// The response head, output that is still to be sent, and the position in the event stream.
    pub(super) scratch: Box<AttemptScratch>,
}

/// An attempt that failed while its backend connection was open.
pub(super) struct BrokenAttempt {
    pub(super) failure: ForwardFailure,
    pub(super) connection: Box<IdleConnection>,
    pub(super) stats: TransferStats,
    pub(super) began: Time,
}

impl Transaction<'_> {
    /// Writes the request head that the backend gets.
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
        // One test for all three: most requests have none of them.
        let is_guarded = self.account.admission.is_some();
        if is_guarded | self.session.is_some() | self.client.followed.is_some() {
            self.edit_head(endpoint, out);
        }
    }

    /// Edits the written head for the guards, the session and the trace.
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

/// Sets what the request's route configures for an attempt.
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
