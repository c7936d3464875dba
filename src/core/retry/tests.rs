use super::*;

const GET: RetryFacts = RetryFacts {
    idempotent: true,
    has_idempotency_key: false,
    body_replayable: true,
};
const POST: RetryFacts = RetryFacts {
    idempotent: false,
    ..GET
};
const LEFT: RetryOptions = RetryOptions {
    others: true,
    token: true,
};
const DIED: [AttemptFailure; 2] = [
    AttemptFailure::DiedBeforeResponse { after: Time::ZERO },
    AttemptFailure::DiedBeforeResponse { after: LONG },
];
const PROVEN: [AttemptFailure; 4] = [
    AttemptFailure::ConnectFailed,
    AttemptFailure::StaleProven,
    AttemptFailure::RefusedStream,
    AttemptFailure::GoAway,
];

fn judge(failure: AttemptFailure, request: RetryFacts, left: RetryOptions) -> RetryVerdict {
    let mut tried = AttemptHistory::default();
    tried.note(failure);
    decide(failure, &request, tried, &RetryLimits::default(), left)
}

#[test]
fn proven_failures_retry_any_method_without_budget() {
    let broke = RetryOptions {
        token: false,
        ..LEFT
    };
    for failure in PROVEN {
        let verdict = judge(failure, POST, broke);
        assert!(
            matches!(
                verdict,
                RetryVerdict::Retry {
                    spend_budget: false,
                    ..
                }
            ),
            "{failure:?}: {verdict:?}"
        );
    }
}

#[test]
fn unproven_ones_retry_idempotent_requests_on_the_budget() {
    for failure in DIED {
        let retry = RetryVerdict::Retry {
            elsewhere: true,
            reason: RetryReason::ConnectionDied,
            spend_budget: true,
        };
        assert_eq!(judge(failure, GET, LEFT), retry);
        assert_eq!(
            judge(failure, POST, LEFT),
            RetryVerdict::GiveUp {
                reason: RetryReason::NotIdempotent
            }
        );
        let broke = RetryOptions {
            token: false,
            ..LEFT
        };
        assert_eq!(
            judge(failure, GET, broke),
            RetryVerdict::GiveUp {
                reason: RetryReason::Budget
            }
        );
        let alone = RetryOptions {
            others: false,
            ..LEFT
        };
        assert!(matches!(
            judge(failure, GET, alone),
            RetryVerdict::Retry {
                elsewhere: false,
                ..
            }
        ));
    }
}

/// A cut by the proxy itself takes no token, but it proves nothing.
#[test]
fn attempt_cut_by_a_drain_is_retried_without_budget_if_idempotent() {
    let broke = RetryOptions {
        token: false,
        ..LEFT
    };
    assert_eq!(
        judge(AttemptFailure::CutByDrain, GET, broke),
        RetryVerdict::Retry {
            elsewhere: true,
            reason: RetryReason::CutByDrain,
            spend_budget: false,
        }
    );
    assert_eq!(
        judge(AttemptFailure::CutByDrain, POST, LEFT),
        RetryVerdict::GiveUp {
            reason: RetryReason::NotIdempotent
        }
    );
}

#[test]
fn an_idempotency_key_counts_only_where_configured() {
    let request = RetryFacts {
        has_idempotency_key: true,
        ..POST
    };
    let limits = RetryLimits {
        idempotency_key: true,
        ..RetryLimits::default()
    };
    let tried = AttemptHistory {
        unproven: 1,
        ..AttemptHistory::default()
    };
    assert_eq!(
        judge(DIED[0], request, LEFT),
        RetryVerdict::GiveUp {
            reason: RetryReason::NotIdempotent
        }
    );
    let verdict = decide(DIED[0], &request, tried, &limits, LEFT);
    assert!(matches!(verdict, RetryVerdict::Retry { .. }), "{verdict:?}");
}

#[test]
fn a_body_that_is_gone_cannot_be_sent_again() {
    let gone = RetryFacts {
        body_replayable: false,
        ..GET
    };
    for failure in [
        DIED[0],
        AttemptFailure::StaleProven,
        AttemptFailure::RefusedStream,
        AttemptFailure::GoAway,
    ] {
        assert_eq!(
            judge(failure, gone, LEFT),
            RetryVerdict::GiveUp {
                reason: RetryReason::BodyGone
            }
        );
    }
    assert!(matches!(
        judge(AttemptFailure::ConnectFailed, gone, LEFT),
        RetryVerdict::Retry { .. }
    ));
}

