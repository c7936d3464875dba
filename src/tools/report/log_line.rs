//! Parses a line of lameduck's access log, in either format, as far as restarts need it.

use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::core::restart::role::{RestartRole, RestartRoles, SeenEnd, is_loss};

/// Content of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Start of the request.
    pub began: SystemTime,
    /// Resolution of that time.
    pub resolution: Duration,
    /// Duration of the request.
    pub took: Duration,
    /// Name of the pool.
    pub pool: String,
    /// Name of the backend that answered, or that was tried last.
    pub backend: String,
    /// Status that was sent; 0: none.
    pub status: u16,
    /// How it ended; empty: well.
    pub end: String,
    /// Whether lameduck answered itself.
    pub is_ours: bool,
    /// Number of attempts.
    pub attempts: u32,
    /// Whether it had to wait.
    pub held: bool,
    /// Whether its session has changed its backend.
    pub moved: bool,
    /// Restarts, and the request's roles in them.
    pub restarts: Vec<(String, RestartRoles)>,
}

/// Reason why a line can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFault {
    /// It has a form that lameduck does not write.
    Foreign,
    /// Its field `restarts` is malformed.
    BadRestarts,
}

/// Fields of a line in the format `json` that matter here.
#[derive(Deserialize)]
struct JsonLine {
    time: String,
    duration_ms: f64,
    #[serde(default)]
    pool: String,
    #[serde(default)]
    backend: String,
    status: u16,
    #[serde(default)]
    end: String,
    #[serde(default)]
    cause: String,
    #[serde(default)]
    attempts: u32,
    #[serde(default)]
    held_ms: f64,
    #[serde(default)]
    sticky: String,
    #[serde(default)]
    restarts: String,
}

impl LogLine {
    /// Parses a line. A syslog header before it is skipped.
    ///
    /// # Errors
    /// lameduck did not write this line.
    pub fn read(text: &[u8]) -> Result<Self, LineFault> {
        match memchr::memmem::find(text, b"{\"time\":\"") {
            Some(start) => Self::read_json(&text[start..]),
            None => Self::read_combined(text),
        }
    }

    fn read_json(text: &[u8]) -> Result<Self, LineFault> {
        let line: JsonLine = serde_json::from_slice(text).map_err(|_| LineFault::Foreign)?;
        Ok(Self {
            began: humantime::parse_rfc3339(&line.time).map_err(|_| LineFault::Foreign)?,
            resolution: Duration::from_millis(1),
            took: millis(line.duration_ms)?,
            pool: line.pool,
            backend: line.backend,
            status: line.status,
            end: line.end,
            is_ours: !line.cause.is_empty(),
            attempts: line.attempts,
            held: line.held_ms > 0.0,
            moved: line.sticky == "moved",
            restarts: read_restarts(&line.restarts)?,
        })
    }

    /// No value contains a quote, so quotes alone divide the line.
    fn read_combined(text: &[u8]) -> Result<Self, LineFault> {
        let foreign = LineFault::Foreign;
        let text = std::str::from_utf8(text).map_err(|_| foreign)?;
        let parts: Vec<&str> = text.split('"').collect();
        let [head, _request, middle, _referer, _, _agent, ..] = parts[..] else {
            return Err(foreign);
        };
        let date = head
            .rsplit_once('[')
            .and_then(|(_, rest)| rest.split_once(']'));
        let (date, _) = date.ok_or(foreign)?;
        let status = middle.split_ascii_whitespace().next().ok_or(foreign)?;
        let mut line = Self {
            began: read_date(date).ok_or(foreign)?,
            resolution: Duration::from_secs(1),
            took: Duration::ZERO,
            pool: String::new(),
            backend: String::new(),
            status: status.parse().map_err(|_| foreign)?,
            end: String::new(),
            is_ours: false,
            attempts: 0,
            held: false,
            moved: false,
            restarts: Vec::new(),
        };
        let mut has_duration = false;
        let own = |value: &str| {
            if value == "-" {
                String::new()
            } else {
                value.to_owned()
            }
        };
        // After the user agent, words and quoted values alternate.
        for (place, part) in parts.iter().enumerate().skip(6) {
            if place % 2 == 1 {
                let name = parts[place - 1].rsplit(' ').next().unwrap_or_default();
                if name == "cause=" {
                    line.is_ours = *part != "-";
                }
                continue;
            }
            for word in part.split_ascii_whitespace() {
                let Some((name, value)) = word.split_once('=') else {
                    continue;
                };
                match name {
                    "pool" => line.pool = own(value),
                    "backend" => line.backend = own(value),
                    "attempts" => line.attempts = value.parse().map_err(|_| foreign)?,
                    "duration_ms" => {
                        has_duration = true;
                        line.took = millis(value.parse().map_err(|_| foreign)?)?;
                    }
                    "held_ms" => {
                        line.held = value.parse::<f64>().map_err(|_| foreign)? > 0.0;
                    }
                    "end" => line.end = own(value),
                    "sticky" => line.moved = value == "moved",
                    "restarts" => line.restarts = read_restarts(value)?,
                    _ => {}
                }
            }
        }
        has_duration.then_some(line).ok_or(foreign)
    }

