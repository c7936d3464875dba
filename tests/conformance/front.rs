//! What stands between the client and the backend: lameduck, or one of the others.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lameduck::tools::demo::process::ChildProcess;
use tokio::net::TcpStream;

use super::backend::Backend;
use lameduck_rig::peers::Kind;
use lameduck_rig::ports::free_address;
use lameduck_rig::proxy::Rig;

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Lameduck,
    Nginx,
    HaProxy,
}

/// What is spoken on one side of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    H1,
    /// HTTP/2 by prior knowledge, without TLS.
    H2,
}

/// From which protocol to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub clients: Protocol,
    pub backends: Protocol,
}

/// A proxy and its one backend.
pub struct Lane {
    pub address: SocketAddr,
    pub backend: Backend,
    /// Ends with this.
    _front: Front,
}

/// A proxy that runs; ends with this.
pub struct Front {
    pub address: SocketAddr,
    running: Running,
}

enum Running {
    Lameduck(Box<Rig>),
    Peer {
        _process: Box<ChildProcess>,
        _dir: tempfile::TempDir,
    },
}

impl Front {
    /// lameduck, if that is what it is.
    pub fn lameduck(&self) -> Option<&Rig> {
        match &self.running {
            Running::Lameduck(rig) => Some(rig),
            Running::Peer { .. } => None,
        }
    }
}

impl Target {
    pub fn name(self) -> &'static str {
        match self {
            Self::Lameduck => "lameduck",
            Self::Nginx => "nginx",
            Self::HaProxy => "HAProxy",
        }
    }

    fn peer_kind(self) -> Option<Kind> {
        match self {
            Self::Lameduck => None,
            Self::Nginx => Some(Kind::Nginx),
            Self::HaProxy => Some(Kind::HaProxy),
        }
    }

    /// Its name and version; `None` if it isn't installed.
    pub fn title(self) -> Option<String> {
        match self.peer_kind() {
            None => Some(self.name().to_owned()),
            Some(kind) => kind.binary().map(|_| kind.title()),
        }
    }

    /// Starts one in front of a backend of its own, which speaks HTTP/1.
    pub async fn start(self, clients: Protocol) -> Lane {
        let backend = Backend::start().await;
        let way = Way {
            clients,
            backends: Protocol::H1,
        };
        let front = self.start_between(way, backend.address).await;
        Lane {
            address: front.address,
            backend,
            _front: front,
        }
    }

    /// Starts one in front of this backend.
    pub async fn start_between(self, way: Way, backend: SocketAddr) -> Front {
        match self.peer_kind() {
            None => lameduck(way, backend).await,
            Some(kind) => peer(kind, way, backend).await,
        }
    }

    /// Whether it can go this way; nginx could not speak HTTP/2 to backends before 1.29.4.
    pub fn can_go(self, way: Way) -> bool {
        let is_old = self == Self::Nginx
            && self.title().is_some_and(|title| {
                let number = title.trim_start_matches("nginx ").to_owned();
                let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
                let parts: [u32; 3] = std::array::from_fn(|_| parts.next().unwrap_or(0));
                parts < [1, 29, 4]
            });
        !is_old || way.backends == Protocol::H1
    }
}

async fn peer(kind: Kind, way: Way, backend: SocketAddr) -> Front {
    let binary = kind.binary().unwrap();
    // Another may have taken the port before it does.
    for _ in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        let path = dir.path().join("config");
        std::fs::write(&path, config(kind, way, dir.path(), address, backend)).unwrap();
        let command = kind.command(&binary, dir.path(), &path);
        let mut process =
            ChildProcess::start(kind.name(), command, &dir.path().join("log")).unwrap();
        process.ignore_output();
        for _ in 0..2000 {
            if process.check().is_err() {
                break;
            }
            if TcpStream::connect(address).await.is_ok() && process.check().is_ok() {
                return Front {
                    address,
                    running: Running::Peer {
                        _process: Box::new(process),
                        _dir: dir,
                    },
                };
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        eprintln!("{} doesn't start{}", kind.name(), process.last_words());
    }
    panic!("{} doesn't start", kind.name());
}

fn config(kind: Kind, way: Way, dir: &Path, listen: SocketAddr, backend: SocketAddr) -> String {
    let template = match kind {
        Kind::Nginx => include_str!("peers/nginx.conf"),
        Kind::HaProxy => include_str!("peers/haproxy.cfg"),
    };
    let address = match (kind, way.clients) {
        (_, Protocol::H1) => listen.to_string(),
        (Kind::Nginx, Protocol::H2) => format!("{listen}; http2 on"),
        (Kind::HaProxy, Protocol::H2) => format!("{listen} proto h2"),
    };
    let (version, proto) = match way.backends {
        Protocol::H1 => ("1.1", ""),
        Protocol::H2 => ("2", " proto h2"),
    };
    template
        .replace("@LISTEN@", &address)
        .replace("@VERSION@", version)
        .replace("@BACKEND@", &backend.to_string())
        .replace("@PROTO@", proto)
        .replace("@DIR@", &dir.display().to_string())
}

async fn lameduck(way: Way, backend: SocketAddr) -> Front {
    // Only its health check is of use here.
    let (checks, port) = lameduck_rig::backend::backends(1).await;
    let upstream = match way.backends {
        Protocol::H1 => "",
        Protocol::H2 => "http2 = true\nidle_timeout = \"20s\"\n",
    };
    let pool = format!(
        "[[pool.backend]]\nname = \"app\"\naddress = \"{backend}\"\n[pool.health]\nport = {port}\npath = \"/health\"\n\
         rise = 1\nfast_interval = \"10ms\"\n[pool.upstream]\nread_timeout = \"5s\"\n{upstream}"
    );
    // Longer than the others': on a machine that stands still for a moment, nothing may pass that is not the case's.
    let server = "header_timeout = \"5s\"\nbody_timeout = \"5s\"\n";
    // Goes into the listener's table.
    let listener = match way.clients {
        Protocol::H1 => "",
        Protocol::H2 => "http2 = true\n",
    };
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir, server, listener, &pool, checks).await;
    Front {
        address: rig.address,
        running: Running::Lameduck(Box::new(rig)),
    }
}
