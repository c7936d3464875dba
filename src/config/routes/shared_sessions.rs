//! Checks of sticky pools with the same clients: one pool's cookie must not overwrite another's.

use std::collections::HashMap;

use super::SplitKey;
use crate::config::reader::ConfigFindings;
use crate::config::{Config, PoolConfig, Route, StickyConfig};

/// Warns if sessions would be lost: two pools with the same cookie, and splits that change pools with each request.
pub(super) fn validate_sessions(config: &Config, f: &mut ConfigFindings) {
    let sticky: HashMap<&str, (usize, &PoolConfig, &StickyConfig)> = config
        .pools
        .iter()
        .enumerate()
        .filter_map(|(i, pool)| Some((&*pool.name, (i, pool, pool.sticky.as_ref()?))))
        .collect();
    if sticky.is_empty() {
        return;
    }
    // The first pool for each cookie and each host, or domain of the cookie.
    let mut first: HashMap<(&str, &str), usize> = HashMap::new();
    let mut told = Vec::new();
    for (i, route) in config.routes.iter().enumerate() {
        if route.split.len() > 1
            && route.split_on == SplitKey::Request
            && let Some(share) = route
                .split
                .iter()
                .find(|share| sticky.contains_key(&*share.pool))
        {
            let pool = &share.pool;
            f.warning(
                f.place(&format!("route[{i}].split")),
                format!(
                    "each request goes to one of these pools by chance, and pool \"{pool}\" is sticky: sessions are lost \
                     between them"
                ),
                format!(
                    "add `split_on = \"client\"`, or \"cookie:NAME\" with a cookie of the app's own, or leave out \
                     `[pool.sticky]` of pool \"{pool}\""
                ),
            );
        }
        for (j, pool, own) in answering(route).filter_map(|pool| sticky.get(pool)) {
            if own.header.is_some() {
                continue;
            }
            let hosts = route.each_host().map(|host| host.unwrap_or("*"));
            for clients in hosts.chain(own.domain.as_deref()) {
                let k = *first.entry((&own.cookie, clients)).or_insert(*j);
                let other = &config.pools[k];
                let meet = other.sticky.as_ref().is_some_and(|other| meet(other, own));
                if k == *j || !meet || told.contains(j) {
                    continue;
                }
                told.push(*j);
                let cookie = format!("pool[{j}].sticky.cookie");
                let also = f.place(&format!("pool[{k}].sticky.cookie"));
                f.warning(
                    f.place(&cookie),
                    format!(
                        "pools \"{}\" and \"{}\" have the same clients and the same cookie, `{}`: who comes to both loses the \
                         session with each change",
                        other.name, pool.name, own.cookie
                    ),
                    format!("give one of them another name, such as `cookie = \"{}-{}\"`", own.cookie, pool.name),
                )
                .also(also, "the other one");
            }
        }
    }
}

/// Returns the pools whose responses a route's clients get.
fn answering(route: &Route) -> impl Iterator<Item = &str> {
    let split = route.split.iter().map(|share| &*share.pool);
    route.pool.as_deref().into_iter().chain(split)
}

/// Whether a browser that has both cookies sends both with some request.
fn meet(one: &StickyConfig, other: &StickyConfig) -> bool {
    let holds = |outer: &str, inner: &str| {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| outer.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
    };
    holds(&one.path, &other.path) || holds(&other.path, &one.path)
}
