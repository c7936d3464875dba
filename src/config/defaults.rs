//! Every default, in one place. The reference in `docs/configuration.md` is checked against it by a test.

use super::runtime::*;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Default for Server {
    fn default() -> Self {
        Server {
            threads: 0,
            lame_duck: s(5),
            deadline: s(30),
            state_dir: None,
            max_connections: None,
            max_connections_per_client: 0,
            max_requests_per_connection: 0,
            max_concurrent_streams: 128,
            max_stream_resets: 500,
            header_timeout: s(10),
            idle_timeout: s(60),
            body_timeout: s(30),
            min_body_rate: None,
            min_response_rate: None,
            rate_grace: s(5),
            total_timeout: None,
            tcp_keepalive: Some(s(60)),
            max_header: 64 << 10,
            max_uri: 16 << 10,
            max_body: 0,
            max_memory: None,
            max_memory_per_connection: 512 << 10,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Admin {
            socket: None,
            mode: 0o660,
            group: None,
            http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9901))),
            token_file: None,
            probes: None,
            hosts: Vec::new(),
            apps_socket: None,
            apps_mode: 0o660,
            apps_group: None,
            apps_pools: Vec::new(),
        }
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        AccessLog {
            sink: LogSink::Stdout,
            format: LogFormat::Json,
        }
    }
}

impl Default for Headers {
    fn default() -> Self {
        Headers {
            trusted: Vec::new(),
            x_forwarded: true,
            forwarded: false,
            via: false,
            request_id: true,
        }
    }
}

impl Listener {
    /// A listener on this address, everything else at its default: HTTP/1 without TLS.
    pub fn on(address: SocketAddr) -> Self {
        Listener {
            address,
            reuse_port: false,
            http2: false,
            proxy_protocol: false,
            redirect_https: None,
            hsts: Duration::ZERO,
            tls: None,
        }
    }
}

impl Pool {
    /// A pool without backends, every policy at its default.
    pub fn named(name: impl Into<String>) -> Self {
        Pool {
            name: name.into(),
            balance: Balance::LeastRequests,
            backends: Vec::new(),
            health: Health::default(),
            drain: Drain::default(),
            upstream: Upstream::default(),
            tls: None,
            retry: Retry::default(),
            hold: Hold::default(),
            slow_start: Duration::ZERO,
        }
    }
}

/// The health check of a pool without `[pool.health]`: `GET /health`, which may fall back to TCP.
impl Default for Health {
    fn default() -> Self {
        Health {
            check: Check::default(),
            explicit: false,
            port: None,
            tls: true,
            interval: s(1),
            timeout: s(1),
            fast_interval: Duration::from_millis(100),
            rise: 2,
            fall: 3,
            fall_timeout: 5,
            absent_after: s(30),
        }
    }
}

impl Default for Check {
    fn default() -> Self {
        Check::Http {
            path: "/health".into(),
            host: None,
            method: "GET".into(),
            headers: Vec::new(),
            expect: vec![(200, 299)],
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Drain {
            deadline: s(30),
            close_spread: s(5),
            cut_on_503: false,
        }
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Upstream {
            connect_timeout: s(1),
            read_timeout: s(60),
            tunnel_timeout: None,
            idle_timeout: s(4),
            max_in_flight: 0,
            request_buffering: true,
            preserve_host: true,
            proxy_protocol: ProxyProtocol::Off,
            http2: false,
        }
    }
}

impl Default for UpstreamTls {
    fn default() -> Self {
        UpstreamTls {
            ca: None,
            server_name: None,
            cert: None,
            key: None,
            verify: true,
            client: None,
        }
    }
}
