//! `[[pool]]` at run time: backends, health checks, drains, connections, retries, holds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Hold, Retry};
use crate::tls;

/// An address of a backend or a probe.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// A literal address.
    Socket(SocketAddr),
    /// A host name and port, resolved again and again.
    Name(String, u16),
    /// A unix socket, written `unix:/path`.
    Unix(PathBuf),
}

/// `[[pool]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Its name, unique.
    pub name: String,
    /// How to choose among eligible backends.
    pub balance: Balance,
    /// `[[pool.backend]]`.
    pub backends: Vec<Backend>,
    /// `[pool.health]`.
    pub health: Health,
    /// `[pool.drain]`.
    pub drain: Drain,
    /// `[pool.upstream]`.
    pub upstream: Upstream,
    /// `[pool.tls]`; `None`: the backends are spoken to without TLS.
    pub tls: Option<UpstreamTls>,
    /// `[pool.retry]`.
    pub retry: Retry,
    /// `[pool.hold]`.
    pub hold: Hold,
    /// `[pool.slow_start] window`.
    pub slow_start: Duration,
}

/// Balancing algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// Fewest in flight per weight (the default).
    LeastRequests,
    /// Smooth weighted round robin.
    RoundRobin,
    /// Weighted random.
    Random,
}

/// `[[pool.backend]]`.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Unique within its pool; by default `POOL-1`, `POOL-2`…, which stays with the address when the file changes.
    pub name: String,
    /// Whether the file gives the name. Equal backends may differ in it: writing a default down changes nothing.
    pub named: bool,
    /// Where it listens.
    pub address: Address,
    /// Its share. Default 1.
    pub weight: u32,
}

impl PartialEq for Backend {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            name,
            named: _,
            address,
            weight,
        } = self;
        *name == other.name && *address == other.address && *weight == other.weight
    }
}

/// `[pool.health]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// HTTP, TCP or gRPC.
    pub check: Check,
    /// Whether the user wrote the section: without it a 404, 405 or 501 turns the check into a TCP one.
    pub explicit: bool,
    /// Another port than the backend's.
    pub port: Option<u16>,
    /// Whether `[pool.tls]` holds for probes, too. Default true.
    pub tls: bool,
    /// Between probes. Default 1 s.
    pub interval: Duration,
    /// For one probe. Default 1 s.
    pub timeout: Duration,
    /// While starting, and after a first failure. Default 100 ms.
    pub fast_interval: Duration,
    /// Default 2.
    pub rise: u32,
    /// Default 3.
    pub fall: u32,
    /// Default 5.
    pub fall_timeout: u32,
    /// Default 30 s.
    pub absent_after: Duration,
}

impl Health {
    /// Whether a prober asks the same question as with `other`, and takes the same for an answer: how often it asks, and
    /// what the answers lead to, is not its business.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        self.check == other.check
            && self.explicit == other.explicit
            && self.port == other.port
            && self.tls == other.tls
            && self.timeout == other.timeout
    }
}

/// How to probe.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// A TCP connect.
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// Which service is asked about. Default empty: the whole server.
        service: String,
        /// The `:authority`. Default: the backend's address.
        host: Option<String>,
    },
    /// A request.
    Http {
        /// Default `/health`.
        path: String,
        /// Default: the backend's address.
        host: Option<String>,
        /// Default `GET`.
        method: String,
        /// Extra header fields.
        headers: Vec<(String, String)>,
        /// Statuses that pass, as inclusive ranges. Default 200–299. 503 is always draining unless listed.
        expect: Vec<(u16, u16)>,
    },
}

/// `[pool.drain]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Drain {
    /// Default deadline. Default 30 s.
    pub deadline: Duration,
    /// Streams and upgrades end over this long before the deadline. Default 5 s.
    pub close_spread: Duration,
    /// Whether an app's own 503 sets a cutting deadline. Default false.
    pub cut_on_503: bool,
}

/// `[pool.upstream]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Default 1 s.
    pub connect_timeout: Duration,
    /// No byte from the backend for this long; not for upgrades and event streams. Default 60 s.
    pub read_timeout: Duration,
    /// No byte in either direction of an upgraded connection for this long; `None`: no limit (the default).
    pub tunnel_timeout: Option<Duration>,
    /// Idle pooled connections. Default 4 s, shorter where the app's `Keep-Alive` says so.
    pub idle_timeout: Duration,
    /// Requests in flight per backend; 0: no limit.
    pub max_in_flight: u32,
    /// Whether a short body is received whole before a backend is chosen. Default true.
    pub request_buffering: bool,
    /// Send the client's Host (the default) or the backend's address.
    pub preserve_host: bool,
    /// Whether connections begin with a header that says who the client is. Default off.
    pub proxy_protocol: ProxyProtocol,
    /// Whether the backends are spoken to in HTTP/2. Default false.
    pub http2: bool,
}

/// The PROXY protocol towards backends, by its version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// None (the default).
    #[default]
    Off,
    /// The line of text.
    V1,
    /// The binary header.
    V2,
}

/// `[pool.tls]`: TLS towards the backends.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamTls {
    /// The authorities' certificates; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The name in the backends' certificates, and what they are asked for (SNI); `None`: each one's host name or IP
    /// address.
    pub server_name: Option<String>,
    /// Our own certificate, where backends want one.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// Whether the backends' certificates are verified. Default true.
    pub verify: bool,
    /// All of that, ready for use; `None` until the files have been read.
    pub client: Option<Arc<tls::upstream::Client>>,
}

impl UpstreamTls {
    /// Whether the other one is written in the same way, whatever its files hold.
    pub fn is_written_like(&self, other: &Self) -> bool {
        let written = |tls: &Self| Self {
            client: None,
            ..tls.clone()
        };
        written(self) == written(other)
    }

    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.ca, &self.cert, &self.key].into_iter().flatten()
    }
}
