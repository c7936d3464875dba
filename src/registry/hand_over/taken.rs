//! Takes over the state of another registry.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::outliers::taken;
use super::sessions::take_sessions;
use super::{HandOverCommand, OrphanedLease, PredecessorWord};
use crate::config::{Address, Config};
use crate::core::backend::DerivedState;
use crate::core::discovery::{DiscoveredBackend, DiscoveredSet};
use crate::registry::backend_entry::BackendSource;
use crate::registry::endpoint::BackendKey;
use crate::registry::handed::{HandedDiscovered, HandedLease, HandedRegistry, KnownBackend};
use crate::registry::handle::RegistryError;
use crate::registry::lease::{LeaseHandle, LeaseRecord};
use crate::registry::live_figures::RememberedAnswer;
use crate::registry::persist::{DrainRecord, KeptBackend, KeptSource};
use crate::registry::pool::{JoiningBackend, PoolState};
use crate::registry::view::LeaseEvent;
use crate::registry::writer::RegistryWriter;
use crate::rt::clock;

/// Time within which launchers that were connected to the old process have to reconnect, which they do at once. After
/// it, a launcher counts as gone.
const COME_BACK: Duration = Duration::from_secs(10);

impl RegistryWriter {
    /// Starts with the state of another process, or of the last run.
    pub(in crate::registry) fn begin_with(
        &mut self,
        handed: HandedRegistry,
        predecessor: Option<mpsc::UnboundedSender<PredecessorWord>>,
        config: Arc<Config>,
    ) {
        let restored = handed.kept;
        (self.handle.restarts).take(handed.restarts, handed.processes);
        self.remember_kept_drains(restored.drains);
        self.recall_splits(restored.splits);
        self.expect(handed.known, predecessor);
        self.apply(config);
        self.register_again(restored.registrations);
        self.take_discovered(handed.discovered);
        self.take_kept_sources(restored.sources);
        self.take_leases(handed.leases);
        self.take_left(handed.left);
        self.end_restarts_of_missing();
        self.pause_again(restored.pauses);
        self.resume_plans(restored.plans);
    }

    /// Takes the state that another process has given, before the configuration is applied.
    fn expect(
        &mut self,
        known: Vec<KnownBackend>,
        predecessor: Option<mpsc::UnboundedSender<PredecessorWord>>,
    ) {
        for known in known {
            let name = (known.pool.clone(), known.name.clone());
            self.hand_over.known.entry(name).or_default().push(known);
        }
        self.hand_over.predecessor = predecessor;
    }

    /// Restores the backends of discovery sources, as far as the configuration has these sources, which will soon
    /// answer anew.
    fn take_discovered(&mut self, discovered: Vec<HandedDiscovered>) {
        for one in discovered {
            let backend = KeptBackend {
                name: one.name,
                address: one.address,
                weight: one.weight,
                backup: one.backup,
                zone: one.zone,
            };
            self.take_source_backend(&one.pool, &one.source, backend);
        }
    }

    /// Restores the backends of discovery sources that an earlier run kept. The task that follows a source reads
    /// in the live figures which set was in force.
    fn take_kept_sources(&mut self, sources: Vec<KeptSource>) {
        for kept in sources {
            let set: DiscoveredSet<_> = kept
                .backends
                .into_iter()
                .filter_map(|one| self.take_source_backend(&kept.pool, &kept.source, one))
                .collect();
            if set.is_empty() {
                continue;
            }
            let answered = clock::rfc3339(kept.answered);
            info!(
                pool = kept.pool,
                source = kept.source,
                backends = set.len(),
                answered,
                "what the source said before the last restart is used until it answers"
            );
            let live = &self.handle.live;
            live.note_source(&kept.pool, &kept.source.as_str().into(), |status| {
                status.backends = set.len();
                status.remembered = Some(RememberedAnswer {
                    answered: kept.answered,
                    set: Arc::new(set),
                });
            });
        }
    }

