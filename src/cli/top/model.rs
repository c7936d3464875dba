//! Data of all proxies: the last answers of each, their rates, and histories. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::answers::ProxyAnswers;
use super::counts::{PoolBackend, ProxyRates};
use super::history::History;
use super::words::moment;
use crate::registry::view::{BackendView, InFlight};

/// Result of one update of one proxy.
#[derive(Debug)]
pub(super) struct ProxyLook {
    /// Index of the proxy.
    pub proxy: usize,
    /// Time since the program started.
    pub at: Duration,
    /// Time by the wall clock.
    pub wall: SystemTime,
    /// Answers of the proxy, or why there are none.
    pub answers: Result<ProxyAnswers, String>,
}

/// Data of one proxy.
#[derive(Debug, Default)]
pub(super) struct ProxyRecord {
    /// Name for people.
    pub name: String,
    /// Last answers.
    pub answers: Option<ProxyAnswers>,
    /// Time of the last answers since the program started.
    pub answered: Option<Duration>,
    /// Reason why the proxy does not answer now.
    pub failure: Option<String>,
    /// Rates between the last two answers; `None` before there are two.
    pub rates: Option<ProxyRates>,
    /// State of each backend, and since when it has been in it.
    pub since: BTreeMap<PoolBackend, StateSince>,
}

/// State of a backend, and the time at which it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StateSince {
    /// State as it is shown.
    pub state: String,
    /// Time at which it began; `None`: the backend was in this state when it was first seen.
    pub began: Option<SystemTime>,
}

/// Data of all proxies.
#[derive(Debug)]
pub(super) struct TopModel {
    /// Proxies in the order of the command line.
    pub proxies: Vec<ProxyRecord>,
    /// Answers per second.
    pub answers: History,
    /// Errors per second.
    pub errors: History,
    /// Retries per second.
    pub retries: History,
    /// Number in flight: requests, streams, upgraded connections.
    pub in_flight: [History; 3],
    /// Number of held requests.
    pub held: History,
    /// Answers per second of each backend.
    pub backends: BTreeMap<PoolBackend, History>,
}

impl TopModel {
    /// A model without any data of these proxies.
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let record = |name| ProxyRecord {
            name,
            ..ProxyRecord::default()
        };
        Self {
            proxies: names.into_iter().map(record).collect(),
            answers: History::default(),
            errors: History::default(),
            retries: History::default(),
            in_flight: Default::default(),
            held: History::default(),
            backends: BTreeMap::new(),
        }
    }

    /// Adds the result of an update.
    pub(super) fn take_look(&mut self, look: ProxyLook) {
        let Some(proxy) = self.proxies.get_mut(look.proxy) else {
            return;
        };
        match look.answers {
            Err(why) => {
                proxy.failure = Some(why);
                proxy.rates = None;
            }
            Ok(answers) => {
                proxy.failure = None;
                proxy.take_answers(answers, look.at, look.wall);
            }
        }
    }

    /// Ends a second: adds the current values to the histories.
    pub(super) fn tick(&mut self) {
        let heard = || self.proxies.iter().filter(|proxy| proxy.failure.is_none());
        let rates: Vec<_> = heard().filter_map(|proxy| proxy.rates.as_ref()).collect();
        let sum = |of: fn(&ProxyRates) -> f64| {
            (!rates.is_empty()).then(|| rates.iter().map(|rates| of(rates)).sum::<f64>())
        };
        let (answers, errors) = (sum(|r| r.all.answers), sum(|r| r.all.errors));
        let retries = sum(|rates| rates.retries);
        let mut each: BTreeMap<PoolBackend, f64> = BTreeMap::new();
        for rates in &rates {
            for (key, rate) in &rates.backends {
                *each.entry(key.clone()).or_default() += rate.answers;
            }
        }
        let (in_flight, held) = (self.in_flight_now(), self.held_now());
        self.answers.push(answers);
        self.errors.push(errors);
        self.retries.push(retries);
        for (history, (_, number)) in self
            .in_flight
            .iter_mut()
            .zip(in_flight.unwrap_or_default().kinds())
        {
            history.push(in_flight.map(|_| f64::from(number)));
        }
        self.held.push(held.map(|held| held as f64));
        // The histories of removed backends are dropped.
        self.backends.retain(|key, _| each.contains_key(key));
        for (key, rate) in each {
            self.backends.entry(key).or_default().push(Some(rate));
        }
    }

    /// Number in flight now, by kind; `None` if no proxy answers.
    pub(super) fn in_flight_now(&self) -> Option<InFlight> {
        let pools = self.pools_now()?;
        let backends = pools.into_iter().flat_map(|pool| &pool.backends);
        Some(backends.fold(InFlight::default(), |sum, backend| {
            sum + in_flight_of(backend)
        }))
    }

    /// Number of held requests now; `None` if no proxy answers.
    pub(super) fn held_now(&self) -> Option<usize> {
        let pools = self.pools_now()?;
        Some(pools.into_iter().map(|pool| pool.held).sum())
    }

    fn pools_now(&self) -> Option<Vec<&crate::registry::view::PoolView>> {
        let heard = self.proxies.iter().filter(|proxy| proxy.failure.is_none());
        let answers: Vec<_> = heard.filter_map(|proxy| proxy.answers.as_ref()).collect();
        (!answers.is_empty()).then(|| answers.iter().flat_map(|one| &one.pools).collect())
    }
}

