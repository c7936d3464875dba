use proptest::prelude::*;

use super::*;
use crate::core::restart::role::{RestartRole, RestartRoles};
use crate::registry::restart_view::{
    LatencyWindow, ProxyIdentity, RestartLatency, RestartList, RestartView,
};
use crate::tools::report::document::ReportScope;
use crate::tools::report::ledger::LinePlace;
use crate::tools::report::log_file::LineEnd;

const PROCESS: &str = "19a.7";

fn instant(ms: u64) -> String {
    let at = std::time::SystemTime::UNIX_EPOCH
        + std::time::Duration::from_millis(1_700_000_000_000 + ms);
    clock::rfc3339(at)
}

/// A line of the log that fits its roles.
fn line(ended: u64, restart: Option<(u64, RestartRoles)>) -> String {
    let has = |role| restart.is_some_and(|(_, roles)| roles.has(role));
    let (mut status, mut end, mut cause) = (200, "", "");
    if has(RestartRole::Lost) {
        (status, end, cause) = (502, "upstream_died", "it died");
    }
    if has(RestartRole::Cut) {
        end = "cut";
    }
    if has(RestartRole::Closed) {
        end = "closed_orderly";
    }
    let attempts = if has(RestartRole::Retried) { 2 } else { 1 };
    let held = if has(RestartRole::Held) {
        ",\"held_ms\":3.000"
    } else {
        ""
    };
    let sticky = if has(RestartRole::Moved) {
        ",\"sticky\":\"moved\""
    } else {
        ""
    };
    let tag = restart.map_or(String::new(), |(number, roles)| {
        format!(",\"restarts\":\"{PROCESS}-{number}:{roles}\"")
    });
    format!(
        "{{\"time\":\"{}\",\"status\":{status},\"duration_ms\":4.000,\"pool\":\"app\",\"backend\":\"a\",\
         \"attempts\":{attempts}{held}{sticky},\"end\":\"{end}\",\"cause\":\"{cause}\"{tag}}}",
        instant(ended.saturating_sub(4))
    )
}

/// Restarts of ten seconds each, one after another, with some lines of each role, and the correct report.
fn world(restarts: &[Vec<u8>]) -> (RestartReport, Vec<String>) {
    let mut lines = Vec::new();
    let mut views = Vec::new();
    for (place, roles) in restarts.iter().enumerate() {
        let number = place as u64 + 1;
        let from = number * 20_000;
        let mut requests = RestartCounts::default();
        for (nth, bits) in roles.iter().enumerate() {
            let mut own = RestartRoles::default();
            let chosen = RestartRole::ALL[usize::from(*bits) % 7];
            own.add(chosen);
            if chosen == RestartRole::Cut {
                own.add(RestartRole::Lost);
            }
            requests.lines += 1;
            for role in own.each() {
                *requests.figure_mut(role.as_str()).unwrap() += 1;
            }
            lines.push(line(from + 1_000 + nth as u64, Some((number, own))));
        }
        for nth in 0..20 {
            lines.push(line(from + 5_000 + nth, None));
        }
        let all = roles.len() as u64 + 20;
        views.push(RestartView {
            id: format!("{PROCESS}-{number}"),
            pool: "app".to_owned(),
            backend: "a".to_owned(),
            roll: number.is_multiple_of(2).then(|| "roll-1".to_owned()),
            began: instant(from),
            ready: Some(instant(from + 10_000)),
            requests,
            capacity_percent: 50.0,
            latency: RestartLatency {
                during: Some(LatencyWindow {
                    from: instant(from),
                    to: instant(from + 10_000),
                    requests: all,
                    p50_ms: Some(5.0),
                    p99_ms: Some(5.0),
                }),
                ..RestartLatency::default()
            },
            ..RestartView::default()
        });
    }
    let list = RestartList {
        proxy: ProxyIdentity {
            id: PROCESS.to_owned(),
            ..ProxyIdentity::default()
        },
        predecessors: Vec::new(),
        restarts: views,
    };
    let now = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_900);
    let scope = ReportScope::Since(std::time::Duration::from_secs(900_000));
    (RestartReport::new(list, &scope, None, now), lines)
}

