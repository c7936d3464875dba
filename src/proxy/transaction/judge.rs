//! What follows a failed attempt: it is logged, the prober gets a hint, and the request is retried, held, or given
//! up.

use std::sync::atomic::Ordering;

use super::Transaction;
use super::attempt::BrokenAttempt;
use super::record::RequestEnd;
use crate::core::retry;
use crate::core::retry::{RetryReason, RetryVerdict};
use crate::proxy::client::AfterRequest;
use crate::proxy::forward::{ForwardFailure, ResponseTruncation};
use crate::proxy::h1::request::RequestBody;
use crate::proxy::upstream::delivery::undelivered;
use crate::proxy::upstream::{note_refusal, outcome};
use crate::registry::endpoint::{Endpoint, Permit};
use crate::rt::clock;

/// How an attempt failed.
pub(super) enum FailedAttempt {
    /// No response can be sent any more.
    Over(AfterRequest),
    /// A retry would fail in the same way.
    Final(ForwardFailure),
    /// A retry may succeed.
    Failed(retry::AttemptFailure),
}

impl Transaction<'_> {
    /// Records an attempt that broke, and returns which kind of failure it was.
    pub(super) async fn note_failure(
        &mut self,
        permit: &Permit,
        broken: BrokenAttempt,
    ) -> FailedAttempt {
        let BrokenAttempt {
            failure,
            connection,
            stats,
            began,
        } = broken;
        let endpoint = permit.endpoint();
        let proof = match failure {
            ForwardFailure::Died { reset } => undelivered(&connection, stats.bytes_up, reset).await,
            _ => None,
        };
        if proof.is_some() {
            note_refusal(&connection, endpoint);
        }
        self.log_failure(failure, endpoint, proof);
        if stats.error.is_none()
            && let Some(watch) = self.watch_attempt(permit, began)
        {
            let age = clock::now().saturating_sub(self.account.complete);
            outcome::note_failure(&watch, failure, proof, age);
        }
        if !failure.is_clean() {
            return FailedAttempt::Over(AfterRequest::Abort);
        }
        FailedAttempt::Failed(match failure {
            // Another backend's response would continue in the middle of this one.
            ForwardFailure::Cut | ForwardFailure::Died { .. } if stats.bytes_out > 0 => {
                retry::AttemptFailure::ResponseBegun
            }
            ForwardFailure::Cut => {
                self.excluded.prefer_youngest();
                retry::AttemptFailure::CutByDrain
            }
            ForwardFailure::Died { .. } => proof.unwrap_or_else(|| {
                self.excluded.prefer_youngest();
                retry::AttemptFailure::DiedBeforeResponse {
                    after: clock::now().saturating_sub(began),
                }
            }),
            ForwardFailure::Timeout => retry::AttemptFailure::Timeout,
            _ => return FailedAttempt::Final(failure),
        })
    }

    /// Returns whether the request has a chunked body and the backend is an HTTP/1.0 server, which is not known to
    /// accept it (RFC 9112, section 6.1).
    pub(super) fn lacks_length_for(&self, endpoint: &Endpoint) -> bool {
        self.head.body == RequestBody::Chunked && endpoint.is_http10.load(Ordering::Relaxed)
    }

    /// Fails the attempt without sending anything, because the backend doesn't accept chunked bodies.
    pub(super) fn refuse_chunks(&mut self, endpoint: &Endpoint) -> FailedAttempt {
        self.log_failure(ForwardFailure::LengthRequired, endpoint, None);
        FailedAttempt::Final(ForwardFailure::LengthRequired)
    }

    /// Decides what happens to a request whose attempt failed. `None`: it is retried or held.
    pub(super) async fn judge_failure(&mut self, failed: FailedAttempt) -> Option<AfterRequest> {
        if self.client.followed.is_some() {
            self.follow_failure(&failed);
        }
        let failure = match failed {
            FailedAttempt::Over(next) => return Some(next),
            FailedAttempt::Final(failure) => return Some(self.give_up(failure).await),
            FailedAttempt::Failed(failure) => failure,
        };
        self.refresh_snapshot();
        self.tried.note(failure);
        match self.decide_retry(failure) {
            RetryVerdict::Retry {
                elsewhere,
                reason,
                spend_budget,
            } => {
                if spend_budget && !self.pool.shared.budget.take(clock::now()) {
                    return Some(self.no_retry(failure, RetryReason::Budget).await);
                }
                self.pool.shared.counters.retried(reason, true);
                self.account.retry_reason = Some(reason);
                self.upload.rewind();
                self.fresh |= failure != retry::AttemptFailure::ConnectFailed;
                if !elsewhere {
                    self.excluded.clear();
                }
                None
            }
            RetryVerdict::Hold => {
                self.account.retry_reason = Some(RetryReason::ConnectFailed);
                None
            }
            RetryVerdict::GiveUp { reason } => Some(self.no_retry(failure, reason).await),
        }
    }

    /// Gives up a request that is not retried, for this reason.
    async fn no_retry(
        &mut self,
        failure: retry::AttemptFailure,
        reason: RetryReason,
    ) -> AfterRequest {
        if reason == RetryReason::Budget {
            let counters = &self.pool.shared.counters;
            counters.retried(failure.reason(), false);
        }
        self.account.retry_reason = Some(reason);
        self.give_up_as(failure).await
    }

    fn retry_facts(&self) -> retry::RetryFacts {
        retry::RetryFacts {
            idempotent: self.head.method.is_idempotent(),
            has_idempotency_key: self.head.idempotency_key,
            body_replayable: self.upload.is_replayable(),
        }
    }

    fn retry_limits(&self) -> retry::RetryLimits {
        let pool = &self.pool.config.retry;
        let own = self.own_settings().and_then(|route| route.retry.as_ref());
        retry::RetryLimits {
            attempts: own.and_then(|own| own.attempts).unwrap_or(pool.attempts),
            idempotency_key: (own.and_then(|own| own.idempotency_key))
                .unwrap_or(pool.idempotency_key),
            ..retry::RetryLimits::default()
        }
    }

    /// Returns whether the request may be sent again even if a backend may have received it.
    pub(super) fn may_be_repeated(&self) -> bool {
        self.retry_facts().may_be_repeated(&self.retry_limits())
    }

    fn decide_retry(&self, failure: retry::AttemptFailure) -> RetryVerdict {
        let left = retry::RetryOptions {
            others: self.excluded.leaves_any(&self.pool),
            token: self.pool.shared.budget.available(clock::now()),
        };
        retry::decide(
            failure,
            &self.retry_facts(),
            self.tried,
            &self.retry_limits(),
            left,
        )
    }

    /// Records a failed attempt: for the access log and the log, and as a hint for the prober. `proof`: why it is
    /// certain that the request did not reach the backend.
    fn log_failure(
        &mut self,
        failure: ForwardFailure,
        endpoint: &Endpoint,
        proof: Option<retry::AttemptFailure>,
    ) {
        self.account.end = match failure {
            ForwardFailure::Died { .. } => RequestEnd::UpstreamDied,
            ForwardFailure::Timeout => RequestEnd::Timeout,
            ForwardFailure::Cut | ForwardFailure::ShutDown => RequestEnd::Cut,
            ForwardFailure::BadResponse(_) => RequestEnd::BadResponse,
            ForwardFailure::BadBody(_)
            | ForwardFailure::Untranslatable
            | ForwardFailure::LengthRequired => RequestEnd::BadRequest,
            ForwardFailure::Limited { limit, .. } => RequestEnd::Limited(limit),
            ForwardFailure::ClientGone => RequestEnd::ClientClosed,
            ForwardFailure::Truncated(ResponseTruncation::CutByDrain) => RequestEnd::Cut,
            ForwardFailure::Truncated(_) => RequestEnd::Truncated,
        };
        match failure {
            // The backend refused the request: the connection did not break.
            ForwardFailure::Died { .. }
                if matches!(
                    proof,
                    Some(retry::AttemptFailure::RefusedStream | retry::AttemptFailure::GoAway)
                ) =>
            {
                endpoint.hint();
            }
            ForwardFailure::Died { .. } => endpoint.request_lost(),
            ForwardFailure::BadResponse(_) => endpoint.hint(),
            // The request was never sent to the backend.
            ForwardFailure::Untranslatable | ForwardFailure::LengthRequired => {
                self.account.backend = None
            }
            // If an error response can be sent, the limit is counted there.
            ForwardFailure::Limited {
                limit,
                answer: None,
            } => {
                self.plane.counters.limited(limit);
                self.account.cause = "cut at a limit of [server]".into();
            }
            ForwardFailure::Truncated(cause) => {
                self.account.cause = cause.as_str().into();
                if cause == ResponseTruncation::UpstreamClosed {
                    endpoint.request_lost();
                }
            }
            _ => {}
        }
        if matches!(
            failure,
            ForwardFailure::Cut | ForwardFailure::Truncated(ResponseTruncation::CutByDrain)
        ) {
            let buffer = self.client.buffer.bytes();
            tracing::warn!(
                pool = %endpoint.pool,
                backend = %endpoint.name,
                method = self.head.method.as_str(),
                path = %String::from_utf8_lossy(self.head.path.of(buffer)),
                age_ms = clock::now().saturating_sub(self.account.began).as_millis() as u64,
                trace_id = self.client.trace_id_text(),
                "a request was cut at the drain's deadline"
            );
        }
    }
}
