//! What an attempt says about its backend, for pools that judge their backends by that.
//!
//! Answers are reported where they come ([`crate::proxy::forward`]), failures here; both go to
//! [`Endpoint::note_outcome`](crate::registry::endpoint::outcomes), the only place where a pool counts its attempts.
//! A pool that counts none has no [`AttemptWatch`], and pays nothing.

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

/// The watch of an attempt; `None` where the pool counts no attempts. `is_prompt`: all of the request is here.
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

/// Takes note that there is no connection. A host without ports of its own says nothing about its backends, and one that
/// is known to drain nothing new.
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

/// Takes note that an attempt has failed on its connection. `proof`: the request has surely not reached the backend, and
/// why; `age`: the whole request's.
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
        // A kept connection that was closed when the request came, or a stream that was refused: no fault of the
        // backend.
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
        // How long a client has waited in vain still counts.
        None if failure == ForwardFailure::ClientGone => watch.note(AttemptOutcome::Abandoned, now),
        None => {}
    }
}

#[cfg(test)]
mod tests;
