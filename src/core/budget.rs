//! The retry budget: a token bucket that requests fill by a share of themselves, and time by a floor.
//!
//! In thousandths of a token and milliseconds, so that it is exact without floating point: `per_second` tokens a
//! second are `per_second` thousandths a millisecond.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Time;

const TOKEN: u64 = 1000;

/// How fast it fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryRates {
    /// Thousandths of a token for each request of the pool. Default 200: 20 %.
    pub per_request: u64,
    /// Tokens a second, whatever the traffic. Default 10.
    pub per_second: u64,
    /// Tokens at most, so that a quiet hour doesn't pay for a storm. Default 1000: an instance that dies may take
    /// that many requests with it at once.
    pub burst: u64,
}

impl Default for RetryRates {
    fn default() -> Self {
        Self {
            per_request: 200,
            per_second: 10,
            burst: 1000,
        }
    }
}

impl RetryRates {
    /// The default rates with another share of requests (0.2 is 20 %; what is no number, or less than 0, is 0;
    /// more than 1 is 1).
    pub fn with_ratio(ratio: f64) -> Self {
        // The clamp makes the cast exact enough; NaN casts to 0.
        let per_request = (ratio.clamp(0.0, 1.0) * TOKEN as f64).round() as u64;
        Self {
            per_request,
            ..Self::default()
        }
    }

    fn cap(&self) -> u64 {
        self.burst.saturating_mul(TOKEN)
    }

    /// A full bucket would allow a burst before the first request; ten seconds of the floor are a start.
    fn start(&self) -> u64 {
        self.per_second.saturating_mul(10 * TOKEN).min(self.cap())
    }

    /// What the whole milliseconds since `last` (in milliseconds) are worth.
    fn floor(&self, last: u64, now: u64) -> u64 {
        now.saturating_sub(last).saturating_mul(self.per_second)
    }
}

fn millis(time: Time) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The budget of a pool, for as many threads as there are, without a lock. Each operation is atomic; none waits.
#[derive(Debug)]
pub struct RetryBudget {
    rates: RetryRates,
    /// `rates.per_request` as it is now.
    per_request: AtomicU64,
    thousandths: AtomicU64,
    filled: AtomicU64,
}

impl RetryBudget {
    /// A budget with ten seconds of its floor in it.
    pub fn new(rates: RetryRates, now: Time) -> Self {
        Self {
            rates,
            per_request: AtomicU64::new(rates.per_request),
            thousandths: AtomicU64::new(rates.start()),
            filled: AtomicU64::new(millis(now)),
        }
    }

    /// Another share of requests from now on; see [`RetryRates::with_ratio`]. What is in it stays.
    pub fn set_ratio(&self, ratio: f64) {
        let rates = RetryRates::with_ratio(ratio);
        self.per_request.store(rates.per_request, Ordering::Relaxed);
    }

    /// One request came: it pays its share.
    pub fn on_request(&self) {
        self.add(self.per_request.load(Ordering::Relaxed));
    }

    /// Whether there is a token. Another thread may be quicker to take it.
    pub fn available(&self, now: Time) -> bool {
        let now = millis(now);
        // Only the thread that moves the time forward adds what it is worth, so that no time counts twice.
        let last = self.filled.fetch_max(now, Ordering::Relaxed);
        self.add(self.rates.floor(last, now));
        self.thousandths.load(Ordering::Relaxed) >= TOKEN
    }

    /// Takes a token if there is one.
    pub fn take(&self, now: Time) -> bool {
        self.available(now)
            && self
                .thousandths
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(TOKEN)
                })
                .is_ok()
    }

    fn add(&self, thousandths: u64) {
        let cap = self.rates.cap();
        // A full bucket, the usual case, costs one load and no write.
        if thousandths > 0 && self.thousandths.load(Ordering::Relaxed) < cap {
            let more = |left: u64| Some(left.saturating_add(thousandths).min(cap));
            let _ = self
                .thousandths
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(5);

    fn empty(rates: RetryRates) -> RetryBudget {
        let budget = RetryBudget::new(rates, NOW);
        while budget.take(NOW) {}
        budget
    }

    #[test]
    fn it_starts_with_ten_seconds_of_its_floor() {
        let budget = RetryBudget::new(RetryRates::default(), NOW);
        assert_eq!((0..200).filter(|_| budget.take(NOW)).count(), 100);
    }

    #[test]
    fn five_requests_pay_for_one_retry() {
        let budget = empty(RetryRates {
            per_second: 0,
            ..RetryRates::default()
        });
        for n in 1..=50 {
            budget.on_request();
            assert_eq!(budget.take(NOW), n % 5 == 0);
        }
    }

    #[test]
    fn another_ratio_counts_from_then_on() {
        let budget = empty(RetryRates {
            per_second: 0,
            ..RetryRates::default()
        });
        budget.set_ratio(1.0);
        budget.on_request();
        assert!(budget.take(NOW) && !budget.take(NOW));
    }

    #[test]
    fn time_pays_ten_a_second_even_in_small_steps() {
        let budget = empty(RetryRates::default());
        let mut taken = 0;
        for step in 1..=10_000 {
            let now = NOW + Time::from_micros(200) * step;
            taken += u32::from(budget.take(now));
        }
        assert_eq!(taken, 20, "two seconds");
        // A clock that stands still or goes back pays nothing.
        assert!(!budget.take(NOW));
    }

    #[test]
    fn it_holds_no_more_than_its_burst() {
        let rates = RetryRates {
            burst: 7,
            ..RetryRates::default()
        };
        let budget = RetryBudget::new(rates, NOW);
        let later = NOW + Time::from_secs(1_000_000);
        for _ in 0..1000 {
            budget.on_request();
        }
        assert_eq!((0..50).filter(|_| budget.take(later)).count(), 7);
    }

    #[test]
    fn threads_take_no_token_twice() {
        let rates = RetryRates {
            per_second: 0,
            ..RetryRates::default()
        };
        let budget = empty(rates);
        for _ in 0..500 {
            budget.on_request();
        }
        let taken = std::thread::scope(|scope| {
            let take = || (0..100).filter(|_| budget.take(NOW)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_default())
                .sum::<usize>()
        });
        assert_eq!(taken, 100);
    }

    #[test]
    fn odd_ratios_are_put_right() {
        for (ratio, per_request) in [(0.2, 200), (-1.0, 0), (f64::NAN, 0), (9.0, 1000)] {
            assert_eq!(RetryRates::with_ratio(ratio).per_request, per_request);
        }
    }
}