#[test]
fn no_backend_left_to_connect_to_holds() {
    assert_eq!(
        judge(
            AttemptFailure::ConnectFailed,
            POST,
            RetryOptions {
                others: false,
                ..LEFT
            }
        ),
        RetryVerdict::Hold
    );
}

#[test]
fn retry_prefers_another_backend_and_accepts_the_same_one() {
    for failure in [
        DIED[0],
        AttemptFailure::StaleProven,
        AttemptFailure::GoAway,
        AttemptFailure::RefusedStream,
    ] {
        for others in [true, false] {
            let verdict = judge(failure, GET, RetryOptions { others, ..LEFT });
            assert!(
                matches!(verdict, RetryVerdict::Retry { elsewhere, .. } if elsewhere == others),
                "{failure:?}: {verdict:?}"
            );
        }
    }
}

#[test]
fn timeout_and_begun_response_are_not_retried() {
    assert_eq!(
        judge(AttemptFailure::Timeout, GET, LEFT),
        RetryVerdict::GiveUp {
            reason: RetryReason::TimedOut
        }
    );
    assert_eq!(
        judge(AttemptFailure::ResponseBegun, GET, LEFT),
        RetryVerdict::GiveUp {
            reason: RetryReason::ResponseBegun
        }
    );
}

#[test]
fn each_kind_has_its_own_cap() {
    let limits = RetryLimits::default();
    for (failure, most) in [
        (DIED[0], 3),
        (DIED[1], 5),
        (AttemptFailure::CutByDrain, 5),
        (AttemptFailure::ConnectFailed, 10),
    ] {
        let mut tried = AttemptHistory::default();
        let mut attempts = 1;
        loop {
            tried.note(failure);
            match decide(failure, &GET, tried, &limits, LEFT) {
                RetryVerdict::Retry { .. } => attempts += 1,
                verdict => {
                    assert_eq!(
                        verdict,
                        RetryVerdict::GiveUp {
                            reason: RetryReason::Attempts
                        }
                    );
                    break;
                }
            }
        }
        assert_eq!(attempts, most, "{failure:?}");
    }
    // Many refused connections leave the three attempts that may reach an app.
    let tried = AttemptHistory {
        unproven: 1,
        proven: 9,
        long: 0,
    };
    assert!(matches!(
        decide(DIED[0], &GET, tried, &limits, LEFT),
        RetryVerdict::Retry { .. }
    ));
}

#[test]
fn single_permitted_attempt_is_not_repeated_however_long_it_lasted() {
    let limits = RetryLimits {
        attempts: 1,
        ..RetryLimits::default()
    };
    for failure in DIED {
        let mut tried = AttemptHistory::default();
        tried.note(failure);
        assert_eq!(
            decide(failure, &GET, tried, &limits, LEFT),
            RetryVerdict::GiveUp {
                reason: RetryReason::Attempts
            }
        );
    }
}

#[test]
fn long_attempts_do_not_count_against_the_three_short_ones() {
    let mut tried = AttemptHistory::default();
    let mut made = Vec::new();
    for failure in [DIED[0], DIED[1], DIED[0], DIED[1], DIED[0]] {
        tried.note(failure);
        let verdict = decide(failure, &GET, tried, &RetryLimits::default(), LEFT);
        made.push(matches!(verdict, RetryVerdict::Retry { .. }));
    }
    assert_eq!(made, [true, true, true, true, false]);
}

#[test]
fn youngest_backend_is_preferred_while_a_roll_may_be_in_progress() {
    let at = |ready: [u64; 3], now: u64| {
        youngest(
            ready.into_iter().map(Time::from_millis),
            Time::from_millis(now),
        )
    };
    assert_eq!(
        at([1_000, 9_000, 2_000], 9_100),
        Some(Time::from_millis(8_500))
    );
    assert_eq!(
        at([1_000, 1_100, 1_200], 2_000),
        Some(Time::from_millis(700))
    );
    assert_eq!(at([1_000, 9_000, 2_000], 69_000), None);
    assert_eq!(youngest(std::iter::empty(), Time::ZERO), None);
}
