//! The run-time form of the configuration: validated, complete, with every default in.

mod pool;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use super::sections::*;
pub use pool::*;

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
    /// Client connections at once; 0: no limit. `None`: as many as descriptors and memory allow (the default).
    pub max_connections: Option<usize>,
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
    /// Slowest request body, in bytes a second of waiting for it; 0: no limit. `None`: [`DEFAULT_RATE`] (the default).
    pub min_body_rate: Option<u64>,
    /// Slowest taking of a response, in bytes a second of waiting for the client; 0: no limit. `None`: [`DEFAULT_RATE`]
    /// (the default).
    pub min_response_rate: Option<u64>,
    /// What both rates leave to a client before they count. Default 5 s.
    pub rate_grace: Duration,
    /// For a whole request and its response, from the complete head on; `None`: no limit (the default).
    pub total_timeout: Option<Duration>,
    /// Silence after which the kernel asks a peer whether it is still there, on clients' and backends' connections;
    /// `None`: never. Default 60 s.
    pub tcp_keepalive: Option<Duration>,
    /// Largest header block, in bytes. Default 64 KiB.
    pub max_header: usize,
    /// Longest request target, in bytes. Default 16 KiB.
    pub max_uri: usize,
    /// Largest request body, in bytes; 0: no limit.
    pub max_body: u64,
    /// What all clients together may make the proxy keep, in bytes; 0: no limit. `None`: a share of the memory that the
    /// process may use (the default).
    pub max_memory: Option<u64>,
    /// Of that, the requests of one HTTP/2 connection, in bytes; 0: no limit. Default 512 KiB.
    pub max_memory_per_connection: u64,
}

/// The slowest rate where none is configured, in bytes a second. It is for those who are there to be slow: whoever has
/// moved a few KiB is far from it, and `body_timeout` is what they have before it counts.
pub const DEFAULT_RATE: u64 = 128;

impl Server {
    /// The slowest rate of a request's body, and what is left to the client before it counts. Without a length, a body may
    /// be a stream of events, and only a configured rate counts.
    pub fn body_pace(&self, has_length: bool) -> (u64, Duration) {
        match self.min_body_rate {
            None if !has_length => (0, Duration::ZERO),
            rate => self.pace(rate),
        }
    }

    /// The same for the taking of a response.
    pub fn response_pace(&self) -> (u64, Duration) {
        self.pace(self.min_response_rate)
    }

    fn pace(&self, configured: Option<u64>) -> (u64, Duration) {
        match configured {
            Some(rate) => (rate, self.rate_grace),
            None => (DEFAULT_RATE, self.body_timeout),
        }
    }
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
    /// Host names by which `http` may be asked, beside its own addresses and `localhost`: lower case, without a
    /// dot at the end. Default none.
    pub hosts: Vec<String>,
    /// The unix socket for apps, where each may register, drain and resume its own instance and do nothing else;
    /// `None`: none (the default).
    pub apps_socket: Option<PathBuf>,
    /// Its mode. Default 0660.
    pub apps_mode: u32,
    /// Its group, by name.
    pub apps_group: Option<String>,
    /// The pools that it is for; empty: all (the default).
    pub apps_pools: Vec<String>,
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
