//! Jitter: probes of many backends, and of many proxies, must not march in step.

use std::time::Duration;

/// The duration, give or take a tenth.
pub(super) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_a_tenth_and_not_always_the_same() {
        let second = Duration::from_secs(1);
        let samples: Vec<_> = (0..1000).map(|_| jittered(second)).collect();
        let tenth = Duration::from_millis(100);
        assert!(samples.iter().all(|one| one.abs_diff(second) <= tenth));
        assert!(samples.iter().any(|one| *one < second));
        assert!(samples.iter().any(|one| *one > second));
    }
}
