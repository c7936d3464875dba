//! Descriptions of a plan: one line, a line for each step, and a table at its end.

use comfy_table::{Cell, ContentArrangement, Table, presets};

use crate::registry::plan_view::{PlanPoolView, PlanState, PlanStepView, PlanView};
use crate::rt::output::{count, printable};

/// Describes a plan in one line.
pub(super) fn describe_plan(view: &PlanView) -> String {
    let way = format!(
        "{} from {} % to {} %",
        printable(&view.pool),
        view.from,
        view.to
    );
    let step = format!("step {} of {}", view.step, view.steps);
    let why = view.reason.as_deref().map(printable);
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    match view.state {
        PlanState::Running => {
            let ends = view.ends.as_deref().map(printable).unwrap_or_default();
            format!("{way}, {step}, ends {ends}; {}", conditions(view))
        }
        PlanState::Reached => format!("{way}: reached"),
        PlanState::WentBack => format!("{way}: went back in {step} to {}{why}", before(view)),
        PlanState::Stopped => format!("{way}: stopped in {step}{why}"),
        PlanState::Dropped => format!("{way}: ended in {step}{why}"),
    }
}

/// Weights before the plan.
pub(super) fn before(view: &PlanView) -> String {
    let before = view.before.iter();
    let before: Vec<String> = before
        .map(|(pool, weight)| format!("{}={weight}", printable(pool)))
        .collect();
    before.join(" ")
}

/// Conditions under which the plan goes back.
pub(super) fn conditions(view: &PlanView) -> String {
    match view.abort_on.is_empty() {
        true => "goes back if it is unavailable".to_owned(),
        false => {
            let conditions: Vec<String> = view.abort_on.iter().map(|one| printable(one)).collect();
            format!("goes back on {}", conditions.join(", "))
        }
    }
}

/// Line for the start of a step.
pub(super) fn step_begins(view: &PlanView, record: &PlanStepView) -> String {
    format!(
        "step {} of {}: {} has {} %",
        record.step,
        view.steps,
        printable(&view.pool),
        record.share
    )
}

/// Line for the end of a step.
pub(super) fn step_ends(record: &PlanStepView) -> String {
    let pools: Vec<String> = record.pools.iter().map(seen).collect();
    let note = record.note.as_deref().map(printable);
    let note = note.map_or_else(String::new, |note| format!(" ({note})"));
    format!("  in step {}: {}{note}", record.step, pools.join("; "))
}

fn seen(pool: &PlanPoolView) -> String {
    let mut text = format!(
        "{} {}",
        printable(&pool.pool),
        count(pool.requests, "request")
    );
    if pool.requests > 0 {
        text.push_str(&format!(", {} with 5xx", pool.status_5xx));
    }
    if pool.failed > 0 {
        text.push_str(&format!(", {} failed", count(pool.failed, "attempt")));
    }
    if let (Some(p50), Some(p99)) = (pool.p50_ms, pool.p99_ms) {
        text.push_str(&format!(", p50 {p50} ms, p99 {p99} ms"));
    }
    text
}

/// Table of all steps and pools.
pub(super) fn table(view: &PlanView) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .force_no_tty()
        .set_header([
            "STEP", "SHARE", "TIME", "POOL", "REQUESTS", "4XX", "5XX", "FAILED", "P50", "P99",
        ]);
    for record in &view.records {
        for (index, pool) in record.pools.iter().enumerate() {
            let once = |text: String| match index {
                0 => text,
                _ => String::new(),
            };
            let latency = |latency: Option<f64>| match latency {
                Some(latency) => format!("{latency} ms"),
                None => "-".to_owned(),
            };
            table.add_row([
                Cell::new(once(record.step.to_string())),
                Cell::new(once(format!("{} %", record.share))),
                Cell::new(once(format!("{:.1} s", record.took_ms as f64 / 1000.0))),
                Cell::new(printable(&pool.pool)),
                Cell::new(pool.requests),
                Cell::new(pool.status_4xx),
                Cell::new(pool.status_5xx),
                Cell::new(pool.failed),
                Cell::new(latency(pool.p50_ms)),
                Cell::new(latency(pool.p99_ms)),
            ]);
        }
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| format!(" {}", line.trim_end()))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(state: PlanState, reason: Option<&str>) -> PlanView {
        let pool = |name: &str, requests, status_5xx| PlanPoolView {
            pool: name.to_owned(),
            requests,
            status_4xx: 0,
            status_5xx,
            failed: 0,
            p50_ms: (requests > 0).then_some(1.5),
            p99_ms: (requests > 0).then_some(20.0),
        };
        PlanView {
            route: "shop".into(),
            pool: "next".into(),
            state,
            from: 5.0,
            to: 100.0,
            step: 1,
            steps: 10,
            began: "2026-01-01T00:00:00Z".into(),
            ends: Some("2026-01-01T00:10:00Z".into()),
            ended: None,
            reason: reason.map(str::to_owned),
            abort_on: vec!["5xx>1%".into()],
            min_requests: 20,
            before: [("app".to_owned(), 95), ("next".to_owned(), 5)].into(),
            records: vec![PlanStepView {
                step: 1,
                share: 14.5,
                began: "2026-01-01T00:00:00Z".into(),
                took_ms: 2500,
                pools: vec![pool("app", 100, 0), pool("next", 0, 0)],
                note: None,
            }],
            warning: None,
        }
    }

    #[test]
    fn plan_is_described_by_its_way_and_its_end() {
        let running = describe_plan(&view(PlanState::Running, None));
        assert_eq!(
            running,
            "next from 5 % to 100 %, step 1 of 10, ends 2026-01-01T00:10:00Z; goes back on 5xx>1%"
        );
        let back = describe_plan(&view(PlanState::WentBack, Some("5xx>1%: 3 of 40")));
        assert_eq!(
            back,
            "next from 5 % to 100 %: went back in step 1 of 10 to app=95 next=5: 5xx>1%: 3 of 40"
        );
    }

    #[test]
    fn table_has_a_row_for_each_pool_of_each_step() {
        let table = table(&view(PlanState::Reached, None));
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        assert!(
            lines[1].contains("14.5 %") && lines[1].contains("20 ms"),
            "{table}"
        );
        assert!(
            lines[2].contains("next") && lines[2].ends_with('-'),
            "{table}"
        );
    }
}
