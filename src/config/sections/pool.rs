//! `[[pool]]` and `[[pool.backend]]`.

use super::{
    DiscoveryConfig, DrainConfig, HealthConfig, HoldConfig, OutlierConfig, RetryConfig, SlowStart,
    StickyConfig, SupervisorConfig, UpstreamConfig, UpstreamTls,
};
use crate::config::Address;
use crate::config::declare::{section, words};
use crate::config::forms::{CustomForm, EmptyIsNone, custom, integer};
use crate::config::hash_key::{HashKey, hash_key, hash_load};
use crate::config::print;
use crate::config::section_traits::ConfigSection as _;
use crate::config::values;

section! {
    /// The instances of one app. At least one.
    [[pool]]
    #[derive(Debug, Clone, PartialEq)]
    pub struct PoolConfig {
        /// Unique. Letters, digits, `.`, `_` and `-`.
        #[no_default(needed)]
        name: String = "app", name();
        /// How to [choose among backends](balancing.md) that are ready: fewest requests in flight, in turn, by chance,
        /// lowest latency × requests in flight, or by hash, also as nginx does it; all by weight.
        balance: BalanceConfig = "least_requests";
        /// With `"hash"` and `"ketama_nginx"`: what requests have in common that the same backend gets. The path with its
        /// query (`"uri"`) or without (`"path"`), as it was sent. A request without that header field or cookie goes
        /// anywhere.
        hash_on: HashKey = "client", hash_key();
        /// With `"hash"`: a backend that has more than this times its part of what is in flight is passed over. `0`: none
        /// is.
        hash_load: f64 = 1.25, hash_load();
    }
    sections {
        /// `[[pool.backend]]`.
        #[key = "backend"]
        backends: Vec<BackendConfig>;
        /// `[[pool.discovery]]`: where further backends come from.
        discovery: Vec<DiscoveryConfig>;
        /// `[pool.health]`.
        health: HealthConfig;
        /// `[pool.drain]`.
        drain: DrainConfig;
        /// `[pool.upstream]`.
        upstream: UpstreamConfig;
        /// `[pool.retry]`.
        retry: RetryConfig;
        /// `[pool.hold]`.
        hold: HoldConfig;
        /// `[pool.slow_start]`.
        slow_start: SlowStart;
        /// `[pool.sticky]`; `None`: each request goes to the best backend.
        sticky: Option<StickyConfig>;
        /// `[pool.outlier]`; `None`: how attempts end is no reason to leave a backend out.
        outlier: Option<OutlierConfig>;
        /// `[pool.supervisor]`; `None`: no supervisor is listened to.
        supervisor: Option<SupervisorConfig>;
        /// `[pool.tls]`; `None`: the backends are spoken to without TLS.
        tls: Option<UpstreamTls>;
    }
}

words! {
    /// Balancing algorithms.
    pub enum BalanceConfig {
        /// Fewest requests in flight per weight.
        LeastRequests = "least_requests",
        /// Smooth weighted round robin.
        RoundRobin = "round_robin",
        /// Weighted random.
        Random = "random",
        /// Of two random backends, the one with the lower latency × requests in flight, per weight.
        PeakEwma = "peak_ewma",
        /// The same backend for the same key, by the backends' names.
        Hash = "hash",
        /// The same backend for the same key, as with nginx's `hash … consistent`.
        KetamaNginx = "ketama_nginx",
    }
}

impl PoolConfig {
    /// Creates a pool without backends, with defaults for all policies.
    pub fn named(name: impl Into<String>) -> Self {
        PoolConfig {
            name: name.into(),
            ..PoolConfig::unwritten().clone()
        }
    }
}

section! {
    /// One instance. A pool may start without any and be filled by `lameduck register` or the API.
    [[pool.backend]]
    #[derive(Debug, Clone)]
    pub struct BackendConfig {
        /// Unique in its pool. Letters, digits, `.`, `_` and `-`. Left out: the pool's name, a dash and its place, from
        /// 1.
        ///
        /// By default it stays with the address when the file changes.
        #[no_default(optional)]
        name: String = "app-1", name();
        /// `host:port` (a name is resolved again and again), `[v6]:port`, or `unix:/path`.
        #[no_default(needed)]
        address: Address = "127.0.0.1:3000", backend_address();
        /// Its share of the traffic against its neighbours'. `0`: probed, and sent nothing.
        weight: u32 = 1, integer(0..=1000).told();
        /// Whether it [stands by](upstreams.md#backup-backends): it gets requests only while no other backend is ready. It
        /// is health-checked and drained like the others.
        backup: bool = false;
        /// Where it is, such as a data centre: backends in the [zone](balancing.md#zones) of `[server]` come first. Letters,
        /// digits, `.`, `_` and `-`.
        zone: Option<String> = "", EmptyIsNone("eu-1a", name());
    }
    state {
        /// Whether the file gives the name. Equal backends may differ in it: writing a default down changes nothing.
        named: bool = false, |table: &ConfigTable<'_>| table.writes("name");
    }
}

impl PartialEq for BackendConfig {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            name,
            named: _,
            address,
            weight,
            backup,
            zone,
        } = self;
        *name == other.name
            && *address == other.address
            && *weight == other.weight
            && *backup == other.backup
            && *zone == other.zone
    }
}

/// Returns the form of the name of a pool or backend.
pub(super) fn name() -> CustomForm<String> {
    custom(
        "text",
        |key, value| values::name(key.name, value),
        |name| print::text(name),
    )
    .public()
}

fn backend_address() -> CustomForm<Address> {
    custom(
        "address",
        |key, value| values::backend_address(key.name, value),
        |address| print::text(&address.to_string()),
    )
    .public()
}
