//! Changes of a reload. Pure: two configurations in, a list of changes out; `shown` formats them as lines.

mod outline;
mod shown;

pub use outline::ChangeOutline;

use super::ListenAddress;
use super::print::print_sections;
use super::routes::{AskedOfRequest, is_matcher};
use super::schema;
use super::section_traits::{ConfigSection, PrintExtent, TomlEntries};
use super::sections::*;
use std::collections::HashMap;
use std::hash::Hash;

/// A setting that changed, with its values as TOML.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedSetting {
    /// Section, as written in the file: `[pool.health]`.
    pub section: &'static str,
    /// Key.
    pub key: &'static str,
    /// Value before; empty if the key did not apply.
    pub from: String,
    /// Value after; empty if the key no longer applies.
    pub to: String,
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are what their names say")]
#[allow(
    clippy::large_enum_variant,
    reason = "a reload makes a few of them, and they live no longer than it"
)]
pub enum ConfigChange {
    /// A pool was added, with all its backends.
    PoolAdded { pool: String },
    /// A pool was removed, with all its backends.
    PoolRemoved { pool: String },
    /// A pool's balancing, health check or another policy has changed.
    PoolSetting {
        pool: String,
        setting: ChangedSetting,
    },
    /// A pool's `[pool.health]` was added or removed: whether the check may fall back to TCP.
    HealthFallback { pool: String, allowed: bool },
    /// A backend was added to a pool that stays.
    BackendAdded {
        pool: String,
        backend: BackendConfig,
    },
    /// A backend was removed from a pool that stays: it drains, then leaves.
    BackendRemoved {
        pool: String,
        backend: BackendConfig,
    },
    /// A backend has another address under the same name: a new incarnation; the old one drains.
    BackendReplaced {
        pool: String,
        from: BackendConfig,
        to: BackendConfig,
    },
    /// A backend has another weight.
    BackendWeight {
        pool: String,
        name: String,
        from: u32,
        to: u32,
    },
    /// A backend is a backup now, or no longer.
    BackendBackup {
        pool: String,
        name: String,
        backup: bool,
    },
    /// A backend is in another zone.
    BackendZone {
        pool: String,
        name: String,
        from: Option<String>,
        to: Option<String>,
    },
    /// A discovery source was added to a pool.
    DiscoveryAdded { pool: String, source: String },
    /// A discovery source was removed from a pool: its backends leave.
    DiscoveryRemoved { pool: String, source: String },
    /// A setting of a discovery source has changed.
    DiscoverySetting {
        pool: String,
        source: String,
        setting: ChangedSetting,
    },
    /// A route was added.
    RouteAdded { route: Route },
    /// A route was removed.
    RouteRemoved { route: Route },
    /// A route leads to another pool.
    RouteMoved { from: Box<Route>, to: Box<Route> },
    /// Another setting of a route that matches the same requests has changed.
    RouteSetting {
        route: Route,
        setting: ChangedSetting,
    },
    /// Routes with conditions other than host and path prefix are in another order, which matters between equal ones.
    RoutesReordered,
    /// A listener has to be opened.
    ListenerAdded { listener: ListenerConfig },
    /// A listener has to be closed, while its connections may finish.
    ListenerRemoved { listener: ListenerConfig },
    /// An option of a listener that stays has changed.
    ListenerChanged {
        address: ListenAddress,
        setting: ChangedSetting,
    },
    /// A setting of `[server]`, `[admin]`, `[access_log]`, `[headers]` or `[compression]` has changed.
    Setting(ChangedSetting),
}

/// All changes from one configuration to another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigDiff {
    /// The changes in the order for display: server, listeners, pools, routes.
    pub changes: Vec<ConfigChange>,
}

impl ConfigDiff {
    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns the changes that a reload can't apply, but only a restart.
    pub fn needs_restart(&self) -> impl Iterator<Item = &ConfigChange> {
        self.changes.iter().filter(|change| change.needs_restart())
    }
}

impl ConfigChange {
    /// Whether the change takes effect only when the process is restarted.
    pub fn needs_restart(&self) -> bool {
        match self {
            ConfigChange::PoolSetting { setting, .. }
            | ConfigChange::ListenerChanged { setting, .. }
            | ConfigChange::Setting(setting) => schema::needs_restart(setting.section, setting.key),
            _ => false,
        }
    }
}

