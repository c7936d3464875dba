//! The retry budget: a token bucket that is filled by a share of the requests and, at a minimum rate, by time.
//!
//! Computed in thousandths of a token and milliseconds, so that it is exact without floating point: `per_second`
//! tokens a second are `per_second` thousandths a millisecond.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Time;

const TOKEN: u64 = 1000;

/// Fill rates and size of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryRates {
    /// Thousandths of a token for each request of the pool. Default: 200, which is 20 %.
    pub per_request: u64,
    /// Minimum rate, in tokens per second, whatever the traffic. Default: 10.
    pub per_second: u64,
    /// Most tokens in the bucket, so that a quiet hour doesn't pay for a storm. Default: 1000, because an instance
    /// that dies may lose that many requests at once.
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
    /// Returns the default rates with another share of requests (0.2 is 20 %; NaN and values below 0 become 0, values
    /// above 1 become 1).
    pub fn with_ratio(ratio: f64) -> Self {
        // After the clamp, the cast is exact enough; NaN is cast to 0.
        let per_request = (ratio.clamp(0.0, 1.0) * TOKEN as f64).round() as u64;
        Self {
            per_request,
            ..Self::default()
        }
    }

    fn cap(&self) -> u64 {
        self.burst.saturating_mul(TOKEN)
    }

    /// Initial tokens: ten seconds at the minimum rate. A full bucket would allow a burst before the first request.
    fn start(&self) -> u64 {
        self.per_second.saturating_mul(10 * TOKEN).min(self.cap())
    }

    /// Returns the tokens for the whole milliseconds since `last` (in milliseconds).
    fn floor(&self, last: u64, now: u64) -> u64 {
        now.saturating_sub(last).saturating_mul(self.per_second)
    }
}

fn millis(time: Time) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The budget of a pool, for any number of threads, without a lock. Each operation is atomic, and none waits.
#[derive(Debug)]
pub struct RetryBudget {
    rates: RetryRates,
    /// Present value of `rates.per_request`.
    per_request: AtomicU64,
    thousandths: AtomicU64,
    filled: AtomicU64,
}

impl RetryBudget {
    /// Creates a budget with the tokens of ten seconds at the minimum rate.
    pub fn new(rates: RetryRates, now: Time) -> Self {
        Self {
            rates,
            per_request: AtomicU64::new(rates.per_request),
            thousandths: AtomicU64::new(rates.start()),
            filled: AtomicU64::new(millis(now)),
        }
    }

    /// Changes the share of requests; see [`RetryRates::with_ratio`]. Tokens in the bucket stay.
    pub fn set_ratio(&self, ratio: f64) {
        let rates = RetryRates::with_ratio(ratio);
        self.per_request.store(rates.per_request, Ordering::Relaxed);
    }

    /// Adds the share of one request.
    pub fn on_request(&self) {
        self.add(self.per_request.load(Ordering::Relaxed));
    }

    /// Whether there is a token. Another thread may take it first.
    pub fn available(&self, now: Time) -> bool {
        let now = millis(now);
        // Only the thread that advances the time adds the tokens for it, so that no time counts twice.
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
        // The usual case, a full bucket, costs one load and no write.
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
    fn budget_starts_with_ten_seconds_at_the_minimum_rate() {
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
        // A clock that stands still or goes back adds nothing.
        assert!(!budget.take(NOW));
    }

    #[test]
    fn budget_holds_no_more_than_its_burst() {
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
