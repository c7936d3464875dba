//! What somebody might change in a report, and whether that is found out.

use std::path::Path;

use lameduck::registry::restart_view::RestartCounts;
use lameduck::tools::report::document::{self, RestartReport};
use lameduck::tools::report::verify::ReportDifference;

use super::commands::verify;

/// The last bound of the histogram that percentiles are told in, in milliseconds: nothing here takes so long.
const LAST_BOUND: f64 = 60_000.0;

/// So many changes, each of another copy: all are found. First those of figures that lines tell: each is found with them.
/// Then half as many of any other kind.
pub fn find_changes(made: &RestartReport, log: &Path, changes: usize) {
    let mut random = fastrand::Rng::with_seed(17);
    let text = std::fs::read_to_string(log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for _ in 0..changes {
        let mut lie = made.clone();
        let (id, name, count) = change_figure(&mut lie, &mut random);
        let found = verify(&lie, log).differences;
        assert_eq!(found.len(), 1, "{id} {name}: {found:#?}");
        let named = &found[0];
        assert_eq!((&named.of, &*named.figure), (&id, name));
        // As many as the log says, and each says it.
        assert_eq!(named.log, count.to_string());
        assert_eq!(named.lines.len() as u64 + named.more, count, "{named:#?}");
        for place in &named.lines {
            let (_, number) = place.rsplit_once(':').unwrap();
            let line = lines[number.parse::<usize>().unwrap() - 1];
            let says = match name {
                "lines" => line.contains(&id),
                role => line.contains(&id) && line.contains(role),
            };
            assert!(says, "{named:#?}: {line}");
        }
    }
    for _ in 0..changes / 2 {
        let mut lie = made.clone();
        let what = change(&mut lie, &mut random);
        let found = verify(&lie, log);
        assert!(!found.agrees, "{what} was not found out");
        let is_named = |one: &ReportDifference| {
            what.starts_with(&one.of)
                && (what.ends_with(" id")
                    || what.split(' ').any(|word| one.figure.starts_with(word)))
        };
        assert!(
            found.differences.iter().any(is_named),
            "{what}: {:#?}",
            found.differences
        );
    }
}

/// Changes a figure that is not zero, and adds the report up again as whoever lies would: of which restart, which one, and
/// what it was.
fn change_figure(
    report: &mut RestartReport,
    random: &mut fastrand::Rng,
) -> (String, &'static str, u64) {
    let told = report.restarts.iter_mut();
    let mut told: Vec<_> = told.filter(|one| one.requests.lines > 0).collect();
    let place = random.usize(..told.len());
    let one = &mut told[place];
    let figures = one.requests.figures().into_iter();
    let figures: Vec<_> = figures.filter(|(_, count)| *count > 0).collect();
    let (name, count) = figures[random.usize(..figures.len())];
    let by = random.u64(1..9);
    *one.requests.figure_mut(name).unwrap() = match random.bool() {
        true => count - by.min(count),
        false => count + by,
    };
    let id = one.id.clone();
    report.total = document::total(&report.restarts);
    report.rolls = document::rolls(&report.restarts);
    (id, name, count)
}

/// Changes one thing of a report, and adds it up again as whoever lies would; says of what.
fn change(report: &mut RestartReport, random: &mut fastrand::Rng) -> String {
    let place = random.usize(..report.restarts.len());
    let rolls = report.rolls.len();
    let bump = |requests: &mut RestartCounts, random: &mut fastrand::Rng| {
        let (name, before) = requests.figures()[random.usize(..8)];
        let by = random.u64(1..9);
        *requests.figure_mut(name).unwrap() = match random.bool() && before > 0 {
            true => before - by.min(before),
            false => before + by,
        };
        name
    };
    match random.u8(..7) {
        0..3 => {
            let one = &mut report.restarts[place];
            let name = bump(&mut one.requests, random);
            let changed = format!("{} {name}", one.id);
            report.total = document::total(&report.restarts);
            report.rolls = document::rolls(&report.restarts);
            changed
        }
        6 if rolls > 0 => {
            let roll = &mut report.rolls[random.usize(..rolls)];
            let name = bump(&mut roll.requests, random);
            format!("{} {name}", roll.id)
        }
        3 | 6 => format!("total {}", bump(&mut report.total, random)),
        4 => {
            let one = &mut report.restarts[place];
            let Some(window) = one
                .latency
                .during
                .as_mut()
                .filter(|window| window.requests > 0)
            else {
                one.requests.lost += 1;
                return format!("{} lost", one.id);
            };
            match random.bool() {
                true => window.requests += 1_000_000,
                // One that is near may be right, by the requests at the edges of a short span.
                false => window.p50_ms = Some(LAST_BOUND),
            }
            format!("{} latency", one.id)
        }
        _ => {
            let one = &mut report.restarts[place];
            one.id.insert(0, 'x');
            format!("{} id", one.id)
        }
    }
}