    /// End of the request.
    pub fn ended(&self) -> SystemTime {
        // The duration is limited, so the sum is a valid date: see `MAX_DURATION`.
        self.began + self.took
    }

    /// Whether the request was lost, by the line's other fields.
    pub fn is_lost(&self) -> bool {
        is_loss(SeenEnd {
            status: self.status,
            end: &self.end,
            is_ours: self.is_ours,
        })
    }

    /// Contradiction between a role in the line and its other fields; `None`: there is none.
    pub fn doubt(&self, role: RestartRole) -> Option<&'static str> {
        let (holds, why) = match role {
            RestartRole::Served => (
                self.status > 0 && !self.is_ours && self.end.is_empty(),
                "no app has answered it well",
            ),
            RestartRole::Closed => (
                self.end == "closed_orderly",
                "it was not closed in good order",
            ),
            RestartRole::Retried => (self.attempts >= 2, "it was tried once at most"),
            RestartRole::Held => (self.held, "it did not wait"),
            RestartRole::Moved => (self.moved, "its session did not move"),
            RestartRole::Cut => (self.end == "cut", "nothing cut it"),
            RestartRole::Lost => (self.is_lost(), "its client has got an answer"),
        };
        (!holds).then_some(why)
    }
}

/// Longest duration of a request. lameduck writes no longer one, and times derived from it could be beyond the clock's
/// range.
const MAX_DURATION: Duration = Duration::from_secs(100 * 366 * 86_400);

fn millis(value: f64) -> Result<Duration, LineFault> {
    let time = Duration::try_from_secs_f64(value / 1000.0);
    time.ok()
        .filter(|time| *time <= MAX_DURATION)
        .ok_or(LineFault::Foreign)
}

/// Parses `ID:served+held,ID:lost`; empty: no restarts.
fn read_restarts(text: &str) -> Result<Vec<(String, RestartRoles)>, LineFault> {
    if text.is_empty() || text == "-" {
        return Ok(Vec::new());
    }
    let part = |part: &str| {
        let (id, roles) = part.split_once(':')?;
        Some((id.to_owned(), RestartRoles::read(roles)?))
    };
    let parts: Option<Vec<_>> = text.split(',').map(part).collect();
    parts.ok_or(LineFault::BadRestarts)
}

/// Parses `29/Jul/2026:12:34:56 +0000`.
fn read_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (date, zone) = text.split_once(' ')?;
    if zone != "+0000" {
        return None;
    }
    let (day, rest) = date.split_once('/')?;
    let (month, rest) = rest.split_once('/')?;
    let (year, time) = rest.split_once(':')?;
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_the_same_in_both_forms() {
        let json = br#"<134>1 host: {"time":"2026-07-29T12:34:56.000Z","client":"::1","method":"GET","host":"a","target":"/","version":"HTTP/1.1","status":502,"bytes_in":0,"bytes_out":3,"duration_ms":12.345,"upstream_ms":1.000,"pool":"api","backend":"api-1","attempts":2,"held_ms":3.000,"sticky":"moved","end":"upstream_died","cause":"it died","restarts":"a.1-3:retried+held,a.1-4:lost"}"#;
        let combined = br#"::1 - - [29/Jul/2026:12:34:56 +0000] "GET / HTTP/1.1" 502 3 "-" "pool=evil end=-" host="a" pool=api backend=api-1 attempts=2 duration_ms=12.345 upstream_ms=1.000 held_ms=3.000 bytes_in=0 retry_reason=connect_failed end=upstream_died cause="it died" request_id="x" sticky=moved restarts=a.1-3:retried+held,a.1-4:lost"#;
        let one = LogLine::read(json).unwrap();
        let other = LogLine::read(combined).unwrap();
        assert_eq!(
            (one.pool.as_str(), one.attempts, one.is_lost()),
            ("api", 2, true)
        );
        assert_eq!(one.restarts.len(), 2);
        assert_eq!(
            one,
            LogLine {
                resolution: one.resolution,
                ..other
            }
        );
    }

    #[test]
    fn foreign_and_damaged_lines_are_distinguished() {
        assert_eq!(LogLine::read(b""), Err(LineFault::Foreign));
        assert_eq!(LogLine::read(b"2026 INFO started"), Err(LineFault::Foreign));
        let nginx = br#"::1 - - [29/Jul/2026:12:34:56 +0000] "GET / HTTP/1.1" 200 3 "-" "curl""#;
        assert_eq!(LogLine::read(nginx), Err(LineFault::Foreign));
        let bad = br#"{"time":"2026-07-29T12:34:56.000Z","duration_ms":1.0,"status":200,"restarts":"x:stolen"}"#;
        assert_eq!(LogLine::read(bad), Err(LineFault::BadRestarts));
    }
}