fn verdict(report: &RestartReport, lines: &[String]) -> ReportVerdict {
    let mut ledger = LogLedger::new(report);
    for (number, line) in lines.iter().enumerate() {
        let place = LinePlace {
            file: 0,
            line: number as u64 + 1,
        };
        ledger.add_line(place, line.as_bytes(), LineEnd::Whole);
    }
    compare(report, &ledger, &["access.log".to_owned()])
}

proptest! {
    #[test]
    fn right_report_agrees_and_each_changed_figure_is_named(
        restarts in prop::collection::vec(prop::collection::vec(0_u8..7, 0..12), 1..5),
        which in any::<prop::sample::Index>(),
        figure in 0_usize..8,
        by in 1_u64..9,
    ) {
        let (mut report, lines) = world(&restarts);
        let right = verdict(&report, &lines);
        prop_assert!(right.agrees, "{:#?}", right.differences);
        let place = which.index(report.restarts.len());
        let one = &mut report.restarts[place];
        let (name, before) = one.requests.figures()[figure];
        *one.requests.figure_mut(name).unwrap() = before + by;
        let id = one.id.clone();
        // Someone who changes a report also corrects its sums.
        report.total = document::total(&report.restarts);
        report.rolls = document::rolls(&report.restarts);
        let wrong = verdict(&report, &lines);
        prop_assert_eq!(wrong.differences.len(), 1);
        let found = &wrong.differences[0];
        prop_assert_eq!((&found.of, &*found.figure), (&id, name));
        prop_assert_eq!(found.lines.len() as u64 + found.more, before);
    }

    #[test]
    fn lost_line_of_the_log_is_a_difference(
        roles in prop::collection::vec(0_u8..7, 1..12),
        which in any::<prop::sample::Index>(),
    ) {
        let (report, mut lines) = world(std::slice::from_ref(&roles));
        lines.remove(which.index(roles.len()));
        let found = verdict(&report, &lines);
        let figures: Vec<_> = found.differences.iter().map(|one| &*one.figure).collect();
        prop_assert!(figures.contains(&"lines"), "{figures:?}");
    }
}

