//! The peer of a connection, which the log names as the actor of a change.

use std::fmt;
use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use tokio::net::unix::UCred;

use super::AdminDoor;
use super::places::ConnectionSource;
use super::problem::ProblemDocument;

/// The peer of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AdminPeer {
    /// A process of this host, as the kernel has identified it when it connected (`SO_PEERCRED`).
    Process {
        /// Its user.
        uid: u32,
        /// Its process id, if it is visible from here: not across PID namespaces.
        pid: Option<i32>,
    },
    /// A TCP client.
    Address(SocketAddr),
}

impl AdminPeer {
    /// Returns the peer for a process that has connected.
    pub(super) fn process(credentials: &UCred) -> Self {
        Self::Process {
            uid: credentials.uid(),
            pid: credentials.pid().filter(|pid| *pid != 0),
        }
    }

    /// Returns the source by which its connections are counted.
    pub(super) fn source(&self) -> ConnectionSource {
        match self {
            AdminPeer::Process { uid, .. } => ConnectionSource::User(*uid),
            AdminPeer::Address(address) => ConnectionSource::of(address.ip()),
        }
    }
}

impl fmt::Display for AdminPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminPeer::Process {
                uid,
                pid: Some(pid),
            } => write!(f, "uid {uid} pid {pid}"),
            AdminPeer::Process { uid, pid: None } => write!(f, "uid {uid}"),
            AdminPeer::Address(address) => address.fmt(f),
        }
    }
}

/// Layer around the handlers: logs every change that is admitted with its actor, and its result if it is refused.
/// Unauthorized callers are not logged, so that they can't fill the log.
pub(super) async fn record(
    State(door): State<AdminDoor>,
    request: Request,
    next: Next,
) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    // Nothing can be changed through the listener for probes, and every client may try.
    let quiet = reads || door == AdminDoor::Probes;
    let peer = request.extensions().get::<AdminPeer>().copied();
    let Some(peer) = peer.filter(|_| !quiet) else {
        return next.run(request).await;
    };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    tracing::info!(actor = %peer, door = door.as_str(), %method, path, "admin API: asked for");
    let response = next.run(request).await;
    if let Some(problem) = response.extensions().get::<ProblemDocument>() {
        tracing::info!(actor = %peer, %method, path, problem = problem.slug(), "admin API: refused");
    }
    response
}
