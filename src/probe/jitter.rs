//! Jitter: probes of many backends, and of many proxies, must not march in step. Nor should each of a thousand wake
//! the thread alone: they start on a grid of a few milliseconds.

use std::time::Duration;

use super::ProbeCadence;
use crate::core::Time;

/// A mesh of the grid is at most this part of the interval, a tenth of the jitter…
const FINENESS: u32 = 100;
/// …and never more than this.
const COARSEST: Time = Time::from_millis(16);
/// Timers know no less.
const FINEST: Time = Time::from_millis(1);

/// The duration, give or take a tenth.
pub(super) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// Some part of an interval.
pub(super) fn sometime(interval: Duration) -> Duration {
    interval.mul_f64(fastrand::f64())
}

/// When a probe starts whose cadence has changed: at `next`. Where the whole pool's has and it is late by the new
/// one, as most of them are then, within an interval.
pub(super) fn in_turn(next: Time, cadence: &ProbeCadence, now: Time) -> Time {
    match cadence.in_turn && next < now {
        true => now + sometime(cadence.interval),
        false => next,
    }
}

/// When the next probe starts: an interval after `last`, with jitter, at the nearest point of the grid. Its meshes
/// are powers of two in milliseconds, so that the points of a coarse one are points of the finer ones, too.
pub(super) fn next_start(last: Time, interval: Duration) -> Time {
    let finest = (interval / FINENESS).clamp(FINEST, COARSEST);
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
                    early <= interval / FINENESS || early <= FINEST,
                    "{interval:?} {start:?}"
                );
            }
        }
    }

    /// A reload makes a thousand probers late.
    #[test]
    fn who_is_late_with_all_the_others_takes_turns_with_them() {
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
