//! What a listener's handshakes need, made from its files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

use super::certificate::Certificate;
use super::resolver::CertificateResolver;
use super::tickets::{HandedTickets, TicketKeys};
use super::{TlsFileError, client_auth, pem};
use crate::config::{CertificateFiles, ClientAuth, ListenerTls, ManagedCertificate, TlsVersion};

/// Most TLS 1.2 sessions that are remembered for clients without session tickets.
const SESSIONS: usize = 4096;

/// ALPN protocol of HTTP/2 over TLS (RFC 9113, section 3.2).
pub const H2: &[u8] = b"h2";

/// Part of the configuration that a problem concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsConfigPart {
    /// A certificate or its key, by its index in the configuration.
    Certificate(usize),
    /// Certificate authorities of clients.
    ClientCa,
    /// Revocation lists of clients' certificates.
    ClientCrl,
    /// TLS as a whole.
    Whole,
}

/// Keys and sessions with which clients resume. They outlive a change of certificates, but not a change of which
/// clients may connect: a resumed session is not asked for its certificate again.
#[derive(Clone)]
struct Tickets {
    ticketer: Arc<TicketKeys>,
    sessions: Arc<dyn StoresServerSessions>,
    /// Digest of the rules for clients' certificates under which the sessions were admitted.
    admission: [u8; 32],
}

/// Everything for the handshakes of a listener.
pub struct ServerFiles {
    /// Configuration for rustls.
    pub config: Arc<ServerConfig>,
    /// Certificates that are served.
    pub certificates: Vec<Certificate>,
    /// Paths of the certificates that lameduck orders itself, whether the files exist or not.
    pub managed: Vec<PathBuf>,
    /// Set if a revocation list is out of date.
    pub outdated: Option<TlsFileError>,
    /// Digest of all settings and files: two with the same digest are the same.
    pub digest: [u8; 32],
    tickets: Tickets,
}

