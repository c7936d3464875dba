//! Compares the figures of a report with access logs.

use std::fmt::Write;

use serde::Serialize;

use super::document::{self, RestartReport};
use super::ledger::{LinePlaces, LogLedger};
use crate::registry::restart_view::{RestartCounts, RestartView};
use crate::rt::clock;
use crate::rt::output::{count, printable};

/// Most lines that are named for each difference.
const MAX_NAMED_LINES: usize = 20;

/// Result of a comparison.
#[derive(Debug, Clone, Default, Serialize, PartialEq)]
pub struct ReportVerdict {
    /// Whether all figures agree.
    pub agrees: bool,
    /// Differences.
    pub differences: Vec<ReportDifference>,
    /// Further remarks.
    pub notes: Vec<String>,
    /// Number of figures that were recomputed.
    pub figures: u64,
    /// Number of lines that lameduck wrote.
    pub lines: u64,
    /// Figures of the report that no log can tell.
    pub not_in_logs: Vec<String>,
}

/// A figure that differs in the log, or a line that contradicts itself.
#[derive(Debug, Clone, Default, Serialize, PartialEq)]
pub struct ReportDifference {
    /// Id of the restart or roll, or `total`; empty: it is about a line.
    pub of: String,
    /// Name of the figure.
    pub figure: String,
    /// Value in the report.
    pub report: String,
    /// Value in the log.
    pub log: String,
    /// Lines of the log, as `FILE:LINE`.
    pub lines: Vec<String>,
    /// Number of further lines.
    pub more: u64,
}

/// Compares a report with sums from logs.
pub fn compare(report: &RestartReport, ledger: &LogLedger, files: &[String]) -> ReportVerdict {
    let mut verdict = ReportVerdict {
        lines: ledger.lines,
        not_in_logs: report.not_in_logs.clone(),
        ..ReportVerdict::default()
    };
    let named = |places: &LinePlaces| name_lines(places, files);
    for (place, one) in report.restarts.iter().enumerate() {
        let Some(lines) = ledger.restarts.get(&one.id) else {
            continue;
        };
        let seen = lines.counts.figures().into_iter();
        for ((name, told), (_, seen)) in one.requests.figures().into_iter().zip(seen) {
            verdict.figures += 1;
            if told != seen {
                let places = lines.places.get(name).map(named);
                let (lines, more) = places.unwrap_or_default();
                verdict.differences.push(ReportDifference {
                    of: one.id.clone(),
                    figure: name.to_owned(),
                    report: told.to_string(),
                    log: seen.to_string(),
                    lines,
                    more,
                });
            }
        }
        compare_latency(&mut verdict, place, one, ledger);
        compare_instants(&mut verdict, one);
    }
    compare_sums(&mut verdict, report);
    for doubt in &ledger.doubts {
        let mut places = LinePlaces::default();
        places.first.push(doubt.place);
        places.count = 1;
        let (lines, more) = named(&places);
        verdict.differences.push(ReportDifference {
            figure: "line".to_owned(),
            log: doubt.why.clone(),
            lines,
            more,
            ..ReportDifference::default()
        });
    }
    note_gaps(&mut verdict, report, ledger, files);
    verdict.agrees = verdict.differences.is_empty();
    verdict
}

fn differ(
    verdict: &mut ReportVerdict,
    of: &str,
    figure: &str,
    told: impl ToString,
    seen: impl ToString,
) {
    verdict.figures += 1;
    let (told, seen) = (told.to_string(), seen.to_string());
    if told != seen {
        verdict.differences.push(ReportDifference {
            of: of.to_owned(),
            figure: figure.to_owned(),
            report: told,
            log: seen,
            ..ReportDifference::default()
        });
    }
}

