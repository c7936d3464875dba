//! Counters of the process before this one. They are added to this process's in each scrape, so that no value goes back
//! when one lameduck takes over from another.
//!
//! They are handed over as series, by name and labels. A release that has other counters adds those that it knows, and
//! the series of a removed route or backend disappear.

use std::collections::{HashMap, HashSet};

use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use serde::{Deserialize, Serialize};

use crate::registry::snapshot::Snapshot;

/// Prefix of the process collector's metrics, which are about one process and not carried over.
const OF_ONE_PROCESS: &str = "process_";

/// All counters and histograms of a process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedCounters {
    series: Vec<CarriedSeries>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct CarriedSeries {
    name: String,
    help: String,
    labels: Vec<(String, String)>,
    value: CarriedValue,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CarriedValue {
    Counter(f64),
    Histogram {
        count: u64,
        sum: f64,
        /// Upper bounds, each with the number of values up to it.
        buckets: Vec<(f64, u64)>,
    },
    #[default]
    #[serde(other)]
    Unknown,
}

impl CarriedCounters {
    /// The counters and histograms of a scrape.
    pub(super) fn of(families: &[MetricFamily]) -> Self {
        let own = families
            .iter()
            .filter(|family| !family.name().starts_with(OF_ONE_PROCESS));
        let series = own.flat_map(|family| {
            let kind = family.get_field_type();
            family.get_metric().iter().filter_map(move |metric| {
                let value = match kind {
                    MetricType::COUNTER => CarriedValue::Counter(metric.get_counter().get_value()),
                    MetricType::HISTOGRAM => carried_histogram(metric.get_histogram()),
                    _ => return None,
                };
                // Most series of a large fleet are zero: nothing has to be added for them.
                if value.is_zero() {
                    return None;
                }
                Some(CarriedSeries {
                    name: family.name().to_owned(),
                    help: family.help().to_owned(),
                    labels: labels(metric),
                    value,
                })
            })
        });
        Self {
            series: series.collect(),
        }
    }

    /// Adds these counters to those of another scrape.
    pub(super) fn add_to(&self, families: &mut Vec<MetricFamily>, snapshot: &Snapshot) {
        if self.series.is_empty() {
            return;
        }
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut rows: HashMap<(usize, Vec<(String, String)>), usize> = HashMap::new();
        for (place, family) in families.iter().enumerate() {
            places.insert(family.name().to_owned(), place);
            for (row, metric) in family.get_metric().iter().enumerate() {
                rows.insert((place, labels(metric)), row);
            }
        }
        let present = Present::of(snapshot);
        for series in &self.series {
            let Some(kind) = series.value.kind() else {
                continue;
            };
            let place = *places.entry(series.name.clone()).or_insert_with(|| {
                let mut family = MetricFamily::default();
                family.set_field_type(kind);
                family.set_name(series.name.clone());
                family.set_help(series.help.clone());
                families.push(family);
                families.len() - 1
            });
            // This release has another kind of metric under this name.
            if families[place].get_field_type() != kind {
                continue;
            }
            match rows.get(&(place, series.labels.clone())) {
                Some(row) => series.value.add_to(&mut families[place].mut_metric()[*row]),
                None if present.has(&series.labels) => {
                    let mut metric = Metric::from_label(pairs(&series.labels));
                    series.value.add_to(&mut metric);
                    families[place].mut_metric().push(metric);
                }
                None => {}
            }
        }
        families.retain(|family| !family.get_metric().is_empty());
    }
}

impl CarriedValue {
    fn kind(&self) -> Option<MetricType> {
        match self {
            Self::Counter(_) => Some(MetricType::COUNTER),
            Self::Histogram { .. } => Some(MetricType::HISTOGRAM),
            Self::Unknown => None,
        }
    }

    fn is_zero(&self) -> bool {
        match self {
            Self::Counter(value) => *value == 0.0,
            Self::Histogram { count, .. } => *count == 0,
            Self::Unknown => true,
        }
    }

    fn add_to(&self, metric: &mut Metric) {
        match self {
            Self::Counter(value) => {
                let mut counter = Counter::default();
                counter.set_value(metric.get_counter().get_value() + value);
                metric.set_counter(counter);
            }
            Self::Histogram {
                count,
                sum,
                buckets,
            } => {
                let own = metric.get_histogram().clone();
                let mut histogram = Histogram::default();
                histogram.set_sample_count(own.get_sample_count() + count);
                histogram.set_sample_sum(own.get_sample_sum() + sum);
                let bounds: Vec<_> = match own.get_bucket() {
                    [] => buckets.iter().map(|(bound, _)| (*bound, 0)).collect(),
                    own => own
                        .iter()
                        .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
                        .collect(),
                };
                let merged = bounds.into_iter().map(|(bound, counted)| {
                    // If the bounds differ, only values that are certainly below this bound are counted.
                    let below = buckets.iter().rev().find(|(other, _)| *other <= bound);
                    let mut bucket = Bucket::default();
                    bucket.set_upper_bound(bound);
                    bucket.set_cumulative_count(counted + below.map_or(0, |(_, count)| *count));
                    bucket
                });
                histogram.set_bucket(merged.collect());
                metric.set_histogram(histogram);
            }
            Self::Unknown => {}
        }
    }
}

fn carried_histogram(histogram: &Histogram) -> CarriedValue {
    let buckets = histogram.get_bucket().iter();
    CarriedValue::Histogram {
        count: histogram.get_sample_count(),
        sum: histogram.get_sample_sum(),
        buckets: buckets
            .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
            .collect(),
    }
}

/// Labels of a series, sorted, because releases may write them in different orders.
fn labels(metric: &Metric) -> Vec<(String, String)> {
    let pairs = metric.get_label().iter();
    let mut labels: Vec<_> = pairs
        .map(|pair| (pair.name().to_owned(), pair.value().to_owned()))
        .collect();
    labels.sort();
    labels
}

fn pairs(labels: &[(String, String)]) -> Vec<LabelPair> {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.clone());
        pair.set_value(value.clone());
        pair
    });
    pairs.collect()
}

