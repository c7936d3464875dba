//! Decides when no more requests are to be expected: how long a proxy that is about to stop still accepts
//! (`lame_duck = "auto"`).
//!
//! A pod is not notified when the last router has removed it from its list; the only sign is that no new requests
//! come. How long a silence must be to count as that sign depends on the traffic. If 100 requests come in a second, a
//! second without any is no accident; if one comes in a minute, it means nothing. So the required silence is derived
//! from the traffic so far, and is bounded: by [`FLOOR`] from below, by the longest lame duck from above.
//!
//! The rule. After `n` arrivals in a time `w`, the next `q` seconds bring none by accident with the probability
//! `(w / (w + q))^n` (random arrivals, whose rate is known from these `n` alone). There are about `1 + most * n / w`
//! silences before the end, and none of them may be that long, so for each the probability may be `RISK` divided by
//! that number. Solved for `q`, this is the required silence. `n` is corrected for arrivals that come in clusters (a
//! page and its pictures), and the silence is never shorter than [`LONGEST_TIMES`] the longest pause that was seen
//! before. If the routers stop one after the other, the rate falls. The last [`RECENT`] arrivals since the lame duck
//! began show it; then the same formula is applied to them, and the required silence grows with the square of the
//! fall, because the last router sends less than the last few together. If nothing is known, the required silence is
//! the whole time.
//!
//! The limits of any rule: at a rate `r`, a silence as long as `q` follows each arrival by accident with the
//! probability `exp(-r * q)`. If at most one lame duck in a million may end too early, the silence must be about
//! `20 / r`, which is less than a second from some 25 arrivals a second on. And of several routers, the last may send
//! so little that its pauses are longer than the time that is left.

use std::collections::VecDeque;

use super::Time;

/// Shortest required silence: longer than a slow moment of a client or a node.
pub const FLOOR: Time = Time::from_millis(750);
/// Accepted probability, for each end of traffic, that a silence is taken for it by accident, if arrivals are as
/// random as the rule assumes.
pub const RISK: f64 = 1e-6;
/// Factor for the longest pause seen before, because a pause may come again and be longer.
pub const LONGEST_TIMES: f64 = 1.5;
/// Number of arrivals since the lame duck began that are judged by themselves.
pub const RECENT: usize = 32;
/// The factor by which the rate has to have fallen since the lame duck began to show that routers stop one after the
/// other. The last router sends even less, so the required silence grows by the same factor.
const FALLEN: f64 = 1.2;
/// Fewest arrivals from which anything is concluded.
const FEWEST: usize = 8;
/// Number of seconds before the lame duck that are remembered.
pub const REMEMBERED: usize = 300;
/// Fewest seconds from which a rate is derived.
const SHORTEST: usize = 10;

/// Traffic before the lame duck, from the arrivals in each second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct TrafficBefore {
    /// Independent arrivals per second: those of a cluster count as one.
    rate: f64,
    /// Independent arrivals in the whole time.
    arrivals: f64,
    /// Longest pause, in seconds.
    pause: f64,
}

/// A lame duck in progress.
#[derive(Debug)]
struct LameTime {
    since: Time,
    /// Time of the last arrival; at first, the beginning.
    last: Time,
    /// Arrivals since then, one for each check that saw any, from the oldest on.
    recent: VecDeque<Time>,
    /// Longest pause between two of them.
    pause: Time,
    arrivals: u64,
    before: Option<TrafficBefore>,
}

/// Whether more requests are to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuietVerdict {
    /// No more: the silence was long enough, or the time is over.
    Quiet,
    /// Yes, unless there is silence until this time.
    Until(Time),
}

/// Decides when no more new requests come. It reads no clock: times are arguments.
#[derive(Debug, Default)]
pub struct QuietWatch {
    /// Arrivals in each of the last seconds, while there is no lame duck.
    seconds: VecDeque<u32>,
    lame: Option<LameTime>,
}

impl QuietWatch {
    /// Creates a watch without any data.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes one more second before the lame duck, with this number of arrivals.
    pub fn note_second(&mut self, arrivals: u32) {
        if self.seconds.len() == REMEMBERED {
            self.seconds.pop_front();
        }
        self.seconds.push_back(arrivals);
    }

    /// Notes that the lame duck begins, unless it has begun already.
    pub fn begin(&mut self, now: Time) {
        if self.lame.is_some() {
            return;
        }
        self.lame = Some(LameTime {
            since: now,
            last: now,
            recent: VecDeque::with_capacity(RECENT),
            pause: Time::ZERO,
            arrivals: 0,
            before: traffic_of(&self.seconds),
        });
    }

