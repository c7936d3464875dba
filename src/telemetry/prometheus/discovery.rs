//! Metrics of discovery sources: only for pools that have one. The `source` label is its name in the configuration.

use super::families::FamilyBuilder;
use crate::registry::RegistryHandle;
use crate::rt::clock;

pub(super) fn discovery(registry: &RegistryHandle) -> [FamilyBuilder; 6] {
    let mut backends = FamilyBuilder::gauge(
        "lameduck_discovery_backends",
        "Backends of a source that are in force.",
    );
    let mut answers = FamilyBuilder::counter(
        "lameduck_discovery_answers_total",
        "Answers of a source: taken, doubted (what they lack is kept), or failed (none came).",
    );
    let mut age = FamilyBuilder::gauge(
        "lameduck_discovery_answer_age_seconds",
        "Time since the last answer of a source.",
    );
    let mut failing = FamilyBuilder::gauge(
        "lameduck_discovery_failing",
        "1 while a source can't be asked: what is known stays.",
    );
    let mut kept = FamilyBuilder::gauge(
        "lameduck_discovery_kept_backends",
        "Backends that the last answer lacks, and that are kept because it is doubted.",
    );
    let mut refused = FamilyBuilder::gauge(
        "lameduck_discovery_refused_backends",
        "Backends of a source that are not taken, because somebody else has their name, for one.",
    );
    let now = clock::now();
    for (pool, source, status) in registry.live_figures().sources() {
        let labels = [("pool", &*pool), ("source", &*source)];
        backends.add(&labels, status.backends as u64);
        let counts = status.counts;
        for (outcome, count) in [
            ("taken", counts.taken),
            ("doubted", counts.doubted),
            ("failed", counts.failed),
        ] {
            answers.add(&[labels[0], labels[1], ("outcome", outcome)], count);
        }
        if let Some(old) = status.answer_age(now) {
            age.add(&labels, old.as_secs());
        }
        failing.add(&labels, u64::from(status.failing.is_some()));
        let held = status.doubt.as_ref().map_or(0, |doubt| doubt.kept);
        kept.add(&labels, held as u64);
        refused.add(&labels, status.refused.len() as u64);
    }
    [backends, answers, age, failing, kept, refused]
}
