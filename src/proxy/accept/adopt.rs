//! Connections that another process has accepted, and that go on here.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use pingora::protocols::Stream;
use socket2::{Domain, SockRef};
use thiserror::Error;
use tracing::warn;

use super::ConnectionGuard;
use crate::config;
use crate::core::moving::TakenConnection;
use crate::net::plain;
use crate::proxy::connection::moved::serve_idle;
use crate::proxy::data_plane::{DataPlane, ServedConnection};
use crate::proxy::moving::state::{IdleClient, MovedKind, VERSION};
use crate::proxy::moving::{MovedConnection, MovedState};
use crate::proxy::per_client::OneOf;

/// Why a connection can't go on here. It stays where it was.
#[derive(Debug, Error)]
pub enum AdoptError {
    /// A later release has written it.
    #[error("it is of version {0}, and this lameduck reads versions up to {VERSION}")]
    Version(u32),
    /// The descriptors aren't those of such a connection.
    #[error("it came with {0} descriptors")]
    Descriptors(usize),
    /// The backend isn't known here, or isn't spoken to in that way any more.
    #[error("backend {backend} of pool {pool} is not known, or is spoken to in another way by now")]
    Backend {
        /// The pool's name.
        pool: String,
        /// The backend's.
        backend: String,
    },
    /// What was carried of it can't be what was sent.
    #[error("{0}")]
    Malformed(&'static str),
    /// A socket can't be used.
    #[error("its socket can't be used: {0}")]
    Socket(#[from] io::Error),
}

/// A connection that stands still here until the word has come that it is ours. Dropped before that, it was never here.
pub struct AdoptedConnection {
    state: TakenConnection,
    plane: Arc<DataPlane>,
    kind: AdoptedKind,
}

enum AdoptedKind {
    Idle(OwnedFd, Box<IdleClient>),
}

impl DataPlane {
    /// Takes a connection that another process has offered. It stands still until [`AdoptedConnection::serve`].
    ///
    /// # Errors
    /// Why it can't go on here: the other process is to be told, and goes on with it.
    pub fn adopt(
        self: &Arc<Self>,
        moved: MovedConnection,
    ) -> Result<AdoptedConnection, AdoptError> {
        let MovedConnection { descriptors, state } = moved;
        let MovedState {
            version,
            connection,
        } = state;
        if version > VERSION {
            return Err(AdoptError::Version(version));
        }
        let kind = match connection {
            MovedKind::IdleClient(idle) => {
                let [client] = descriptors_of(descriptors)?;
                AdoptedKind::Idle(client, Box::new(idle))
            }
        };
        Ok(AdoptedConnection {
            state: TakenConnection::default(),
            plane: self.clone(),
            kind,
        })
    }
}

/// As many as there have to be.
fn descriptors_of<const COUNT: usize>(
    descriptors: Vec<OwnedFd>,
) -> Result<[OwnedFd; COUNT], AdoptError> {
    descriptors
        .try_into()
        .map_err(|all: Vec<OwnedFd>| AdoptError::Descriptors(all.len()))
}

impl AdoptedConnection {
    /// The word was read: serves the connection until it ends. To be run on a data thread.
    pub async fn serve(mut self) {
        if !self.state.take() {
            return;
        }
        let plane = &self.plane;
        let config = plane.registry.snapshot().config.clone();
        let interrupt = plane.clients.join();
        // Before the client, so that it is dropped after the client's descriptor, even in a panic.
        let _counted = ConnectionGuard(plane, interrupt.clone());
        match self.kind {
            AdoptedKind::Idle(client, idle) => match stream_of(client) {
                Ok(stream) => {
                    // It was admitted where it came from: nobody is one too many for having moved.
                    let _held_until_closed =
                        admit_moved(plane, &config.server, idle.client.address);
                    serve_idle(plane, stream, *idle, interrupt, &config).await;
                }
                Err(error) => warn!(%error, "a moved connection can't be watched"),
            },
        }
    }
}

/// Counts a client in as [`super::receive`] does.
fn admit_moved<'a>(
    plane: &'a DataPlane,
    limits: &config::ServerConfig,
    address: Option<SocketAddr>,
) -> (ServedConnection<'a>, Option<OneOf<'a>>) {
    let address = address.filter(|_| limits.max_connections_per_client > 0);
    let one = address.map(|address| plane.per_client.enter_moved(address.ip()));
    (plane.admit_moved(), one)
}

/// The socket on this thread's runtime. It is non-blocking already: its other descriptor was.
fn stream_of(socket: OwnedFd) -> io::Result<Stream> {
    let domain = SockRef::from(&socket).domain()?;
    match domain {
        Domain::UNIX => plain::unix(socket),
        _ => plain::tcp(socket),
    }
}