    /// Notes that the lame duck was lifted. Arrivals during it are forgotten: they came from clients that had not
    /// noticed it yet.
    pub fn end(&mut self) {
        self.lame = None;
    }

    /// Whether there is a lame duck.
    pub fn is_lame(&self) -> bool {
        self.lame.is_some()
    }

    /// Notes arrivals since the last check, and the time of the last of them.
    pub fn note_arrivals(&mut self, arrivals: u64, last: Time) {
        let Some(lame) = &mut self.lame else {
            return;
        };
        if arrivals == 0 {
            return;
        }
        let last = last.max(lame.last);
        if lame.arrivals > 0 {
            lame.pause = lame.pause.max(last.saturating_sub(lame.last));
        }
        lame.arrivals += arrivals;
        lame.last = last;
        if lame.recent.len() == RECENT {
            lame.recent.pop_front();
        }
        lame.recent.push_back(last);
    }

    /// Returns how many requests have come since the lame duck began.
    pub fn arrivals(&self) -> u64 {
        self.lame.as_ref().map_or(0, |lame| lame.arrivals)
    }

    /// Returns the required silence now; `most`: the longest lame duck.
    pub fn silence(&self, most: Time) -> Time {
        let Some(lame) = &self.lame else {
            return most;
        };
        let longest = most.as_secs_f64();
        let by_before = lame.before.map(|before| {
            let span = before.arrivals / before.rate.max(f64::MIN_POSITIVE);
            improbable(before.arrivals, span, longest).max(before.pause * LONGEST_TIMES)
        });
        let by_recent = lame.recent.front().filter(|_| lame.recent.len() >= FEWEST);
        let by_recent = by_recent.map(|first| {
            let span = lame
                .last
                .saturating_sub((*first).min(lame.last))
                .as_secs_f64();
            let arrivals = (lame.recent.len() - 1) as f64;
            let Some(before) = lame.before else {
                return improbable(arrivals, span, longest);
            };
            let fallen = before.rate * span / arrivals;
            if fallen <= FALLEN {
                // The rate is what it was, and the time before shows it better than these few arrivals.
                return by_before.unwrap_or_default();
            }
            let own = match lame.recent.len() {
                RECENT => improbable(arrivals, span, longest),
                _ => 0.0,
            };
            own.max(by_before.unwrap_or_default()) * fallen
        });
        let known = match (by_before, by_recent) {
            (Some(before), Some(recent)) => before.max(recent),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => longest,
        };
        let known = known.max(lame.pause.as_secs_f64() * LONGEST_TIMES);
        // NaN if there were no arrivals: then the whole time is required, too.
        let known = match known.is_finite() {
            true => Time::from_secs_f64(known.clamp(0.0, longest)),
            false => most,
        };
        known.max(FLOOR).min(most)
    }

    /// Decides whether more requests are to be expected; `most`: the longest lame duck. Without a lame duck, they
    /// are.
    pub fn judge(&self, now: Time, most: Time) -> QuietVerdict {
        let Some(lame) = &self.lame else {
            return QuietVerdict::Until(now + most);
        };
        let quiet = lame.last + self.silence(most);
        let until = quiet.min(lame.since + most);
        match until <= now {
            true => QuietVerdict::Quiet,
            false => QuietVerdict::Until(until),
        }
    }
}

/// Returns the length of silence that is improbable enough after `arrivals` in `span` seconds; `most`: the longest
/// possible time.
fn improbable(arrivals: f64, span: f64, most: f64) -> f64 {
    if arrivals < 1.0 || span <= 0.0 {
        return match arrivals < 1.0 {
            true => f64::INFINITY,
            false => 0.0,
        };
    }
    let silences = 1.0 + most * arrivals / span;
    span * ((silences / RISK).ln() / arrivals).exp_m1()
}

/// Returns the traffic in the seconds before; `None`: there are too few of them.
fn traffic_of(seconds: &VecDeque<u32>) -> Option<TrafficBefore> {
    if seconds.len() < SHORTEST {
        return None;
    }
    let span = seconds.len() as f64;
    let all: f64 = seconds.iter().map(|one| f64::from(*one)).sum();
    let mean = all / span;
    let square = |one: &u32| (f64::from(*one) - mean).powi(2);
    let variance = seconds.iter().map(square).sum::<f64>() / span;
    // The index of dispersion: 1 for independent arrivals, the size of the clusters if they come in clusters.
    let cluster = (variance / mean.max(f64::MIN_POSITIVE)).max(1.0);
    let (mut pause, mut empty) = (0_u32, 0_u32);
    for one in seconds {
        empty = if *one == 0 { empty + 1 } else { 0 };
        pause = pause.max(empty);
    }
    Some(TrafficBefore {
        rate: mean / cluster,
        arrivals: all / cluster,
        // An empty second lies between two arrivals that are more than a second apart.
        pause: if pause == 0 {
            0.0
        } else {
            f64::from(pause) + 1.0
        },
    })
}

