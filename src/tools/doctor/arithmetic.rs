//! Sums of durations that are shown with their parts.

use std::fmt;
use std::time::Duration;

use crate::config::duration::format;

/// Duration of a stop, part by part. Parts of zero are left out.
#[derive(Debug, Clone, Default)]
pub(super) struct StopTimeSum {
    parts: Vec<(Duration, &'static str)>,
}

impl StopTimeSum {
    pub(super) fn and(mut self, time: Duration, what: &'static str) -> Self {
        if !time.is_zero() {
            self.parts.push((time, what));
        }
        self
    }

    pub(super) fn total(&self) -> Duration {
        self.parts
            .iter()
            .fold(Duration::ZERO, |sum, (time, _)| sum.saturating_add(*time))
    }
}

impl fmt::Display for StopTimeSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (time, what)) in self.parts.iter().enumerate() {
            let plus = if n == 0 { "" } else { " + " };
            write!(f, "{plus}{} {what}", format(*time))?;
        }
        if self.parts.len() > 1 {
            write!(f, " = {}", format(self.total()))?;
        }
        Ok(())
    }
}
