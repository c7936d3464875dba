//! Connections that another process has accepted and that continue here.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use pingora::protocols::Stream;
use tracing::warn;

use super::ConnectionGuard;
use crate::config::Config;
use crate::core::moving::TakenConnection;
use crate::net::plain::watched;
use crate::proxy::client::ClientConnection;
use crate::proxy::connection::moved::{serve_idle, serve_resumed};
use crate::proxy::data_plane::{DataPlane, ServedConnection};
use crate::proxy::moving::state::{IdleClient, MovedBackend, MovedClient, MovedKind, VERSION};
use crate::proxy::moving::{AdoptError, MovedConnection, MovedState};
use crate::proxy::per_client::OneOf;
use crate::proxy::transaction::moved::ResumedRequest;
use crate::proxy::upstream::moved::{AdoptedSocket, find_backend, keep_moved};
use crate::rt::shutdown_signal::ConnectionInterrupt;

/// A connection taken over from another process. Nothing is read or written on it until that process confirms that it
/// has released the connection. If dropped before that, the connection remains with the other process.
pub struct AdoptedConnection {
    state: TakenConnection,
    plane: Arc<DataPlane>,
    kind: AdoptedKind,
}

enum AdoptedKind {
    Idle(OwnedFd, Box<IdleClient>),
    Request(OwnedFd, Box<MovedClient>, Box<ResumedRequest>),
    Kept(Box<AdoptedSocket>, MovedBackend),
}

impl DataPlane {
    /// Takes over a connection that another process has offered. Nothing is read or written on it until
    /// [`AdoptedConnection::serve`].
    ///
    /// # Errors
    /// Why the connection can't continue here. The caller reports this to the other process, which then keeps it.
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
            MovedKind::Tunnel(tunnel) => {
                let [client, backend] = descriptors_of(descriptors)?;
                let (request, known) = ResumedRequest::tunnel(self, backend, *tunnel)?;
                AdoptedKind::Request(client, Box::new(known), Box::new(request))
            }
            MovedKind::Events(events) => {
                let [client, backend] = descriptors_of(descriptors)?;
                let (request, known) = ResumedRequest::events(self, backend, *events)?;
                AdoptedKind::Request(client, Box::new(known), Box::new(request))
            }
            MovedKind::IdleBackend(backend) => {
                let [socket] = descriptors_of(descriptors)?;
                let (_, endpoint) = find_backend(self, &backend)?;
                let (transport, _) = endpoint.transport();
                if !transport.is_plain() || transport.http2 {
                    return Err(AdoptError::unknown(&backend));
                }
                let socket = AdoptedSocket::new(&endpoint, socket);
                AdoptedKind::Kept(Box::new(socket), backend)
            }
        };
        Ok(AdoptedConnection {
            state: TakenConnection::default(),
            plane: self.clone(),
            kind,
        })
    }
}

/// Returns the descriptors as an array, or an error if their number is not `COUNT`.
fn descriptors_of<const COUNT: usize>(
    descriptors: Vec<OwnedFd>,
) -> Result<[OwnedFd; COUNT], AdoptError> {
    descriptors
        .try_into()
        .map_err(|all: Vec<OwnedFd>| AdoptError::Descriptors(all.len()))
}

impl AdoptedConnection {
    /// Serves the connection until it ends. Must be called on a data thread, and only after the other process has
    /// confirmed that it has released the connection.
    pub async fn serve(mut self) {
        if !self.state.take() {
            return;
        }
        let plane = &self.plane;
        match self.kind {
            AdoptedKind::Kept(socket, backend) => keep_moved(*socket, &backend),
            AdoptedKind::Idle(socket, idle) => {
                let served = MovedRoom::new(plane, idle.client.address);
                if let Some(stream) = served.watch(socket) {
                    let (interrupt, config) = (&served.interrupt, &served.config);
                    serve_idle(plane, stream, *idle, interrupt.clone(), config).await;
                }
            }
            AdoptedKind::Request(socket, client, request) => {
                let served = MovedRoom::new(plane, client.address);
                if let Some(stream) = served.watch(socket) {
                    let (interrupt, config) = (&served.interrupt, &served.config);
                    let client =
                        ClientConnection::import(stream, *client, interrupt.clone(), config);
                    serve_resumed(plane, client, *request, config).await;
                }
            }
        }
    }
}

/// The places that a client's connection takes in the connection counts while it is served, as in [`super::receive`].
/// The process that it comes from has admitted it, so no connection limit refuses it here.
struct MovedRoom<'a> {
    config: Arc<Config>,
    interrupt: Arc<ConnectionInterrupt>,
    _held_until_closed: (ServedConnection<'a>, Option<OneOf<'a>>),
    _counted: ConnectionGuard<'a>,
}

impl<'a> MovedRoom<'a> {
    fn new(plane: &'a DataPlane, address: Option<SocketAddr>) -> Self {
        let config = plane.registry.snapshot().config.clone();
        let interrupt = plane.clients.join();
        let address = address.filter(|_| config.server.max_connections_per_client > 0);
        let one = address.map(|address| plane.per_client.enter_moved(address.ip()));
        Self {
            _held_until_closed: (plane.admit_moved(), one),
            _counted: ConnectionGuard(plane, interrupt.clone()),
            config,
            interrupt,
        }
    }

    /// Registers the client's socket with this thread's runtime.
    fn watch(&self, socket: OwnedFd) -> Option<Stream> {
        let stream = watched(socket);
        if let Err(error) = &stream {
            warn!(%error, "a moved connection can't be watched");
        }
        stream.ok()
    }
}
