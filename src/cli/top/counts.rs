//! Counters of a proxy, read from its metrics, and their rates.

use std::collections::BTreeMap;
use std::time::Duration;

/// Names of a pool and of a backend in it.
pub(super) type PoolBackend = (String, String);

/// Counted answers of one backend, or of lameduck itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct AnswerTotals {
    /// Number of answers with any status.
    pub answers: f64,
    /// Number of answers with status 5xx.
    pub errors: f64,
}

/// Counters of a proxy since it started.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ProxyCounts {
    /// Answers of backends.
    pub backends: BTreeMap<PoolBackend, AnswerTotals>,
    /// Answers of lameduck itself, by pool.
    pub own: BTreeMap<String, AnswerTotals>,
    /// Retries, by pool.
    pub retries: BTreeMap<String, f64>,
}

impl ProxyCounts {
    /// Parses Prometheus' text format. Lines that are not understood are skipped.
    pub(super) fn read(text: &str) -> Self {
        let mut counts = Self::default();
        for line in text.lines() {
            let Some((name, rest)) = line.split_once('{') else {
                continue;
            };
            let wanted = [
                "lameduck_requests_total",
                "lameduck_local_responses_total",
                "lameduck_retries_total",
            ];
            if !wanted.contains(&name) {
                continue;
            }
            let Some((labels, value)) = read_labels(rest) else {
                continue;
            };
            let Ok(value) = value.trim().parse::<f64>() else {
                continue;
            };
            let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
            let pool = label("pool");
            let answers = match name {
                "lameduck_requests_total" => {
                    counts.backends.entry((pool, label("backend"))).or_default()
                }
                "lameduck_local_responses_total" => counts.own.entry(pool).or_default(),
                _ => {
                    if label("outcome") == "retried" {
                        *counts.retries.entry(pool).or_default() += value;
                    }
                    continue;
                }
            };
            answers.answers += value;
            if label("code").starts_with('5') {
                answers.errors += value;
            }
        }
        counts
    }
}

/// Parses the labels up to the closing brace; returns them and the rest.
fn read_labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        rest = &after[end..];
    }
}

/// Rates of answers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct AnswerRates {
    /// Answers per second.
    pub answers: f64,
    /// Answers with status 5xx per second.
    pub errors: f64,
}

impl std::ops::AddAssign for AnswerRates {
    fn add_assign(&mut self, other: Self) {
        self.answers += other.answers;
        self.errors += other.errors;
    }
}

/// Rates between two readings of one proxy.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ProxyRates {
    /// Rates of each backend's answers.
    pub backends: BTreeMap<PoolBackend, AnswerRates>,
    /// Rates of each pool's answers, including those of lameduck itself.
    pub pools: BTreeMap<String, AnswerRates>,
    /// Rates of all answers.
    pub all: AnswerRates,
    /// Retries per second.
    pub retries: f64,
}

impl ProxyRates {
    /// Rates from `old` to `new`, which was read `passed` later. `None` if no time has passed.
    pub(super) fn between(old: &ProxyCounts, new: &ProxyCounts, passed: Duration) -> Option<Self> {
        let seconds = passed.as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let rates = |old: Option<&AnswerTotals>, new: &AnswerTotals| {
            let old = old.copied().unwrap_or_default();
            AnswerRates {
                answers: grown(old.answers, new.answers) / seconds,
                errors: grown(old.errors, new.errors) / seconds,
            }
        };
        let mut all = Self::default();
        for (key, new) in &new.backends {
            let rates = rates(old.backends.get(key), new);
            *all.pools.entry(key.0.clone()).or_default() += rates;
            all.all += rates;
            all.backends.insert(key.clone(), rates);
        }
        for (pool, new) in &new.own {
            let rates = rates(old.own.get(pool), new);
            *all.pools.entry(pool.clone()).or_default() += rates;
            all.all += rates;
        }
        let retries = new.retries.iter().map(|(pool, new)| {
            let old = old.retries.get(pool).copied().unwrap_or_default();
            grown(old, *new)
        });
        all.retries = retries.sum::<f64>() / seconds;
        Some(all)
    }
}

