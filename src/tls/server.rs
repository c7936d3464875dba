//! A listener's TLS at run time, and the set of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::{info, warn};

use super::TlsFileError;
use super::challenge::ChallengeAnswers;
use super::fingerprint::FileSet;
use super::managed::{ManagedCertificates, ManagedStatus};
use super::server_files::ServerFiles;
use crate::config::{ListenAddress, ListenerTls};

/// A listener's TLS.
pub struct ServerTls {
    current: ArcSwap<ServerFiles>,
    watched: Mutex<WatchedListener>,
}

struct WatchedListener {
    settings: ListenerTls,
    http2: bool,
    files: FileSet,
}

/// What became of a look at the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// Nothing new.
    Same,
    /// New files are in use.
    Taken,
    /// They are bad, which is logged now; the old ones stay in use.
    Refused,
}

impl ServerTls {
    /// TLS with this material.
    pub fn new(settings: ListenerTls, http2: bool, material: ServerFiles) -> Self {
        Self {
            current: ArcSwap::from_pointee(material),
            watched: Mutex::new(WatchedListener::new(settings, http2)),
        }
    }

    /// What handshakes take from now on.
    pub fn current(&self) -> Arc<ServerFiles> {
        self.current.load_full()
    }

    /// Takes another configuration. Connections keep what they began with.
    pub fn apply(&self, settings: ListenerTls, http2: bool, material: ServerFiles) {
        let mut watched = self.watched.lock();
        *watched = WatchedListener::new(settings, http2);
        self.current.store(Arc::new(material));
    }

    /// Looks whether the files have changed, and takes them if they are good. May wait for the disk.
    pub fn check_files(&self, address: &ListenAddress) -> ReloadOutcome {
        let mut watched = self.watched.lock();
        if !watched.files.have_changed() {
            return ReloadOutcome::Same;
        }
        let before = self.current();
        match ServerFiles::load(&watched.settings, watched.http2, Some(&before)) {
            Ok(material) => {
                let was_told = watched.files.are_good();
                if material.digest == before.digest && !was_told {
                    return ReloadOutcome::Same;
                }
                for certificate in &material.certificates {
                    let (name, expires) = (certificate.name(), certificate.expires());
                    info!(%address, name, expires, file = %certificate.file.display(), "certificate read again");
                }
                if let Some(old) = &material.outdated {
                    warn!(%address, "{old}");
                }
                self.current.store(Arc::new(material));
                ReloadOutcome::Taken
            }
            Err(problems) => {
                let text = join_problems(problems.into_iter().map(|(_, problem)| problem));
                if !watched.files.are_bad(text.clone()) {
                    return ReloadOutcome::Same;
                }
                warn!(%address, "changed certificates are not used, the old ones stay in use: {text}");
                ReloadOutcome::Refused
            }
        }
    }
}

/// Several problems in one line, for the log.
pub fn join_problems(problems: impl Iterator<Item = TlsFileError>) -> String {
    let all: Vec<_> = problems.map(|problem| problem.to_string()).collect();
    all.join("; ")
}

impl WatchedListener {
    fn new(settings: ListenerTls, http2: bool) -> Self {
        let certificates = settings.certificates.iter();
        let files = certificates
            .flat_map(|files| [&files.cert, &files.key])
            .chain(settings.managed.iter().map(|managed| &managed.file))
            .chain(&settings.client_ca)
            .chain(&settings.client_crl);
        Self {
            files: FileSet::new(files.cloned().collect()),
            settings,
            http2,
        }
    }
}

/// A certificate as people and monitors see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedCertificate {
    /// The listener.
    pub listener: ListenAddress,
    /// Names that it is for.
    pub names: Vec<String>,
    /// Its file.
    pub file: PathBuf,
    /// Who has signed it.
    pub issuer: String,
    /// Until when it is good, as Unix time.
    pub not_after: i64,
    /// The same in RFC 3339.
    pub expires: String,
    /// How long that is from now.
    pub left: Duration,
}

/// All listeners with TLS.
#[derive(Default)]
pub struct CertificateInventory {
    servers: Mutex<Vec<(ListenAddress, Arc<ServerTls>)>>,
    /// What authorities are answered that sign for us.
    pub challenges: ChallengeAnswers,
    /// Those that are ordered by themselves.
    pub managed: ManagedCertificates,
    taken: AtomicU64,
    refused: AtomicU64,
}

impl CertificateInventory {
    /// These are all.
    pub fn set(&self, servers: Vec<(ListenAddress, Arc<ServerTls>)>) {
        *self.servers.lock() = servers;
    }

    /// Every certificate in use.
    pub fn served(&self) -> Vec<ServedCertificate> {
        let now = SystemTime::now();
        let mut all = Vec::new();
        for (listener, server) in self.servers.lock().iter() {
            let material = server.current();
            all.extend(
                material
                    .certificates
                    .iter()
                    .map(|certificate| ServedCertificate {
                        listener: listener.clone(),
                        names: certificate.names.clone(),
                        file: certificate.file.clone(),
                        issuer: certificate.issuer.clone(),
                        not_after: certificate.not_after,
                        expires: certificate.expires(),
                        left: certificate.left(now),
                    }),
            );
        }
        all
    }

    /// The certificates that a listener orders itself, as they are now.
    pub fn managed_by(&self, listener: &ListenAddress) -> Vec<ManagedStatus> {
        let servers = self.servers.lock().clone();
        let of_it = servers.iter().filter(|(address, _)| address == listener);
        let files: Vec<PathBuf> = of_it
            .flat_map(|(_, server)| server.current().managed.clone())
            .collect();
        let all = self.managed.all();
        let of_it = all.iter().filter(|status| files.contains(&status.file));
        of_it.cloned().collect()
    }

    /// Checks every file for changes. May wait for the disk.
    pub fn check_all_files(&self) {
        let servers = self.servers.lock().clone();
        for (address, server) in servers {
            self.count_outcome(server.check_files(&address));
        }
    }

    /// Counts the outcome of a check.
    pub fn count_outcome(&self, look: ReloadOutcome) {
        match look {
            ReloadOutcome::Same => {}
            ReloadOutcome::Taken => drop(self.taken.fetch_add(1, Ordering::Relaxed)),
            ReloadOutcome::Refused => drop(self.refused.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// How often changed files were taken, and refused.
    pub fn reload_counts(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.taken), read(&self.refused))
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.servers.lock().is_empty()
    }
}
