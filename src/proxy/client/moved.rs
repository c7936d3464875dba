//! Moves a client to another process, and imports one from there.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use pingora::protocols::Stream;

use super::ClientConnection;
use crate::config::Config;
use crate::net::plain::bare_socket;
use crate::net::rewound::stream_below;
use crate::proxy::buffer::Buffer;
use crate::proxy::client_info::{ClientInfo, ListenerAnswer};
use crate::proxy::moving::StayReason;
use crate::proxy::moving::state::{CarriedBytes, MOST_CARRIED, MovedClient};
use crate::rt::shutdown_signal::ConnectionInterrupt;

impl ClientConnection {
    /// Returns why the client can't move now; `None`: it can.
    pub fn stays(&self) -> Option<StayReason> {
        self.movable_socket().err()
    }

    fn movable_socket(&self) -> Result<BorrowedFd<'_>, StayReason> {
        if self.origin.is_http2() || self.share.is_some() {
            return Err(StayReason::Http2);
        }
        if self.origin.scheme != "http" {
            return Err(StayReason::Tls);
        }
        if self.buffer.len() > MOST_CARRIED {
            return Err(StayReason::Buffers);
        }
        // Bytes that arrived together with a PROXY header have to be read first.
        let socket = stream_below(&self.stream).ok_or(StayReason::Buffers)?;
        bare_socket(socket).ok_or(StayReason::Stream)
    }

    /// Returns another descriptor of the client's socket, and the client's state, if it can move now.
    ///
    /// # Errors
    /// Why the client can't move.
    pub fn export(&self) -> Result<(OwnedFd, MovedClient), StayReason> {
        let origin = &self.origin;
        let socket = self.movable_socket()?;
        let socket = (socket.try_clone_to_owned()).map_err(|_| StayReason::Descriptors)?;
        let moved = MovedClient {
            address: origin.address,
            known: origin.known,
            ip: origin.ip.clone(),
            trusted: origin.trusted,
            listener: origin.listener.as_ref().map(|address| address.to_string()),
            redirect_https: origin.listener_answer.redirect(),
            hsts: origin.hsts,
            requests: self.requests,
            buffer: CarriedBytes(self.buffer.bytes().to_vec()),
            finished: self.finished,
        };
        Ok((socket, moved))
    }

    /// Imports a client from what [`Self::export`] has returned.
    pub fn import(
        stream: Stream,
        moved: MovedClient,
        interrupt: Arc<ConnectionInterrupt>,
        config: &Config,
    ) -> Self {
        let has_challenges = config
            .listeners
            .iter()
            .any(|listener| listener.acme.is_some());
        let origin = ClientInfo {
            address: moved.address,
            known: moved.known,
            ip: moved.ip,
            trusted: moved.trusted,
            scheme: "http",
            protocol: None,
            identity: None,
            listener: (moved.listener.as_deref())
                .and_then(|address| address.parse().ok().map(Arc::new)),
            listener_answer: ListenerAnswer::of_listener(moved.redirect_https, has_challenges),
            hsts: moved.hsts,
        };
        let mut client = Self::new(stream, origin, interrupt, config);
        client.buffer = Buffer::of_carried(&moved.buffer.0);
        client.requests = moved.requests;
        client.finished = moved.finished;
        client
    }
}
