//! The run-time form of the configuration: validated, complete, with every default in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::tls;

/// A validated configuration with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[server]`.
    pub server: Server,
    /// `[admin]`.
    pub admin: Admin,
    /// `[access_log]`.
    pub access_log: AccessLog,
    /// `[headers]`.
    pub headers: Headers,
    /// `[[listener]]`.
    pub listeners: Vec<Listener>,
    /// `[[pool]]`.
    pub pools: Vec<Pool>,
    /// `[[route]]`, in file order. No route and one pool: everything goes to that pool.
    pub routes: Vec<Route>,
}

/// `[server]`: threads, shutdown and the limits of public listeners.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Data-plane threads; 0: one per core.
    pub threads: usize,
    /// How long to go on accepting after TERM. Default 5 s.
    pub lame_duck: Duration,
    /// Hard end of a shutdown. Default 30 s.
    pub deadline: Duration,
    /// Where drains and registrations survive a restart of the proxy. `None`: they don't.
    pub state_dir: Option<PathBuf>,
    /// Client connections at once; 0: no limit.
    pub max_connections: usize,
    /// Of those, from one address (IPv6: one /64); 0: no limit.
    pub max_connections_per_client: usize,
    /// Requests on one client connection; the last one's response closes it. 0: no limit.
    pub max_requests_per_connection: u64,
    /// Streams of one HTTP/2 connection at once. Default 128.
    pub max_concurrent_streams: u32,
    /// Streams that a client may reset within 10 s, where these are more than half; 0: no limit. Default 500.
    pub max_stream_resets: u32,
    /// Time for a request's header block to be complete. Default 10 s.
    pub header_timeout: Duration,
    /// Idle keep-alive time of a client connection. Default 60 s.
    pub idle_timeout: Duration,
    /// Longest time without progress of a body, either way. Default 30 s.
    pub body_timeout: Duration,
    /// Slowest request body, in bytes a second of waiting for it; 0: no limit.
    pub min_body_rate: u64,
    /// Slowest taking of a response, in bytes a second of waiting for the client; 0: no limit.
    pub min_response_rate: u64,
    /// What both rates leave to a client before they count. Default 5 s.
    pub rate_grace: Duration,
    /// For a whole request and its response, from the complete head on; `None`: no limit (the default).
    pub total_timeout: Option<Duration>,
    /// Largest header block, in bytes. Default 64 KiB.
    pub max_header: usize,
    /// Longest request target, in bytes. Default 16 KiB.
    pub max_uri: usize,
    /// Largest request body, in bytes; 0: no limit.
    pub max_body: u64,
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// The unix socket; `None`: the first default that can be bound.
    pub socket: Option<PathBuf>,
    /// Its mode. Default 0660.
    pub mode: u32,
    /// Its group, by name.
    pub group: Option<String>,
    /// TCP address of the whole API; `None`: none.
    pub http: Option<SocketAddr>,
    /// File with the bearer token; without it `http` is read-only, and off loopback serves `/-/*` only.
    pub token_file: Option<PathBuf>,
    /// TCP address for `/-/*` and `/metrics` only.
    pub probes: Option<SocketAddr>,
}

/// `[access_log]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// Where to.
    pub sink: LogSink,
    /// One line's form.
    pub format: LogFormat,
}

/// Where access-log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSink {
    /// Nowhere.
    Off,
    /// Standard output (the default).
    Stdout,
    /// A file, reopened on HUP and USR1.
    File(PathBuf),
}

/// The form of an access-log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line (the default).
    Json,
    /// The "combined" format of Apache and nginx, with lameduck's fields appended.
    Combined,
}

/// `[headers]`: what is added to requests on their way to the app.
#[derive(Debug, Clone, PartialEq)]
pub struct Headers {
    /// Clients whose own `X-Forwarded-*` and `Forwarded` are kept and appended to; everybody else's are replaced.
    pub trusted: Vec<ipnet::IpNet>,
    /// `X-Forwarded-For`, `-Proto`, `-Host`. Default true.
    pub x_forwarded: bool,
    /// RFC 7239 `Forwarded`. Default false.
    pub forwarded: bool,
    /// RFC 9110 §7.6.3 `Via`. Default false.
    pub via: bool,
    /// `X-Request-Id`: kept from the client if sane, else made. Default true.
    pub request_id: bool,
}

impl Headers {
    /// Whether what this address says of others is believed.
    pub fn trusts(&self, address: std::net::IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted
            .iter()
            .any(|network| network.contains(&address))
    }
}

/// `[[listener]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Where to listen. Port 0: any free one.
    pub address: SocketAddr,
    /// SO_REUSEPORT, so that a second proxy can take over the address. Default false.
    pub reuse_port: bool,
    /// HTTP/2: by ALPN with TLS (the default there), else by prior knowledge.
    pub http2: bool,
    /// Each connection begins with a PROXY protocol header, from a peer in `headers.trusted`. Default false.
    pub proxy_protocol: bool,
    /// Answer each request with a redirect to this HTTPS port; `None`: serve it (the default).
    pub redirect_https: Option<u16>,
    /// `Strict-Transport-Security` on each response; zero: none (the default). With TLS only.
    pub hsts: Duration,
    /// `[listener.tls]`; `None`: without TLS.
    pub tls: Option<ListenerTls>,
}

/// `[listener.tls]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// Certificates with their keys, at least one; the first is for clients that ask for no name that we have.
    pub certificates: Vec<CertificateFiles>,
    /// Whether clients show certificates. Default off.
    pub client_auth: ClientAuth,
    /// Who may have signed them.
    pub client_ca: Option<PathBuf>,
    /// Which of them have been revoked.
    pub client_crl: Option<PathBuf>,
    /// Default 1.2.
    pub min_version: TlsVersion,
}

/// A certificate chain and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's own certificate first, then those that lead to the root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// They aren't asked.
    Off,
    /// They may; one that is shown must be good.
    Optional,
    /// No good certificate, no connection.
    Required,
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

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
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Unique within its pool; by default `POOL-1`, `POOL-2`…
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// Its share. Default 1.
    pub weight: u32,
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

/// `[pool.retry]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Attempts that may have reached an app, those that broke late left out. Default 3.
    pub attempts: u32,
    /// Unproven retries as a share of requests. Default 0.2.
    pub budget: f64,
    /// Whether `Idempotency-Key` makes any method idempotent. Default false.
    pub idempotency_key: bool,
}

/// `[pool.hold]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    /// What to do while nothing is eligible.
    pub on_empty: OnEmpty,
    /// Longest wait. Default 10 s.
    pub timeout: Duration,
    /// Waiting requests. Default 10,000.
    pub max_requests: usize,
    /// Their buffered bytes. Default 16 MiB.
    pub max_bytes: u64,
}

/// What to do while nothing is eligible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEmpty {
    /// Wait (the default).
    Hold,
    /// 503 at once.
    Fail,
    /// Try those that are down, or drained by the app itself.
    FailOpen,
}

/// `[[route]]`: host and path prefix to pool. The longest matching prefix of the most specific host wins.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Lower case, without port; `*.example.org` matches one or more labels; `None`: any.
    pub host: Option<String>,
    /// Matches whole path segments. Default `/`.
    pub path_prefix: String,
    /// The pool's name.
    pub pool: String,
}
