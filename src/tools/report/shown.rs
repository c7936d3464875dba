//! Texts that all forms of a report share.

use super::document::RestartReport;
use crate::registry::restart_view::{LatencyWindow, ProxyIdentity, RestartView};

/// Duration between two times.
pub(super) fn took(from: Option<&str>, to: Option<&str>) -> String {
    let read = |text: Option<&str>| humantime::parse_rfc3339(text?).ok();
    match (read(from), read(to)) {
        (Some(from), Some(to)) => match to.duration_since(from) {
            Ok(took) if took.as_secs() < 10 => format!("{:.1} s", took.as_secs_f64()),
            Ok(took) => format!("{} s", took.as_secs()),
            Err(_) => "?".to_owned(),
        },
        _ => "–".to_owned(),
    }
}

/// Median and 99th percentile of a period's requests.
pub(super) fn percentiles(window: Option<&LatencyWindow>) -> String {
    let Some(window) = window.filter(|window| window.requests > 0) else {
        return "–".to_owned();
    };
    let shown = |bound: Option<f64>| bound.map_or("> 60 s".to_owned(), |ms| format!("≤ {ms} ms"));
    format!("{} / {}", shown(window.p50_ms), shown(window.p99_ms))
}

/// This process, and those before it that began some of the restarts.
pub(super) fn processes(report: &RestartReport) -> Vec<String> {
    let shown = |one: &ProxyIdentity| {
        format!(
            "lameduck {}, started {}, configuration {}",
            one.version, one.started, one.config_digest
        )
    };
    report.processes().map(shown).collect()
}

/// Durations of the pool's requests around a restart, and the pool's remaining capacity.
pub(super) fn figures(one: &RestartView) -> [String; 2] {
    let shown = one.latency.windows();
    let shown = shown.map(|(name, window)| format!("{name} {}", percentiles(window)));
    [
        format!("p50 / p99: {}", shown.join(", ")),
        format!(
            "capacity left at the worst moment: {} %",
            one.capacity_percent
        ),
    ]
}

/// Observed times of a restart, with their names.
pub(super) fn instants(one: &RestartView) -> Vec<(&'static str, &str)> {
    let all = [
        ("told", &one.told),
        ("drained", &one.drained),
        ("stopped", &one.stopped),
        ("started", &one.started),
        ("ready", &one.ready),
        ("deadline", &one.deadline),
    ];
    let began = std::iter::once(("began", &*one.began));
    let seen = all.into_iter();
    began
        .chain(seen.filter_map(|(name, at)| Some((name, at.as_deref()?))))
        .collect()
}

/// The cause of a restart, its author, and its outcome.
pub(super) fn story(one: &RestartView) -> String {
    let mut text = one.cause.clone();
    if !one.reason.is_empty() {
        text = format!("{text} ({})", one.reason);
    }
    if let Some(drain) = &one.drain {
        text = format!("{text}, drain {drain}");
    }
    format!("{text}, {}", one.outcome)
}
