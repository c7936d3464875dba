//! The sentinel: a probe's connection, kept open between probes. A process that exits can't but close it.

use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connect::ProbeConnection;
use super::http2::ProbeSession;

/// An open connection that is not used; dropping it closes it.
#[derive(Debug)]
pub(super) struct SentinelConnection {
    watch: SentinelWatch,
    /// The listening socket it went to.
    pub(super) listener: Option<u64>,
    /// Since when it is unused.
    pub(super) idle_since: Instant,
}

#[derive(Debug)]
enum SentinelWatch {
    /// It takes another request.
    Http(ProbeConnection),
    /// It takes another call.
    Session(ProbeSession),
}

/// A task that reads until the end, and itself ends when this is dropped.
#[derive(Debug)]
pub(super) struct SentinelTask(pub(super) JoinHandle<()>);

impl SentinelTask {
    /// Waits until the connection has ended.
    pub(super) async fn ended(&mut self) {
        // An error would be a panic or an abort of that task: either way the connection is gone.
        let _ = (&mut self.0).await;
    }

    /// Whether it has not ended yet.
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

    /// Waits until it is of no use any more: the peer has closed it, or has sent bytes without a request.
    pub(super) async fn closed(&mut self) {
        match &mut self.watch {
            SentinelWatch::Http(connection) => {
                let _ = connection.read(&mut [0]).await;
            }
            SentinelWatch::Session(session) => session.closed().await,
        }
    }

    /// The connection for another request, if it takes one.
    pub(super) fn into_http(self) -> Option<(ProbeConnection, Option<u64>)> {
        match self.watch {
            SentinelWatch::Http(connection) => Some((connection, self.listener)),
            SentinelWatch::Session(_) => None,
        }
    }

    /// The session for another call, if it is one.
    pub(super) fn into_session(self) -> Option<(ProbeSession, Option<u64>)> {
        match self.watch {
            SentinelWatch::Session(session) => Some((session, self.listener)),
            SentinelWatch::Http(_) => None,
        }
    }
}
