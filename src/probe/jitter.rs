//! Jitter: probes of many backends, and of many proxies, must not all start at the same moment. But the thread should
//! not be woken for each of a thousand probes alone either, so start times are rounded to a grid of a few milliseconds.

use std::time::Duration;

use super::ProbeCadence;
use crate::core::Time;

/// The grid's step is at most the interval divided by this, which is a tenth of the jitter…
const STEPS_PER_INTERVAL: u32 = 100;
/// …and never longer than this.
const LONGEST_STEP: Time = Time::from_millis(16);
/// The grid's step is never shorter than this, the resolution of timers.
const SHORTEST_STEP: Time = Time::from_millis(1);

/// A random duration within a tenth of this one.
pub(super) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// A random part of an interval.
pub(super) fn sometime(interval: Duration) -> Duration {
    interval.mul_f64(fastrand::f64())
}

/// Start of a probe after its cadence has changed: `next`, or a random moment within the next interval if the whole
/// pool's cadence has changed and the probe is late by the new one. Most probes of the pool are late then, and must not
/// all start at once.
pub(super) fn in_turn(next: Time, cadence: &ProbeCadence, now: Time) -> Time {
    match cadence.in_turn && next < now {
        true => now + sometime(cadence.interval),
        false => next,
    }
}

/// Start of the next probe: an interval after `last`, with jitter, rounded to the grid. The steps of all grids are
/// powers of two in milliseconds, so that the points of a coarse grid are also points of every finer one.
pub(super) fn next_start(last: Time, interval: Duration) -> Time {
    let finest = (interval / STEPS_PER_INTERVAL).clamp(SHORTEST_STEP, LONGEST_STEP);
    let mesh = 1 << finest.as_millis().ilog2();
    let wanted = (last + jittered(interval)).as_millis() as u64;
    Time::from_millis((wanted + mesh / 2) / mesh * mesh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_meet_on_the_grid() {
        for (interval, mesh) in [(20, 1), (100, 1), (250, 2), (1000, 8), (60_000, 16)] {
            let (interval, last) = (Duration::from_millis(interval), Time::from_micros(123_456));
            for _ in 0..100 {
                let start = next_start(last, interval);
                assert_eq!(
                    start.as_micros() % (mesh * 1000),
                    0,
                    "{interval:?} {start:?}"
                );
                let early = start
                    .abs_diff(last + interval)
                    .saturating_sub(interval / 10);
                assert!(
                    early <= interval / STEPS_PER_INTERVAL || early <= SHORTEST_STEP,
                    "{interval:?} {start:?}"
                );
            }
        }
    }

    /// A reload makes a thousand probers late.
    #[test]
    fn late_probes_of_a_whole_pool_start_at_random_moments() {
        let cadence = |in_turn| ProbeCadence {
            interval: Duration::from_secs(1),
            keep: true,
            in_turn,
        };
        let (next, now) = (Time::from_secs(4), Time::from_secs(5));
        assert_eq!(in_turn(next, &cadence(false), now), next);
        assert_eq!(in_turn(now, &cadence(true), next), now, "it is not late");
        let starts = (0..1000).map(|_| in_turn(next, &cadence(true), now));
        let mut tenths = [0; 10];
        starts.for_each(|start| tenths[(start - now).as_millis() as usize / 100] += 1);
        assert!(tenths.iter().all(|tenth| *tenth > 20), "{tenths:?}");
    }

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
