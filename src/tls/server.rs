//! A listener's TLS at run time, and the inventory of all listeners with TLS.

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

/// Outcome of a check for changed files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// Nothing has changed.
    Same,
    /// The files have changed, and the new ones are in use.
    Taken,
    /// The new files are bad. That was logged, and the old ones stay in use.
    Refused,
}

impl ServerTls {
    /// TLS with these files.
    pub fn new(settings: ListenerTls, http2: bool, material: ServerFiles) -> Self {
        Self {
            current: ArcSwap::from_pointee(material),
            watched: Mutex::new(WatchedListener::new(settings, http2)),
        }
    }

    /// Files that new handshakes use.
    pub fn current(&self) -> Arc<ServerFiles> {
        self.current.load_full()
    }

    /// Applies another configuration. Open connections keep their own.
    pub fn apply(&self, settings: ListenerTls, http2: bool, material: ServerFiles) {
        let mut watched = self.watched.lock();
        *watched = WatchedListener::new(settings, http2);
        self.current.store(Arc::new(material));
    }

    /// Checks whether the files have changed, and uses them if they are good. May wait for the disk.
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

/// Joins several problems into one line, for the log.
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

/// A certificate in use, as the admin API and the metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedCertificate {
    /// Address of its listener.
    pub listener: ListenAddress,
    /// Names that it is for.
    pub names: Vec<String>,
    /// Path of its file.
    pub file: PathBuf,
    /// Name of the authority that signed it.
    pub issuer: String,
    /// Time at which it expires, as Unix time in seconds.
    pub not_after: i64,
    /// Time at which it expires, in RFC 3339.
    pub expires: String,
    /// Time until it expires; zero once it has.
    pub left: Duration,
}

/// All listeners with TLS.
#[derive(Default)]
pub struct CertificateInventory {
    servers: Mutex<Vec<(ListenAddress, Arc<ServerTls>)>>,
    /// Answers to authorities that issue our certificates.
    pub challenges: ChallengeAnswers,
    /// Certificates that lameduck orders itself.
    pub managed: ManagedCertificates,
    taken: AtomicU64,
    refused: AtomicU64,
}

impl CertificateInventory {
    /// Replaces the set of listeners with TLS.
    pub fn set(&self, servers: Vec<(ListenAddress, Arc<ServerTls>)>) {
        *self.servers.lock() = servers;
    }

    /// Every certificate in use, of all listeners.
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

    /// State of the certificates that a listener orders itself.
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

    /// Checks the files of all listeners for changes. May wait for the disk.
    pub fn check_all_files(&self) {
        let servers = self.servers.lock().clone();
        for (address, server) in servers {
            self.count_outcome(server.check_files(&address));
        }
    }

    /// Counts the outcome of a check.
    pub fn count_outcome(&self, outcome: ReloadOutcome) {
        match outcome {
            ReloadOutcome::Same => {}
            ReloadOutcome::Taken => drop(self.taken.fetch_add(1, Ordering::Relaxed)),
            ReloadOutcome::Refused => drop(self.refused.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Number of times that changed files were taken into use, and were refused.
    pub fn reload_counts(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.taken), read(&self.refused))
    }

    /// Whether no listener has TLS.
    pub fn is_empty(&self) -> bool {
        self.servers.lock().is_empty()
    }
}