/// Returns the changes from `old` to `new`.
pub fn diff(old: &Config, new: &Config) -> ConfigDiff {
    let mut changes = Vec::new();
    // Sections that exist once, in the order of the file.
    let changed = all_settings(old, new);
    changes.extend(changed.into_iter().map(ConfigChange::Setting));
    listeners(&old.listeners, &new.listeners, &mut changes);
    let (before, after) = (
        index(&old.pools, |pool| &*pool.name),
        index(&new.pools, |pool| &*pool.name),
    );
    for pool in &old.pools {
        if !after.contains_key(&*pool.name) {
            changes.push(ConfigChange::PoolRemoved {
                pool: pool.name.clone(),
            });
        }
    }
    for pool in &new.pools {
        match before.get(&*pool.name) {
            Some(other) => self::pool(other, pool, &mut changes),
            None => changes.push(ConfigChange::PoolAdded {
                pool: pool.name.clone(),
            }),
        }
    }
    routes(&old.routes, &new.routes, &mut changes);
    // Compared with their real values, but shown without possible secrets.
    for change in &mut changes {
        if let ConfigChange::PoolSetting { setting, .. }
        | ConfigChange::DiscoverySetting { setting, .. }
        | ConfigChange::RouteSetting { setting, .. }
        | ConfigChange::ListenerChanged { setting, .. }
        | ConfigChange::Setting(setting) = change
        {
            setting.from = old.hidden.hide(setting.section, setting.key, &setting.from);
            setting.to = new.hidden.hide(setting.section, setting.key, &setting.to);
        }
    }
    ConfigDiff { changes }
}

