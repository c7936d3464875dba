//! One attempt of a request: a connection to the backend that was entered for it, the request on that connection, and
//! what comes back. Copies of requests are sent the same way (`mirror`).

use super::Transaction;
use super::intercept::{interceptable, kept_fields};
use super::judge::FailedAttempt;
use super::mirror::{LONGEST_COPY, mark_copy};
use super::record::RequestRecord;
use super::sticky::StickySession;
use crate::config::Config;
use crate::core::Time;
use crate::proxy::buffer::Buffer;
use crate::proxy::forward::scratch::AttemptScratch;
use crate::proxy::forward::{
    ForwardEnd, ForwardFailure, ForwardParams, TransferStats, answer_timeout, forward_once,
};
use crate::proxy::h1::method::UpgradeProtocol;
use crate::proxy::h1::request::RequestHead;
use crate::registry::endpoint::{IdleConnection, Permit};
use crate::rt::clock;

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
    /// Makes one attempt. The permit may be changed for that of another backend, see
    /// [`Transaction::reuse_connection`].
    pub(super) async fn attempt(
        &mut self,
        permit: &mut Permit,
        purpose: AttemptPurpose,
    ) -> AttemptEnd {
        let began = clock::now();
        self.account.attempts += 1;
        let kept = self.reuse_connection(permit, began);
        let endpoint = permit.endpoint();
        self.account.backend = Some(endpoint.clone());
        let watch = match purpose {
            AttemptPurpose::Answer => self.watch_attempt(permit, began),
            AttemptPurpose::Copy => None,
        };
        // Connect.
        let mut connection = match kept {
            _ if self.lacks_length_for(endpoint) => {
                return AttemptEnd::Unsent(self.refuse_chunks(endpoint));
            }
            Some(connection) => connection,
            // Boxed: most requests find a connection, and each would have to keep room for the making of one (9 KiB).
            None => match Box::pin(self.open_connection(permit, watch)).await {
                Ok(connection) => connection,
                Err(failed) => return AttemptEnd::Unsent(failed),
            },
        };
        // Forward.
        let mut scratch = AttemptScratch::take();
        self.write_head(endpoint, &mut scratch.head);
        endpoint.counters.sent();
        connection.requests += 1;
        if self.session.is_some() {
            self.enter_session(permit.endpoint());
        }
        let mut params = ForwardParams {
            request: self.head,
            began,
            since: self.account.began,
            rule: self.account.rule.as_deref(),
            read_timeout: self.pool.config.upstream.read_timeout,
            ends: (self.config.server.total_timeout)
                .map(|total| self.account.complete.saturating_add(total)),
            server: &self.config.server,
            changes: None,
            compression: self.config.compression.as_ref(),
            intercept: None,
            watch,
            session: self.session.as_deref().map(StickySession::answer),
        };
        match purpose {
            AttemptPurpose::Answer if self.account.rule.is_none() => {}
            AttemptPurpose::Answer => {
                follow_route(&mut params, self.account, self.head, &self.config);
            }
            AttemptPurpose::Copy => {
                mark_copy(&mut scratch.head, self.account.rule.as_deref());
                params.ends = Some(began.saturating_add(LONGEST_COPY));
                params.compression = None;
            }
        }
        let buffer = self.client.buffer.bytes();
        params.read_timeout = answer_timeout(self.head, buffer, params.read_timeout);
        let (end, stats, incoming) = forward_once(
            params,
            self.plane,
            self.client,
            &mut self.upload,
            &mut connection,
            &mut scratch,
        )
        .await;
        self.note_stats(endpoint, stats);
        let promised = scratch.response.keep_alive_timeout;
        match end {
            Ok(ForwardEnd::Complete {
                reusable,
                keep_alive,
            }) => {
                scratch.give_back();
                incoming.give_back();
                if reusable {
                    self.keep_connection(endpoint, connection, promised, stats.bytes_up);
                }
                AttemptEnd::Delivered { keep_alive }
            }
            Ok(ForwardEnd::Intercepted { reusable }) => {
                let mut fields = kept_fields(&scratch.response, incoming.bytes());
                if self.session.is_some() {
                    fields.push_str(&self.session_lines(&scratch.response, incoming.bytes()));
                }
                scratch.give_back();
                incoming.give_back();
                if reusable {
                    self.keep_connection(endpoint, connection, promised, stats.bytes_up);
                }
                let status = stats.status;
                AttemptEnd::Intercepted { status, fields }
            }
            Ok(ForwardEnd::Upgraded) => {
                let upgrade = scratch.response.upgrade;
                scratch.give_back();
                AttemptEnd::Upgraded(UpgradedAttempt {
                    connection,
                    incoming,
                    upgrade,
                })
            }
            Ok(ForwardEnd::AtRest) => AttemptEnd::AtRest(RestingAttempt {
                connection,
                incoming,
                scratch,
            }),
            Err(failure) => {
                scratch.give_back();
                incoming.give_back();
                AttemptEnd::Broken(BrokenAttempt {
                    failure,
                    connection,
                    stats,
                    began,
                })
            }
        }
    }
}

/// What the request's route has of its own for an attempt.
#[inline(never)]
fn follow_route<'a>(
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
