//! What stands in front of the apps: lameduck, a peer as the yardstick, or nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lameduck::demo::instance::Instance;
use lameduck::demo::process::Process;
use lameduck::demo::proxy::{Proxy, Settings};

use super::{Bench, exe, until};

/// A proxy of somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    HaProxy,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
        }
    }

    /// Whether it is installed.
    pub fn is_there(self) -> bool {
        let version = Command::new(self.name())
            .arg("-v")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        version.is_ok_and(|status| status.success())
    }

    fn config(self, listen: SocketAddr, dir: &Path, instances: &[Instance]) -> String {
        let template = match self {
            Self::Nginx => include_str!("../peers/nginx.conf"),
            Self::HaProxy => include_str!("../peers/haproxy.cfg"),
        };
        let backend = |i: &Instance| match self {
            Self::Nginx => format!("    server {} max_fails=0;\n", i.address()),
            Self::HaProxy => format!("  server {} {}\n", i.name(), i.address()),
        };
        template
            .replace("@LISTEN@", &listen.to_string())
            .replace("@DIR@", &dir.display().to_string())
            .replace(
                "@BACKENDS@",
                &instances.iter().map(backend).collect::<String>(),
            )
    }

    fn command(self, dir: &Path, config: &Path) -> Command {
        let mut command = Command::new(self.name());
        match self {
            Self::Nginx => command
                .arg("-p")
                .arg(dir)
                .arg("-e")
                .arg("stderr")
                .arg("-c")
                .arg(config),
            Self::HaProxy => command.arg("-db").arg("-f").arg(config),
        };
        command
    }
}

/// What clients connect to.
pub enum Front {
    Lameduck(Proxy),
    Peer {
        /// Ends with this.
        _process: Process,
        address: SocketAddr,
    },
    Direct(SocketAddr),
}

impl Front {
    /// lameduck with these settings.
    pub async fn lameduck(bench: &Bench, settings: &Settings) -> Self {
        let proxy = Proxy::start(
            exe(),
            "proxy",
            bench.scratch.path(),
            settings,
            &bench.instances,
        )
        .await;
        Self::Lameduck(proxy.unwrap())
    }

    /// A peer, tuned; `None` if it isn't installed.
    pub async fn peer(bench: &Bench, kind: Kind) -> Option<Self> {
        if !kind.is_there() {
            return None;
        }
        let dir = bench.scratch.path();
        let address = free_address();
        let config = dir.join(kind.name());
        std::fs::write(&config, kind.config(address, dir, &bench.instances)).unwrap();
        let log = dir.join(format!("{}.log", kind.name()));
        let mut process = Process::start(kind.name(), kind.command(dir, &config), &log).unwrap();
        process.ignore_output();
        until(kind.name(), Duration::from_secs(10), async || {
            assert!(process.check().is_ok(), "{}", process.last_words());
            matches!(super::get(address, "/").await, Ok((200, _)))
        })
        .await;
        Some(Self::Peer {
            _process: process,
            address,
        })
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Lameduck(proxy) => proxy.address(),
            Self::Peer { address, .. } | Self::Direct(address) => *address,
        }
    }
}

/// An address that was free a moment ago, for programs that can't be asked which port they got.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}
