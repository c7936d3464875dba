//! Outline of a change: a thing was added, removed, or changed.

use super::ConfigChange;

/// Outline of a change, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeOutline {
    /// This was added.
    Added(String),
    /// This was removed.
    Removed(String),
    /// A value has changed.
    Changed {
        /// Name of the value.
        what: String,
        /// Value before.
        from: String,
        /// Value after.
        to: String,
    },
}

impl ConfigChange {
    /// Returns the outline of this change. A pool with several changes has one outline for each.
    pub fn outline(&self) -> ChangeOutline {
        let added = ChangeOutline::Added;
        let removed = ChangeOutline::Removed;
        let changed = |what: String, from: String, to: String| ChangeOutline::Changed {
            what,
            from: or_none(from),
            to: or_none(to),
        };
        match self {
            Self::PoolAdded { pool } => added(format!("pool {pool}")),
            Self::PoolRemoved { pool } => removed(format!("pool {pool}")),
            Self::PoolSetting { pool, setting } => changed(
                format!("pool {pool}: {} {}", setting.section, setting.key),
                setting.from.clone(),
                setting.to.clone(),
            ),
            Self::HealthFallback { pool, allowed } => changed(
                format!("pool {pool}: the check may fall back to TCP"),
                (!allowed).to_string(),
                allowed.to_string(),
            ),
            Self::BackendAdded { pool, backend } => {
                added(format!("{pool}/{} at {}", backend.name, backend.address))
            }
            Self::BackendRemoved { pool, backend } => {
                removed(format!("{pool}/{} at {}", backend.name, backend.address))
            }
            Self::BackendReplaced { pool, from, to } => changed(
                format!("{pool}/{}: address", to.name),
                from.address.to_string(),
                to.address.to_string(),
            ),
            Self::BackendWeight {
                pool,
                name,
                from,
                to,
            } => changed(
                format!("{pool}/{name}: weight"),
                from.to_string(),
                to.to_string(),
            ),
            Self::BackendBackup { pool, name, backup } => changed(
                format!("{pool}/{name}: backup"),
                (!backup).to_string(),
                backup.to_string(),
            ),
            Self::BackendZone {
                pool,
                name,
                from,
                to,
            } => changed(
                format!("{pool}/{name}: zone"),
                from.clone().unwrap_or_default(),
                to.clone().unwrap_or_default(),
            ),
            Self::DiscoveryAdded { pool, source } => added(format!("pool {pool}: source {source}")),
            Self::DiscoveryRemoved { pool, source } => {
                removed(format!("pool {pool}: source {source}"))
            }
            Self::DiscoverySetting {
                pool,
                source,
                setting,
            } => changed(
                format!("pool {pool}: source {source}: {}", setting.key),
                setting.from.clone(),
                setting.to.clone(),
            ),
            Self::RouteAdded { route } => {
                added(format!("route {route}, to {}", route.shown_action()))
            }
            Self::RouteRemoved { route } => {
                removed(format!("route {route}, to {}", route.shown_action()))
            }
            Self::RouteMoved { from, to } => changed(
                format!("route {to}"),
                from.shown_action().to_string(),
                to.shown_action().to_string(),
            ),
            Self::RouteSetting { route, setting } => changed(
                format!("route {route}: {}", setting.key),
                setting.from.clone(),
                setting.to.clone(),
            ),
            Self::RoutesReordered => changed(
                "routes".to_owned(),
                "one order".to_owned(),
                "another, which counts between equal ones".to_owned(),
            ),
            Self::ListenerAdded { listener } => added(format!("listener {}", listener.address)),
            Self::ListenerRemoved { listener } => removed(format!("listener {}", listener.address)),
            Self::ListenerChanged { address, setting } => changed(
                format!("listener {address}: {}", setting.key),
                setting.from.clone(),
                setting.to.clone(),
            ),
            Self::Setting(setting) => changed(
                format!("{} {}", setting.section, setting.key),
                setting.from.clone(),
                setting.to.clone(),
            ),
        }
    }
}

fn or_none(value: String) -> String {
    match value.is_empty() {
        true => "(none)".to_owned(),
        false => value,
    }
}