impl ProxyRecord {
    fn take_answers(&mut self, answers: ProxyAnswers, at: Duration, wall: SystemTime) {
        let before = self.answers.as_ref().and_then(|old| old.counts.as_ref());
        self.rates = match (before, &answers.counts, self.answered) {
            (Some(old), Some(new), Some(then)) => {
                ProxyRates::between(old, new, at.saturating_sub(then))
            }
            _ => None,
        };
        let first = self.answered.is_none();
        let mut since = BTreeMap::new();
        for pool in &answers.pools {
            for backend in &pool.backends {
                let key = (pool.name.clone(), backend.name.clone());
                let state = state_of(backend).to_owned();
                // Older proxies do not report this.
                let told = moment(&backend.since);
                let began = match self.since.get(&key) {
                    _ if told.is_some() => told,
                    Some(known) if known.state == state => known.began,
                    None if first => None,
                    _ => Some(wall),
                };
                since.insert(key, StateSince { state, began });
            }
        }
        self.since = since;
        self.answers = Some(answers);
        self.answered = Some(at);
    }
}

/// Number in flight by kind. Older proxies do not report kinds; everything then counts as requests.
pub(super) fn in_flight_of(backend: &BackendView) -> InFlight {
    match backend.in_flight_by_kind {
        kinds if kinds == InFlight::default() => InFlight {
            request: backend.in_flight,
            ..kinds
        },
        kinds => kinds,
    }
}

/// State for the balancer: an ejected backend is ready, but gets no new requests.
pub(super) fn state_of(backend: &BackendView) -> &str {
    match (&*backend.state, &backend.ejected) {
        ("ready", Some(_)) => "ejected",
        (state, _) => state,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{answers, wall};
    use super::*;

    fn look(at: u64, answers: Result<ProxyAnswers, String>) -> ProxyLook {
        ProxyLook {
            proxy: 0,
            at: Duration::from_secs(at),
            wall: wall() + Duration::from_secs(at),
            answers,
        }
    }

    #[test]
    fn state_that_changes_has_a_beginning_and_one_that_was_there_first_has_none() {
        let mut model = TopModel::new(["p".to_owned()]);
        model.take_look(look(0, Ok(answers(&[("api-0", "ready")], 0))));
        let key = ("api".to_owned(), "api-0".to_owned());
        assert_eq!(model.proxies[0].since[&key].began, None);
        model.take_look(look(5, Ok(answers(&[("api-0", "draining")], 0))));
        model.take_look(look(9, Ok(answers(&[("api-0", "draining")], 0))));
        let began = Some(wall() + Duration::from_secs(5));
        assert_eq!(model.proxies[0].since[&key].began, began);
        model.take_look(look(10, Ok(answers(&[], 0))));
        assert!(model.proxies[0].since.is_empty());
    }

    #[test]
    fn second_without_an_answer_is_a_gap_in_every_history_and_no_zero() {
        let mut model = TopModel::new(["p".to_owned()]);
        model.take_look(look(0, Ok(answers(&[("api-0", "ready")], 100))));
        model.tick();
        model.take_look(look(1, Ok(answers(&[("api-0", "ready")], 300))));
        model.tick();
        model.take_look(look(2, Err("gone".into())));
        model.tick();
        // Growth during seconds without an answer is spread over them.
        model.take_look(look(5, Ok(answers(&[("api-0", "ready")], 700))));
        model.tick();
        let shown: Vec<_> = model.answers.last(4).collect();
        assert_eq!(shown, [None, Some(200.0), None, Some(100.0)]);
        let held: Vec<_> = model.held.last(4).collect();
        assert_eq!(held, [Some(0.0), Some(0.0), None, Some(0.0)]);
    }
}
