//! A report for a pull request: a short table, with the rest folded.

use std::fmt::Write;

use super::document::RestartReport;
use super::shown::{figures, instants, processes, story, took};
use crate::rt::output::is_showable;

/// Renders a report as Markdown of GitHub and GitLab.
pub fn render_markdown(report: &RestartReport) -> String {
    let mut out = String::new();
    let verdict = match (report.restarts.len(), report.total.lost) {
        (0, _) => "no restart is remembered".to_owned(),
        (n, 0) => format!("{n} restarted, no request lost"),
        (n, lost) => format!("{n} restarted, **{lost} lost**"),
    };
    let _ = writeln!(out, "### lameduck: {verdict}\n");
    if report.restarts.is_empty() {
        return out;
    }
    out.push_str("| backend | cause | out for | served | held | retried | moved | cut | lost | p99 before / during |\n");
    out.push_str("|---|---|--:|--:|--:|--:|--:|--:|--:|---|\n");
    for one in &report.restarts {
        let p99 = |window: Option<&crate::registry::restart_view::LatencyWindow>| {
            let p99 = window
                .filter(|window| window.requests > 0)
                .and_then(|window| window.p99_ms);
            p99.map_or("–".to_owned(), |ms| format!("≤ {ms} ms"))
        };
        let requests = &one.requests;
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} / {} |",
            plain(&format!("{}/{}", one.pool, one.backend)),
            plain(&one.cause),
            took(Some(&one.began), one.ready.as_deref()),
            requests.served + requests.closed,
            requests.held,
            requests.retried,
            requests.moved,
            requests.cut,
            requests.lost,
            p99(one.latency.before.as_ref()),
            p99(one.latency.during.as_ref())
        );
    }
    out.push_str("\n<details><summary>Details</summary>\n\n");
    for one in &report.restarts {
        let _ = writeln!(
            out,
            "**{}** {}\n",
            plain(&format!("{}/{}", one.pool, one.backend)),
            plain(&story(one))
        );
        for (name, at) in instants(one) {
            let _ = writeln!(out, "- {name}: {}", plain(at));
        }
        for line in figures(one) {
            let _ = writeln!(out, "- {line}");
        }
        let _ = writeln!(out, "- id: {}\n", plain(&one.id));
    }
    for roll in &report.rolls {
        let _ = writeln!(
            out,
            "{} of {}: {} restarted, {} lost\n",
            plain(&roll.id),
            plain(&roll.pool),
            roll.restarts,
            roll.requests.lost
        );
    }
    let _ = writeln!(
        out,
        "{}. To check: `lameduck verify REPORT --log ACCESS.log`\n\n</details>",
        plain(&processes(report).join("; "))
    );
    out
}

/// Escapes text: no markup, no link, no mention, and no end of the table's cell.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.push_str("&#64;"),
            '#' => out.push_str("&#35;"),
            '|' | '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '!' | '~' | '$' => {
                let _ = write!(out, "&#{};", u32::from(character));
            }
            // A bare address would become a link, too.
            ':' => out.push_str("&#58;"),
            character if !is_showable(character) => out.push('\u{fffd}'),
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::restart_view::{RestartList, RestartView};
    use crate::tools::report::document::ReportScope;
    use crate::tools::report::html::render_html;
    use crate::tools::report::text::render_text;

    #[test]
    fn hostile_names_stay_text_in_every_form() {
        let hostile =
            "</td><script>alert(1)</script>|![x](http://evil) @all \x1b[2J\u{202e}\n# big";
        let restart = RestartView {
            id: hostile.to_owned(),
            pool: hostile.to_owned(),
            backend: "\"><img src=x onerror=y>".to_owned(),
            reason: hostile.to_owned(),
            began: "2026-01-01T00:00:00.000Z".to_owned(),
            ..RestartView::default()
        };
        let list = RestartList {
            restarts: vec![restart],
            ..RestartList::default()
        };
        let now = std::time::SystemTime::UNIX_EPOCH;
        let report = RestartReport::new(list, &ReportScope::Last, None, now);
        let markdown = render_markdown(&report);
        for bad in [
            "<script", "<img", "](", "@all", "http:", "\x1b", "\u{202e}", "\n# ",
        ] {
            assert!(!markdown.contains(bad), "{bad:?} in {markdown}");
        }
        let rows = markdown.lines().filter(|line| line.starts_with("| "));
        assert!(rows.clone().count() == 2, "{markdown}");
        assert!(
            rows.map(|row| row.matches('|').count()).all(|n| n == 11),
            "{markdown}"
        );
        let html = render_html(&report);
        for bad in ["<script", "<img", "onerror=y>", "\x1b", "\u{202e}"] {
            assert!(!html.contains(bad), "{bad:?} in {html}");
        }
        assert!(html.contains("&lt;script&gt;"), "{html}");
        assert!(!render_text(&report).contains(['\x1b', '\u{202e}']));
    }
}
