use std::sync::Arc;

use super::*;
use crate::net::connect_fault::ConnectFault;
use crate::registry::endpoint::Endpoint;
use crate::registry::endpoint::tests::endpoint_at;

fn endpoint() -> Arc<Endpoint> {
    let endpoint = endpoint_at(([127, 0, 0, 1], 9).into());
    endpoint.outcomes.turn_on(0, false);
    Arc::new(endpoint)
}

fn watch(endpoint: &Endpoint) -> AttemptWatch<'_> {
    AttemptWatch {
        endpoint,
        epoch: endpoint.epoch(),
        began: Time::ZERO,
        is_prompt: true,
    }
}

/// Returns the error as which a failure is counted.
fn judged(failure: ForwardFailure, proof: Option<retry::AttemptFailure>) -> Option<AttemptError> {
    let endpoint = endpoint();
    note_failure(&watch(&endpoint), failure, proof, Time::ZERO);
    let counts = endpoint.outcomes.peek();
    assert_eq!(counts.failed, u32::from(counts.last.is_some()));
    counts.last
}

#[test]
fn failed_attempt_counts_only_where_the_backend_is_to_blame() {
    let died = ForwardFailure::Died { reset: true };
    assert_eq!(judged(died, None), Some(AttemptError::Reset));
    for proof in [
        retry::AttemptFailure::StaleProven,
        retry::AttemptFailure::RefusedStream,
        retry::AttemptFailure::GoAway,
    ] {
        assert_eq!(judged(died, Some(proof)), None);
    }
    let truncated = ForwardFailure::Truncated;
    for (failure, error) in [
        (ForwardFailure::Timeout, Some(AttemptError::Timeout)),
        (
            ForwardFailure::BadResponse("x"),
            Some(AttemptError::BadResponse),
        ),
        (
            truncated(ResponseTruncation::UpstreamClosed),
            Some(AttemptError::Broken),
        ),
        (
            truncated(ResponseTruncation::Silent),
            Some(AttemptError::Broken),
        ),
        (
            truncated(ResponseTruncation::MalformedHttp2),
            Some(AttemptError::BadResponse),
        ),
        (truncated(ResponseTruncation::BadBody), None),
        (truncated(ResponseTruncation::CutByDrain), None),
        (truncated(ResponseTruncation::CutByShutdown), None),
        (truncated(ResponseTruncation::EncoderFailed), None),
        (ForwardFailure::ClientGone, None),
        (ForwardFailure::Cut, None),
        (ForwardFailure::ShutDown, None),
        (ForwardFailure::LengthRequired, None),
        (ForwardFailure::Untranslatable, None),
    ] {
        assert_eq!(judged(failure, None), error, "{failure:?}");
    }
}

#[test]
fn failed_connect_counts_unless_this_host_or_a_drain_is_to_blame() {
    for (error, counts) in [
        (
            ConnectError::Failed(ConnectFault::Refused, String::new()),
            true,
        ),
        (
            ConnectError::Failed(ConnectFault::TimedOut, String::new()),
            true,
        ),
        (ConnectError::Ignored, true),
        (ConnectError::NotAccepted, true),
        (ConnectError::Handshake(String::new()), true),
        (
            ConnectError::Failed(ConnectFault::NoPort, String::new()),
            false,
        ),
        (ConnectError::Moved, false),
        (ConnectError::Unwanted, false),
    ] {
        let endpoint = endpoint();
        note_connect_error(&watch(&endpoint), &error);
        let seen = endpoint.outcomes.peek();
        assert_eq!(seen.failed, u32::from(counts), "{error:?}");
    }
}

#[test]
fn attempt_of_an_earlier_epoch_does_not_count() {
    let endpoint = endpoint();
    let watch = watch(&endpoint);
    endpoint.begin_epoch(1);
    note_failure(&watch, ForwardFailure::Timeout, None, Time::ZERO);
    watch.note(AttemptOutcome::Whole, Time::ZERO);
    assert_eq!(endpoint.outcomes.peek().total(), 0);
}

#[test]
fn total_timeout_is_the_fault_of_the_attempt_that_used_it_up() {
    let limited = ForwardFailure::Limited {
        limit: ServerLimit::TotalTimeout,
        answer: Some(504),
    };
    let age = Time::from_secs(3600);
    let endpoint = endpoint();
    note_failure(&watch(&endpoint), limited, None, age);
    assert_eq!(endpoint.outcomes.peek().failed, 0, "it had hardly begun");
    assert_eq!(judged(limited, None), Some(AttemptError::Timeout));
}
