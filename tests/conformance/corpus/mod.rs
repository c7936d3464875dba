//! The cases, by theme.

mod bodiless;
mod chunks;
mod coding;
mod connection;
mod early;
mod fields;
mod forged;
mod host;
mod interim;
mod length;
mod lines;
mod pipelining;
mod requestline;
mod responses;
mod target;
mod trailers;
mod truncated;
mod upgrade;

use super::case::Case;

/// All of them.
pub fn all() -> Vec<Case> {
    let themes = [
        ("Content-Length", length::cases()),
        ("Transfer-Encoding", coding::cases()),
        ("Chunks", chunks::cases()),
        ("Trailers", trailers::cases()),
        ("Line ends", lines::cases()),
        ("Request line", requestline::cases()),
        ("Fields", fields::cases()),
        ("Target", target::cases()),
        ("Host", host::cases()),
        ("Connection", connection::cases()),
        ("Forged claims", forged::cases()),
        ("Upgrade", upgrade::cases()),
        ("Pipelining", pipelining::cases()),
        ("Interim responses", interim::cases()),
        ("Responses without a body", bodiless::cases()),
        ("Early ends", early::cases()),
        ("Truncated and overlong", truncated::cases()),
        ("Malformed responses", responses::cases()),
    ];
    themes
        .into_iter()
        .flat_map(|(theme, cases)| cases.into_iter().map(move |case| Case { theme, ..case }))
        .collect()
}
