//! Applies a new configuration to a pool: settings at once, backends as a difference.

use std::collections::HashMap;
use std::sync::Arc;

use super::{JoiningBackend, PoolState};
use crate::config;
use crate::core::backend::{BackendPolicy, BackendState};
use crate::core::balance::BackendRank;
use crate::core::drain::{DrainActor, DrainUntil, OpenDrain};
use crate::core::outlier::OutlierChange;
use crate::registry::backend_entry::{BackendEntry, BackendSource};
use crate::registry::endpoint::{BackendKey, Transport};
use crate::registry::probing::ProbeStarter;

/// The difference between a pool's backends and those of a configuration.
#[derive(Default)]
pub(crate) struct PoolDifference {
    /// Backends to drain and remove, with the reason.
    pub leaving: Vec<(BackendKey, String)>,
    /// Backends to add.
    pub joining: Vec<JoiningBackend>,
}

impl PoolState {
    /// Applies new settings. Probers are restarted only if the check itself or the transport to the backends changed.
    /// Returns the backends whose ejection ends because outlier detection is off.
    pub(crate) fn reconfigure(
        &mut self,
        config: Arc<config::PoolConfig>,
        probing: &dyn ProbeStarter,
    ) -> Vec<OutlierChange<BackendKey>> {
        let transport = Transport::of(&config);
        self.core.set_policy(policy(&config));
        self.shared.budget.set_ratio(config.retry.budget);
        self.set_sticky(&config);
        self.config = config;
        self.retired = false;
        self.dirty = true;
        let changes = self.reconfigure_outliers();
        self.take_over(&changes);
        let keys: Vec<_> = self.members.keys().copied().collect();
        for key in keys {
            self.refresh_cadence(key, true);
        }
        let other_check = !self.health.asks_the_same(&self.config.health);
        if *self.health != self.config.health {
            self.health = Arc::new(self.config.health.clone());
        }
        let watches_latency = self.watches_latency();
        for member in self.members.values_mut() {
            member.endpoint.latency.keep(watches_latency);
            if member.endpoint.set_transport(&transport) || other_check {
                member.prober =
                    probing.start(member.endpoint.clone(), self.health.clone(), member.cadence);
            }
        }
        changes
    }

    /// Returns the drains that a backend passes on to a backend with the same name at another address: those that
    /// only a person or a supervisor's hook ends. The other drains wait for a new process, which this is.
    pub(crate) fn inheritance(&self, key: BackendKey) -> Vec<OpenDrain> {
        let outlives = |drain: &OpenDrain| {
            let member = self.members.get(&key);
            member.is_some_and(|member| member.outlives(drain))
        };
        let drains = self
            .core
            .get(&key)
            .into_iter()
            .flat_map(BackendState::drains);
        drains
            .map(|(_, drain)| drain.clone())
            .filter(|drain| matches!(drain.actor, DrainActor::Operator | DrainActor::Supervisor))
            .filter(|drain| drain.until == DrainUntil::Resumed && outlives(drain))
            .collect()
    }

    /// Sets the zone of the proxy.
    pub(crate) fn set_zone(&mut self, zone: Option<&str>) {
        if self.zone.as_deref() != zone {
            self.zone = zone.map(str::to_owned);
            self.dirty = true;
        }
    }

    /// Returns the rank of a backend: local zone, other zones, backups.
    pub(super) fn rank(&self, member: &BackendEntry) -> BackendRank {
        match &self.zone {
            _ if member.is_backup => BackendRank::Backup,
            Some(zone) if member.zone.as_ref() != Some(zone) => BackendRank::OtherZone,
            _ => BackendRank::Local,
        }
    }

    /// Whether the pool balances by response time.
    pub(super) fn watches_latency(&self) -> bool {
        self.config.balance == config::BalanceConfig::PeakEwma
    }

    /// Applies the present contents of the files for TLS; returns whether they have changed.
    pub(crate) fn renew(&mut self, read: config::UpstreamTls, probing: &dyn ProbeStarter) -> bool {
        let mut renewed = config::PoolConfig::clone(&self.config);
        let is_new = |tls: &mut config::UpstreamTls| {
            tls.is_written_like(&read) && std::mem::replace(tls, read.clone()) != read
        };
        let is_new = renewed.tls.as_mut().is_some_and(is_new);
        if is_new {
            self.reconfigure(Arc::new(renewed), probing);
        }
        is_new
    }

    /// Compares the configuration with the pool's backends. Changed weights are applied at once; a backend that was
    /// registered and is now configured with the same name and address becomes a configured one.
    pub(crate) fn compare(&mut self, wanted: &config::PoolConfig) -> PoolDifference {
        let mut difference = PoolDifference::default();
        let mut stay: HashMap<String, BackendKey> = HashMap::new();
        // Leased backends don't come from the configuration: launchers hold them.
        let ours = |member: &BackendEntry| !member.leaving && member.source != BackendSource::Lease;
        for (key, member) in self.members.iter().filter(|(_, member)| ours(member)) {
            stay.insert(member.base.clone(), *key);
        }
        for backend in &wanted.backends {
            let mut drains = Vec::new();
            if let Some(key) = stay.remove(&backend.name)
                && let Some(member) = self.members.get_mut(&key)
            {
                if member.endpoint.address == backend.address {
                    member.source = BackendSource::Config;
                    member.discovery = None;
                    member.endpoint.set_weight(backend.weight);
                    member.is_backup = backend.backup;
                    member.zone.clone_from(&backend.zone);
                    continue;
                }
                let reason = format!("moved to {}", backend.address);
                difference.leaving.push((key, reason));
                drains = self.inheritance(key);
            }
            difference.joining.push(JoiningBackend {
                name: backend.name.clone(),
                address: backend.address.clone(),
                weight: backend.weight,
                is_backup: backend.backup,
                zone: backend.zone.clone(),
                source: BackendSource::Config,
                discovery: None,
                drains,
                tenure: None,
                owner: None,
            });
        }
        for key in stay.into_values().filter(|key| self.is_configured(*key)) {
            let reason = "no longer in the configuration".to_owned();
            difference.leaving.push((key, reason));
        }
        difference
    }
}

/// Returns the core's settings for a configuration.
pub(super) fn policy(config: &config::PoolConfig) -> BackendPolicy {
    let health = &config.health;
    BackendPolicy {
        rise: health.rise,
        fall: health.fall,
        fall_timeout: health.fall_timeout,
        interval: health.interval,
        fast_interval: health.fast_interval,
        absent_after: health.absent_after,
        cut_on_503: config.drain.cut_on_503,
        drain_deadline: config.drain.deadline,
        close_spread: config.drain.close_spread,
        finishes_sessions: (config.sticky.as_ref())
            .is_some_and(|sticky| sticky.on_drain == config::OnDrain::Finish),
    }
}
