//! What stands in front of the apps: lameduck, a peer as the yardstick, or nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lameduck::tools::demo::instance::DemoInstance;
use lameduck::tools::demo::process::ChildProcess;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};

use super::{Bench, exe, until};
pub use lameduck_rig::peers::Kind;
use lameduck_rig::ports::free_address;

/// What clients connect to.
pub enum Front {
    Lameduck(DemoProxy),
    Peer {
        /// Ends with this.
        process: ChildProcess,
        address: SocketAddr,
    },
    Direct(SocketAddr),
}

impl Front {
    /// lameduck with these settings.
    pub async fn lameduck(bench: &Bench, settings: &ProxySettings) -> Self {
        Self::lameduck_before(bench, &bench.instances, settings).await
    }

    /// lameduck whose first pool has these of the instances; what leads to the others is in the settings.
    pub async fn lameduck_before(
        bench: &Bench,
        first: &[DemoInstance],
        settings: &ProxySettings,
    ) -> Self {
        let proxy = DemoProxy::start(exe(), "proxy", bench.scratch.path(), settings, first).await;
        Self::Lameduck(proxy.unwrap())
    }

    /// lameduck, where it is lameduck.
    pub fn proxy(&self) -> &DemoProxy {
        match self {
            Self::Lameduck(proxy) => proxy,
            Self::Peer { .. } | Self::Direct(_) => panic!("that is no lameduck"),
        }
    }

    /// A peer, tuned; `None` if it isn't installed.
    pub async fn peer(bench: &Bench, kind: Kind) -> Option<Self> {
        Self::peer_with(bench, kind, &Extras::default()).await
    }

    /// The same, and more.
    pub async fn peer_with(bench: &Bench, kind: Kind, extras: &Extras<'_>) -> Option<Self> {
        let binary = kind.binary()?;
        let dir = bench.scratch.path();
        let address = free_address();
        let path = dir.join(kind.name());
        std::fs::write(&path, config(kind, address, extras, dir, &bench.instances)).unwrap();
        let log = dir.join(format!("{}.log", kind.name()));
        let mut process =
            ChildProcess::start(kind.name(), kind.command(&binary, dir, &path), &log).unwrap();
        process.ignore_output();
        until(kind.name(), Duration::from_secs(10), async || {
            assert!(process.check().is_ok(), "{}", process.last_words());
            match extras.tls {
                Some(_) => tokio::net::TcpStream::connect(address).await.is_ok(),
                None => matches!(super::get(address, "/").await, Ok((200, _))),
            }
        })
        .await;
        Some(Self::Peer { process, address })
    }

    /// The proxy's first process; `None` without one.
    pub fn pid(&mut self) -> Option<u32> {
        match self {
            Self::Lameduck(proxy) => Some(proxy.process().pid()),
            Self::Peer { process, .. } => Some(process.pid()),
            Self::Direct(_) => None,
        }
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Lameduck(proxy) => proxy.address(),
            Self::Peer { address, .. } | Self::Direct(address) => *address,
        }
    }
}

/// What a peer does besides.
#[derive(Default)]
pub struct Extras<'a> {
    /// Clients come with TLS, over HTTP/1 and HTTP/2: a certificate and its key, both in one file.
    pub tls: Option<&'a Path>,
    /// `/large` and `/echo` are these instances'.
    pub elsewhere: &'a [DemoInstance],
}

/// A peer's configuration in front of these instances.
fn config(
    kind: Kind,
    listen: SocketAddr,
    extras: &Extras<'_>,
    dir: &Path,
    instances: &[DemoInstance],
) -> String {
    let template = match kind {
        Kind::Nginx => include_str!("../peers/nginx.conf"),
        Kind::HaProxy => include_str!("../peers/haproxy.cfg"),
    };
    let backend = |i: &DemoInstance| match kind {
        Kind::Nginx => format!("    server {} max_fails=0;\n", i.address()),
        Kind::HaProxy => format!("  server {} {}\n", i.name(), i.address()),
    };
    let tls = extras.tls.map_or_else(String::new, |file| {
        let file = file.display();
        match kind {
            Kind::Nginx => {
                format!(" ssl; http2 on; ssl_certificate {file}; ssl_certificate_key {file}")
            }
            Kind::HaProxy => format!(" ssl crt {file} alpn h2,http/1.1"),
        }
    });
    let backends = |instances: &[DemoInstance]| instances.iter().map(backend).collect::<String>();
    let others = backends(extras.elsewhere);
    let (elsewhere, route) = match kind {
        _ if others.is_empty() => (String::new(), ""),
        Kind::Nginx => (
            format!(
                "  upstream elsewhere {{\n    zone elsewhere 64k;\n{others}    keepalive 64;\n  }}"
            ),
            "    location ~ ^/(large|echo) { proxy_pass http://elsewhere; }",
        ),
        Kind::HaProxy => (
            format!(
                "backend elsewhere\n  http-reuse safe\n  option httpchk GET /health\n  default-server check inter 1s\n{others}"
            ),
            "  use_backend elsewhere if { path_beg /large /echo }",
        ),
    };
    template
        .replace("@ELSEWHERE@", &elsewhere)
        .replace("@ROUTE@", route)
        .replace("@TLS@", &tls)
        .replace("@LISTEN@", &listen.to_string())
        .replace("@DIR@", &dir.display().to_string())
        .replace("@BACKENDS@", &backends(instances))
}
