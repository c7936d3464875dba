//! Formats changes as text, one line for each.

use super::{ChangedSetting, ConfigChange, ConfigDiff};
use crate::config::Route;
use crate::config::section_traits::ConfigSection as _;
use std::fmt;

/// One line for each change; empty without changes.
impl fmt::Display for ConfigDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        Ok(())
    }
}

/// Formats a value as text; a key that does not apply has none.
fn shown(value: &str) -> &str {
    if value.is_empty() { "(none)" } else { value }
}

impl fmt::Display for ChangedSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: {} → {}",
            self.section,
            self.key,
            shown(&self.from),
            shown(&self.to)
        )
    }
}

impl fmt::Display for ConfigChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigChange::PoolAdded { pool } => write!(f, "pool {pool}: added"),
            ConfigChange::PoolRemoved { pool } => write!(f, "pool {pool}: removed"),
            ConfigChange::PoolSetting { pool, setting } => write!(f, "pool {pool}: {setting}"),
            ConfigChange::HealthFallback {
                pool,
                allowed: true,
            } => {
                write!(
                    f,
                    "pool {pool}: [pool.health] is no longer written: the check may fall back to TCP"
                )
            }
            ConfigChange::HealthFallback {
                pool,
                allowed: false,
            } => {
                write!(
                    f,
                    "pool {pool}: [pool.health] is written: the check no longer falls back to TCP"
                )
            }
            ConfigChange::BackendAdded { pool, backend } => {
                write!(
                    f,
                    "backend {pool}/{}: added at {}",
                    backend.name, backend.address
                )
            }
            ConfigChange::BackendRemoved { pool, backend } => {
                write!(
                    f,
                    "backend {pool}/{}: removed ({}); it drains first",
                    backend.name, backend.address
                )
            }
            ConfigChange::BackendReplaced { pool, from, to } => {
                write!(
                    f,
                    "backend {pool}/{}: {} → {}; the old one drains",
                    to.name, from.address, to.address
                )?;
                if from.weight != to.weight {
                    write!(f, "; weight {} → {}", from.weight, to.weight)?;
                }
                Ok(())
            }
            ConfigChange::BackendWeight {
                pool,
                name,
                from,
                to,
            } => {
                write!(f, "backend {pool}/{name}: weight {from} → {to}")
            }
            ConfigChange::BackendBackup { pool, name, backup } => {
                let before = !backup;
                write!(f, "backend {pool}/{name}: backup {before} → {backup}")
            }
            ConfigChange::BackendZone {
                pool,
                name,
                from,
                to,
            } => {
                let zone = |zone: &Option<String>| shown(zone.as_deref().unwrap_or("")).to_owned();
                let (from, to) = (zone(from), zone(to));
                write!(f, "backend {pool}/{name}: zone {from} → {to}")
            }
            ConfigChange::DiscoveryAdded { pool, source } => {
                write!(f, "pool {pool}: source {source} added")
            }
            ConfigChange::DiscoveryRemoved { pool, source } => {
                write!(
                    f,
                    "pool {pool}: source {source} removed; its backends drain first"
                )
            }
            ConfigChange::DiscoverySetting {
                pool,
                source,
                setting,
            } => write!(f, "pool {pool}: source {source}: {setting}"),
            ConfigChange::RouteAdded { route } => {
                write!(f, "route {route}: added, to {}", route.shown_action())
            }
            ConfigChange::RouteRemoved { route } => {
                write!(
                    f,
                    "route {route}: removed (was to {})",
                    route.shown_action()
                )
            }
            ConfigChange::RouteMoved { from, to } => {
                write!(
                    f,
                    "route {to}: {} → {}",
                    from.shown_action(),
                    to.shown_action()
                )
            }
            ConfigChange::RouteSetting { route, setting } => {
                let (from, to) = (shown(&setting.from), shown(&setting.to));
                let section = match setting.section == Route::section().header {
                    true => String::new(),
                    false => format!("{} ", setting.section),
                };
                write!(f, "route {route}: {section}{} {from} → {to}", setting.key)
            }
            ConfigChange::RoutesReordered => {
                write!(f, "routes: another order, which counts between equal ones")
            }
            ConfigChange::ListenerAdded { listener } => {
                write!(f, "listener {}: added", listener.address)
            }
            ConfigChange::ListenerRemoved { listener } => {
                write!(f, "listener {}: removed", listener.address)
            }
            ConfigChange::ListenerChanged { address, setting } => {
                write!(
                    f,
                    "listener {address}: {} = {}",
                    setting.key,
                    shown(&setting.to)
                )
            }
            ConfigChange::Setting(setting) => write!(f, "{setting}"),
        }?;
        if self.needs_restart() {
            f.write_str(" (needs a restart)")?;
        }
        Ok(())
    }
}
