//! What a reload changes. Pure: two configurations in, a list of changes out; `shown` has their lines for people.

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

/// One setting that changed, with its values as TOML.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedSetting {
    /// Its section as the file has it: `[pool.health]`.
    pub section: &'static str,
    /// Its key.
    pub key: &'static str,
    /// Before; empty where the key did not apply.
    pub from: String,
    /// After; empty where the key no longer applies.
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
    /// A pool that was not there, with all its backends.
    PoolAdded { pool: String },
    /// A pool that is gone, with all its backends.
    PoolRemoved { pool: String },
    /// A pool's balancing, health check or another policy.
    PoolSetting {
        pool: String,
        setting: ChangedSetting,
    },
    /// A pool's `[pool.health]` was added or removed: whether the check may fall back to TCP.
    HealthFallback { pool: String, allowed: bool },
    /// A backend in a pool that stays.
    BackendAdded {
        pool: String,
        backend: BackendConfig,
    },
    /// A backend that is gone from a pool that stays: it drains, then leaves.
    BackendRemoved {
        pool: String,
        backend: BackendConfig,
    },
    /// Same name, another address: a new incarnation; the old one drains.
    BackendReplaced {
        pool: String,
        from: BackendConfig,
        to: BackendConfig,
    },
    /// Same backend, another weight.
    BackendWeight {
        pool: String,
        name: String,
        from: u32,
        to: u32,
    },
    /// Same backend, which is a backup now, or no longer.
    BackendBackup {
        pool: String,
        name: String,
        backup: bool,
    },
    /// Same backend, in another zone.
    BackendZone {
        pool: String,
        name: String,
        from: Option<String>,
        to: Option<String>,
    },
    /// A source of backends that a pool did not have.
    DiscoveryAdded { pool: String, source: String },
    /// A source that a pool no longer has: its backends go.
    DiscoveryRemoved { pool: String, source: String },
    /// A source's setting.
    DiscoverySetting {
        pool: String,
        source: String,
        setting: ChangedSetting,
    },
    /// A route that was not there.
    RouteAdded { route: Route },
    /// A route that is gone.
    RouteRemoved { route: Route },
    /// A route that leads to another pool.
    RouteMoved { from: Box<Route>, to: Box<Route> },
    /// Another setting of a route that matches the same requests.
    RouteSetting {
        route: Route,
        setting: ChangedSetting,
    },
    /// Routes that ask for more than host and path prefix stand in another order, which counts between equal ones.
    RoutesReordered,
    /// A listener to open.
    ListenerAdded { listener: ListenerConfig },
    /// A listener to close, letting its connections finish.
    ListenerRemoved { listener: ListenerConfig },
    /// An option of a listener that stays.
    ListenerChanged {
        address: ListenAddress,
        setting: ChangedSetting,
    },
    /// A setting of `[server]`, `[admin]`, `[access_log]`, `[headers]` or `[compression]`.
    Setting(ChangedSetting),
}

/// All changes from one configuration to another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigDiff {
    /// In the order for display: server, listeners, pools, routes.
    pub changes: Vec<ConfigChange>,
}

impl ConfigDiff {
    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What a reload can't apply and only a restart will.
    pub fn needs_restart(&self) -> impl Iterator<Item = &ConfigChange> {
        self.changes.iter().filter(|change| change.needs_restart())
    }
}

impl ConfigChange {
    /// Whether it takes effect only when the process starts anew.
    pub fn needs_restart(&self) -> bool {
        match self {
            ConfigChange::PoolSetting { setting, .. }
            | ConfigChange::ListenerChanged { setting, .. }
            | ConfigChange::Setting(setting) => schema::needs_restart(setting.section, setting.key),
            _ => false,
        }
    }
}

/// What has to change to get from `old` to `new`.
pub fn diff(old: &Config, new: &Config) -> ConfigDiff {
    let mut changes = Vec::new();
    // Sections that there is one of, in the order of the file.
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
    // Compared with their real values, and shown without what may be a secret.
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

/// A list by what its items are found by. An index, because a search for each item of the other list would take a
/// million comparisons for a thousand backends.
fn index<'a, T, K: Eq + Hash>(list: &'a [T], key: impl Fn(&'a T) -> K) -> HashMap<K, &'a T> {
    list.iter().map(|item| (key(item), item)).collect()
}

/// The keys whose values differ, those that only one side has included.
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

/// The settings that differ in a section and in those below it that there is one of; what is listed there, such as
/// certificates, is compared by its place.
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

/// What a route is for: its hosts, and what else it asks of a request.
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
            // What it matches is the same, in whatever order it is written; a change of its action is reported above.
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