/// Returns an index of a list by a key. A search for each item of the other list would take a million comparisons for
/// a thousand backends.
fn index<'a, T, K: Eq + Hash>(list: &'a [T], key: impl Fn(&'a T) -> K) -> HashMap<K, &'a T> {
    list.iter().map(|item| (key(item), item)).collect()
}

/// Returns the keys whose values differ, including those that only one side has.
fn settings(
    section: &'static str,
    old: TomlEntries,
    new: TomlEntries,
) -> impl Iterator<Item = ChangedSetting> {
    let value = |entries: &TomlEntries, key: &str| {
        let found = entries.iter().find(|(other, _)| *other == key);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let mut keys: Vec<&'static str> = new.iter().map(|(key, _)| *key).collect();
    keys.extend(
        old.iter()
            .map(|(key, _)| *key)
            .filter(|key| !new.iter().any(|(other, _)| other == key)),
    );
    keys.into_iter().filter_map(move |key| {
        let (from, to) = (value(&old, key), value(&new, key));
        (from != to).then_some(ChangedSetting {
            section,
            key,
            from,
            to,
        })
    })
}

/// Returns the settings that differ in a section and in its subsections that exist once. Items of lists, such as
/// certificates, are compared by position.
fn all_settings<T: ConfigSection>(old: &T, new: &T) -> Vec<ChangedSetting> {
    let mut before = print_sections(old, PrintExtent::WithoutLists);
    let mut changed = Vec::new();
    for (header, entries) in print_sections(new, PrintExtent::WithoutLists) {
        let other = before.iter().position(|(other, _)| *other == header);
        let other = other.map(|at| before.remove(at).1).unwrap_or_default();
        changed.extend(settings(header, other, entries));
    }
    for (header, entries) in before {
        changed.extend(settings(header, entries, TomlEntries::new()));
    }
    changed
}

fn listeners(old: &[ListenerConfig], new: &[ListenerConfig], changes: &mut Vec<ConfigChange>) {
    let find = |list: &[ListenerConfig], address: &ListenAddress| {
        list.iter().find(|l| l.address == *address).cloned()
    };
    for listener in old {
        if find(new, &listener.address).is_none() {
            changes.push(ConfigChange::ListenerRemoved {
                listener: listener.clone(),
            });
        }
    }
    for listener in new {
        match find(old, &listener.address) {
            None => changes.push(ConfigChange::ListenerAdded {
                listener: listener.clone(),
            }),
            Some(other) => {
                let changed = all_settings(&other, listener).into_iter();
                changes.extend(changed.map(|setting| ConfigChange::ListenerChanged {
                    address: listener.address.clone(),
                    setting,
                }));
            }
        }
    }
}

fn pool(old: &PoolConfig, new: &PoolConfig, changes: &mut Vec<ConfigChange>) {
    let pool = || new.name.clone();
    if old.health.explicit != new.health.explicit {
        changes.push(ConfigChange::HealthFallback {
            pool: pool(),
            allowed: !new.health.explicit,
        });
    }
    let changed = all_settings(old, new).into_iter();
    changes.extend(changed.map(|setting| ConfigChange::PoolSetting {
        pool: pool(),
        setting,
    }));
    discovery(old, new, changes);
    let (before, after) = (
        index(&old.backends, |backend| &*backend.name),
        index(&new.backends, |backend| &*backend.name),
    );
    for backend in &old.backends {
        if !after.contains_key(&*backend.name) {
            changes.push(ConfigChange::BackendRemoved {
                pool: pool(),
                backend: backend.clone(),
            });
        }
    }
    for backend in &new.backends {
        match before.get(&*backend.name).copied() {
            None => changes.push(ConfigChange::BackendAdded {
                pool: pool(),
                backend: backend.clone(),
            }),
            Some(other) if other.address != backend.address => {
                changes.push(ConfigChange::BackendReplaced {
                    pool: pool(),
                    from: other.clone(),
                    to: backend.clone(),
                })
            }
            Some(other) => {
                if other.weight != backend.weight {
                    changes.push(ConfigChange::BackendWeight {
                        pool: pool(),
                        name: backend.name.clone(),
                        from: other.weight,
                        to: backend.weight,
                    });
                }
                if other.backup != backend.backup {
                    changes.push(ConfigChange::BackendBackup {
                        pool: pool(),
                        name: backend.name.clone(),
                        backup: backend.backup,
                    });
                }
                if other.zone != backend.zone {
                    changes.push(ConfigChange::BackendZone {
                        pool: pool(),
                        name: backend.name.clone(),
                        from: other.zone.clone(),
                        to: backend.zone.clone(),
                    });
                }
            }
        }
    }
}

fn discovery(old: &PoolConfig, new: &PoolConfig, changes: &mut Vec<ConfigChange>) {
    let pool = || new.name.clone();
    let (before, after) = (
        index(&old.discovery, DiscoveryConfig::label),
        index(&new.discovery, DiscoveryConfig::label),
    );
    for source in old.discovery.iter().map(DiscoveryConfig::label) {
        if !after.contains_key(&source) {
            changes.push(ConfigChange::DiscoveryRemoved {
                pool: pool(),
                source,
            });
        }
    }
    for one in &new.discovery {
        let source = one.label();
        match before.get(&source).copied() {
            None => changes.push(ConfigChange::DiscoveryAdded {
                pool: pool(),
                source,
            }),
            Some(other) => {
                let changed = all_settings(other, one).into_iter();
                changes.extend(changed.map(|setting| ConfigChange::DiscoverySetting {
                    pool: pool(),
                    source: source.clone(),
                    setting,
                }));
            }
        }
    }
}

/// Returns the conditions of a route: its hosts, and its other conditions on a request.
fn matched(route: &Route) -> (Vec<&String>, AskedOfRequest<'_>) {
    let mut hosts: Vec<_> = route.hosts.iter().collect();
    hosts.sort();
    (hosts, route.asked())
}

fn routes(old: &[Route], new: &[Route], changes: &mut Vec<ConfigChange>) {
    let (before, after) = (index(old, matched), index(new, matched));
    for route in old {
        if !after.contains_key(&matched(route)) {
            changes.push(ConfigChange::RouteRemoved {
                route: route.clone(),
            });
        }
    }
    for route in new {
        let Some(from) = before.get(&matched(route)).copied() else {
            changes.push(ConfigChange::RouteAdded {
                route: route.clone(),
            });
            continue;
        };
        if from.shown_action() != route.shown_action() {
            changes.push(ConfigChange::RouteMoved {
                from: Box::new(from.clone()),
                to: Box::new(route.clone()),
            });
        }
        for mut setting in all_settings(from, route) {
            // Its conditions are the same, in whatever order they are written; a change of its action is reported
            // above.
            let is_own = setting.section == Route::section().header;
            if is_own && setting.key == "name" {
                let name = |route: &Route| route.name.clone().unwrap_or_default();
                (setting.from, setting.to) = (name(from), name(route));
            }
            if !(is_own && (["pool", "split"].contains(&setting.key) || is_matcher(setting.key))) {
                changes.push(ConfigChange::RouteSetting {
                    route: route.clone(),
                    setting,
                });
            }
        }
    }
    let stays = |route: &&Route, other: &HashMap<_, _>| {
        !route.is_plain() && other.contains_key(&matched(route))
    };
    let kept = old.iter().filter(|route| stays(route, &after)).map(matched);
    if !kept.eq(new
        .iter()
        .filter(|route| stays(route, &before))
        .map(matched))
    {
        changes.push(ConfigChange::RoutesReordered);
    }
}
