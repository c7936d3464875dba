//! Hands a connection from Pingora's accept loop to the thread that will serve it.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::workers::DataThreads;
use crate::net::plain;
use crate::proxy::accept::{self, ListenerContext};
use crate::rt::clock;

/// Destination of a listener's connections. Its accept loop runs on a thread of its own, so that a burst of new
/// connections takes no time from requests.
pub struct AcceptTarget {
    /// Context of the listener, which serves the connections.
    pub front: Arc<ListenerContext>,
    /// Threads that the connections are given to.
    pub threads: Arc<DataThreads>,
}

/// A connection that was just accepted.
enum AcceptedSocket {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// Wait before the next attempt if the process has no descriptor left.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

#[async_trait]
impl ServerApp for AcceptTarget {
    async fn process_new(self: &Arc<Self>, stream: Stream, _: &ShutdownWatch) -> Option<Stream> {
        match plain::socket_of(&stream) {
            Ok(socket) => {
                drop(stream);
                let socket = TcpStream::from(socket);
                match socket.peer_addr() {
                    Ok(peer) => self.hand_over(AcceptedSocket::Tcp(socket, peer)),
                    // The connection can't be served, so it is dropped.
                    Err(error) => {
                        debug!(%error, "a client was gone before its address could be read")
                    }
                }
            }
            Err(error) => warn!(%error, "a connection can't be taken"),
        }
        None
    }
}

impl AcceptTarget {
    /// Accepts the connections that are still in the queue after the accept loop has ended.
    pub fn empty(&self, queue: &TcpListener) {
        loop {
            match queue.accept() {
                Ok((socket, peer)) => {
                    let nonblocking = socket.set_nonblocking(true);
                    match nonblocking.and_then(|()| socket.set_nodelay(true)) {
                        Ok(()) => self.hand_over(AcceptedSocket::Tcp(socket, peer)),
                        Err(error) => debug!(%error, "a queued connection is gone"),
                    }
                }
                // This client had closed its connection before it was accepted; the next one may not have.
                Err(error) if concerns_one(&error) => {}
                Err(_) => return,
            }
        }
    }

    /// Accepts connections of a unix socket until `stop` is set.
    pub async fn accept_unix(&self, queue: &UnixListener, mut stop: watch::Receiver<bool>) {
        let queue = queue
            .try_clone()
            .and_then(tokio::net::UnixListener::from_std);
        let queue = match queue {
            Ok(queue) => queue,
            Err(error) => {
                warn!(%error, "a unix socket can't be watched");
                return;
            }
        };
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                accepted = queue.accept() => accepted,
            };
            match accepted.and_then(|(socket, _)| socket.into_std()) {
                Ok(socket) => self.hand_over(AcceptedSocket::Unix(socket)),
                Err(error) if concerns_one(&error) => {}
                Err(error) => {
                    warn!(%error, "a connection can't be accepted");
                    clock::sleep(SHORTAGE_PAUSE).await;
                }
            }
        }
    }

    /// Accepts the connections that are still in the queue of a unix socket after its accept loop has ended.
    pub fn empty_unix(&self, queue: &UnixListener) {
        loop {
            match queue.accept() {
                Ok((socket, _)) => match socket.set_nonblocking(true) {
                    Ok(()) => self.hand_over(AcceptedSocket::Unix(socket)),
                    Err(error) => debug!(%error, "a queued connection is gone"),
                },
                Err(error) if concerns_one(&error) => {}
                Err(_) => return,
            }
        }
    }

    /// Gives a connection to the thread that will serve it.
    fn hand_over(&self, socket: AcceptedSocket) {
        let front = self.front.clone();
        self.threads.deal(async move {
            let (stream, peer) = match socket {
                AcceptedSocket::Tcp(socket, peer) => (plain::tcp(socket), Some(peer)),
                AcceptedSocket::Unix(socket) => (plain::unix(socket.into()), None),
            };
            match stream {
                Ok(stream) => accept::receive(&front, stream, peer).await,
                Err(error) => warn!(%error, "a connection can't be watched"),
            }
        });
    }
}

fn concerns_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
