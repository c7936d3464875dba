//! `[pool.health]`.

use crate::config::declare::{section, words};
use crate::config::forms::{ZeroIsNone, custom, integer, list, some_time};
use crate::config::health::{self, misplaced_keys};
use crate::config::print;
use crate::config::reader::{ConfigFindings, ConfigTable};
use crate::config::schema::KeySchema;
use crate::config::section_traits::{ConfigSection as _, KeyGroup, TomlEntries};
use std::ops::RangeInclusive;
use std::time::Duration;

const COUNT: RangeInclusive<i64> = 1..=1000;

section! {
    /// How the pool's backends are probed. Leave the whole section out and it is `GET /health`, where an app that
    /// answers 404, 405 or 501 is checked by a TCP connect instead, with a warning. A section that is written is taken
    /// at its word.
    [pool.health]
    #[derive(Debug, Clone, PartialEq)]
    pub struct HealthConfig {
        /// Probe another port than the backend's. `0`: the same.
        port: Option<u16> = 0, ZeroIsNone(integer(0..=65535));
        /// Whether `[pool.tls]` holds for probes, too. `false`: probes go without TLS, to a `port` of their own.
        tls: bool = true;
        /// From one probe to the next.
        interval: Duration = "1s", some_time();
        /// For one probe.
        timeout: Duration = "1s", some_time();
        /// From one probe to the next while starting, and after a first failure.
        fast_interval: Duration = "100ms", some_time();
        /// Passes in a row before a backend takes traffic.
        rise: u32 = 2, integer(COUNT);
        /// Failures in a row that make it down.
        fall: u32 = 3, integer(COUNT);
        /// Timed-out probes in a row that make it down. They take out nobody while no other ready backend answers in
        /// time.
        fall_timeout: u32 = 5, integer(COUNT);
        /// A backend that stopped by itself becomes down, with an alert, when it stays away longer.
        absent_after: Duration = "30s";
    }
    group {
        /// What is asked, and what passes.
        check: HealthCheck;
    }
    state {
        /// Whether the user wrote the section: without it a 404, 405 or 501 turns the check into a TCP one.
        explicit: bool = false, ConfigTable::is_written;
    }
}

impl HealthConfig {
    /// Whether a prober makes the same check as with `other`, with the same results: the interval, and the
    /// consequences of results, don't concern the prober.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        self.check == other.check
            && self.explicit == other.explicit
            && self.port == other.port
            && self.tls == other.tls
            && self.timeout == other.timeout
    }
}

/// A health check.
#[derive(Debug, Clone, PartialEq)]
pub enum HealthCheck {
    /// A TCP connection.
    Tcp,
    /// A call of `grpc.health.v1.Health/Check`.
    Grpc {
        /// Name of the service. Empty: the whole server.
        service: String,
        /// Value of `:authority`. `None`: the backend's address.
        host: Option<String>,
    },
    /// An HTTP request.
    Http {
        /// Request target.
        path: String,
        /// Value of `Host`. `None`: the backend's address.
        host: Option<String>,
        /// Request method.
        method: String,
        /// Extra header fields.
        headers: Vec<(String, String)>,
        /// Status codes that pass, as inclusive ranges. 503 always means draining unless listed.
        expect: Vec<(u16, u16)>,
    },
}

words! {
    /// The kinds of checks.
    pub(in crate::config) enum CheckKind {
        /// An HTTP request.
        Http = "http",
        /// A TCP connection.
        Tcp = "tcp",
        /// A gRPC call.
        Grpc = "grpc",
    }
}

section! {
    /// The keys that make a [`HealthCheck`]. Which of them a kind knows is in `CheckKind::keys`.
    [pool.health]
    #[derive(Debug, Clone, PartialEq)]
    struct CheckKeys {
        /// Send a request; only connect (with the handshake, where there is TLS); or call
        /// `grpc.health.v1.Health/Check`, over HTTP/2: `SERVING` passes, `NOT_SERVING` is draining.
        #[key = "type"]
        kind: CheckKind = "http";
        /// What to ask for (http).
        path: String = "/health", custom("text", health::read_path, |path| print::text(path));
        /// The `Host` field (http), or `:authority` (grpc). `""`: the backend's address.
        host: Option<String> = "", custom("text", health::read_host, |host| print::maybe(host.as_ref())).public();
        /// The method (http).
        method: String = "GET", custom("text", health::read_method, |method| print::text(method)).public();
        /// Further fields (http), such as `{ "X-Probe" = "lameduck" }`.
        headers: Vec<(String, String)> = {}, custom("table of texts", health::read_fields, |fields| health::print_fields(fields));
        /// Statuses that pass (http): `204`, `"2xx"`, `"200-299"`. A 503 always means draining, unless listed.
        expect: Vec<(u16, u16)> = ["2xx"], list("list", "[\"2xx\"]", custom("status", health::read_statuses, |range| health::print_statuses(*range)).public())
            .unless_empty("no answer could pass", "write `expect = [\"2xx\"]`, or remove it");
        /// Which service to ask about (grpc). `""`: the server as a whole.
        service: String = "", custom("text", health::read_service, |service| print::text(service)).public();
    }
}

impl CheckKind {
    /// Returns the keys that a check of this kind knows, in the order in which they are printed.
    pub(in crate::config) fn keys(self) -> &'static [&'static str] {
        match self {
            CheckKind::Tcp => &["type"],
            CheckKind::Grpc => &["type", "service", "host"],
            // An empty service is permitted, because it changes nothing.
            CheckKind::Http => &[
                "type", "path", "host", "method", "headers", "expect", "service",
            ],
        }
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        CheckKeys::default().into()
    }
}

impl From<CheckKeys> for HealthCheck {
    fn from(keys: CheckKeys) -> Self {
        match keys.kind {
            CheckKind::Tcp => HealthCheck::Tcp,
            CheckKind::Grpc => HealthCheck::Grpc {
                service: keys.service,
                host: keys.host,
            },
            CheckKind::Http => HealthCheck::Http {
                path: keys.path,
                host: keys.host,
                method: keys.method,
                headers: keys.headers,
                expect: keys.expect,
            },
        }
    }
}

impl From<&HealthCheck> for CheckKeys {
    fn from(check: &HealthCheck) -> Self {
        let unwritten = CheckKeys::default();
        match check.clone() {
            HealthCheck::Tcp => CheckKeys {
                kind: CheckKind::Tcp,
                ..unwritten
            },
            HealthCheck::Grpc { service, host } => CheckKeys {
                kind: CheckKind::Grpc,
                service,
                host,
                ..unwritten
            },
            HealthCheck::Http {
                path,
                host,
                method,
                headers,
                expect,
            } => CheckKeys {
                kind: CheckKind::Http,
                path,
                host,
                method,
                headers,
                expect,
                ..unwritten
            },
        }
    }
}

impl KeyGroup for HealthCheck {
    fn keys() -> &'static [KeySchema] {
        CheckKeys::section().keys
    }

    fn unwritten() -> Self {
        HealthCheck::default()
    }

    fn read(table: &ConfigTable<'_>, found: &mut ConfigFindings) -> Self {
        let keys = CheckKeys::read(table, found);
        misplaced_keys(table, keys.kind, &keys.service, found);
        keys.into()
    }

    fn entries(&self) -> TomlEntries {
        let keys = CheckKeys::from(self);
        let all = keys.entries();
        let known = keys.kind.keys().iter();
        known
            .filter_map(|known| all.iter().find(|(key, _)| key == known).cloned())
            .collect()
    }
}
