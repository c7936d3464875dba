//! A probe's HTTP/2 connection (RFC 9113): one call at a time, and between two of them it is the sentinel.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use hyper::{HeaderMap, Request};

use super::connect::Connection;
use super::sentinel::Watcher;

/// A larger answer is not read to its end.
const MAX_BODY: usize = 64 << 10;
/// A longer head is none.
const MAX_HEAD: u32 = 64 << 10;

/// An open session; dropping it closes the connection.
#[derive(Debug)]
pub(super) struct Session {
    sender: SendRequest<Bytes>,
    /// Reads and writes until the end.
    task: Watcher,
}

/// A complete answer.
#[derive(Debug)]
pub(super) struct Reply {
    /// HTTP's status.
    pub(super) status: u16,
    pub(super) head: HeaderMap,
    /// The beginning of the body.
    pub(super) body: Vec<u8>,
    pub(super) trailers: HeaderMap,
}

impl Session {
    /// Begins to speak HTTP/2. Whether the other side does, the first call shows.
    pub(super) async fn open(connection: Connection) -> Result<Self, h2::Error> {
        let (sender, connection) = Builder::new()
            .enable_push(false)
            .max_header_list_size(MAX_HEAD)
            .handshake(connection)
            .await?;
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            task: Watcher(task),
        })
    }

    /// Sends a request and takes the answer to it.
    pub(super) async fn call(
        &mut self,
        request: Request<()>,
        body: Bytes,
    ) -> Result<Reply, h2::Error> {
        let mut sender = self.sender.clone().ready().await?;
        let bodiless = body.is_empty();
        let (response, mut stream) = sender.send_request(request, bodiless)?;
        if !bodiless {
            // A few bytes: they fit into any window.
            stream.send_data(body, true)?;
        }
        let (head, mut incoming) = response.await?.into_parts();
        let mut body = Vec::new();
        while let Some(data) = incoming.data().await {
            let data = data?;
            let _ = incoming.flow_control().release_capacity(data.len());
            body.extend_from_slice(&data);
            if body.len() > MAX_BODY {
                break;
            }
        }
        let trailers = match body.len() > MAX_BODY {
            true => None,
            false => incoming.trailers().await?,
        };
        Ok(Reply {
            status: head.status.as_u16(),
            head: head.headers,
            body,
            trailers: trailers.unwrap_or_default(),
        })
    }

    /// Waits until the connection has ended.
    pub(super) async fn closed(&mut self) {
        self.task.ended().await;
    }

    /// Whether it is still there, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        self.task.is_watching()
    }
}

/// `grpc-timeout` (gRPC over HTTP/2): at most eight digits and a unit.
pub(super) fn grpc_timeout(timeout: Duration) -> String {
    match timeout.as_millis() {
        milliseconds @ 0..=99_999_999 => format!("{}m", milliseconds.max(1)),
        _ => format!("{}S", timeout.as_secs().min(99_999_999)),
    }
}
