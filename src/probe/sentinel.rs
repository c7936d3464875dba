//! The sentinel: a probe's connection, kept open between probes. A process that exits can't but close it.

use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connect::Connection;

/// An open connection that nobody uses; dropping it closes it.
#[derive(Debug)]
pub(super) struct Sentinel {
    watch: Watch,
    /// The listening socket it went to.
    pub(super) listener: Option<u64>,
    /// Since when nobody uses it.
    pub(super) idle_since: Instant,
}

#[derive(Debug)]
enum Watch {
    /// It takes another request.
    Http(Connection),
    Tcp(Watcher),
}

/// A task that reads until the end, and itself ends when this is dropped.
#[derive(Debug)]
struct Watcher(JoinHandle<()>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Sentinel {
    /// An HTTP connection between two requests.
    pub(super) fn http(connection: Connection, listener: Option<u64>) -> Self {
        Self {
            watch: Watch::Http(connection),
            listener,
            idle_since: Instant::now(),
        }
    }

    /// A bare connection: what the peer says is thrown away, its end is what counts.
    pub(super) fn tcp(mut connection: Connection, listener: Option<u64>) -> Self {
        let task = tokio::spawn(async move {
            let mut void = [0; 1024];
            while connection.read(&mut void).await.is_ok_and(|read| read > 0) {}
        });
        Self {
            watch: Watch::Tcp(Watcher(task)),
            listener,
            idle_since: Instant::now(),
        }
    }

    /// Waits until it is of no use any more: the peer has closed it, or says what nobody asked for.
    pub(super) async fn closed(&mut self) {
        match &mut self.watch {
            Watch::Http(connection) => {
                let _ = connection.read(&mut [0]).await;
            }
            // An error would be a panic or an abort of that task: either way the connection is gone.
            Watch::Tcp(Watcher(task)) => {
                let _ = task.await;
            }
        }
    }

    /// Whether it is still there, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        match &self.watch {
            Watch::Http(_) => true,
            Watch::Tcp(Watcher(task)) => !task.is_finished(),
        }
    }

    /// The connection for another request, if it takes one.
    pub(super) fn into_http(self) -> Option<(Connection, Option<u64>)> {
        match self.watch {
            Watch::Http(connection) => Some((connection, self.listener)),
            Watch::Tcp(_) => None,
        }
    }
}
