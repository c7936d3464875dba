//! A report for a terminal.

use std::fmt::Write;

use super::document::RestartReport;
use super::shown::{figures, instants, story, took};
use crate::registry::restart_view::RestartCounts;
use crate::rt::output::{count, printable};

/// Renders a report as text.
pub fn render_text(report: &RestartReport) -> String {
    if report.restarts.is_empty() {
        return "no restart that this report is about is remembered".to_owned();
    }
    let mut out = String::new();
    for one in &report.restarts {
        let _ = writeln!(
            out,
            "{}/{}  {}  [{}]",
            printable(&one.pool),
            printable(&one.backend),
            printable(&story(one)),
            printable(&one.id)
        );
        let shown: Vec<_> = instants(one)
            .into_iter()
            .map(|(name, at)| format!("{name} {}", printable(at)))
            .collect();
        let _ = writeln!(out, "  {}", shown.join("\n  "));
        let _ = writeln!(
            out,
            "  out for {}",
            took(Some(&one.began), one.ready.as_deref())
        );
        let _ = writeln!(out, "  {}", counts(&one.requests));
        let _ = writeln!(out, "  {}\n", figures(one).join("\n  "));
    }
    for roll in &report.rolls {
        let _ = writeln!(
            out,
            "{} of {}: {}, {}\n",
            printable(&roll.id),
            printable(&roll.pool),
            count(roll.restarts, "restart"),
            counts(&roll.requests)
        );
    }
    let all = count(report.restarts.len() as u64, "restart");
    let _ = write!(out, "{all}: {}", counts(&report.total));
    out
}

fn counts(requests: &RestartCounts) -> String {
    let mut parts = vec![format!("lost {}", requests.lost)];
    let others = requests.figures().into_iter();
    let others = others.filter(|(name, n)| *n > 0 && !["lost", "lines"].contains(name));
    parts.extend(others.map(|(name, n)| format!("{name} {n}")));
    parts.join(", ")
}