impl ServerFiles {
    /// Reads the files of a listener. `before` is what the listener had until now, if anything.
    ///
    /// # Errors
    /// Every problem that was found.
    pub fn load(
        settings: &ListenerTls,
        http2: bool,
        before: Option<&ServerFiles>,
    ) -> Result<Self, Vec<(TlsConfigPart, TlsFileError)>> {
        let now = SystemTime::now();
        let mut problems = Vec::new();
        let mut certificates = Vec::new();
        for (place, files) in settings.certificates.iter().enumerate() {
            match Certificate::load(files, now) {
                Ok(certificate) => certificates.push(certificate),
                Err(problem) => problems.push((TlsConfigPart::Certificate(place), problem)),
            }
        }
        for managed in &settings.managed {
            let served = before.map(|before| &before.certificates[..]);
            certificates.extend(load_managed(managed, served.unwrap_or_default(), now));
        }
        let mut admission = vec![settings.client_auth as u8, settings.min_version as u8];
        let (mut verifier, mut outdated) = (None, None);
        if let (true, Some(file)) = (settings.client_auth != ClientAuth::Off, &settings.client_ca) {
            let revoked = settings.client_crl.as_deref();
            let revoked = revoked
                .map(|file| client_auth::revoked(file, now))
                .transpose();
            let text = pem::read(file);
            match (text, revoked) {
                (Ok(text), Ok(revoked)) => {
                    admission.extend_from_slice(&text);
                    let mut lists = Vec::new();
                    if let Some(revoked) = revoked {
                        (lists, outdated) = (revoked.lists, revoked.outdated);
                    }
                    for list in &lists {
                        admission.extend_from_slice(list);
                    }
                    match client_auth::verifier(settings.client_auth, file, &text, lists, now) {
                        Ok(read) => verifier = Some(read),
                        Err(problem) => problems.push((TlsConfigPart::ClientCa, problem)),
                    }
                }
                (text, revoked) => {
                    problems.extend(text.err().map(|problem| (TlsConfigPart::ClientCa, problem)));
                    problems.extend(
                        revoked
                            .err()
                            .map(|problem| (TlsConfigPart::ClientCrl, problem)),
                    );
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let admission = super::sha256(&admission);
        let tickets = match before.filter(|before| before.tickets.admission == admission) {
            Some(before) => before.tickets.clone(),
            None => Tickets::new(admission).map_err(|why| whole_problem(settings, why))?,
        };
        let versions: &[_] = match settings.min_version {
            TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::Tls13 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(super::provider())
            .with_protocol_versions(versions)
            .map_err(|error| whole_problem(settings, error.to_string()))?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config =
            builder.with_cert_resolver(Arc::new(CertificateResolver::new(&certificates)));
        // Our order of cipher suites decides, because a client's list may begin with a weaker one. A phone without AES
        // in hardware would prefer ChaCha20; it gets AES, and is a little slower.
        config.ignore_client_order = true;
        config.ticketer = tickets.ticketer.clone();
        config.session_storage = tickets.sessions.clone();
        config.alpn_protocols = alpn_protocols(http2);
        let mut digest = admission.to_vec();
        digest.push(u8::from(http2));
        for certificate in &certificates {
            digest.extend_from_slice(&certificate.digest);
        }
        Ok(Self {
            config: Arc::new(config),
            certificates,
            managed: settings
                .managed
                .iter()
                .map(|own| own.file.clone())
                .collect(),
            outdated,
            digest: super::sha256(&digest),
            tickets,
        })
    }
}

impl ServerFiles {
    /// Ticket keys, for the process that takes over.
    pub fn hand_tickets(&self) -> HandedTickets {
        HandedTickets {
            admission: self.tickets.admission,
            keys: self.tickets.ticketer.hand(),
        }
    }

    /// Takes the ticket keys of the process before this one, so that its clients can resume; only those that it
    /// admitted by the same rules.
    pub fn adopt_tickets(&self, handed: &[HandedTickets]) {
        let same = |handed: &&HandedTickets| handed.admission == self.tickets.admission;
        if let Some(handed) = handed.iter().find(same) {
            self.tickets.ticketer.adopt(&handed.keys);
        }
    }
}

impl Tickets {
    fn new(admission: [u8; 32]) -> Result<Self, String> {
        Ok(Self {
            ticketer: TicketKeys::new()?,
            sessions: ServerSessionMemoryCache::new(SESSIONS),
            admission,
        })
    }
}

/// Loads a certificate that lameduck orders itself: the file if it is good, or else the certificate served until now,
/// or else an expired one. That there is none yet is no error: it has to be issued first, and handshakes are refused
/// until then.
fn load_managed(
    managed: &ManagedCertificate,
    served: &[Certificate],
    now: SystemTime,
) -> Option<Certificate> {
    let files = CertificateFiles {
        cert: managed.file.clone(),
        key: managed.file.clone(),
    };
    let read = Certificate::load(&files, now).ok();
    let before = || {
        let own = served.iter().find(|served| served.file == managed.file);
        own.cloned()
    };
    read.or_else(before)
        .or_else(|| Certificate::load_expired(&files).ok())
}

/// Reports a problem that concerns no single file, by the name of the first one.
fn whole_problem(settings: &ListenerTls, why: String) -> Vec<(TlsConfigPart, TlsFileError)> {
    let file = settings
        .certificates
        .first()
        .map(|files| files.cert.clone());
    let problem = TlsFileError::new(file.unwrap_or_default(), why, "see the reason");
    vec![(TlsConfigPart::Whole, problem)]
}

/// Protocols that are offered by ALPN (RFC 7301), the preferred one first.
fn alpn_protocols(http2: bool) -> Vec<Vec<u8>> {
    let mut all = vec![b"http/1.1".to_vec()];
    if http2 {
        all.insert(0, H2.to_vec());
    }
    all
}
