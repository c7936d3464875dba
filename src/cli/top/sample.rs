//! Sample answers of proxies, and pictures made from them, for tests.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::answers::ProxyAnswers;
use super::counts::{AnswerTotals, ProxyCounts};
use super::model::{ProxyLook, TopModel};
use super::picture::TopPicture;
use super::words::moment;
use crate::registry::view::PoolView;

/// Time of day of all samples.
pub(super) fn wall() -> SystemTime {
    moment("2026-11-29T12:00:00Z").unwrap()
}

/// A pool with these backends, by name and state.
pub(super) fn pool(name: &str, backends: &[(&str, &str)]) -> PoolView {
    let backends: Vec<_> = backends
        .iter()
        .enumerate()
        .map(|(n, (name, state))| {
            json!({
                "id": n, "name": name, "address": format!("127.0.0.1:{}", 3000 + n), "weight": 1, "incarnation": 1,
                "state": state, "health": "up", "source": "config", "last_probe": "200 in 1.2ms", "drains": [],
                "in_flight": n, "in_flight_by_kind": {"request": n, "stream": 0, "upgrade": 0},
                "connections": n + 1, "requests": 100,
            })
        })
        .collect();
    let eligible = backends
        .iter()
        .filter(|backend| backend["state"] == "ready");
    let pool = json!({
        "name": name, "balance": "least_request", "eligible": eligible.count(), "held": 0, "backends": backends,
    });
    serde_json::from_value(pool).unwrap()
}

/// A proxy with this number of answers, all by the first backend of the pool `api`.
pub(super) fn answers(backends: &[(&str, &str)], answered: u32) -> ProxyAnswers {
    let mut counts = ProxyCounts::default();
    if let Some((name, _)) = backends.first() {
        let of = AnswerTotals {
            answers: answered.into(),
            errors: 0.0,
        };
        counts.backends.insert(("api".into(), (*name).into()), of);
    }
    ProxyAnswers {
        pools: vec![pool("api", backends)],
        counts: Some(counts),
        ..ProxyAnswers::default()
    }
}

/// Picture of a proxy that has given these answers for some seconds, a hundred requests in each.
pub(super) fn picture(answers: impl Fn(u32) -> ProxyAnswers) -> TopPicture {
    let mut model = TopModel::new(["/run/lameduck/lameduck.sock".to_owned()]);
    for second in 0..30u32 {
        let time = Duration::from_secs(second.into());
        model.take_look(ProxyLook {
            proxy: 0,
            at: time,
            wall: wall() + time,
            answers: Ok(answers(second)),
        });
        model.tick();
    }
    let now = Duration::from_secs(30);
    TopPicture::of(&model, now, wall() + now)
}

/// Picture with a backend in every state, a split, a certificate and restarts.
pub(super) fn every_state() -> TopPicture {
    picture(every_state_at)
}

/// Answers of that picture's proxy.
pub(super) fn every_state_at(second: u32) -> ProxyAnswers {
    let states = [
        ("api-0", "ready"),
        ("api-1", "ready"),
        ("api-2", "starting"),
        ("api-3", if second < 18 { "ready" } else { "draining" }),
        ("api-4", if second < 25 { "ready" } else { "drained" }),
        ("api-5", "down"),
    ];
    // The values differ from second to second, so that there is something to see.
    let answered = 100 * second + 30 * (second % 5);
    let mut answers = answers(&states, answered);
    let own = AnswerTotals {
        answers: f64::from(2 * second),
        errors: f64::from(second),
    };
    let counts = answers.counts.as_mut().unwrap();
    counts.own.insert("api".into(), own);
    let api = &mut answers.pools[0];
    let drain = |since: &str, deadline: Option<&str>, reason: &str| {
        let drain = json!({
            "actor": "operator", "id": "operator", "reason": reason, "since": since, "deadline": deadline,
            "until": "resumed", "expires": null,
        });
        serde_json::from_value(drain).unwrap()
    };
    api.backends[1].ejected = serde_json::from_value(json!({
        "reason": "5 errors in a row", "cause": "consecutive_errors", "since": "2026-11-29T12:00:00Z",
        "until": "2026-11-29T12:00:50Z", "times": 1,
    }))
    .unwrap();
    api.backends[2].last_probe = Some("503 in 0.8ms".into());
    let deadline = Some("2026-11-29T12:00:48Z");
    api.backends[3].drains = vec![drain("2026-11-29T12:00:18Z", deadline, "deploy 42")];
    api.backends[3].in_flight_by_kind =
        serde_json::from_value(json!({"request": 2, "stream": 1, "upgrade": 0})).unwrap();
    api.backends[4].drains = vec![drain("2026-11-29T11:00:00Z", None, "")];
    api.backends[5].last_probe = Some("connection refused".into());
    api.splits = serde_json::from_value(json!([
        {"route": "shop", "weight": 75, "of": 100, "configured": 100, "plan": {
            "to": 50.0, "step": 3, "steps": 6, "ends": "2026-11-29T12:05:30Z"}},
    ]))
    .unwrap();
    let mut next = pool("api-next", &[("next-0", "ready")]);
    next.splits = serde_json::from_value(
        json!([{"route": "shop", "weight": 25, "of": 100, "configured": 0}]),
    )
    .unwrap();
    answers.pools.push(next);
    answers.pools[0].backends[3].oldest = serde_json::from_value(json!({
        "kind": "request", "method": "GET", "path": "/report", "since": "2026-11-29T12:00:16Z", "age_ms": 14_000,
    }))
    .unwrap();
    let restart = |backend: &str,
                   outcome: &str,
                   marks: [Option<&str>; 4],
                   requests: serde_json::Value| {
        let [drained, stopped, started, ready] =
            marks.map(|mark| mark.map(|second| format!("2026-11-29T11:58:{second}Z")));
        json!({
            "id": "x-1", "pool": "api", "backend": backend, "reason": "deploy 41", "outcome": outcome,
            "began": "2026-11-29T11:58:00.000Z", "drained": drained, "stopped": stopped, "started": started, "ready": ready,
            "requests": requests,
        })
    };
    let marks = [
        Some("02.500"),
        Some("02.600"),
        Some("06.000"),
        Some("08.000"),
    ];
    answers.restarts = json!({"restarts": [
        restart("api-0", "restarted", marks, json!({"held": 0, "retried": 3, "cut": 0, "lost": 0})),
        restart("api-1", "restarted", [None, Some("05.000"), Some("06.000"), Some("07.000")], json!({"cut": 2, "lost": 2})),
        restart("api-4", "resumed", [Some("01.000"), None, None, None], json!({})),
    ]});
    answers.listeners = json!([{"address": "0.0.0.0:443", "certificates": [
        {"names": ["example.org"], "file": "/etc/a.pem", "issuer": "R12", "expires": "2026-12-08T12:00:00Z", "days_left": 9},
        {"names": ["example.net", "www.example.net"], "file": "/etc/b.pem", "issuer": "R12",
         "expires": "2027-02-08T12:00:00Z", "days_left": 71},
    ]}]);
    answers
}
