//! lameduck's own configuration, or the defaults without one.

use std::time::Duration;

use crate::config::{Config, HealthCheck, PoolConfig};

/// Health path if nothing else is known.
const HEALTH: &str = "/health";

/// Settings of the proxy.
#[derive(Debug, Clone, Default)]
pub(super) struct ProxySide {
    config: Option<Config>,
}

impl ProxySide {
    pub(super) fn new(config: Option<Config>) -> Self {
        ProxySide { config }
    }

    pub(super) fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    pub(super) fn pools(&self) -> &[PoolConfig] {
        self.config.as_ref().map_or(&[], |config| &config.pools)
    }

    /// Pool of a process: by the pool's name or a backend's, without a number at the end.
    pub(super) fn pool_of(&self, process: &str) -> Option<&PoolConfig> {
        let stem = process
            .trim_end_matches(|c: char| c.is_ascii_digit())
            .trim_end_matches(['-', '_', '@', '.']);
        let is = |name: &str| name == process || name == stem;
        self.pools()
            .iter()
            .find(|pool| is(&pool.name) || pool.backends.iter().any(|b| is(&b.name)))
    }

    pub(super) fn pool(&self, name: &str) -> Option<&PoolConfig> {
        self.pools().iter().find(|pool| pool.name == name)
    }

    /// Duration of a drain if none is given.
    pub(super) fn drain(&self, pool: Option<&PoolConfig>) -> Duration {
        pool.or(self.pools().first())
            .map_or(Duration::from_secs(30), |pool| pool.drain.deadline)
    }

    /// Time that the proxy itself needs after its signal, including the lame duck.
    pub(super) fn deadline(&self) -> Duration {
        let config = self.config.as_ref();
        config.map_or(Duration::from_secs(30), |c| {
            c.server.deadline.max(c.server.longest_lame_duck())
        })
    }

    /// Longest idle time of kept connections to the app.
    pub(super) fn idle(&self, pool: Option<&PoolConfig>) -> Duration {
        pool.or(self.pools().first())
            .map_or(Duration::from_secs(4), |pool| pool.upstream.idle_timeout)
    }

    /// Whether an app of this pool (any pool, if it isn't known) answers 503 at this path while it drains.
    pub(super) fn says_503(&self, pool: Option<&PoolConfig>, path: &str) -> bool {
        let path = path.split(['?', '#']).next().unwrap_or(path);
        let of = |pool: &PoolConfig| match &pool.health.check {
            HealthCheck::Http { path: health, .. } => health.split('?').next() == Some(path),
            HealthCheck::Tcp | HealthCheck::Grpc { .. } => path == HEALTH,
        };
        match (pool, self.pools()) {
            (Some(pool), _) => of(pool),
            (None, []) => [HEALTH, "/healthz", "/ready", "/readyz"].contains(&path),
            (None, pools) => pools.iter().any(of),
        }
    }
}
