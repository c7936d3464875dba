//! TLS: the handshake with a client, and what follows it.

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
use crate::metrics::{Handshake, Limit};
use crate::proxy::client::bounded_wait::BoundedWait;
use crate::proxy::client_info::ClientInfo;
use crate::proxy::connection::{http2, serve};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::refusal::ClientRefusal;
use crate::rt::clock;
use crate::rt::shutdown_signal::{Interrupt, Level};
use crate::tls::challenge::{ACME_TLS, ChallengeAnswers};
use crate::tls::client_auth::identity;
use crate::tls::server::ServerTls;
use crate::tls::server_files::{H2, ServerFiles};
use crate::tls::stream::{ClientTlsStream, Raw};

/// How long a handshake may still take once the proxy no longer accepts: whoever was accepted is served, and whoever
/// stalls doesn't hold up the exit.
const LAST: Duration = Duration::from_secs(2);

/// A handshake that came to nothing.
struct HandshakeError {
    outcome: Handshake,
    /// The connection, where it is still of use.
    stream: Option<Stream>,
}

impl HandshakeError {
    fn without(outcome: Handshake) -> Self {
        Self {
            outcome,
            stream: None,
        }
    }
}

/// Serves a connection that begins with a handshake.
pub(super) async fn serve(
    plane: &Arc<DataPlane>,
    server: &ServerTls,
    stream: Stream,
    mut origin: ClientInfo,
    interrupt: Arc<Interrupt>,
    config: &Arc<Config>,
) {
    let mut patience = Patience {
        wait: BoundedWait::new(&interrupt),
        ends: clock::now() + config.server.header_timeout,
        is_last: false,
    };
    // Boxed: what a handshake needs is given back when it is over.
    let challenges = &plane.certificates.challenges;
    let shaken = Box::pin(shake_hands(server, challenges, stream, &mut patience)).await;
    match shaken {
        Ok(stream) => {
            drop(patience);
            let session = stream.session();
            // The handshake was the answer (RFC 8737, section 3): there is nothing to be said over it.
            if session.alpn_protocol() == Some(ACME_TLS) {
                plane.counters.handshake(Handshake::Challenge);
                serve::part(plane, Box::new(stream), origin, interrupt, config).await;
                return;
            }
            plane.counters.handshake(match session.handshake_kind() {
                Some(HandshakeKind::Resumed) => Handshake::Resumed,
                _ => Handshake::Full,
            });
            origin.scheme = "https";
            let certificate = session.peer_certificates().and_then(<[_]>::first);
            origin.identity = certificate.and_then(identity);
            // What the handshake has agreed on (ALPN, RFC 7301).
            if session.alpn_protocol() == Some(H2) {
                http2::serve(plane, Box::new(stream), origin, interrupt, config).await;
            } else {
                serve::serve(plane, Box::new(stream), origin, interrupt, config).await;
            }
        }
        Err(HandshakeError { outcome, stream }) => {
            debug!(client = %origin.ip, outcome = outcome.name(), "a TLS handshake failed");
            plane.counters.handshake(outcome);
            if outcome == Handshake::Timeout {
                plane.counters.limited(Limit::HeaderTimeout);
            }
            match (outcome, stream) {
                (Handshake::PlainHttp, Some(stream)) => {
                    let refusal = ClientRefusal::PLAIN_HTTP;
                    serve::turn_away(plane, stream, origin, interrupt, config, refusal).await;
                }
                // The alert that says why is on its way.
                (_, Some(stream)) => {
                    serve::part(plane, stream, origin, interrupt, config).await;
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
    let mut raw = Raw::new(stream);
    let begins = poll_fn(|cx| {
        let begins = raw.poll_begins_tls(cx);
        patience.or(cx, begins)
    });
    match begins.await.map_err(HandshakeError::without)? {
        Ok(true) => {}
        Ok(false) => {
            return Err(HandshakeError {
                outcome: Handshake::PlainHttp,
                stream: Some(raw.into_inner()),
            });
        }
        Err(_) => return Err(HandshakeError::without(Handshake::Closed)),
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
                Handshake::Malformed if material.certificates.is_empty() => {
                    Handshake::NoCertificate
                }
                outcome => outcome,
            },
            stream: raw.map(Raw::into_inner),
        }),
    }
}

/// Shakes hands with a client, who may be a certificate authority while a challenge is open: then what it has to offer
/// decides with what. A handshake of its own needs neither a client's certificate nor a session to resume.
async fn accept_client(
    material: &ServerFiles,
    challenges: &ChallengeAnswers,
    raw: Raw,
) -> Result<TlsStream<Raw>, (io::Error, Option<Raw>)> {
    if !challenges.has_tls() {
        let acceptor = TlsAcceptor::from(material.config.clone());
        let shaken = acceptor.accept(raw).into_fallible().await;
        return shaken.map_err(|(error, raw)| (error, Some(raw)));
    }
    // Boxed: seldom is there one.
    Box::pin(accept_either(material, challenges, raw)).await
}

/// The same where the client may be an authority.
async fn accept_either(
    material: &ServerFiles,
    challenges: &ChallengeAnswers,
    raw: Raw,
) -> Result<TlsStream<Raw>, (io::Error, Option<Raw>)> {
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

fn judge(error: &io::Error) -> Handshake {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => {
            Handshake::ClientCertificate
        }
        Some(Error::AlertReceived(_)) => Handshake::RefusedByClient,
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => Handshake::Unsupported,
        Some(_) => Handshake::Malformed,
        None => Handshake::Closed,
    }
}

/// How long a handshake may take.
struct Patience<'a> {
    wait: BoundedWait<'a>,
    ends: Time,
    /// The end has been drawn nearer.
    is_last: bool,
}

impl Patience<'_> {
    /// What was polled; or why it is no longer waited for.
    fn or<T>(&mut self, cx: &mut Context<'_>, polled: Poll<T>) -> Poll<Result<T, Handshake>> {
        let Self {
            wait,
            ends,
            is_last,
        } = self;
        wait.poll_or(cx, polled, Handshake::Cut, |level| {
            if level >= Level::Finish && !*is_last {
                *is_last = true;
                *ends = (*ends).min(clock::now() + LAST);
            }
            (*ends, Handshake::Timeout)
        })
    }
}
