//! The sentinel: a probe's connection, kept open between probes. A process that exits can't but close it.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::SendRequest;
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connect::Connection;

/// An open connection that nobody uses; dropping it closes it.
#[derive(Debug)]
pub(super) struct Sentinel {
    task: JoinHandle<()>,
    /// For the next request, if this is an HTTP connection.
    pub(super) sender: Option<SendRequest<Empty<Bytes>>>,
    /// The listening socket it went to.
    pub(super) listener: Option<u64>,
    /// Since when nobody uses it.
    pub(super) idle_since: Instant,
}

impl Sentinel {
    /// An HTTP connection that `task` drives.
    pub(super) fn http(
        task: JoinHandle<()>,
        sender: SendRequest<Empty<Bytes>>,
        listener: Option<u64>,
    ) -> Self {
        Self {
            task,
            sender: Some(sender),
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
            task,
            sender: None,
            listener,
            idle_since: Instant::now(),
        }
    }

    /// Waits until the peer has closed it.
    pub(super) async fn closed(&mut self) {
        // An error would be a panic or an abort of that task: either way the connection is gone.
        let _ = (&mut self.task).await;
    }

    /// Whether it is still there.
    pub(super) fn is_open(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.task.abort();
    }
}
