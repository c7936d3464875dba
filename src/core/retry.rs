//! What becomes of a request whose attempt failed: tried again, given up, or held.
//!
//! The rule behind the table is RFC 9110 §9.2.2: a request that is not idempotent is repeated only where it is
//! known that the original was never applied.

pub use super::budget::{AtomicBudget, Budget, Rates};

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection: nothing was sent.
    ConnectFailed,
    /// A reused connection had been closed before the request reached it, and that is proven.
    StaleProven,
    /// The connection died before a byte of the response, and what the backend got is not known.
    DiedBeforeResponse {
        /// The connection had carried requests before. Makes no difference to the verdict: a dying listener
        /// resets fresh connections too.
        reused: bool,
    },
    /// HTTP/2 REFUSED_STREAM (RFC 9113 §8.7): not processed.
    RefusedStream,
    /// HTTP/2 GOAWAY with a last stream id below this request's (RFC 9113 §6.8): not processed.
    GoAway,
    /// No answer in time: the backend may well be working on it.
    Timeout,
    /// Part of the response has been passed on.
    ResponseBegun,
}

impl Failure {
    /// Whether the request surely was not processed.
    pub const fn is_proven(self) -> bool {
        matches!(
            self,
            Self::ConnectFailed | Self::StaleProven | Self::RefusedStream | Self::GoAway
        )
    }
}

/// What matters of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Its method is idempotent (RFC 9110 §9.2.2): GET, HEAD, OPTIONS, TRACE, PUT, DELETE.
    pub idempotent: bool,
    /// It carries `Idempotency-Key`.
    pub has_idempotency_key: bool,
    /// All that was read of its body is still at hand (true where nothing was read, or there is none).
    pub body_replayable: bool,
}

/// `[pool.retry]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attempts in total that may have reached an app. Default 3.
    pub attempts: u32,
    /// Attempts in total that surely did not. Default 10: in a rolling restart each instance may refuse once.
    pub proven_attempts: u32,
    /// Whether `Idempotency-Key` makes any method idempotent. Default false.
    pub idempotency_key: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts: 3,
            proven_attempts: 10,
            idempotency_key: false,
        }
    }
}

/// The failed attempts of one request, the last included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tried {
    /// Those that may have reached an app.
    pub unproven: u32,
    /// Those that surely did not.
    pub proven: u32,
}

impl Tried {
    /// Counts one more.
    pub fn note(&mut self, failure: Failure) {
        let count = if failure.is_proven() {
            &mut self.proven
        } else {
            &mut self.unproven
        };
        *count = count.saturating_add(1);
    }
}

/// What is left to try it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// An eligible backend that has not been tried.
    pub others: bool,
    /// A token in the retry budget.
    pub token: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again. Where nothing can be picked, hold.
    Retry {
        /// On a backend that has not been tried; else the same one will do, on a fresh connection.
        elsewhere: bool,
        /// For the access log and `lameduck_retries_total`.
        reason: &'static str,
        /// Take a token first; without one, give up.
        spend_budget: bool,
    },
    /// The failure is the answer.
    GiveUp {
        /// For the access log and `lameduck_retries_total`.
        reason: &'static str,
    },
    /// Wait for a backend ([`super::hold`]); all may be tried again after that.
    Hold,
}

/// Judges a failed attempt. `tried` counts it already.
pub fn decide(
    failure: Failure,
    request: &Request,
    tried: Tried,
    limits: &Limits,
    left: Left,
) -> Verdict {
    let reason = match failure {
        Failure::ConnectFailed => "connect_failed",
        Failure::StaleProven => "stale_connection",
        Failure::DiedBeforeResponse { .. } => "connection_died",
        Failure::RefusedStream => "refused_stream",
        Failure::GoAway => "goaway",
        Failure::Timeout => {
            return Verdict::GiveUp {
                reason: "timed_out",
            };
        }
        Failure::ResponseBegun => {
            return Verdict::GiveUp {
                reason: "response_begun",
            };
        }
    };
    let proven = failure.is_proven();
    let idempotent = request.idempotent || (limits.idempotency_key && request.has_idempotency_key);
    if !proven && !idempotent {
        return Verdict::GiveUp {
            reason: "not_idempotent",
        };
    }
    // A failed connect read nothing of the body that an earlier attempt had not.
    if failure != Failure::ConnectFailed && !request.body_replayable {
        return Verdict::GiveUp {
            reason: "body_gone",
        };
    }
    let (made, most) = if proven {
        (tried.proven, limits.proven_attempts)
    } else {
        (tried.unproven, limits.attempts)
    };
    if made >= most {
        return Verdict::GiveUp { reason: "attempts" };
    }
    if failure == Failure::ConnectFailed && !left.others {
        return Verdict::Hold;
    }
    if !proven && !left.token {
        return Verdict::GiveUp { reason: "budget" };
    }
    let same_will_do = matches!(failure, Failure::StaleProven | Failure::GoAway);
    Verdict::Retry {
        elsewhere: left.others && !same_will_do,
        reason,
        spend_budget: !proven,
    }
}

#[cfg(test)]
mod tests {
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
        Failure::DiedBeforeResponse { reused: true },
        Failure::DiedBeforeResponse { reused: false },
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
                reason: "connection_died",
                spend_budget: true,
            };
            assert_eq!(judge(failure, GET, LEFT), retry);
            assert_eq!(
                judge(failure, POST, LEFT),
                Verdict::GiveUp {
                    reason: "not_idempotent"
                }
            );
            let broke = Left {
                token: false,
                ..LEFT
            };
            assert_eq!(
                judge(failure, GET, broke),
                Verdict::GiveUp { reason: "budget" }
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
            proven: 0,
        };
        assert_eq!(
            judge(DIED[0], request, LEFT),
            Verdict::GiveUp {
                reason: "not_idempotent"
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
                    reason: "body_gone"
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
    fn a_stale_connection_may_be_replaced_on_the_same_backend() {
        for failure in [Failure::StaleProven, Failure::GoAway] {
            assert!(matches!(
                judge(failure, POST, LEFT),
                Verdict::Retry {
                    elsewhere: false,
                    ..
                }
            ));
        }
        assert!(matches!(
            judge(Failure::ConnectFailed, POST, LEFT),
            Verdict::Retry {
                elsewhere: true,
                ..
            }
        ));
    }

    #[test]
    fn slow_is_not_dead_and_a_begun_response_is_final() {
        assert_eq!(
            judge(Failure::Timeout, GET, LEFT),
            Verdict::GiveUp {
                reason: "timed_out"
            }
        );
        assert_eq!(
            judge(Failure::ResponseBegun, GET, LEFT),
            Verdict::GiveUp {
                reason: "response_begun"
            }
        );
    }

    #[test]
    fn each_kind_has_its_own_cap() {
        let limits = Limits::default();
        for (failure, most) in [(DIED[0], 3), (Failure::ConnectFailed, 10)] {
            let mut tried = Tried {
                unproven: 0,
                proven: 0,
            };
            let mut attempts = 1;
            loop {
                tried.note(failure);
                match decide(failure, &GET, tried, &limits, LEFT) {
                    Verdict::Retry { .. } => attempts += 1,
                    verdict => {
                        assert_eq!(verdict, Verdict::GiveUp { reason: "attempts" });
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
        };
        assert!(matches!(
            decide(DIED[0], &GET, tried, &limits, LEFT),
            Verdict::Retry { .. }
        ));
    }
}
