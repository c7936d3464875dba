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
mod why;

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
    let mut all: Vec<Case> = themes
        .into_iter()
        .flat_map(|(theme, cases)| cases.into_iter().map(move |case| Case { theme, ..case }))
        .collect();
    for (why, names) in why::all() {
        for name in *names {
            let case = all.iter_mut().find(|case| case.name == *name);
            let case = case.unwrap_or_else(|| panic!("no case is called {name:?}"));
            assert!(case.differs.is_empty(), "explained twice: {name}");
            case.differs = why;
        }
    }
    all
}
