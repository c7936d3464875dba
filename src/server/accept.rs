//! From Pingora's accept loop to the thread that will serve the connection.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tracing::{debug, warn};

use super::workers::Threads;
use crate::net::plain;
use crate::proxy::accept::{self, ListenerContext};

/// Where a listener's connections go. Its accept loop runs on a thread of its own, so that a burst of new connections
/// takes no time from requests.
pub struct AcceptTarget {
    /// Who serves them.
    pub front: Arc<ListenerContext>,
    /// Where.
    pub threads: Arc<Threads>,
}

#[async_trait]
impl ServerApp for AcceptTarget {
    async fn process_new(self: &Arc<Self>, stream: Stream, _: &ShutdownWatch) -> Option<Stream> {
        match plain::socket_of(&stream) {
            Ok(socket) => {
                drop(stream);
                let socket = TcpStream::from(socket);
                match socket.peer_addr() {
                    Ok(peer) => self.hand_over(socket, peer),
                    // It has nothing to be served.
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
    /// Accepts what is still in the queue when the loop has ended.
    pub fn empty(&self, queue: &TcpListener) {
        loop {
            match queue.accept() {
                Ok((socket, peer)) => {
                    let nonblocking = socket.set_nonblocking(true);
                    match nonblocking.and_then(|()| socket.set_nodelay(true)) {
                        Ok(()) => self.hand_over(socket, peer),
                        Err(error) => debug!(%error, "a queued connection is gone"),
                    }
                }
                // This one was gone before it was accepted; the next one need not be.
                Err(error) if concerns_one(&error) => {}
                Err(_) => return,
            }
        }
    }

    /// Gives a connection to the thread that will serve it.
    fn hand_over(&self, socket: TcpStream, peer: SocketAddr) {
        let front = self.front.clone();
        self.threads.deal(async move {
            match plain::tcp(socket) {
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