fn compare_latency(
    verdict: &mut ReportVerdict,
    place: usize,
    one: &RestartView,
    ledger: &LogLedger,
) {
    for (name, window) in one.latency.windows() {
        let Some(window) = window else {
            continue;
        };
        let Some(lines) = ledger.windows.get(&(place, name)) else {
            differ(
                verdict,
                &one.id,
                &format!("latency.{name}"),
                &window.from,
                "no instant",
            );
            continue;
        };
        verdict.figures += 3;
        let (least, most) = lines.requests();
        let mut wrong = |figure: &str, told: String, seen: String| {
            verdict.differences.push(ReportDifference {
                of: one.id.clone(),
                figure: format!("latency.{name}.{figure}"),
                report: told,
                log: seen,
                ..ReportDifference::default()
            });
        };
        if !(least..=most).contains(&window.requests) {
            let seen = match least == most {
                true => least.to_string(),
                false => format!("{least} to {most}"),
            };
            wrong("requests", window.requests.to_string(), seen);
            continue;
        }
        for (figure, percent, told) in
            [("p50_ms", 50, window.p50_ms), ("p99_ms", 99, window.p99_ms)]
        {
            if !lines.may_be(percent, told, window.requests) {
                let told = told.map_or("none".to_owned(), |ms| ms.to_string());
                wrong(figure, told, "another".to_owned());
            }
        }
    }
}

/// Compares times of a restart: they are not in the logs, but their order is fixed.
fn compare_instants(verdict: &mut ReportVerdict, one: &RestartView) {
    let read = |text: &str| humantime::parse_rfc3339(text).ok();
    let all = [
        &one.told,
        &one.drained,
        &one.stopped,
        &one.started,
        &one.ready,
    ];
    let Some(began) = read(&one.began) else {
        return differ(verdict, &one.id, "began", &one.began, "no instant");
    };
    for text in all.into_iter().flatten() {
        match read(text) {
            None => differ(verdict, &one.id, "instants", text, "no instant"),
            // A successor may have been there before.
            Some(at)
                if at < began
                    && Some(text) != one.started.as_ref()
                    && Some(text) != one.ready.as_ref() =>
            {
                differ(
                    verdict,
                    &one.id,
                    "instants",
                    text,
                    format!("nothing before {}", one.began),
                );
            }
            Some(_) => {}
        }
    }
}

/// Compares the sums that the report itself contains.
fn compare_sums(verdict: &mut ReportVerdict, report: &RestartReport) {
    let pairs = |told: &RestartCounts, seen: &RestartCounts| {
        let seen = seen.figures().into_iter().map(|(_, n)| n);
        told.figures()
            .into_iter()
            .zip(seen)
            .map(|((name, told), seen)| (name, told, seen))
            .collect::<Vec<_>>()
    };
    for (name, told, seen) in pairs(&report.total, &document::total(&report.restarts)) {
        differ(verdict, "total", name, told, seen);
    }
    let rolls = document::rolls(&report.restarts);
    differ(verdict, "report", "rolls", report.rolls.len(), rolls.len());
    for (told, seen) in report.rolls.iter().zip(&rolls) {
        differ(verdict, &told.id, "id", &told.id, &seen.id);
        differ(verdict, &told.id, "pool", &told.pool, &seen.pool);
        differ(verdict, &told.id, "restarts", told.restarts, seen.restarts);
        differ(verdict, &told.id, "began", &told.began, &seen.began);
        differ(
            verdict,
            &told.id,
            "ended",
            format!("{:?}", told.ended),
            format!("{:?}", seen.ended),
        );
        differ(
            verdict,
            &told.id,
            "capacity_percent",
            told.capacity_percent,
            seen.capacity_percent,
        );
        for (name, told_figure, seen) in pairs(&told.requests, &seen.requests) {
            differ(verdict, &told.id, name, told_figure, seen);
        }
    }
    let (from, to) = document::span(&report.restarts, &report.made);
    differ(
        verdict,
        "report",
        "from",
        format!("{:?}", report.from),
        format!("{from:?}"),
    );
    differ(
        verdict,
        "report",
        "to",
        format!("{:?}", report.to),
        format!("{to:?}"),
    );
    let is_own = |one: &&RestartView| report.processes().any(|process| process.has_seen(one));
    for one in report.restarts.iter().filter(|one| !is_own(one)) {
        differ(
            verdict,
            &one.id,
            "id",
            &one.id,
            format!("an id that begins with {}-", report.proxy.id),
        );
    }
    let mut ids: Vec<_> = report.restarts.iter().map(|one| &one.id).collect();
    ids.sort_unstable();
    ids.dedup();
    differ(
        verdict,
        "report",
        "restarts",
        report.restarts.len(),
        ids.len(),
    );
}

