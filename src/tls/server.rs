//! A listener's TLS at run time, and the set of them.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::{info, warn};

use super::Problem;
use super::material::Material;
use crate::config::ListenerTls;

/// A file that changed so short a time ago may be in the middle of being written, and a second change may leave no trace
/// in its times.
const SETTLED: Duration = Duration::from_secs(2);

/// What tells one version of a file from another: number, size and time of the last change. The change time and not
/// the modification time, which those who copy files set as they like.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// A listener's TLS.
pub struct Server {
    current: ArcSwap<Material>,
    watched: Mutex<Watched>,
}

struct Watched {
    settings: ListenerTls,
    http2: bool,
    stamps: Vec<Stamp>,
    /// Look again though the stamps are the same.
    unsettled: bool,
    /// What was wrong at the last look, and whether it was told.
    failing: Option<(String, bool)>,
}

/// What became of a look at the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing new.
    Same,
    /// New files are in use.
    Taken,
    /// They are bad, which is told now; the old ones stay in use.
    Refused,
}

impl Server {
    /// TLS with this material.
    pub fn new(settings: ListenerTls, http2: bool, material: Material) -> Self {
        Self {
            current: ArcSwap::from_pointee(material),
            watched: Mutex::new(Watched::new(settings, http2)),
        }
    }

    /// What handshakes take from now on.
    pub fn current(&self) -> Arc<Material> {
        self.current.load_full()
    }

    /// Takes another configuration. Connections keep what they began with.
    pub fn apply(&self, settings: ListenerTls, http2: bool, material: Material) {
        let mut watched = self.watched.lock();
        *watched = Watched::new(settings, http2);
        self.current.store(Arc::new(material));
    }

    /// Looks whether the files have changed, and takes them if they are good. May wait for the disk.
    pub fn look(&self, address: SocketAddr) -> Look {
        let mut watched = self.watched.lock();
        let stamps = watched.stamps();
        if stamps == watched.stamps && !watched.unsettled {
            return Look::Same;
        }
        let before = self.current();
        match Material::load(&watched.settings, watched.http2, Some(&before)) {
            Ok(material) => {
                watched.unsettled = is_fresh(&stamps, SystemTime::now());
                watched.stamps = stamps;
                let was_told = matches!(watched.failing.take(), Some((_, true)));
                if material.digest == before.digest && !was_told {
                    return Look::Same;
                }
                for certificate in &material.certificates {
                    let (name, expires) = (certificate.name(), certificate.expires());
                    info!(%address, name, expires, file = %certificate.file.display(), "certificate read again");
                }
                self.current.store(Arc::new(material));
                Look::Taken
            }
            Err(problems) => {
                watched.stamps = stamps;
                watched.unsettled = true;
                let text = told(problems.into_iter().map(|(_, problem)| problem));
                // A pair is seldom written in one step: what is wrong at one look only is none of people's business.
                match &mut watched.failing {
                    Some((same, told)) if *same == text => {
                        if std::mem::replace(told, true) {
                            return Look::Same;
                        }
                        warn!(%address, "changed certificates are not used, the old ones stay in use: {text}");
                        Look::Refused
                    }
                    failing => {
                        *failing = Some((text, false));
                        Look::Same
                    }
                }
            }
        }
    }
}

/// Several problems in one line.
pub fn told(problems: impl Iterator<Item = Problem>) -> String {
    let all: Vec<_> = problems.map(|problem| problem.to_string()).collect();
    all.join("; ")
}

impl Watched {
    fn new(settings: ListenerTls, http2: bool) -> Self {
        let mut watched = Self {
            settings,
            http2,
            stamps: Vec::new(),
            unsettled: true,
            failing: None,
        };
        watched.stamps = watched.stamps();
        watched
    }

    fn stamps(&self) -> Vec<Stamp> {
        let certificates = self.settings.certificates.iter();
        let files = certificates
            .flat_map(|files| [&files.cert, &files.key])
            .chain(&self.settings.client_ca);
        files.map(stamp).collect()
    }
}

fn stamp(file: &PathBuf) -> Stamp {
    // Follows links: Kubernetes and certbot change where they lead to.
    let data = std::fs::metadata(file).ok()?;
    Some((
        data.dev(),
        data.ino(),
        data.size(),
        data.ctime(),
        data.ctime_nsec(),
    ))
}

fn is_fresh(stamps: &[Stamp], now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    stamps.iter().flatten().any(|(_, _, _, seconds, _)| {
        let changed = Duration::from_secs(u64::try_from(*seconds).unwrap_or(0));
        changed + SETTLED > now
    })
}

/// A certificate as people and monitors see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The listener.
    pub listener: SocketAddr,
    /// Names that it is for.
    pub names: Vec<String>,
    /// Its file.
    pub file: PathBuf,
    /// Until when it is good, as Unix time.
    pub not_after: i64,
    /// The same in RFC 3339.
    pub expires: String,
    /// How long that is from now.
    pub left: Duration,
}

/// All listeners with TLS.
#[derive(Default)]
pub struct Inventory {
    servers: Mutex<Vec<(SocketAddr, Arc<Server>)>>,
    taken: AtomicU64,
    refused: AtomicU64,
}

impl Inventory {
    /// These are all.
    pub fn set(&self, servers: Vec<(SocketAddr, Arc<Server>)>) {
        *self.servers.lock() = servers;
    }

    /// Every certificate in use.
    pub fn served(&self) -> Vec<Served> {
        let now = SystemTime::now();
        let mut all = Vec::new();
        for (listener, server) in self.servers.lock().iter() {
            let material = server.current();
            all.extend(material.certificates.iter().map(|certificate| Served {
                listener: *listener,
                names: certificate.names.clone(),
                file: certificate.file.clone(),
                not_after: certificate.not_after,
                expires: certificate.expires(),
                left: certificate.left(now),
            }));
        }
        all
    }

    /// Looks at every file. May wait for the disk.
    pub fn look(&self) {
        let servers = self.servers.lock().clone();
        for (address, server) in servers {
            match server.look(address) {
                Look::Same => {}
                Look::Taken => drop(self.taken.fetch_add(1, Ordering::Relaxed)),
                Look::Refused => drop(self.refused.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }

    /// How often changed files were taken, and refused.
    pub fn looks(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.taken), read(&self.refused))
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.servers.lock().is_empty()
    }
}