/// Names that exist now, to compare labels with.
struct Present<'a> {
    pools: HashSet<&'a str>,
    backends: HashSet<(&'a str, &'a str)>,
    routes: HashSet<&'a str>,
}

impl<'a> Present<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let pools = snapshot.pools.iter();
        let backends = pools.clone().flat_map(|pool| {
            let all = pool.backends.iter();
            all.map(|backend| (&*pool.name, &*backend.name))
        });
        let routes = snapshot.config.routes.iter();
        Self {
            backends: backends.collect(),
            pools: pools.map(|pool| &*pool.name).collect(),
            routes: routes.filter_map(|route| route.name.as_deref()).collect(),
        }
    }

    /// Whether everything that these labels name still exists.
    fn has(&self, labels: &[(String, String)]) -> bool {
        let named = |wanted: &str| {
            let found = labels.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        let (pool, backend, route) = (named("pool"), named("backend"), named("route"));
        (route.is_empty() || self.routes.contains(route))
            && (backend.is_empty() || self.backends.contains(&(pool, backend)))
            && (pool.is_empty() || self.pools.contains(pool))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics;
    use crate::telemetry::prometheus::families::FamilyBuilder;
    use std::sync::Arc;
    use std::time::Duration;

    fn snapshot() -> Snapshot {
        let text = "[[listener]]\naddress = \"127.0.0.1:1\"\n[[pool]]\nname = \"app\"";
        let config = crate::config::parse("test", text).unwrap().config;
        Snapshot {
            config: Arc::new(config),
            routes: Arc::default(),
            pools: Vec::new(),
        }
    }

    fn scrape(gets: u64, took: &[u64]) -> Vec<MetricFamily> {
        let mut counter = FamilyBuilder::counter("requests_total", "Requests.");
        counter.add(&[("code", "200")], gets);
        counter.add(&[("pool", "gone"), ("code", "200")], gets);
        let mut gauge = FamilyBuilder::gauge("open", "Open.");
        gauge.add(&[], 7);
        let times = metrics::Histogram::default();
        for millis in took {
            times.observe(Duration::from_millis(*millis));
        }
        let mut histogram = FamilyBuilder::histogram("seconds", "Times.");
        histogram.add_histogram(&[], &times);
        let all = [counter, gauge, histogram];
        all.into_iter().filter_map(FamilyBuilder::finish).collect()
    }

    #[test]
    fn counters_continue_and_gauges_and_removed_series_do_not() {
        let before = CarriedCounters::of(&scrape(5, &[1, 700]));
        let text = serde_json::to_string(&before).unwrap();
        let before: CarriedCounters = serde_json::from_str(&text).unwrap();
        let mut now = scrape(2, &[3]);
        now[0].mut_metric().pop();
        before.add_to(&mut now, &snapshot());
        assert_eq!(now.len(), 3);
        assert_eq!(now[0].get_metric().len(), 1, "a pool that is gone");
        assert!((now[0].get_metric()[0].get_counter().get_value() - 7.0).abs() < 1e-9);
        assert!((now[1].get_metric()[0].get_gauge().get_value() - 7.0).abs() < 1e-9);
        let times = now[2].get_metric()[0].get_histogram();
        assert_eq!(times.get_sample_count(), 3);
        assert!((times.get_sample_sum() - 0.704).abs() < 1e-9);
        let first = &times.get_bucket()[0];
        assert_eq!(first.cumulative_count(), 1);
        assert_eq!(times.get_bucket().last().unwrap().cumulative_count(), 3);
    }

    #[test]
    fn carried_series_without_a_local_count_is_kept() {
        let before = CarriedCounters::of(&scrape(5, &[1]));
        let mut now = Vec::new();
        before.add_to(&mut now, &snapshot());
        let names: Vec<_> = now.iter().map(|family| family.name().to_owned()).collect();
        assert_eq!(names, ["requests_total", "seconds"]);
    }

    #[test]
    fn series_that_have_counted_nothing_are_not_carried() {
        assert_eq!(
            CarriedCounters::of(&scrape(0, &[])),
            CarriedCounters::default()
        );
        assert_eq!(CarriedCounters::of(&scrape(0, &[1])).series.len(), 1);
    }
}
