//! Descriptions of what is in flight on a backend.

use std::time::Duration;

use crate::registry::view::{BackendView, OldestView};
use crate::rt::output::{count, printable};

/// Number in flight, and how many of them are long-lived: streams and upgraded connections are ended near a drain's
/// deadline, which matters to a user who waits for the drain.
pub(super) fn in_flight(backend: &BackendView) -> String {
    let kinds = &backend.in_flight_by_kind;
    let lasting: Vec<_> = [(kinds.stream, "stream"), (kinds.upgrade, "upgrade")]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, kind)| count(number.into(), kind))
        .collect();
    match lasting.is_empty() {
        true => backend.in_flight.to_string(),
        false => format!("{} ({})", backend.in_flight, lasting.join(", ")),
    }
}

/// What a drain waits for: the oldest request.
pub(super) fn oldest_in_flight(oldest: &OldestView) -> String {
    let route = oldest.route.as_deref().map(printable);
    let route = route.map_or_else(String::new, |route| format!(", route {route}"));
    let age = humantime::format_duration(Duration::from_secs(oldest.age_ms / 1000));
    let (method, path) = (printable(&oldest.method), printable(&oldest.path));
    format!(
        "oldest in flight: {} {method} {path}{route}, for {age}",
        printable(&oldest.kind)
    )
}
