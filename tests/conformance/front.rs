//! What stands between the client and the backend: lameduck, or one of the others.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lameduck::tools::demo::process::Process;
use tokio::net::TcpStream;

use super::backend::Backend;
use super::peer::{Kind, free_address};
use super::rig::{self, Rig};

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Lameduck,
    Nginx,
    HaProxy,
}

/// What clients speak to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    H1,
    /// HTTP/2 by prior knowledge, without TLS.
    H2,
}

/// A proxy and its one backend.
pub struct Lane {
    pub address: SocketAddr,
    pub backend: Backend,
    /// Ends with this.
    _front: Front,
}

enum Front {
    Lameduck {
        _rig: Box<Rig>,
    },
    Peer {
        _process: Box<Process>,
        _dir: tempfile::TempDir,
    },
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

    /// Starts one in front of a backend of its own.
    pub async fn start(self, protocol: Protocol) -> Lane {
        match self.peer_kind() {
            None => lameduck(protocol).await,
            Some(kind) => peer(kind, protocol).await,
        }
    }
}

async fn peer(kind: Kind, protocol: Protocol) -> Lane {
    let backend = Backend::start().await;
    let binary = kind.binary().unwrap();
    // Another may have taken the port before it does.
    for _ in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        let path = dir.path().join("config");
        std::fs::write(
            &path,
            config(kind, protocol, dir.path(), address, backend.address),
        )
        .unwrap();
        let command = kind.command(&binary, dir.path(), &path);
        let mut process = Process::start(kind.name(), command, &dir.path().join("log")).unwrap();
        process.ignore_output();
        for _ in 0..2000 {
            if process.check().is_err() {
                break;
            }
            if TcpStream::connect(address).await.is_ok() && process.check().is_ok() {
                return Lane {
                    address,
                    backend,
                    _front: Front::Peer {
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

fn config(
    kind: Kind,
    protocol: Protocol,
    dir: &Path,
    listen: SocketAddr,
    backend: SocketAddr,
) -> String {
    let template = match kind {
        Kind::Nginx => include_str!("peers/nginx.conf"),
        Kind::HaProxy => include_str!("peers/haproxy.cfg"),
    };
    let address = match (kind, protocol) {
        (_, Protocol::H1) => listen.to_string(),
        (Kind::Nginx, Protocol::H2) => format!("{listen}; http2 on"),
        (Kind::HaProxy, Protocol::H2) => format!("{listen} proto h2"),
    };
    template
        .replace("@LISTEN@", &address)
        .replace("@BACKEND@", &backend.to_string())
        .replace("@DIR@", &dir.display().to_string())
}

async fn lameduck(protocol: Protocol) -> Lane {
    let backend = Backend::start().await;
    // Only its health check is of use here.
    let (checks, port) = rig::backends(1).await;
    let pool = format!(
        "[[pool.backend]]\nname = \"app\"\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\n\
         rise = 1\nfast_interval = \"10ms\"\n[pool.upstream]\nread_timeout = \"2s\"\n",
        backend.address
    );
    let server = "header_timeout = \"2s\"\nbody_timeout = \"2s\"\n";
    // Goes into the listener's table.
    let listener = match protocol {
        Protocol::H1 => "",
        Protocol::H2 => "http2 = true\n",
    };
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir, server, listener, &pool, checks).await;
    Lane {
        address: rig.address,
        backend,
        _front: Front::Lameduck {
            _rig: Box::new(rig),
        },
    }
}
