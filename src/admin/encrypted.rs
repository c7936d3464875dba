//! TLS on `admin.http`: the handshake, and whether the client has shown a certificate that is as good as the token.

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

/// Marks requests whose client has shown a certificate of `client_ca`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShownCertificate;

/// The TLS of `admin.http`, if it has any.
///
/// # Errors
/// What is wrong with its files.
pub fn load_tls(admin: &AdminConfig) -> Result<Option<Arc<ServerTls>>, String> {
    let Some(tls) = &admin.tls else {
        return Ok(None);
    };
    let settings = tls.of_listener();
    let files = ServerFiles::load(&settings, false, None)
        .map_err(|problems| join_problems(problems.into_iter().map(|(_, problem)| problem)))?;
    Ok(Some(Arc::new(ServerTls::new(settings, false, files))))
}

/// Names that the certificate is for, as a `Host` field has them.
pub(super) fn names_of(tls: &ServerTls) -> Vec<String> {
    let files = tls.current();
    let names = files.certificates.iter().flat_map(|one| &one.names);
    names.filter(|name| !name.contains('*')).cloned().collect()
}

/// Does the handshake, and returns whether the client has shown a certificate.
///
/// # Errors
/// The handshake has failed.
pub(super) async fn shake_hands(
    tls: &ServerTls,
    stream: ReservedConnection,
) -> io::Result<(TlsStream<ReservedConnection>, bool)> {
    let acceptor = TlsAcceptor::from(tls.current().config.clone());
    let shaken = acceptor.accept(stream).await?;
    // One that is shown has been verified, or there would be no connection.
    let shown = shaken.get_ref().1.peer_certificates().is_some();
    Ok((shaken, shown))
}

/// Takes changed files, for as long as the process runs.
pub(super) fn watch_files(tls: Arc<ServerTls>, address: ListenAddress) {
    let watch = move || {
        let (tls, address) = (tls.clone(), address.clone());
        async move {
            let mut round = tokio::time::interval(CHECK_INTERVAL);
            round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                round.tick().await;
                let (tls, address) = (tls.clone(), address.clone());
                // A disk may be slow.
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
