//! The figures of `make prove`: `target/prove/results.json`, and the same as a Markdown table. Those of other tests than
//! e2e have their name behind a dash.

use std::fmt::Write as _;

use lameduck::tools::demo::oracle::LoadAccount;
use parking_lot::Mutex;
use serde::Serialize;

use crate::place;
use crate::setting::proving;

/// One run's figures.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub test: &'static str,
    pub proxy: String,
    pub app: String,
    pub account: LoadAccount,
    /// What only this test measures.
    pub notes: Vec<String>,
}

/// Keeps a run's figures if they were asked for.
pub fn record(row: Row) {
    static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());
    if !proving() {
        return;
    }
    let mut rows = ROWS.lock();
    rows.push(row);
    let dir = place::prove();
    let name = match place::test_binary() {
        "e2e" => "results".to_owned(),
        other => format!("results-{other}"),
    };
    let text = serde_json::to_string_pretty(&*rows).unwrap();
    // Written after each run: a failure later on must not cost the figures so far.
    std::fs::write(dir.join(format!("{name}.json")), text).unwrap();
    std::fs::write(dir.join(format!("{name}.md")), table(&rows)).unwrap();
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "|test|proxy|app|sent|lost|reached a stopping instance|delivered twice|held|retried|slowest stop, ms|p50, ms|p99, ms|slowest quick, ms|notes|\n\
         |-|-|-|-|-|-|-|-|-|-|-|-|-|-|\n",
    );
    let optional = |n: Option<u64>| n.map_or("–".to_owned(), |n| n.to_string());
    for Row {
        test,
        proxy,
        app,
        account: a,
        notes,
    } in rows
    {
        let lost = match a.lost {
            0 => "0".to_owned(),
            n => format!(
                "{n} ({})",
                a.lost_by
                    .iter()
                    .map(|(how, n)| format!("{n} {how}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        let stop = a
            .slowest_stop_ms
            .map_or("–".to_owned(), |ms| format!("{ms:.1}"));
        let _ = writeln!(
            text,
            "|{test}|{proxy}|{app}|{}|{lost}|{}|{}|{}|{}|{stop}|{:.2}|{:.1}|{:.1}|{}|",
            a.sent,
            a.reached_stopping,
            a.delivered_twice,
            optional(a.held),
            optional(a.retried),
            a.p50_ms,
            a.p99_ms,
            a.slowest_ms,
            notes.join("; ")
        );
    }
    text
}
