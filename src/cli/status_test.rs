//! The table that `lameduck status` prints.

use super::*;
use crate::registry::view::{InFlight, OldestView};

fn backend(name: &str, state: &str, health: &str) -> BackendView {
    BackendView {
        id: 1,
        name: name.into(),
        address: "127.0.0.1:3001".into(),
        weight: 1,
        backup: false,
        zone: None,
        incarnation: 1,
        state: state.into(),
        since: String::new(),
        health: health.into(),
        source: "config".into(),
        last_probe: Some("connection refused".into()),
        drains: Vec::new(),
        ejected: None,
        ended_ejection: None,
        in_flight: 3,
        in_flight_by_kind: InFlight {
            request: 3,
            ..InFlight::default()
        },
        h2_streams: 0,
        oldest: None,
        sessions: None,
        connections: 4,
        requests: 1200,
        warning: None,
    }
}

fn world() -> (Vec<PoolView>, SystemTime) {
    let now = humantime::parse_rfc3339("2025-01-01T00:00:00Z").unwrap();
    let mut draining = backend("app-2", "draining", "up");
    draining.drains.push(DrainView {
        actor: "operator".into(),
        id: "operator".into(),
        reason: "deploy\x1b[2J".into(),
        since: "2024-12-31T23:59:48Z".into(),
        deadline: Some("2025-01-01T00:00:17.200Z".into()),
        until: "restarted".into(),
        restarted_when: Some("new-process".into()),
        expires: Some("2025-01-01T00:01:30Z".into()),
        warning: None,
    });
    draining.oldest = Some(OldestView {
        kind: "request".into(),
        method: "POST".into(),
        route: Some("orders".into()),
        path: "/v1/orders/*/pay".into(),
        since: "2024-12-31T23:59:19Z".into(),
        age_ms: 41_900,
    });
    draining.in_flight_by_kind = InFlight {
        request: 0,
        stream: 1,
        upgrade: 2,
    };
    let pool = PoolView {
        name: "app".into(),
        balance: "least_requests".into(),
        eligible: 1,
        held: 0,
        backends: vec![
            backend("app-1", "ready", "up"),
            draining,
            backend("app-3", "down", "down"),
        ],
        pause: None,
        discovery: Vec::new(),
        splits: Vec::new(),
        unsaved: None,
        supervisor: None,
    };
    (vec![pool], now)
}

#[test]
fn the_picture() {
    let (pools, now) = world();
    let text = render(&pools, None, now, false);
    let expected = "\
app (least_requests): 1 of 3 backends eligible, 0 requests held
  NAME   STATE     HEALTH  IN-FLIGHT                 CONNS  REQS  WEIGHT  ADDRESS
  app-1  ready     up      3                         4      1200  1       127.0.0.1:3001
  app-2  draining  up      3 (1 stream, 2 upgrades)  4      1200  1       127.0.0.1:3001
    - drain by operator: deploy\u{fffd}[2J (cuts in 18s, until restarted, expires in 1m 30s)
    - oldest in flight: request POST /v1/orders/*/pay, route orders, for 41s
  app-3  down      down    3                         4      1200  1       127.0.0.1:3001
    - last probe: connection refused";
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn colour_changes_nothing_but_colour() {
    let (pools, now) = world();
    let plain = render(&pools, Some("lame duck"), now, false);
    assert!(plain.starts_with("Proxy not ready: lame duck\n\napp ("));
    assert!(!plain.contains('\x1b'));
    let coloured = render(&pools, Some("lame duck"), now, true);
    assert!(coloured.contains('\x1b'));
    let mut stripped = String::new();
    let mut inside = false;
    for c in coloured.chars() {
        match c {
            '\x1b' => inside = true,
            'm' if inside => inside = false,
            c if !inside => stripped.push(c),
            _ => {}
        }
    }
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeeze(&stripped), squeeze(&plain));
}

#[test]
fn passed_times_are_not_counted_down() {
    let (_, now) = world();
    assert!(left(Some("2024-12-31T23:59:59Z"), now).is_none());
    assert!(left(Some("soon"), now).is_none());
    assert_eq!(
        left(Some("2025-01-01T00:00:00.001Z"), now)
            .unwrap()
            .to_string(),
        "1s"
    );
}

#[test]
fn status_without_pools_says_so() {
    let (_, now) = world();
    assert_eq!(render(&[], None, now, false), "no pools");
}

#[test]
fn a_note_says_how_a_drain_ends_and_cuts_nothing_where_nothing_is_left() {
    let (mut pools, now) = world();
    let mut drain = pools[0].backends.remove(1).drains.remove(0);
    drain.reason = "deploy 42".into();
    drain.expires = None;
    let text = |drain: &DrainView, state: &str| note(drain, state, now);
    assert_eq!(
        text(&drain, "drained"),
        "drain by operator: deploy 42 (until restarted)"
    );
    drain.restarted_when = Some("probe".into());
    assert_eq!(
        text(&drain, "drained"),
        "drain by operator: deploy 42 (until restarted, seen by probe)"
    );
    drain.warning = Some("no restart\x1b is seen".into());
    assert_eq!(
        text(&drain, "drained"),
        "drain by operator: deploy 42 (until restarted, seen by probe)\n      warning: no restart\u{fffd} is seen"
    );
    (drain.restarted_when, drain.warning) = (None, None);
    drain.until = "resumed".into();
    assert_eq!(
        text(&drain, "draining"),
        "drain by operator: deploy 42 (cuts in 18s, until resumed)"
    );
    assert_eq!(
        text(&drain, "drained"),
        "drain by operator: deploy 42 (until resumed)"
    );
    drain.actor = "app".into();
    assert_eq!(text(&drain, "drained"), "drain by app: deploy 42");
}

#[test]
fn ejected_backend_is_shown_with_its_reason_and_what_is_left() {
    let (mut pools, now) = world();
    pools[0].backends[0].ejected = Some(crate::registry::view::EjectionView {
        reason: "5 errors in a row (the last: status 500)".into(),
        cause: "consecutive_errors".into(),
        since: "2024-12-31T23:59:54Z".into(),
        until: "2025-01-01T00:00:23.100Z".into(),
        times: 2,
    });
    let text = render(&pools, None, now, false);
    let mut lines = text.lines().skip_while(|line| !line.contains("app-1"));
    let row: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(row[..3], ["app-1", "ejected", "up"]);
    assert_eq!(
        lines.next(),
        Some(
            "    - ejected, for the second time: 5 errors in a row (the last: status 500), back in 24s"
        )
    );
}