/// Prefixes of the `User-Agent` of well-known balancers' and schedulers' health checks, which are no clients'
/// requests.
const PROBERS: [&[u8]; 6] = [
    b"kube-probe/",
    b"GoogleHC/",
    b"ELB-HealthChecker/",
    b"Consul Health Check",
    b"Envoy/HC",
    b"Prometheus/",
];

/// Whether this `User-Agent` is a health check's.
pub fn is_prober(agent: &[u8]) -> bool {
    PROBERS.iter().any(|prober| agent.starts_with(prober))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Time = Time::from_secs(30);

    fn watch(per_second: impl Fn(usize) -> u32) -> QuietWatch {
        let mut watch = QuietWatch::new();
        (0..REMEMBERED).for_each(|second| watch.note_second(per_second(second)));
        watch.begin(Time::from_secs(1000));
        watch
    }

    #[test]
    fn silence_is_short_where_much_comes_and_the_whole_time_where_little_does() {
        assert_eq!(watch(|_| 100).silence(MOST), FLOOR);
        let some = watch(|_| 5).silence(MOST);
        assert!(
            some > Time::from_secs(3) && some < Time::from_secs(5),
            "{some:?}"
        );
        assert_eq!(
            watch(|second| u32::from(second % 60 == 0)).silence(MOST),
            MOST
        );
        assert_eq!(watch(|_| 0).silence(MOST), MOST);
    }

    #[test]
    fn silence_is_the_whole_time_where_nothing_is_known() {
        let mut watch = QuietWatch::new();
        assert_eq!(watch.judge(MOST, MOST), QuietVerdict::Until(MOST * 2));
        watch.begin(Time::ZERO);
        assert_eq!(watch.silence(MOST), MOST);
        assert_eq!(watch.judge(MOST, MOST), QuietVerdict::Quiet);
    }

    #[test]
    fn clusters_count_as_one() {
        // Twenty at once each second count as one arrival a second.
        let even = watch(|_| 20).silence(MOST);
        let clusters = watch(|second| if second % 4 == 0 { 80 } else { 0 }).silence(MOST);
        assert!(clusters > even * 10, "{clusters:?} {even:?}");
    }

    #[test]
    fn pauses_seen_before_are_waited_for() {
        // 50 a second for ten seconds, then none for five.
        let pauses = watch(|second| if second % 15 < 10 { 50 } else { 0 }).silence(MOST);
        assert!(pauses >= Time::from_secs(9), "{pauses:?}");
    }

    #[test]
    fn arrivals_postpone_quiet_and_a_falling_rate_requires_more_silence() {
        let mut watch = watch(|_| 100);
        let at = |ms: u64| Time::from_secs(1000) + Time::from_millis(ms);
        assert_eq!(watch.judge(at(700), MOST), QuietVerdict::Until(at(750)));
        watch.note_arrivals(3, at(700));
        assert_eq!(watch.judge(at(750), MOST), QuietVerdict::Until(at(1450)));
        assert_eq!(watch.judge(at(1450), MOST), QuietVerdict::Quiet);
        // Every half second from now on: most likely the last router.
        (2..40).for_each(|n| watch.note_arrivals(1, at(700 + n * 500)));
        assert!(
            watch.silence(MOST) > Time::from_secs(8),
            "{:?}",
            watch.silence(MOST)
        );
        assert_eq!(watch.arrivals(), 3 + 38);
        watch.end();
        assert!(!watch.is_lame());
    }

    #[test]
    fn silence_never_exceeds_the_longest_lame_duck() {
        let mut watch = watch(|_| 1);
        let begun = Time::from_secs(1000);
        (0..100).for_each(|n| watch.note_arrivals(1, begun + Time::from_millis(n * 300)));
        assert_eq!(watch.judge(begun + MOST, MOST), QuietVerdict::Quiet);
    }

    #[test]
    fn probers_are_known_by_their_names() {
        assert!(is_prober(b"kube-probe/1.31") && is_prober(b"ELB-HealthChecker/2.0"));
        assert!(!is_prober(b"curl/8.5.0") && !is_prober(b""));
    }
}
