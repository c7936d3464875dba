//! TLS: the handshake with a client, and serving the connection after it.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pingora::protocols::Stream;
use rustls::{Error, HandshakeKind};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};
use tracing::debug;

use crate::config::Config;
use crate::core::Time;
use crate::metrics::{HandshakeOutcome, ServerLimit};
use crate::proxy::client::bounded_wait::BoundedWait;
use crate::proxy::client_info::ClientInfo;
use crate::proxy::connection::{http2, serve};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::refusal::ClientRefusal;
use crate::rt::clock;
use crate::rt::shutdown_signal::{ConnectionInterrupt, ShutdownLevel};
use crate::tls::challenge::{ACME_TLS, ChallengeAnswers};
use crate::tls::client_auth::identity;
use crate::tls::server::ServerTls;
use crate::tls::server_files::{H2, ServerFiles};
use crate::tls::stream::{ClientTlsStream, PeekedStream};

/// Longest time for a handshake once the proxy no longer accepts connections: a client that was accepted is served,
/// and one that stalls doesn't delay the exit.
const LAST: Duration = Duration::from_secs(2);

/// A failed handshake.
struct HandshakeError {
    outcome: HandshakeOutcome,
    /// The connection, if it is still usable.
    stream: Option<Stream>,
}

impl HandshakeError {
    fn without(outcome: HandshakeOutcome) -> Self {
        Self {
            outcome,
            stream: None,
        }
    }
}

/// Serves a connection that begins with a TLS handshake.
pub(super) async fn serve(
    plane: &Arc<DataPlane>,
    server: &ServerTls,
    stream: Stream,
    mut origin: ClientInfo,
    interrupt: Arc<ConnectionInterrupt>,
    config: &Arc<Config>,
) {
    let mut patience = Patience {
        wait: BoundedWait::new(&interrupt),
        ends: clock::now() + config.server.header_timeout,
        is_last: false,
    };
    // Boxed, so that the memory of a handshake is freed when it is over.
    let challenges = &plane.certificates.challenges;
    let shaken = Box::pin(shake_hands(server, challenges, stream, &mut patience)).await;
    match shaken {
        Ok(stream) => {
            drop(patience);
            let session = stream.session();
            // The handshake itself was the answer to the challenge (RFC 8737, section 3): no data follows on this
            // connection.
            if session.alpn_protocol() == Some(ACME_TLS) {
                plane.counters.handshake(HandshakeOutcome::Challenge);
                serve::close_unserved(plane, Box::new(stream), origin, interrupt, config).await;
                return;
            }
            plane.counters.handshake(match session.handshake_kind() {
                Some(HandshakeKind::Resumed) => HandshakeOutcome::Resumed,
                _ => HandshakeOutcome::Full,
            });
            origin.scheme = "https";
            let certificate = session.peer_certificates().and_then(<[_]>::first);
            origin.identity = certificate.and_then(identity);
            // The protocol negotiated in the handshake (ALPN, RFC 7301).
            if session.alpn_protocol() == Some(H2) {
                http2::serve(plane, Box::new(stream), origin, interrupt, config).await;
            } else {
                serve::serve(plane, Box::new(stream), origin, interrupt, config).await;
            }
        }
        Err(HandshakeError { outcome, stream }) => {
            debug!(client = %origin.ip, outcome = outcome.name(), "a TLS handshake failed");
            plane.counters.handshake(outcome);
            if outcome == HandshakeOutcome::Timeout {
                plane.counters.limited(ServerLimit::HeaderTimeout);
            }
            match (outcome, stream) {
                (HandshakeOutcome::PlainHttp, Some(stream)) => {
                    let refusal = ClientRefusal::PLAIN_HTTP;
                    serve::turn_away(plane, stream, origin, interrupt, config, refusal).await;
                }
                // rustls has already sent the alert with the reason.
                (_, Some(stream)) => {
                    serve::close_unserved(plane, stream, origin, interrupt, config).await;
                }
                (_, None) => {}
            }
        }
    }
}

