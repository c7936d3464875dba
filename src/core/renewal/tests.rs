use super::*;

const NOW: i64 = 1_800_000_000;

fn life(days: i64) -> CertificateLife {
    CertificateLife {
        not_before: NOW,
        not_after: NOW + days * DAY,
    }
}

#[test]
fn renewal_without_advice_leaves_a_third_of_a_long_life_and_half_of_a_short_one() {
    for (days, left) in [(90, 30), (398, 132), (30, 10), (6, 3)] {
        let life = life(days);
        for random in [0.0, 0.5, 0.999] {
            let at = plan_renewal(life, None, random);
            let remains = (life.not_after - at) / DAY;
            let most = left + days / 24 + 1;
            assert!((left..=most).contains(&remains), "{days} days: {remains}");
        }
    }
}

#[test]
fn renewal_time_is_within_the_window_and_before_the_end_of_life() {
    let life = life(90);
    let window = |start: i64, end: i64| RenewalWindow {
        start: NOW + start * DAY,
        end: NOW + end * DAY,
    };
    for random in [0.0, 0.3, 0.999] {
        let at = plan_renewal(life, Some(window(58, 60)), random);
        assert!((58 * DAY..=60 * DAY).contains(&(at - NOW)));
        // The authority wants it at once, for example because it has revoked the certificate.
        assert!(plan_renewal(life, Some(window(-3, -1)), random) < NOW);
        // Beyond the certificate's end.
        let late = plan_renewal(life, Some(window(100, 200)), random);
        assert!(late <= life.not_after - 4 * DAY);
        // The window ends before it begins.
        let none = plan_renewal(life, Some(window(60, 58)), random);
        assert_eq!(none, plan_renewal(life, None, random));
    }
}

#[test]
fn next_step_orders_what_is_missing_and_waits_for_what_is_good() {
    let good = CertificateFacts {
        life: Some(life(90)),
        renew_at: Some(NOW + 60 * DAY),
        ..CertificateFacts::default()
    };
    let order = CertificateStep::Order;
    let missing = CertificateFacts::default();
    assert_eq!(next_step(&missing, NOW), order(OrderReason::Missing));
    assert_eq!(next_step(&good, NOW), CertificateStep::Wait(NOW + 60 * DAY));
    assert_eq!(next_step(&good, NOW + 60 * DAY), order(OrderReason::Due));
    let lacks = CertificateFacts {
        lacks_names: true,
        ..good
    };
    assert_eq!(next_step(&lacks, NOW), order(OrderReason::Names));
    let begun = CertificateFacts {
        is_ordered: true,
        ..good
    };
    assert_eq!(next_step(&begun, NOW), order(OrderReason::Unfinished));
    // A plan from a file that was edited must not let the certificate expire.
    let never = CertificateFacts {
        renew_at: Some(i64::MAX),
        ..good
    };
    let CertificateStep::Wait(at) = next_step(&never, NOW) else {
        panic!("it is good");
    };
    assert!(at < life(90).not_after);
    // After a failure nothing is ordered early, whatever the reason.
    for facts in [missing, lacks, begun] {
        let failed = CertificateFacts {
            retry_at: Some(NOW + 10),
            ..facts
        };
        assert_eq!(next_step(&failed, NOW), CertificateStep::Wait(NOW + 10));
        assert!(matches!(
            next_step(&failed, NOW + 10),
            CertificateStep::Order(_)
        ));
    }
}

#[test]
fn orders_are_bounded_in_any_hour() {
    let mut orders = Vec::new();
    let mut now = NOW;
    for _ in 0..200 {
        match admit_order(&orders, 5, now) {
            Ok(()) => orders.push(now),
            Err(at) => {
                assert!(at > now && at <= now + HOUR);
                now = at;
            }
        }
        let recent = orders.iter().filter(|at| now - **at < HOUR).count();
        assert!(recent <= 5, "{recent}");
    }
    assert!(orders.len() > 100, "it goes on");
    // A clock that was years ahead.
    assert_eq!(admit_order(&[NOW + 365 * DAY; 9], 5, NOW), Ok(()));
    assert_eq!(admit_order(&[NOW; 3], 1, NOW), Err(NOW + HOUR));
}

#[test]
fn pauses_grow_up_to_a_bound_and_heed_the_authority() {
    use AuthorityFault::*;
    for fault in [Unreachable, Busy, RateLimited, Validation, Refused, Local] {
        let mut before = 0;
        for failures in 1..60 {
            let at = retry_after_failure(fault, failures, None, NOW, 0.0) - NOW;
            assert!(
                at >= before && at <= 12 * HOUR,
                "{fault:?} {failures}: {at}"
            );
            before = at;
        }
    }
    let after =
        |asked, failures| retry_after_failure(RateLimited, failures, Some(asked), NOW, 0.0) - NOW;
    assert_eq!(after(3, 1), 5);
    assert_eq!(after(7200, 1), 7200);
    assert_eq!(after(i64::MAX, 1), LONGEST_WAIT);
    assert!(retry_after_failure(RateLimited, 1, Some(100), NOW, 0.99) >= NOW + 100);
    // Failed validations in the first hour.
    let (mut at, mut tries) = (NOW, 0);
    while at < NOW + HOUR {
        tries += 1;
        at = retry_after_failure(Validation, tries, None, at, 0.0);
    }
    assert_eq!(tries, 5);
}

#[test]
fn problems_are_told_apart_by_their_type_before_their_status() {
    let of = |name: &str, status| {
        AuthorityFault::of_problem(Some(&format!("{ACME_ERROR}{name}")), status)
    };
    assert_eq!(of("rateLimited", 400), AuthorityFault::RateLimited);
    assert_eq!(of("unauthorized", 403), AuthorityFault::Validation);
    assert_eq!(of("accountDoesNotExist", 400), AuthorityFault::AccountGone);
    assert_eq!(of("rejectedIdentifier", 400), AuthorityFault::Refused);
    let none = |status| AuthorityFault::of_problem(None, status);
    assert_eq!(none(429), AuthorityFault::RateLimited);
    assert_eq!(none(503), AuthorityFault::Busy);
    assert_eq!(none(404), AuthorityFault::OrderGone);
    assert!(!AuthorityFault::Busy.ends_order());
    assert!(AuthorityFault::Validation.ends_order());
}

#[test]
fn challenge_is_the_other_one_after_each_failure() {
    let both = ChallengeListeners {
        is_plain: true,
        is_on_80: true,
        is_on_443: true,
    };
    let kinds = |listeners| [0, 1, 2].map(|failures| choose_challenge(listeners, failures));
    use ChallengeKind::*;
    assert_eq!(kinds(both), [TlsAlpn01, Http01, TlsAlpn01]);
    let only_80 = ChallengeListeners {
        is_on_443: false,
        ..both
    };
    assert_eq!(kinds(only_80), [Http01, TlsAlpn01, Http01]);
    assert_eq!(kinds(ChallengeListeners::default()), [TlsAlpn01; 3]);
}
