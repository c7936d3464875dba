//! Backends that external sources have named, for a proxy that starts while its source is away.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::wall_clock::wall;
use crate::registry::backend_entry::{BackendEntry, BackendSource};
use crate::registry::discovery::is_word_of_source;
use crate::registry::live_figures::LiveFigures;
use crate::registry::pool::PoolState;
use crate::rt::clock::ClockReading;

/// What is in force of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSource {
    /// The pool.
    pub pool: String,
    /// The source's label.
    pub source: String,
    /// When its last answer came, to the minute: answers that change nothing are not written each time.
    #[serde(with = "wall")]
    pub answered: SystemTime,
    /// Those that serve. One that terminates, or isn't ready, comes back only by the source's next answer.
    pub backends: Vec<KeptBackend>,
}

/// A backend that no file names: what is needed to put it back in its pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBackend {
    /// Its name.
    pub name: String,
    /// `host:port` or `unix:/path`.
    pub address: String,
    /// Its share.
    pub weight: u32,
    /// It gets requests only while no other is ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl KeptBackend {
    /// A backend as it is in its pool.
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
    /// What the pool's sources have said. One that has never answered has said nothing.
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