async fn shake_hands(
    server: &ServerTls,
    challenges: &ChallengeAnswers,
    stream: Stream,
    patience: &mut Patience<'_>,
) -> Result<ClientTlsStream, HandshakeError> {
    let mut raw = PeekedStream::new(stream);
    let begins = poll_fn(|cx| {
        let begins = raw.poll_begins_tls(cx);
        patience.or(cx, begins)
    });
    match begins.await.map_err(HandshakeError::without)? {
        Ok(true) => {}
        Ok(false) => {
            return Err(HandshakeError {
                outcome: HandshakeOutcome::PlainHttp,
                stream: Some(raw.into_inner()),
            });
        }
        Err(_) => return Err(HandshakeError::without(HandshakeOutcome::Closed)),
    }
    // The newest certificates at this moment; the connection keeps them.
    let material = server.current();
    let mut accepting = std::pin::pin!(accept_client(&material, challenges, raw));
    let shaken = poll_fn(|cx| {
        let accepted = accepting.as_mut().poll(cx);
        patience.or(cx, accepted)
    });
    match shaken.await.map_err(HandshakeError::without)? {
        Ok(stream) => Ok(ClientTlsStream::new(stream)),
        Err((error, raw)) => Err(HandshakeError {
            outcome: match judge(&error) {
                HandshakeOutcome::Malformed if material.certificates.is_empty() => {
                    HandshakeOutcome::NoCertificate
                }
                outcome => outcome,
            },
            stream: raw.map(PeekedStream::into_inner),
        }),
    }
}

/// Does the handshake with a client. While an ACME challenge is open, the client may be a certificate authority: the
/// protocols that it offers (ALPN) decide which certificate it gets. An authority's handshake needs neither a client
/// certificate nor session resumption.
async fn accept_client(
    material: &ServerFiles,
    challenges: &ChallengeAnswers,
    raw: PeekedStream,
) -> Result<TlsStream<PeekedStream>, (io::Error, Option<PeekedStream>)> {
    if !challenges.has_tls() {
        let acceptor = TlsAcceptor::from(material.config.clone());
        let shaken = acceptor.accept(raw).into_fallible().await;
        return shaken.map_err(|(error, raw)| (error, Some(raw)));
    }
    // Boxed, because challenges are rare.
    Box::pin(accept_either(material, challenges, raw)).await
}

/// The same if the client may be a certificate authority.
async fn accept_either(
    material: &ServerFiles,
    challenges: &ChallengeAnswers,
    raw: PeekedStream,
) -> Result<TlsStream<PeekedStream>, (io::Error, Option<PeekedStream>)> {
    let mut acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), raw);
    let begun = match (&mut acceptor).await {
        Ok(begun) => begun,
        Err(error) => return Err((error, acceptor.take_io())),
    };
    let own = challenges.tls(&begun.client_hello());
    let config = own.unwrap_or_else(|| material.config.clone());
    let shaken = begun.into_stream(config).into_fallible().await;
    shaken.map_err(|(error, raw)| (error, Some(raw)))
}

fn judge(error: &io::Error) -> HandshakeOutcome {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => {
            HandshakeOutcome::ClientCertificate
        }
        Some(Error::AlertReceived(_)) => HandshakeOutcome::RefusedByClient,
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => {
            HandshakeOutcome::Unsupported
        }
        Some(_) => HandshakeOutcome::Malformed,
        None => HandshakeOutcome::Closed,
    }
}

/// The timeout of a handshake.
struct Patience<'a> {
    wait: BoundedWait<'a>,
    ends: Time,
    /// Whether a shutdown has shortened the timeout.
    is_last: bool,
}

impl Patience<'_> {
    /// Returns the result of the poll, or the reason why the wait is over.
    fn or<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<T>,
    ) -> Poll<Result<T, HandshakeOutcome>> {
        let Self {
            wait,
            ends,
            is_last,
        } = self;
        wait.poll_or(cx, polled, HandshakeOutcome::Cut, |level| {
            if level >= ShutdownLevel::Finish && !*is_last {
                *is_last = true;
                *ends = (*ends).min(clock::now() + LAST);
            }
            (*ends, HandshakeOutcome::Timeout)
        })
    }
}