/// Growth of a counter. If it has become smaller, it has started again at zero, because the proxy has restarted.
fn grown(old: f64, new: f64) -> f64 {
    match new < old {
        true => new,
        false => new - old,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counters_are_read_with_their_labels_and_other_lines_are_left_out() {
        let counts = ProxyCounts::read(
            "# HELP x\n\
             lameduck_requests_total{backend=\"a\",code=\"200\",pool=\"api\"} 5\n\
             lameduck_requests_total{backend=\"a\",code=\"503\",pool=\"api\"} 2\n\
             lameduck_requests_total{backend=\"b\\\"},\\\\\\n\",code=\"200\",pool=\"api\"} 1\n\
             lameduck_local_responses_total{code=\"404\",pool=\"\"} 3\n\
             lameduck_retries_total{outcome=\"retried\",pool=\"api\",reason=\"x\"} 4\n\
             lameduck_retries_total{outcome=\"denied\",pool=\"api\",reason=\"x\"} 4\n\
             lameduck_requests_total{backend=\"broken\n\
             lameduck_requests_total_of_another{pool=\"api\"} 9\n\
             process_open_fds 7\n",
        );
        let of = |answers, errors| AnswerTotals { answers, errors };
        let key = |backend: &str| ("api".to_owned(), backend.to_owned());
        let backends = [(key("a"), of(7.0, 2.0)), (key("b\"},\\\n"), of(1.0, 0.0))];
        assert_eq!(counts.backends, backends.into());
        assert_eq!(counts.own, [(String::new(), of(3.0, 0.0))].into());
        assert_eq!(counts.retries, [("api".to_owned(), 4.0)].into());
    }

    #[test]
    fn counters_of_a_restarted_proxy_begin_again_at_zero() {
        let key = || ("api".to_owned(), "a".to_owned());
        let counts = |answers| ProxyCounts {
            backends: [(
                key(),
                AnswerTotals {
                    answers,
                    errors: 0.0,
                },
            )]
            .into(),
            ..ProxyCounts::default()
        };
        let rates = |old, new| {
            let passed = Duration::from_secs(2);
            let rates = ProxyRates::between(&counts(old), &counts(new), passed).unwrap();
            rates.backends[&key()].answers
        };
        assert_eq!(rates(100.0, 300.0), 100.0);
        assert_eq!(rates(100.0, 40.0), 20.0);
        assert_eq!(
            ProxyRates::between(&counts(1.0), &counts(2.0), Duration::ZERO),
            None
        );
    }

    fn any_counts() -> impl Strategy<Value = ProxyCounts> {
        let counts = (0u32..1000, 0u32..1000).prop_map(|(ok, errors)| AnswerTotals {
            answers: f64::from(ok + errors),
            errors: f64::from(errors),
        });
        let backends = prop::collection::btree_map(("[ab]", "[a-d]"), counts.clone(), 0..6);
        let own = prop::collection::btree_map("[ab]?", counts, 0..3);
        (backends, own).prop_map(|(backends, own)| ProxyCounts {
            backends,
            own,
            retries: BTreeMap::new(),
        })
    }

    proptest! {
        #[test]
        fn rates_of_pools_add_up_to_the_whole_and_none_is_negative(
            old in any_counts(), new in any_counts(), passed in 1u64..10_000
        ) {
            let rates = ProxyRates::between(&old, &new, Duration::from_millis(passed)).unwrap();
            let pools: f64 = rates.pools.values().map(|pool| pool.answers).sum();
            prop_assert!((pools - rates.all.answers).abs() < 1e-6 * (1.0 + pools));
            for rate in rates.backends.values().chain(rates.pools.values()) {
                prop_assert!(rate.answers >= 0.0 && rate.errors >= 0.0);
            }
            prop_assert_eq!(rates.backends.len(), new.backends.len());
        }
    }
}
