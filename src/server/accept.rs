//! The accept loop of one listener.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::threads::Threads;
use crate::proxy::front::{self, Front};
use crate::proxy::plain;

/// So many connections are accepted at a time; then others have their turn.
const BATCH: usize = 32;

/// After an error that is likely to come again, such as no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket whose readiness this runtime learns of.
pub fn queue(socket: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    #[allow(unsafe_code)]
    // SAFETY: a `TcpListener` owns its descriptor: it stays the same one, and open, for as long as it lives.
    let queue = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    Ok(queue?)
}

/// Accepts until `stop` is said or dropped.
pub async fn run(
    socket: AsyncFd<TcpListener>,
    front: Arc<Front>,
    threads: Arc<Threads>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut works = true;
    loop {
        let mut ready = tokio::select! {
            biased;
            _ = &mut stop => break,
            ready = socket.readable() => match ready {
                Ok(ready) => ready,
                Err(_) => break,
            },
        };
        match accept_some(socket.get_ref(), &front, &threads) {
            Ok(()) => works = true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => {
                // Once, until it works again.
                if std::mem::take(&mut works) {
                    warn!(%error, "can't accept connections; trying on");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Accepts what the queue holds, up to one batch.
fn accept_some(socket: &TcpListener, front: &Arc<Front>, threads: &Threads) -> io::Result<()> {
    for _ in 0..BATCH {
        match socket.accept() {
            Ok((stream, peer)) => hand_over(stream, peer, front, threads),
            // It was gone before it was accepted; the next one need not be.
            Err(error) if concerns_one(&error) => debug!(%error, "not accepted"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Accepts all that the queue holds.
pub fn accept_queue(socket: &TcpListener, front: &Arc<Front>, threads: &Threads) {
    while accept_some(socket, front, threads).is_ok() {}
}

fn concerns_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// Gives a connection to the thread that will serve it.
fn hand_over(stream: TcpStream, peer: SocketAddr, front: &Arc<Front>, threads: &Threads) {
    let front = front.clone();
    let prepared = stream
        .set_nonblocking(true)
        .and_then(|()| stream.set_nodelay(true));
    if let Err(error) = prepared {
        debug!(%error, "a connection was gone as soon as it was accepted");
        return;
    }
    threads.least_busy().spawn(async move {
        match plain::accepted(stream) {
            Ok(stream) => front::receive(&front, stream, peer).await,
            Err(error) => warn!(%error, "a connection can't be watched"),
        }
    });
}
