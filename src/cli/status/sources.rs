//! Descriptions of the discovery sources of a pool.

use std::time::{Duration, SystemTime};

use crate::registry::view::DiscoveryView;
use crate::rt::output::{count, printable};

/// A line for each source, and one for each of its problems.
pub(super) fn source_lines(sources: &[DiscoveryView], now: SystemTime) -> Vec<String> {
    sources.iter().flat_map(|one| lines_of(one, now)).collect()
}

fn lines_of(source: &DiscoveryView, now: SystemTime) -> Vec<String> {
    let heard = match source.answer_age_ms {
        Some(age) => {
            let run = match source.of_earlier_run {
                true => ", before the last restart",
                false => "",
            };
            let age = rounded(Duration::from_millis(age));
            format!("last answer {age} ago{run}")
        }
        None => "no answer yet".to_owned(),
    };
    let backends = count(source.backends as u64, "backend");
    let state = match &*source.state {
        "ok" => String::new(),
        other => format!(", {}", printable(other)),
    };
    let name = printable(&source.source);
    let mut lines = vec![format!("discovery {name}: {backends}, {heard}{state}")];
    if let Some(why) = &source.failure {
        let since = source.failing_since.as_deref();
        let since = since.and_then(|at| humantime::parse_rfc3339(at).ok());
        let since = since.and_then(|at| now.duration_since(at).ok());
        let since = since.map_or_else(String::new, |time| format!(" for {}", rounded(time)));
        lines.push(format!(
            "   - can't be asked{since}, what is known stays: {}",
            printable(why)
        ));
    }
    if let Some(doubt) = &source.doubt {
        let until = source.kept_until.as_deref();
        let until = until.and_then(|at| humantime::parse_rfc3339(at).ok());
        let until = until.and_then(|at| at.duration_since(now).ok());
        let until = match (until, &source.kept_until) {
            (Some(left), _) => format!("kept for another {}", rounded(left)),
            (None, Some(_)) => "kept until the next answer".to_owned(),
            (None, None) => "kept because of `min_healthy`".to_owned(),
        };
        lines.push(format!("   - doubted: {}: {until}", printable(doubt)));
    }
    for refusal in &source.refusals {
        lines.push(format!("   - not taken: {}", printable(refusal)));
    }
    let more = source.refused.saturating_sub(source.refusals.len());
    if more > 0 {
        lines.push(format!("   - not taken: {more} more"));
    }
    lines
}

fn rounded(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_shown_with_what_is_wrong() {
        let now = humantime::parse_rfc3339("2025-01-01T00:00:30Z").unwrap();
        let source = DiscoveryView {
            source: "dns app.internal:80".into(),
            state: "failing".into(),
            backends: 3,
            answered: Some("2025-01-01T00:00:00Z".into()),
            answer_age_ms: Some(30_000),
            of_earlier_run: false,
            failing_since: Some("2025-01-01T00:00:20Z".into()),
            failure: Some("no answer\x1b".into()),
            doubt: Some("it names no backend any more, and lacks 3 that are in use".into()),
            kept: 3,
            kept_until: Some("2025-01-01T00:00:40Z".into()),
            refused: 12,
            refusals: vec!["a: a launcher holds a backend of this name".into()],
        };
        let earlier = DiscoveryView {
            state: "waiting".into(),
            of_earlier_run: true,
            failure: None,
            doubt: None,
            refused: 0,
            refusals: Vec::new(),
            ..source.clone()
        };
        assert_eq!(
            source_lines(&[earlier], now),
            [
                "discovery dns app.internal:80: 3 backends, last answer 30s ago, before the last restart, waiting"
            ]
        );
        let lines = source_lines(&[source], now);
        assert_eq!(
            lines,
            [
                "discovery dns app.internal:80: 3 backends, last answer 30s ago, failing",
                "   - can't be asked for 10s, what is known stays: no answer\u{fffd}",
                "   - doubted: it names no backend any more, and lacks 3 that are in use: kept for another 10s",
                "   - not taken: a: a launcher holds a backend of this name",
                "   - not taken: 11 more",
            ]
        );
    }
}
