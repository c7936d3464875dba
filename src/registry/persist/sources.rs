//! Backends from discovery sources, for a proxy that starts while its source can't be reached.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::wall_clock::wall;
use crate::registry::backend_entry::{BackendEntry, BackendSource};
use crate::registry::discovery::is_word_of_source;
use crate::registry::live_figures::LiveFigures;
use crate::registry::pool::PoolState;
use crate::rt::clock::ClockReading;

/// The set in force of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSource {
    /// The pool.
    pub pool: String,
    /// Label of the source.
    pub source: String,
    /// Time of its last answer, to the minute: answers without changes are not written each time.
    #[serde(with = "wall")]
    pub answered: SystemTime,
    /// Backends that serve. A backend that is terminating or not ready comes back only with the source's next answer.
    pub backends: Vec<KeptBackend>,
}

/// A backend that the configuration does not name, with everything needed to restore it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBackend {
    /// Name.
    pub name: String,
    /// `host:port` or `unix:/path`.
    pub address: String,
    /// Weight.
    pub weight: u32,
    /// Whether it gets requests only while no other backend is ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// Zone in which it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl KeptBackend {
    /// Converts a backend of a pool.
    pub(super) fn of(member: &BackendEntry) -> Self {
        Self {
            name: member.base.clone(),
            address: member.endpoint.address.to_string(),
            weight: member.endpoint.weight(),
            backup: member.is_backup,
            zone: member.zone.clone(),
        }
    }
}

impl PoolState {
    /// Returns the sets of the pool's sources. Sources that have never answered are left out.
    pub(in crate::registry) fn keep_sources(
        &self,
        live: &LiveFigures,
        clock: &ClockReading,
    ) -> Vec<KeptSource> {
        let labels = self.config.discovery.iter().map(|one| one.label());
        let sources = labels.filter_map(|label| {
            let answered = live.last_answer(&self.name, &label, clock)?;
            Some(KeptSource {
                pool: self.name.to_string(),
                answered,
                backends: self.backends_of_source(&label),
                source: label,
            })
        });
        sources.filter(|one| !one.backends.is_empty()).collect()
    }

    fn backends_of_source(&self, label: &str) -> Vec<KeptBackend> {
        let staying = self.both().filter(|(member, backend)| {
            member.source == BackendSource::Discovery
                && !member.leaving
                && member.discovery.as_deref() == Some(label)
                && backend.drains().all(|(_, drain)| !is_word_of_source(drain))
        });
        staying.map(|(member, _)| KeptBackend::of(member)).collect()
    }
}
