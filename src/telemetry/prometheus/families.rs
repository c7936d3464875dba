//! Builders for metric families, in the form that the encoder takes.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::metrics::Histogram;

/// Label names and values.
type Labels<'a> = [(&'a str, &'a str)];

/// A metric family under construction.
pub(super) struct FamilyBuilder(MetricFamily);

impl FamilyBuilder {
    pub(super) fn counter(name: &str, help: &str) -> Self {
        Self::new(MetricType::COUNTER, name, help)
    }

    pub(super) fn gauge(name: &str, help: &str) -> Self {
        Self::new(MetricType::GAUGE, name, help)
    }

    pub(super) fn histogram(name: &str, help: &str) -> Self {
        Self::new(MetricType::HISTOGRAM, name, help)
    }

    fn new(kind: MetricType, name: &str, help: &str) -> Self {
        let mut family = MetricFamily::default();
        family.set_field_type(kind);
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        Self(family)
    }

    /// Adds a series to a counter or a gauge.
    pub(super) fn add(&mut self, labels: &Labels<'_>, value: u64) {
        let mut metric = labelled(labels);
        if self.0.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value as f64);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value as f64);
            metric.set_gauge(gauge);
        }
        self.0.mut_metric().push(metric);
    }

    /// Adds a series to a histogram.
    pub(super) fn add_histogram(&mut self, labels: &Labels<'_>, histogram: &Histogram) {
        let mut metric = labelled(labels);
        metric.set_histogram(histogram.read());
        self.0.mut_metric().push(metric);
    }

    /// The family; `None` without a series, because the encoder refuses such a family.
    pub(super) fn finish(self) -> Option<MetricFamily> {
        (!self.0.get_metric().is_empty()).then_some(self.0)
    }
}

fn labelled(labels: &Labels<'_>) -> Metric {
    let pairs = labels
        .iter()
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        })
        .collect();
    Metric::from_label(pairs)
}
