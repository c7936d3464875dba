//! The sentinel: a probe's connection that is kept open between probes. The kernel closes it when the process exits,
//! whatever the process does.

use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connect::ProbeConnection;
use super::http2::ProbeSession;

/// An open connection that is not in use; dropping it closes it.
#[derive(Debug)]
pub(super) struct SentinelConnection {
    watch: SentinelWatch,
    /// The listening socket that accepted it, if it is known.
    pub(super) listener: Option<u64>,
    /// Time since which it is unused.
    pub(super) idle_since: Instant,
}

#[derive(Debug)]
enum SentinelWatch {
    /// An HTTP/1 connection, which can take another request.
    Http(ProbeConnection),
    /// An HTTP/2 session, which can take another call.
    Session(ProbeSession),
}

/// A task that reads until the end of the connection; aborted when this is dropped.
#[derive(Debug)]
pub(super) struct SentinelTask(pub(super) JoinHandle<()>);

impl SentinelTask {
    /// Waits until the connection has ended.
    pub(super) async fn ended(&mut self) {
        // An error is a panic or an abort of that task: the connection is gone in either case.
        let _ = (&mut self.0).await;
    }

    /// Whether the connection has not ended yet.
    pub(super) fn is_watching(&self) -> bool {
        !self.0.is_finished()
    }
}

impl Drop for SentinelTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SentinelConnection {
    /// An HTTP connection between two requests.
    pub(super) fn http(connection: ProbeConnection, listener: Option<u64>) -> Self {
        Self {
            watch: SentinelWatch::Http(connection),
            listener,
            idle_since: Instant::now(),
        }
    }

    /// An HTTP/2 connection between two calls.
    pub(super) fn session(session: ProbeSession, listener: Option<u64>) -> Self {
        Self {
            watch: SentinelWatch::Session(session),
            listener,
            idle_since: Instant::now(),
        }
    }

    /// Waits until the connection can't be used any more: the peer has closed it, or has sent bytes without a request.
    pub(super) async fn closed(&mut self) {
        match &mut self.watch {
            SentinelWatch::Http(connection) => {
                let _ = connection.read(&mut [0]).await;
            }
            SentinelWatch::Session(session) => session.closed().await,
        }
    }

    /// The connection for another request, if it is an HTTP/1 connection.
    pub(super) fn into_http(self) -> Option<(ProbeConnection, Option<u64>)> {
        match self.watch {
            SentinelWatch::Http(connection) => Some((connection, self.listener)),
            SentinelWatch::Session(_) => None,
        }
    }

    /// The session for another call, if it is an HTTP/2 session.
    pub(super) fn into_session(self) -> Option<(ProbeSession, Option<u64>)> {
        match self.watch {
            SentinelWatch::Session(session) => Some((session, self.listener)),
            SentinelWatch::Http(_) => None,
        }
    }
}
