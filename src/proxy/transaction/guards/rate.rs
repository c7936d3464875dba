//! The guard that limits the request rate of one key.

use std::time::Duration;

use super::{GuardedRequest, Refusal};
use crate::core::rate::{RateRule, RateVerdict};
use crate::metrics::RouteRefusal;
use crate::rt::clock;

impl GuardedRequest<'_> {
    pub(super) fn check_rate(&self) -> Result<(), Refusal> {
        let limits = self.rule.limits.as_ref();
        let Some(limit) = limits.and_then(|limits| limits.rate.as_ref()) else {
            return Ok(());
        };
        let key = self.counted_as(limit.id, &limit.key);
        let (verdict, has_forgotten) = self.plane.guards.take(key, &limit.rule, clock::now());
        if has_forgotten {
            self.plane.counters.key_forgotten();
        }
        match verdict {
            RateVerdict::Pass => Ok(()),
            RateVerdict::Wait(wait) => {
                let seconds = whole_seconds(wait);
                let mut refusal =
                    Refusal::new(RouteRefusal::Rate, 429, "too many requests").after(seconds);
                refusal.answer.fields = Some(rate_fields(&limit.rule, seconds));
                Err(refusal)
            }
        }
    }
}

fn whole_seconds(wait: Duration) -> u32 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

/// Returns the fields of draft-ietf-httpapi-ratelimit-headers-10: the quota (`q`) of each window (`w`), the remaining
/// requests (`r`), and the seconds until there are more (`t`).
fn rate_fields(rule: &RateRule, seconds: u32) -> String {
    let (quota, window) = (rule.limit(), rule.period().as_secs());
    format!(
        "RateLimit-Policy: \"rate\";q={quota};w={window}\r\nRateLimit: \"rate\";r=0;t={seconds}\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    #[test]
    fn refused_client_is_told_the_limit_and_when_to_retry() {
        let ten = NonZeroU32::new(10).unwrap();
        let rule = RateRule::new(ten, Duration::from_secs(60), ten);
        assert_eq!(
            rate_fields(&rule, 6),
            "RateLimit-Policy: \"rate\";q=10;w=60\r\nRateLimit: \"rate\";r=0;t=6\r\n"
        );
        assert_eq!(whole_seconds(Duration::from_nanos(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(6)), 6);
        assert_eq!(whole_seconds(Duration::from_millis(6001)), 7);
    }
}
