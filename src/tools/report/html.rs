//! A report as an HTML page: it loads nothing, runs nothing, and is light or dark as the reader's system.

use std::fmt::Write;

use super::document::RestartReport;
use super::shown::{instants, percentiles, processes, story, took};
use crate::rt::html::EscapedHtml;

/// Style sheet of the page.
const STYLE: &str = "\
:root{color-scheme:light dark;--line:#d0d7de;--soft:#57606a;--bad:#b3261e;--good:#1a7f37}\
@media(prefers-color-scheme:dark){:root{--line:#3d444d;--soft:#9198a1;--bad:#ff7b72;--good:#3fb950}}\
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
div{overflow-x:auto}table{border-collapse:collapse;width:100%}\
th,td{border-bottom:1px solid var(--line);padding:.35rem .6rem;text-align:right;white-space:nowrap}\
th:first-child,td:first-child,.text{text-align:left;white-space:normal}\
small,dt{color:var(--soft)}dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:.5rem 0 1.5rem}\
dd{margin:0;overflow-wrap:anywhere}.bad{color:var(--bad);font-weight:700}.good{color:var(--good)}";

/// Renders a report as an HTML page.
pub fn render_html(report: &RestartReport) -> String {
    let mut out = String::new();
    let lost = report.total.lost;
    let class = if lost > 0 { "bad" } else { "good" };
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'\">\n<title>Restart report</title>\n<style>{STYLE}</style>\n<h1>Restart \
         report</h1>\n<p>{} restarts, <span class=\"{class}\">{lost} requests lost</span></p>\n",
        report.restarts.len()
    );
    out.push_str("<div><table>\n<thead><tr><th scope=\"col\">Backend</th><th scope=\"col\" class=\"text\">What</th>");
    let columns = [
        "Out for",
        "Served",
        "Closed",
        "Held",
        "Retried",
        "Moved",
        "Cut",
        "Lost",
        "Capacity",
        "p50 / p99 before",
        "During",
        "After",
    ];
    for column in columns {
        let _ = write!(out, "<th scope=\"col\">{column}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for one in &report.restarts {
        let requests = &one.requests;
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"text\">{}</td><td>{}</td>",
            EscapedHtml(&format!("{}/{}", one.pool, one.backend)),
            EscapedHtml(&story(one)),
            took(Some(&one.began), one.ready.as_deref())
        );
        for n in [
            requests.served,
            requests.closed,
            requests.held,
            requests.retried,
            requests.moved,
        ] {
            let _ = write!(out, "<td>{n}</td>");
        }
        for n in [requests.cut, requests.lost] {
            let class = if n > 0 { " class=\"bad\"" } else { "" };
            let _ = write!(out, "<td{class}>{n}</td>");
        }
        let _ = write!(out, "<td>{} %</td>", one.capacity_percent);
        for (_, window) in one.latency.windows() {
            let _ = write!(out, "<td>{}</td>", percentiles(window));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    for one in &report.restarts {
        let _ = writeln!(
            out,
            "<h2>{}</h2>\n<dl><dt>id</dt><dd>{}</dd>",
            EscapedHtml(&format!("{}/{}", one.pool, one.backend)),
            EscapedHtml(&one.id)
        );
        if let Some(roll) = &one.roll {
            let _ = writeln!(out, "<dt>roll</dt><dd>{}</dd>", EscapedHtml(roll));
        }
        for (name, at) in instants(one) {
            let _ = writeln!(out, "<dt>{name}</dt><dd>{}</dd>", EscapedHtml(at));
        }
        out.push_str("</dl>\n");
    }
    let _ = writeln!(
        out,
        "<p><small>{}; made {}. To check it: <code>lameduck verify REPORT --log \
         ACCESS.log</code> with the report in JSON.</small></p>",
        EscapedHtml(&processes(report).join("; ")),
        EscapedHtml(&report.made)
    );
    out
}