#[test]
fn other_percentile_or_sum_is_named() {
    let (report, lines) = world(&[vec![0, 1, 2], vec![6, 5]]);
    let mut changed = report.clone();
    changed.restarts[0].latency.during.as_mut().unwrap().p99_ms = Some(2.5);
    let figures = |report: &RestartReport| {
        let found = verdict(report, &lines);
        found
            .differences
            .iter()
            .map(|one| one.figure.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(figures(&changed), ["latency.during.p99_ms"]);
    let mut changed = report.clone();
    changed.restarts[1]
        .latency
        .during
        .as_mut()
        .unwrap()
        .requests -= 1;
    assert_eq!(figures(&changed), ["latency.during.requests"]);
    let mut changed = report.clone();
    changed.total.lost = 0;
    assert_eq!(figures(&changed), ["lost"]);
    let mut changed = report.clone();
    changed.rolls[0].restarts = 3;
    assert_eq!(figures(&changed), ["restarts"]);
    let mut changed = report.clone();
    changed.to = Some(instant(1));
    assert_eq!(figures(&changed), ["to"]);
    let mut changed = report.clone();
    changed.restarts[0].began = instant(100_000);
    changed.from = Some(instant(40_000));
    assert!(figures(&changed).contains(&"line".to_owned()));
}

#[test]
fn line_that_contradicts_itself_is_named() {
    let (report, mut lines) = world(&[vec![6]]);
    lines[0] = lines[0]
        .replace("\"status\":502", "\"status\":200")
        .replace("upstream_died", "")
        .replace("it died", "");
    let found = verdict(&report, &lines);
    assert_eq!(found.differences.len(), 1);
    assert_eq!(found.differences[0].lines, ["access.log:1"]);
    assert!(
        found.differences[0].log.contains("got an answer"),
        "{found:#?}"
    );
}

#[test]
fn gaps_strangers_and_foreign_lines_are_noted() {
    let (report, mut lines) = world(&[vec![0, 6]]);
    lines.insert(0, "nginx was here".to_owned());
    lines.push(line(21_000, None).replace(
        "\"cause\":\"\"",
        "\"cause\":\"\",\"restarts\":\"f.1-1:lost\"",
    ));
    lines.push(
        line(22_000, None)
            .replace("\"status\":200", "\"status\":503")
            .replace("\"cause\":\"\"", "\"cause\":\"none\""),
    );
    let mut ledger = LogLedger::new(&report);
    for (number, line) in lines.iter().enumerate() {
        let place = LinePlace {
            file: 0,
            line: number as u64 + 1,
        };
        ledger.add_line(place, line.as_bytes(), LineEnd::Whole);
    }
    let last = LinePlace { file: 0, line: 99 };
    ledger.add_line(last, b"{\"time\":\"2026", LineEnd::Torn);
    let found = compare(&report, &ledger, &["a.log".to_owned()]);
    let notes = found.notes.join("\n");
    for said in [
        "not lines of lameduck's access log, passed over: a.log:1",
        "a.log:99",
        "process (f.1)",
        "no restart is blamed",
        "out of order",
        "the logs begin at",
        "the logs end at",
    ] {
        assert!(notes.contains(said), "{said}: {notes}");
    }
    let shown = render_verdict(&report, &found);
    assert!(shown.contains("not in the logs: cause"), "{shown}");
}

/// A log may contain anything: impossible times, and a new process in each line.
#[test]
fn lines_of_a_hostile_log_are_passed_over_in_a_bounded_account() {
    let (report, mut lines) = world(&[vec![0]]);
    for long in ["1e18", "9.2233720350e21", "1e308", "-1"] {
        let bad =
            line(21_000, None).replace("\"duration_ms\":4.000", &format!("\"duration_ms\":{long}"));
        lines.push(bad);
        lines.push(line(21_000, None).replace("2023-11-14", "9999-12-31"));
    }
    for n in 0..1_000 {
        let name = format!("{n:x}.{}", "z".repeat(5_000));
        let tag = format!("\"cause\":\"\",\"restarts\":\"{name}-1:lost\"");
        lines.push(line(21_000, None).replace("\"cause\":\"\"", &tag));
    }
    let mut ledger = LogLedger::new(&report);
    for (number, line) in (1..).zip(&lines) {
        ledger.add_line(
            LinePlace {
                file: 0,
                line: number,
            },
            line.as_bytes(),
            LineEnd::Whole,
        );
    }
    assert_eq!(ledger.foreign.count, 4);
    let found = compare(&report, &ledger, &["a.log".to_owned()]);
    let shown = render_verdict(&report, &found);
    assert!(shown.contains("of further lameduck processes"), "{shown}");
    assert!(shown.len() < 20_000, "{} bytes", shown.len());
}

#[test]
fn restart_that_a_predecessor_has_handed_over_is_the_reports_own() {
    let (mut report, lines) = world(&[vec![0, 6]]);
    let successor = ProxyIdentity {
        id: "f.2".to_owned(),
        ..ProxyIdentity::default()
    };
    report.predecessors = vec![std::mem::replace(&mut report.proxy, successor)];
    let found = verdict(&report, &lines);
    let is_strange = |note: &String| note.contains("another lameduck process");
    assert!(
        found.agrees && !found.notes.iter().any(is_strange),
        "{found:#?}"
    );
    report.predecessors.clear();
    let found = verdict(&report, &lines);
    let figures: Vec<_> = found.differences.iter().map(|one| &*one.figure).collect();
    assert_eq!(figures, ["id"]);
}
