//! A public address whose socket outlives the process: it comes from the process before, and is kept for the next one.

use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use socket2::SockRef;
use tracing::debug;

use super::{BoundAddress, LISTENER_SOCKET, ListeningSocket, PublicListener, access};
use crate::config::{self, ListenAddress};
use crate::net::kept_socket::{KeptSocket, KeptSocketUse, SocketStore};
use crate::net::unix_socket::{SocketFile, UnixSocketError};
use crate::rt::files::FileIdentity;

impl BoundAddress {
    /// Uses a kept socket of an earlier process, as if it had just been bound.
    pub(in crate::server) fn take_kept(
        config: &config::ListenerConfig,
        socket: TcpListener,
        takes_ipv6_alone: bool,
    ) -> Self {
        // Another process may have changed the options of the socket meanwhile.
        if let Err(error) = SockRef::from(&socket).set_reuse_port(config.reuse_port) {
            debug!(%error, "a kept socket shares its port as before");
        }
        Self {
            inherited: false,
            takes_ipv6_alone,
            ..Self::inherit(config, socket)
        }
    }

    /// Uses a kept unix socket, with its file.
    ///
    /// # Errors
    /// The permissions can't be set, or the directory of the file does not exist any more.
    pub(in crate::server) fn take_kept_unix(
        config: &config::ListenerConfig,
        path: &Path,
        (socket, file): (UnixListener, FileIdentity),
    ) -> Result<Self, UnixSocketError> {
        let file = SocketFile::taken_over(path, file, &access(config), &LISTENER_SOCKET)?;
        Ok(Self::of_unix(config, path, socket, file, false))
    }
}

impl PublicListener {
    /// Description of the socket for the store; `None`: the supervisor has it already.
    pub(super) fn kept(&self) -> Option<(KeptSocket, BorrowedFd<'_>)> {
        let usage = KeptSocketUse::Listener;
        match (&self.socket, self.configured()) {
            _ if self.inherited => None,
            (ListeningSocket::Tcp(socket), ListenAddress::Tcp(address)) => {
                let kept = KeptSocket::tcp(usage, address, self.takes_ipv6_alone);
                Some((kept, socket.as_fd()))
            }
            (ListeningSocket::Unix(socket, file), _) => {
                let kept = KeptSocket::unix(usage, file.path(), file.identity()?);
                Some((kept, socket.as_fd()))
            }
            _ => None,
        }
    }

    /// Has the store keep the socket, so that the next process gets it if this one is killed.
    pub(in crate::server) fn keep_in(&self, store: &SocketStore) {
        if let Some((kept, socket)) = self.kept() {
            store.keep(&kept, socket);
        }
    }

    /// Stops accepting at the end of the process. If the socket is kept for the next process, its queue is, too; but
    /// not if other processes share the port, because clients should then go to those.
    pub(in crate::server) async fn stop_at_end(mut self, store: &SocketStore) {
        let shares_port = self.front.settings.load().listener.reuse_port;
        self.inherited |= store.outlives_stop() && !shares_port;
        if self.inherited
            && let ListeningSocket::Unix(_, file) = &mut self.socket
        {
            file.leave();
        }
        self.stop(store).await;
    }
}
