//! A route's guards in the form in which they are applied.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;

use super::changes::RouteChanges;
use crate::config::{LimitKey, Route};
use crate::core::field_names::FieldNames;
use crate::core::rate::RateRule;

/// Limits of a route.
#[derive(Debug)]
pub struct RouteLimits {
    /// Rate limit.
    pub rate: Option<RateLimit>,
    /// Limit of concurrent requests.
    pub connections: Option<AtOnceLimit>,
}

/// Limit of the rate of requests with the same key.
#[derive(Debug)]
pub struct RateLimit {
    /// The rate.
    pub rule: RateRule,
    /// Key by which requests are counted.
    pub key: LimitKey,
    /// Identity of the limit; the same after a reload that leaves the limit as it is.
    pub id: u64,
}

/// Limit of the number of concurrent requests with the same key.
#[derive(Debug)]
pub struct AtOnceLimit {
    /// Most concurrent requests.
    pub limit: NonZeroU32,
    /// Key by which requests are counted.
    pub key: LimitKey,
    /// Identity, as in [`RateLimit`].
    pub id: u64,
}

impl RouteLimits {
    /// Returns the limits of this route, if it has any.
    pub(super) fn new(route: &Route) -> Option<Box<Self>> {
        let rate = route.rate.as_ref().map(|rate| {
            let burst = NonZeroU32::new(rate.burst).unwrap_or(rate.limit.count);
            RateLimit {
                rule: RateRule::new(rate.limit.count, rate.limit.period, burst),
                key: rate.key.clone(),
                id: limit_id(route, ("rate", rate.limit, burst, &rate.key)),
            }
        });
        let connections = route.connections.as_ref().map(|limit| AtOnceLimit {
            limit: limit.limit,
            key: limit.key.clone(),
            id: limit_id(route, ("connections", &limit.key)),
        });
        let has_any = rate.is_some() || connections.is_some();
        has_any.then(|| Box::new(Self { rate, connections }))
    }
}

/// Returns the names of the fields that tell the app who the user is, and of those that the route changes.
pub(super) fn said_names(route: &Route, changes: Option<&RouteChanges>) -> Option<Arc<FieldNames>> {
    let auth = route.auth.as_ref()?;
    let said = auth.user_header.iter().chain(&auth.copy);
    let request = changes.and_then(|changes| changes.request.as_ref());
    let changed = request
        .into_iter()
        .flat_map(|changes| changes.dropped.each());
    let mut said = said.map(String::as_str).peekable();
    said.peek()?;
    Some(Arc::new(FieldNames::new(said.chain(changed))))
}

/// Returns the identity of a limit, from the route's conditions and the limit itself.
fn limit_id(route: &Route, limit: impl Hash) -> u64 {
    // The secret is added when requests are counted.
    let mut hasher = DefaultHasher::new();
    route.to_string().hash(&mut hasher);
    limit.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_the_same_after_a_reload_that_leaves_it_alone() {
        let parse = |text: &str| {
            let text = format!(
                "[[listener]]\naddress = \"127.0.0.1:0\"\n[[pool]]\nname = \"app\"\n[[pool.backend]]\naddress = \"127.0.0.1:1\"\n[[route]]\npool = \"app\"\n{text}"
            );
            let loaded = crate::config::parse("x.toml", &text);
            let config = loaded.unwrap_or_else(|error| panic!("{error}")).config;
            let limits = RouteLimits::new(&config.routes[0]).unwrap();
            (
                limits.rate.map(|rate| rate.id),
                limits.connections.map(|limit| limit.id),
            )
        };
        let one =
            parse("path_prefix = \"/a\"\nconnections = 3\nrate = { limit = \"10/s\", burst = 20 }");
        let other = parse(
            "path_prefix = \"/a\"\nconnections = 4\ndeny = [\"10.0.0.0/8\"]\nrate = { burst = 20, limit = \"10/s\" }",
        );
        assert_eq!(one, other);
        for changed in [
            "path_prefix = \"/b\"\nconnections = 3\nrate = { limit = \"10/s\", burst = 20 }",
            "path_prefix = \"/a\"\nconnections = { limit = 3, key = \"route\" }\nrate = { limit = \"10/m\", burst = 20 }",
            "path_prefix = \"/a\"\nmethods = [\"GET\"]\nconnections = 3\nrate = { limit = \"10/s\", burst = 21 }",
        ] {
            let changed = parse(changed);
            assert_ne!(one.0, changed.0);
            assert_ne!(one.1, changed.1);
        }
    }
}
