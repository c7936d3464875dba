//! Docker's event stream, read line by line with a limit. The Docker client library reads lines of any length, so one
//! without an end, such as from a broken proxy of Docker's socket, would fill the memory.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use bollard::models::EventMessage;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::core::uri;
use crate::rt::clock;
use crate::rt::owned_task::OwnedTask;

/// Longest line of an event, in bytes: it contains all labels of a container.
const MAX_LINE_LENGTH: usize = 1 << 20;
/// Longest error response that is read, in bytes.
const MAX_REFUSAL_LENGTH: usize = 64 << 10;
/// Longest wait for the head of the response.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Selection of events.
#[derive(Debug, Clone, Default)]
pub struct WantedEvents {
    /// Earliest time, as Unix time in seconds.
    pub since: u64,
    /// Latest time, as Unix time in seconds; `None`: the stream has no end.
    pub until: Option<u64>,
    /// Docker's filters, by name.
    pub filters: HashMap<&'static str, Vec<String>>,
}

/// A stream of events. Dropping it closes the connection.
#[derive(Debug)]
pub struct DockerEvents {
    body: Incoming,
    read: BytesMut,
    /// Number of bytes of `read` in which no line end was found.
    searched: usize,
    _connection: OwnedTask,
}

impl DockerEvents {
    /// Asks the daemon for events over this connection.
    ///
    /// # Errors
    /// Why there are none, as a message for users.
    pub async fn open<S>(stream: S, wanted: &WantedEvents) -> Result<Self, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let asked = async {
            let failed = |error: hyper::Error| error.to_string();
            let (mut requests, connection) =
                handshake(TokioIo::new(stream)).await.map_err(failed)?;
            let connection = OwnedTask::spawn(async move {
                // The end of the connection is reported by the body, so its result is not needed here.
                let _ = connection.await;
            });
            let request = Request::get(wanted.path()).header(header::HOST, "docker");
            let request = request.body(Empty::<Bytes>::new());
            let request = request.map_err(|error| error.to_string())?;
            let answer = requests.send_request(request).await.map_err(failed)?;
            let status = answer.status();
            if !status.is_success() {
                let why = Limited::new(answer.into_body(), MAX_REFUSAL_LENGTH)
                    .collect()
                    .await;
                let why = why.map(|why| why.to_bytes()).unwrap_or_default();
                let why = String::from_utf8_lossy(&why).trim().to_owned();
                return Err(format!(
                    "it answers {status} to what asks for events: {why}"
                ));
            }
            Ok(Self {
                body: answer.into_body(),
                read: BytesMut::new(),
                searched: 0,
                _connection: connection,
            })
        };
        let late = |_| "it has not begun its event stream in time".to_owned();
        clock::timeout(HEAD_TIMEOUT, asked).await.map_err(late)?
    }

    /// The next event; `None` if the stream has ended. Cancel-safe: no event is lost if the future is dropped.
    ///
    /// # Errors
    /// The stream is broken or holds no events; it can't be used any more.
    pub async fn next(&mut self) -> Option<Result<EventMessage, String>> {
        loop {
            let end = self.read[self.searched..]
                .iter()
                .position(|byte| *byte == b'\n');
            if let Some(end) = end {
                let line = self.read.split_to(self.searched + end + 1);
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let event = serde_json::from_slice(&line);
                return Some(event.map_err(|error| format!("an event can't be read: {error}")));
            }
            self.searched = self.read.len();
            if self.searched > MAX_LINE_LENGTH {
                return Some(Err(format!(
                    "an event of more than {MAX_LINE_LENGTH} bytes"
                )));
            }
            match self.body.frame().await? {
                Ok(frame) => self.read.extend(frame.into_data().ok()),
                Err(error) => return Some(Err(error.to_string())),
            }
        }
    }
}

impl WantedEvents {
    fn path(&self) -> String {
        let mut path = format!("/events?since={}", self.since);
        if let Some(until) = self.until {
            let _ = write!(path, "&until={until}");
        }
        let filters = serde_json::to_string(&self.filters).unwrap_or_default();
        let filters = uri::encoded(&filters, uri::is_unreserved);
        let _ = write!(path, "&filters={filters}");
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Reads a daemon's response that has these bytes.
    async fn read(answer: impl Into<Vec<u8>>) -> Result<Vec<Result<EventMessage, String>>, String> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let answer = answer.into();
        let daemon = tokio::spawn(async move {
            let mut head = vec![0; 4096];
            let length = theirs.read(&mut head).await.unwrap();
            let _ = theirs.write_all(&answer).await;
            String::from_utf8_lossy(&head[..length]).into_owned()
        });
        let wanted = WantedEvents {
            since: 7,
            until: None,
            filters: HashMap::from([("label", vec!["lameduck.pool=app".to_owned()])]),
        };
        let mut events = DockerEvents::open(ours, &wanted).await?;
        let mut all = Vec::new();
        while let Some(event) = events.next().await {
            let is_broken = event.is_err();
            all.push(event);
            if is_broken {
                break;
            }
        }
        drop(events);
        let asked = daemon.await.unwrap();
        let filters = "%7B%22label%22%3A%5B%22lameduck.pool%3Dapp%22%5D%7D";
        let expected = format!("GET /events?since=7&filters={filters} HTTP/1.1");
        assert!(asked.starts_with(&expected), "{asked}");
        Ok(all)
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";

    #[tokio::test]
    async fn events_are_lines_however_they_are_cut() {
        let lines = "{\"Action\":\"kill\"}\r\n\n{\"Action\":\"die\"}\n{\"Action\":\"st";
        let all = read(format!("{HEAD}{lines}")).await.unwrap();
        let actions: Vec<_> = all
            .iter()
            .map(|one| one.as_ref().unwrap().action.as_deref())
            .collect();
        assert_eq!(actions, [Some("kill"), Some("die")], "half a line is none");
        let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nnope\n";
        let why = read(refused).await.unwrap_err();
        assert!(why.contains("403") && why.ends_with(": nope"), "{why}");
    }

    #[tokio::test]
    async fn line_without_end_breaks_the_stream_before_it_fills_the_memory() {
        let endless = [HEAD.as_bytes(), &vec![b'x'; 64 << 20]].concat();
        let all = read(endless).await.unwrap();
        let [Err(why)] = &all[..] else {
            panic!("{all:?}");
        };
        assert!(why.contains("an event of more than"), "{why}");
    }
}