fn note_gaps(
    verdict: &mut ReportVerdict,
    report: &RestartReport,
    ledger: &LogLedger,
    files: &[String],
) {
    let mut note = |text: String| verdict.notes.push(text);
    let mut say = |places: &LinePlaces, what: &str| {
        if places.count > 0 {
            let (lines, more) = name_lines(places, files);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            note(format!("{what}: {}{more}", lines.join(", ")));
        }
    };
    say(
        &ledger.foreign,
        "not lines of lameduck's access log, passed over",
    );
    say(
        &ledger.torn,
        "the file ends in the middle of a line, which was passed over",
    );
    say(
        &ledger.disordered,
        "out of order by more than 2 s: was the clock set, or are logs of several proxies mixed?",
    );
    say(
        &ledger.unblamed,
        "lost during a restart of their pool, and no restart is blamed",
    );
    for (process, places) in &ledger.strangers {
        say(
            places,
            &format!(
                "about restarts of another lameduck process ({}), passed over",
                printable(process)
            ),
        );
    }
    say(
        &ledger.more_strangers,
        "about restarts of further lameduck processes, passed over",
    );
    let read = |text: &Option<String>| humantime::parse_rfc3339(text.as_deref()?).ok();
    if let Some((first, last)) = ledger.ended {
        if let Some(from) = read(&report.from).filter(|from| first > *from) {
            note(format!(
                "the logs begin at {}, after the report's beginning at {}: earlier lines may be missing",
                clock::rfc3339(first),
                clock::rfc3339(from)
            ));
        }
        if let Some(to) = read(&report.to).filter(|to| last < *to) {
            note(format!(
                "the logs end at {}, before the report's end at {}: later lines may be missing",
                clock::rfc3339(last),
                clock::rfc3339(to)
            ));
        }
    }
}

fn name_lines(places: &LinePlaces, files: &[String]) -> (Vec<String>, u64) {
    let name = |place: &super::ledger::LinePlace| {
        let file = files.get(place.file).map_or("?", String::as_str);
        format!("{file}:{}", place.line)
    };
    let lines: Vec<String> = places
        .first
        .iter()
        .take(MAX_NAMED_LINES)
        .map(name)
        .collect();
    let more = places.count - lines.len() as u64;
    (lines, more)
}

/// Renders the result as text.
pub fn render_verdict(report: &RestartReport, verdict: &ReportVerdict) -> String {
    let mut out = String::new();
    for one in &verdict.differences {
        let lines: Vec<_> = one.lines.iter().map(|line| printable(line)).collect();
        let more = if one.more > 0 {
            format!(" and {} more", one.more)
        } else {
            String::new()
        };
        if one.of.is_empty() {
            let _ = writeln!(out, "DIFFERS {}: {}", lines.join(", "), printable(&one.log));
            continue;
        }
        let whose = report.restarts.iter().find(|restart| restart.id == one.of);
        let whose = whose.map_or(String::new(), |one| {
            format!(" ({}/{})", one.pool, one.backend)
        });
        let _ = writeln!(
            out,
            "DIFFERS {}{}: {}: the report says {}, the log says {}",
            printable(&one.of),
            printable(&whose),
            printable(&one.figure),
            printable(&one.report),
            printable(&one.log)
        );
        if !lines.is_empty() {
            let _ = writeln!(out, "        {}{more}", lines.join(", "));
        }
    }
    for note in &verdict.notes {
        let _ = writeln!(out, "note: {}", printable(note));
    }
    let restarts = count(report.restarts.len() as u64, "restart");
    let lines = count(verdict.lines, "line");
    let _ = match verdict.differences.len() {
        0 => writeln!(
            out,
            "agrees: {restarts}, {}, {lines}",
            count(verdict.figures, "figure")
        ),
        n => writeln!(
            out,
            "{} in {restarts}, {}, {lines}",
            count(n as u64, "difference"),
            count(verdict.figures, "figure")
        ),
    };
    let _ = write!(
        out,
        "not in the logs: {}",
        printable(&verdict.not_in_logs.join(", "))
    );
    out
}

#[cfg(test)]
mod tests;
