//! Short forms of figures, times and names.

use std::time::{Duration, SystemTime};

/// Formats a rate in at most five characters: `0`, `0.4`, `38`, `1234`, `12.3k`, `1.2M`.
pub(super) fn rate(rate: f64) -> String {
    match rate {
        rate if rate < 0.05 => "0".to_owned(),
        // Counted values are whole numbers.
        rate if rate < 9.95 && rate.fract() == 0.0 => format!("{rate:.0}"),
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate if rate < 9_999.5 => format!("{rate:.0}"),
        rate if rate < 99_950.0 => format!("{:.1}k", rate / 1e3),
        rate if rate < 999_500.0 => format!("{:.0}k", rate / 1e3),
        rate => format!("{:.1}M", rate / 1e6),
    }
}

/// Formats a rate that may be unknown.
pub(super) fn known_rate(known: Option<f64>) -> String {
    known.map_or_else(|| "–".to_owned(), rate)
}

/// Formats a duration in at most six characters: `3s`, `2m05s`, `4h12m`, `3d04h`, `412d`.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        86_400..8_640_000 => format!("{days}d{:02}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// Formats a short duration: `0.41s`, `12.3s`, and longer ones as [`span`].
pub(super) fn fine_span(time: Duration) -> String {
    match time.as_secs_f64() {
        short if short < 9.995 => format!("{short:.2}s"),
        short if short < 59.95 => format!("{short:.1}s"),
        _ => span(time),
    }
}

/// Parses a moment in RFC 3339.
pub(super) fn moment(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

/// Time since then; `None` if it is in the future.
pub(super) fn ago(then: Option<&str>, now: SystemTime) -> Option<Duration> {
    now.duration_since(moment(then?)?).ok()
}

/// Time until then; `None` if it has passed.
pub(super) fn until(then: Option<&str>, now: SystemTime) -> Option<Duration> {
    moment(then?)?.duration_since(now).ok()
}

/// Formats a time of day as `12:34:56`, in UTC.
pub(super) fn clock(now: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(now).to_string();
    text.get(11..19).unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_times_keep_to_their_width() {
        let shown = [
            0.0, 0.04, 0.4, 3.0, 9.96, 38.2, 9_999.0, 12_345.0, 123_456.0, 1.23e6,
        ]
        .map(rate);
        let expected = [
            "0", "0", "0.4", "3", "10", "38", "9999", "12.3k", "123k", "1.2M",
        ];
        assert_eq!(shown, expected);
        let spans = [3, 125, 15_120, 273_600, 35_596_800].map(|s| span(Duration::from_secs(s)));
        assert_eq!(spans, ["3s", "2m05s", "4h12m", "3d04h", "412d"]);
        assert_eq!(fine_span(Duration::from_millis(412)), "0.41s");
        assert_eq!(fine_span(Duration::from_millis(12_340)), "12.3s");
        for seconds in [0, 59, 60, 3599, 3600, 86_399, 86_400, 8_639_999, 8_640_000] {
            assert!(span(Duration::from_secs(seconds)).len() <= 6);
        }
    }

    #[test]
    fn moments_lie_before_or_after_now() {
        let now = moment("2026-11-29T12:00:00Z").unwrap();
        let early = Some("2026-11-29T11:59:00Z");
        assert_eq!(ago(early, now), Some(Duration::from_secs(60)));
        assert_eq!(until(early, now), None);
        assert_eq!((ago(None, now), until(Some("soon"), now)), (None, None));
        assert_eq!(clock(now), "12:00:00");
    }
}
