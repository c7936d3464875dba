use super::*;

const GET: Request = Request {
    idempotent: true,
    has_idempotency_key: false,
    body_replayable: true,
};
const POST: Request = Request {
    idempotent: false,
    ..GET
};
const LEFT: Left = Left {
    others: true,
    token: true,
};
const DIED: [Failure; 2] = [
    Failure::DiedBeforeResponse { after: Time::ZERO },
    Failure::DiedBeforeResponse { after: LONG },
];
const PROVEN: [Failure; 4] = [
    Failure::ConnectFailed,
    Failure::StaleProven,
    Failure::RefusedStream,
    Failure::GoAway,
];

fn judge(failure: Failure, request: Request, left: Left) -> Verdict {
    let mut tried = Tried::default();
    tried.note(failure);
    decide(failure, &request, tried, &Limits::default(), left)
}

#[test]
fn proven_failures_retry_any_method_without_budget() {
    let broke = Left {
        token: false,
        ..LEFT
    };
    for failure in PROVEN {
        let verdict = judge(failure, POST, broke);
        assert!(
            matches!(
                verdict,
                Verdict::Retry {
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
        let retry = Verdict::Retry {
            elsewhere: true,
            reason: RetryReason::ConnectionDied,
            spend_budget: true,
        };
        assert_eq!(judge(failure, GET, LEFT), retry);
        assert_eq!(
            judge(failure, POST, LEFT),
            Verdict::GiveUp {
                reason: RetryReason::NotIdempotent
            }
        );
        let broke = Left {
            token: false,
            ..LEFT
        };
        assert_eq!(
            judge(failure, GET, broke),
            Verdict::GiveUp {
                reason: RetryReason::Budget
            }
        );
        let alone = Left {
            others: false,
            ..LEFT
        };
        assert!(matches!(
            judge(failure, GET, alone),
            Verdict::Retry {
                elsewhere: false,
                ..
            }
        ));
    }
}

/// Our own doing takes no token; but it proves nothing.
#[test]
fn what_a_drain_has_cut_is_free_for_idempotent_requests_alone() {
    let broke = Left {
        token: false,
        ..LEFT
    };
    assert_eq!(
        judge(Failure::CutByDrain, GET, broke),
        Verdict::Retry {
            elsewhere: true,
            reason: RetryReason::CutByDrain,
            spend_budget: false,
        }
    );
    assert_eq!(
        judge(Failure::CutByDrain, POST, LEFT),
        Verdict::GiveUp {
            reason: RetryReason::NotIdempotent
        }
    );
}

#[test]
fn an_idempotency_key_counts_only_where_configured() {
    let request = Request {
        has_idempotency_key: true,
        ..POST
    };
    let limits = Limits {
        idempotency_key: true,
        ..Limits::default()
    };
    let tried = Tried {
        unproven: 1,
        ..Tried::default()
    };
    assert_eq!(
        judge(DIED[0], request, LEFT),
        Verdict::GiveUp {
            reason: RetryReason::NotIdempotent
        }
    );
    let verdict = decide(DIED[0], &request, tried, &limits, LEFT);
    assert!(matches!(verdict, Verdict::Retry { .. }), "{verdict:?}");
}

#[test]
fn a_body_that_is_gone_cannot_be_sent_again() {
    let gone = Request {
        body_replayable: false,
        ..GET
    };
    for failure in [
        DIED[0],
        Failure::StaleProven,
        Failure::RefusedStream,
        Failure::GoAway,
    ] {
        assert_eq!(
            judge(failure, gone, LEFT),
            Verdict::GiveUp {
                reason: RetryReason::BodyGone
            }
        );
    }
    assert!(matches!(
        judge(Failure::ConnectFailed, gone, LEFT),
        Verdict::Retry { .. }
    ));
}

#[test]
fn no_backend_left_to_connect_to_holds() {
    assert_eq!(
        judge(
            Failure::ConnectFailed,
            POST,
            Left {
                others: false,
                ..LEFT
            }
        ),
        Verdict::Hold
    );
}

#[test]
fn another_backend_is_better_and_the_same_one_will_do() {
    for failure in [
        DIED[0],
        Failure::StaleProven,
        Failure::GoAway,
        Failure::RefusedStream,
    ] {
        for others in [true, false] {
            let verdict = judge(failure, GET, Left { others, ..LEFT });
            assert!(
                matches!(verdict, Verdict::Retry { elsewhere, .. } if elsewhere == others),
                "{failure:?}: {verdict:?}"
            );
        }
    }
}

#[test]
fn slow_is_not_dead_and_a_begun_response_is_final() {
    assert_eq!(
        judge(Failure::Timeout, GET, LEFT),
        Verdict::GiveUp {
            reason: RetryReason::TimedOut
        }
    );
    assert_eq!(
        judge(Failure::ResponseBegun, GET, LEFT),
        Verdict::GiveUp {
            reason: RetryReason::ResponseBegun
        }
    );
}

#[test]
fn each_kind_has_its_own_cap() {
    let limits = Limits::default();
    for (failure, most) in [
        (DIED[0], 3),
        (DIED[1], 5),
        (Failure::CutByDrain, 5),
        (Failure::ConnectFailed, 10),
    ] {
        let mut tried = Tried::default();
        let mut attempts = 1;
        loop {
            tried.note(failure);
            match decide(failure, &GET, tried, &limits, LEFT) {
                Verdict::Retry { .. } => attempts += 1,
                verdict => {
                    assert_eq!(
                        verdict,
                        Verdict::GiveUp {
                            reason: RetryReason::Attempts
                        }
                    );
                    break;
                }
            }
        }
        assert_eq!(attempts, most, "{failure:?}");
    }
    // Many refused connects leave the three attempts that may reach an app.
    let tried = Tried {
        unproven: 1,
        proven: 9,
        long: 0,
    };
    assert!(matches!(
        decide(DIED[0], &GET, tried, &limits, LEFT),
        Verdict::Retry { .. }
    ));
}

#[test]
fn one_attempt_is_one_however_long() {
    let limits = Limits {
        attempts: 1,
        ..Limits::default()
    };
    for failure in DIED {
        let mut tried = Tried::default();
        tried.note(failure);
        assert_eq!(
            decide(failure, &GET, tried, &limits, LEFT),
            Verdict::GiveUp {
                reason: RetryReason::Attempts
            }
        );
    }
}

#[test]
fn long_attempts_leave_the_short_ones_their_three() {
    let mut tried = Tried::default();
    let mut made = Vec::new();
    for failure in [DIED[0], DIED[1], DIED[0], DIED[1], DIED[0]] {
        tried.note(failure);
        let verdict = decide(failure, &GET, tried, &Limits::default(), LEFT);
        made.push(matches!(verdict, Verdict::Retry { .. }));
    }
    assert_eq!(made, [true, true, true, true, false]);
}

#[test]
fn the_youngest_is_sought_while_a_roll_may_be_under_way() {
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
