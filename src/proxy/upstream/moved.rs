//! Connections to backends that continue in another process: those of a tunnel or an event stream, and idle ones.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use pingora::protocols::Stream;
use tokio::sync::mpsc::UnboundedSender;

use super::reuse::{IdleState, check_idle};
use crate::core::Time;
use crate::net::plain::{bare_socket, watched};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::moving::state::{MovedBackend, MovedKind};
use crate::proxy::moving::{
    AdoptError, MoveUnderWay, MovedConnection, OfferedConnection, StayReason,
};
use crate::registry::endpoint::{ConnectionTicket, Endpoint, IdleConnection};
use crate::registry::snapshot::PoolSnapshot;
use crate::rt::clock;

/// Maximum number of idle connections that move, for each backend: the most frequently used ones. Further ones are
/// closed with the process that has them.
const MOST_KEPT: usize = 64;

/// A number that no transport has: a connection with it is never used again.
const NO_TRANSPORT: u32 = u32::MAX;

/// Returns another descriptor of a connection to a backend, and the connection's state.
///
/// # Errors
/// Why the connection can't move.
pub fn export_connection(
    connection: &IdleConnection,
) -> Result<(OwnedFd, MovedBackend), StayReason> {
    let socket = bare_socket(&connection.stream).ok_or(StayReason::Stream)?;
    let socket = (socket.try_clone_to_owned()).map_err(|_| StayReason::Descriptors)?;
    let endpoint = connection.ticket.endpoint();
    let moved = MovedBackend {
        pool: endpoint.pool.to_string(),
        backend: endpoint.name.to_string(),
        address: endpoint.address.to_string(),
        requests: connection.requests,
        sent: connection.sent,
        accepted: connection.accepted,
        expires_ns: None,
        safe_until_ns: None,
    };
    Ok((socket, moved))
}

/// Finds the pool and backend of a moved connection: by name and address, otherwise by address only.
///
/// # Errors
/// If there is no such backend.
pub fn find_backend(
    plane: &DataPlane,
    moved: &MovedBackend,
) -> Result<(Arc<PoolSnapshot>, Arc<Endpoint>), AdoptError> {
    let snapshot = plane.registry.snapshot();
    let mut pools = snapshot.pools.iter();
    let found = pools
        .find(|pool| *pool.name == *moved.pool)
        .and_then(|pool| {
            let mut there = (pool.backends.iter())
                .filter(|endpoint| endpoint.address.to_string() == moved.address);
            let by_name = there
                .clone()
                .find(|endpoint| *endpoint.name == *moved.backend);
            let endpoint = by_name.or_else(|| there.next())?;
            Some((pool.clone(), endpoint.clone()))
        });
    found.ok_or_else(|| AdoptError::unknown(moved))
}

/// The socket of a connection to a backend, which counts as open.
pub struct AdoptedSocket {
    /// Declared before the ticket: the descriptor is closed first.
    socket: OwnedFd,
    ticket: ConnectionTicket,
}

impl AdoptedSocket {
    /// Wraps a socket that is connected to this backend.
    pub fn new(endpoint: &Arc<Endpoint>, socket: OwnedFd) -> Self {
        Self {
            ticket: endpoint.connection_opened(),
            socket,
        }
    }

    /// Returns the backend.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.ticket.endpoint()
    }
}

/// Registers the connection with this thread's runtime.
///
/// # Errors
/// If the socket can't be registered.
pub fn import_connection(
    socket: AdoptedSocket,
    moved: &MovedBackend,
) -> std::io::Result<Box<IdleConnection>> {
    let AdoptedSocket { socket, ticket } = socket;
    let stream: Stream = watched(socket)?;
    let endpoint = ticket.endpoint();
    let (transport, number) = endpoint.transport();
    let of_machine = |ns: Option<u64>| ns.map_or(Time::MAX, clock::from_machine);
    Ok(Box::new(IdleConnection {
        stream,
        epoch: endpoint.epoch(),
        transport: match transport.is_plain() && !transport.http2 {
            true => number,
            false => NO_TRANSPORT,
        },
        expires: of_machine(moved.expires_ns),
        safe_until: of_machine(moved.safe_until_ns),
        requests: moved.requests,
        sent: moved.sent,
        accepted: moved.accepted,
        ticket,
    }))
}

impl DataPlane {
    /// Lets open connections move to another process: each is offered to `offers` as soon as it can be paused, until
    /// the returned guard is dropped. See [`crate::proxy::moving`]. Must be called on a runtime.
    pub fn move_out(
        self: &Arc<Self>,
        offers: UnboundedSender<OfferedConnection>,
    ) -> MoveUnderWay<'_> {
        let under_way = self.moving.begin(&self.clients, offers);
        self.move_out_kept();
        under_way
    }

    /// Offers the idle connections to backends, so that the next process begins with open ones. Connections that are
    /// not taken are kept.
    fn move_out_kept(self: &Arc<Self>) {
        let pools = self.registry.snapshot().pools.clone();
        for endpoint in pools.iter().flat_map(|pool| pool.backends.iter()) {
            let mut offered = 0;
            while offered < MOST_KEPT
                && let Some(connection) = endpoint.idle.take()
            {
                match self.offer_kept(endpoint, connection) {
                    true => offered += 1,
                    false => break,
                }
            }
        }
    }

    fn offer_kept(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        mut connection: Box<IdleConnection>,
    ) -> bool {
        let of = (connection.epoch, connection.transport);
        if of != (endpoint.epoch(), endpoint.transports()) || connection.expires <= clock::now() {
            return true;
        }
        match check_idle(&mut connection) {
            IdleState::Quiet => {}
            IdleState::Closed => {
                endpoint.peer_closed();
                return true;
            }
            IdleState::Talking => return true,
        }
        let Ok((socket, mut moved)) = export_connection(&connection) else {
            endpoint.release(connection);
            return false;
        };
        moved.expires_ns = Some(clock::to_machine(connection.expires));
        moved.safe_until_ns = Some(clock::to_machine(connection.safe_until));
        let moved = MovedConnection {
            descriptors: vec![socket],
            state: MovedKind::IdleBackend(moved).into(),
        };
        let Some(word) = self.moving.announce_kept(moved) else {
            endpoint.release(connection);
            return false;
        };
        let endpoint = endpoint.clone();
        tokio::spawn(async move {
            // If the other process has the connection, only the descriptor is closed here.
            if word.await.is_err() {
                endpoint.release(connection);
            }
        });
        true
    }
}

/// Keeps an idle connection from another process for the next request. Must be called on a data thread.
pub fn keep_moved(socket: AdoptedSocket, moved: &MovedBackend) {
    let endpoint = socket.endpoint().clone();
    if let Ok(connection) = import_connection(socket, moved) {
        endpoint.release(connection);
    }
}