    /// Restores a backend; `None`: its source is gone, or another owner has its name.
    fn take_source_backend(
        &mut self,
        pool: &str,
        source: &str,
        one: KeptBackend,
    ) -> Option<(String, DiscoveredBackend<Address>)> {
        let index = self.index(pool).ok()?;
        let address: Address = one.address.parse().ok()?;
        let backend = DiscoveredBackend {
            weight: one.weight,
            zone: one.zone,
            is_backup: one.backup,
            ..DiscoveredBackend::at(address)
        };
        let state = &self.pools[index];
        if !state.has_source(source) {
            return None;
        }
        if state.has_name(&one.name) {
            let is_there = state.source_of(&one.name).as_deref() == Some(source);
            return is_there.then_some((one.name, backend));
        }
        let added = self.add_discovered(index, &source.into(), &one.name, &backend, Vec::new());
        added.ok().map(|()| (one.name, backend))
    }

    /// Restores the instances of launchers, which will reconnect for their leases.
    fn take_leases(&mut self, leases: Vec<HandedLease>) {
        for lease in leases {
            let (pool, name) = (lease.pool.clone(), lease.name.clone());
            if let Err(refusal) = self.take_lease(lease) {
                warn!(pool, backend = name, %refusal, "a lease was not taken over");
            }
        }
        // Backends that are gone need not be remembered.
        self.hand_over.known.clear();
        if !self.hand_over.orphans.is_empty() {
            let handle = self.handle.clone();
            tokio::spawn(async move {
                tokio::time::sleep(COME_BACK).await;
                handle.hand_over(HandOverCommand::EndOrphans);
            });
        }
    }

    fn take_lease(&mut self, lease: HandedLease) -> Result<(), RegistryError> {
        let index = self.index(&lease.pool)?;
        if self.pools[index].is_configured_name(&lease.name) {
            return Err(RegistryError::Conflict(
                "the configuration has its name now".to_owned(),
            ));
        }
        let address = lease.address.parse();
        let address = address
            .map_err(|_| RegistryError::Invalid(format!("`{}` is no address", lease.address)))?;
        let (events, receiver) = mpsc::unbounded_channel();
        let key = BackendKey(self.next_key);
        let joining = JoiningBackend {
            name: lease.name.clone(),
            address,
            weight: lease.weight,
            is_backup: lease.backup,
            zone: None,
            source: BackendSource::Lease,
            discovery: None,
            drains: lease.drains.iter().map(DrainRecord::restored).collect(),
            tenure: Some(LeaseRecord::new(
                lease.id.clone(),
                lease.nonce.clone(),
                events.clone(),
            )),
            owner: lease.owner,
        };
        let shown = self.add(index, joining);
        let state = &self.pools[index];
        let backend = state.core.get(&key);
        let _ = events.send(LeaseEvent::Registered {
            lease: lease.id,
            pool: lease.pool.clone(),
            name: shown,
            incarnation: backend.map_or(1, |backend| backend.incarnation()),
            state: state.state(key).map_or("", DerivedState::as_str).to_owned(),
        });
        self.hand_over.orphans.push(OrphanedLease {
            pool: lease.pool,
            name: lease.name,
            address: lease.address,
            // A launcher without a nonce can't be told from another: it is registered anew.
            nonce: lease.nonce.unwrap_or_default(),
            handle: LeaseHandle::new(self.handle.clone(), key, receiver),
        });
        Ok(())
    }
}

impl PoolState {
    /// Takes over a backend's health as another process found it.
    pub(in crate::registry) fn adopt_health(&mut self, key: BackendKey, known: &KnownBackend) {
        let Some(member) = self.members.get_mut(&key) else {
            return;
        };
        member.last_probe.clone_from(&known.last_probe);
        member.requests_before = known.requests;
        for sessions in &known.finishing {
            take_sessions(&member.endpoint.holders, sessions);
        }
        // The proxy would wait for the first probe of a backend that does not answer, and would not be ready
        // meanwhile.
        member.probed = known.up || known.probed;
        if !known.up {
            if known.down {
                self.core.take_as_down(&key, clock::now());
            }
            return;
        }
        self.core.take_as_up(&key, clock::now(), known.listener);
        if let Some(outlier) = &known.outlier {
            self.restore_outlier(key, taken(outlier));
        }
        let Some(member) = self.members.get(&key) else {
            return;
        };
        if self.core.get(&key).is_some_and(|one| one.is_eligible()) {
            member.endpoint.mark_warm();
            member.endpoint.gate.open();
        }
    }
}
