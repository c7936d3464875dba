//! Reports what an attempt says about its backend, for pools that judge their backends by attempts: for outlier
//! detection, or balancing by response time.
//!
//! Responses are reported where they arrive ([`crate::proxy::forward`]), failures here; both go to
//! [`Endpoint::note_outcome`](crate::registry::endpoint::outcomes), the only place where a pool counts its attempts.
//! A pool that counts none has no [`AttemptWatch`], and no cost.

use super::connect::ConnectError;
use crate::core::Time;
use crate::core::outlier::AttemptError;
use crate::core::retry;
use crate::metrics::ServerLimit;
use crate::proxy::forward::{ForwardFailure, ResponseTruncation};
use crate::registry::endpoint::Permit;
use crate::registry::endpoint::outcomes::{AttemptOutcome, AttemptWatch};
use crate::registry::snapshot::PoolSnapshot;
use crate::rt::clock;

/// Starts to watch an attempt; `None` if the pool counts no attempts. `is_prompt`: the whole request has been
/// received.
pub fn watch_attempt<'a>(
    pool: &PoolSnapshot,
    permit: &'a Permit,
    began: Time,
    is_prompt: bool,
) -> Option<AttemptWatch<'a>> {
    pool.watches_outcomes.then(|| AttemptWatch {
        endpoint: permit.endpoint(),
        epoch: permit.epoch(),
        began,
        is_prompt,
    })
}

/// Notes a failed connect. If this host has run out of ports, descriptors or memory, that says nothing about the
/// backend; if the backend is known to drain, it is nothing new.
#[cold]
pub fn note_connect_error(watch: &AttemptWatch<'_>, error: &ConnectError) {
    let is_its_fault = !matches!(error, ConnectError::Moved | ConnectError::Unwanted)
        && !error.fault().is_own_shortage();
    let outcome = match is_its_fault {
        true => AttemptOutcome::Failed(AttemptError::Connect),
        false => AttemptOutcome::Abandoned,
    };
    watch.note(outcome, clock::now());
}

/// Notes that an attempt failed on its connection. `proof`: why the request certainly did not reach the backend;
/// `age`: the age of the whole request.
#[cold]
pub fn note_failure(
    watch: &AttemptWatch<'_>,
    failure: ForwardFailure,
    proof: Option<retry::AttemptFailure>,
    age: Time,
) {
    let now = clock::now();
    let took = now.saturating_sub(watch.began);
    let error = match failure {
        // An idle connection that was closed when the request came, or a stream that was refused: not the backend's
        // fault.
        ForwardFailure::Died { .. } if proof.is_some() => None,
        ForwardFailure::Died { .. } => Some(AttemptError::Reset),
        ForwardFailure::Timeout => Some(AttemptError::Timeout),
        // The time for all attempts is over: an attempt counts only if it has used at least half of it.
        ForwardFailure::Limited {
            limit: ServerLimit::TotalTimeout,
            answer: Some(504),
        } => (took >= age / 2).then_some(AttemptError::Timeout),
        ForwardFailure::BadResponse(_) => Some(AttemptError::BadResponse),
        ForwardFailure::Truncated(
            ResponseTruncation::UpstreamClosed
            | ResponseTruncation::Silent
            | ResponseTruncation::InterimBroken,
        ) => Some(AttemptError::Broken),
        ForwardFailure::Truncated(
            ResponseTruncation::MalformedHttp2 | ResponseTruncation::Malformed(_),
        ) => Some(AttemptError::BadResponse),
        _ => None,
    };
    match error {
        Some(error) => watch.note(AttemptOutcome::Failed(error), now),
        // The time that a client has waited in vain still counts.
        None if failure == ForwardFailure::ClientGone => watch.note(AttemptOutcome::Abandoned, now),
        None => {}
    }
}

#[cfg(test)]
mod tests;
