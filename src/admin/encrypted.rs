//! TLS on `admin.http`: the handshake, and whether the client has presented a certificate that replaces the token.

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::reserve::ReservedConnection;
use crate::config::{AdminConfig, ListenAddress};
use crate::rt::panics;
use crate::tls::server::{ServerTls, join_problems};
use crate::tls::server_files::ServerFiles;
use crate::tls::watch::CHECK_INTERVAL;

/// Marks requests whose client has presented a certificate issued by `client_ca`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShownCertificate;

/// Loads the TLS settings of `admin.http`, if there are any.
///
/// # Errors
/// The problem with its files.
pub fn load_tls(admin: &AdminConfig) -> Result<Option<Arc<ServerTls>>, String> {
    let Some(tls) = &admin.tls else {
        return Ok(None);
    };
    let settings = tls.of_listener();
    let files = ServerFiles::load(&settings, false, None)
        .map_err(|problems| join_problems(problems.into_iter().map(|(_, problem)| problem)))?;
    Ok(Some(Arc::new(ServerTls::new(settings, false, files))))
}

/// Returns the names in the certificate, in the form of a `Host` header field.
pub(super) fn names_of(tls: &ServerTls) -> Vec<String> {
    let files = tls.current();
    let names = files.certificates.iter().flat_map(|one| &one.names);
    names.filter(|name| !name.contains('*')).cloned().collect()
}

/// Does the handshake, and returns whether the client has presented a certificate.
///
/// # Errors
/// If the handshake fails.
pub(super) async fn shake_hands(
    tls: &ServerTls,
    stream: ReservedConnection,
) -> io::Result<(TlsStream<ReservedConnection>, bool)> {
    let acceptor = TlsAcceptor::from(tls.current().config.clone());
    let shaken = acceptor.accept(stream).await?;
    // A certificate that was presented has been verified, or the handshake would have failed.
    let shown = shaken.get_ref().1.peer_certificates().is_some();
    Ok((shaken, shown))
}

/// Reloads changed files, for as long as the process runs.
pub(super) fn watch_files(tls: Arc<ServerTls>, address: ListenAddress) {
    let watch = move || {
        let (tls, address) = (tls.clone(), address.clone());
        async move {
            let mut round = tokio::time::interval(CHECK_INTERVAL);
            round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                round.tick().await;
                let (tls, address) = (tls.clone(), address.clone());
                // Reading from the disk may be slow.
                let look = move || tls.check_files(&address);
                let _ = tokio::task::spawn_blocking(look).await;
            }
        }
    };
    tokio::spawn(panics::restart(
        "the watch over the admin API's certificate",
        watch,
    ));
}
