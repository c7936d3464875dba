//! supervisord, over XML-RPC. It sends events only to its own children (event listeners), so it is polled. It reports
//! `STOPPING` from just before the signal until the process has ended.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::place::{ANSWER_TIMEOUT, SupervisorPlace};
use super::{SupervisorError, SupervisorSource, WordListener, xml_rpc};
use crate::core::supervisor_word::ProcessWord;
use crate::rt::clock;
use crate::rt::owned_task::OwnedTask;

/// Longest answer in bytes; enough for about 10,000 processes.
const MAX_ANSWER_LENGTH: usize = 16 << 20;

/// supervisord.
pub(super) struct SupervisordSource {
    place: SupervisorPlace,
    pause: Duration,
}

impl SupervisordSource {
    /// A source for this address: a socket, or the server's `inet_http_server`. Default: the usual socket.
    pub(super) fn new(address: Option<&str>, pause: Duration) -> Self {
        let usual = || match std::path::Path::new("/run/supervisor.sock").exists() {
            true => "unix:/run/supervisor.sock",
            false => "unix:/var/run/supervisor.sock",
        };
        Self {
            place: SupervisorPlace::parse(address.unwrap_or_else(usual), 9001),
            pause,
        }
    }
}

/// A connection that ends when this is dropped.
struct HttpConnection {
    requests: SendRequest<Full<Bytes>>,
    _task: OwnedTask,
}

impl HttpConnection {
    async fn open(place: &SupervisorPlace) -> Result<Self, SupervisorError> {
        let stream = place.connect().await?;
        let opened = handshake(TokioIo::new(stream)).await;
        let (requests, connection) =
            opened.map_err(|error| SupervisorError::of("supervisord", error))?;
        let task = OwnedTask::spawn(async move {
            // The end of the connection is reported by the request.
            let _ = connection.await;
        });
        Ok(Self {
            requests,
            _task: task,
        })
    }

    async fn call(
        &mut self,
        place: &SupervisorPlace,
        method: &str,
    ) -> Result<String, SupervisorError> {
        let failed = |error: hyper::Error| SupervisorError::of("supervisord", error);
        let (host, login) = match place {
            SupervisorPlace::Socket(_) => ("localhost", None),
            SupervisorPlace::Http { host, login } => (host.as_str(), login.as_ref()),
        };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri("/RPC2")
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "text/xml");
        if let Some(login) = login {
            let login = base64::engine::general_purpose::STANDARD.encode(login);
            request = request.header(header::AUTHORIZATION, format!("Basic {login}"));
        }
        let request = request.body(Full::new(Bytes::from(xml_rpc::call(method))));
        let request = request.map_err(|error| SupervisorError::of("supervisord", error))?;
        self.requests.ready().await.map_err(failed)?;
        let answer = self.requests.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_LENGTH);
        let body = body.collect().await;
        let body = body.map_err(|error| SupervisorError::of("supervisord's answer", error))?;
        match status.as_u16() {
            200 => Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned()),
            401 => Err(SupervisorError(
                "supervisord wants user and password: write them into `address`, as in \
                 \"http://user:password@127.0.0.1:9001\""
                    .to_owned(),
            )),
            status => Err(SupervisorError(format!("supervisord answered {status}"))),
        }
    }
}

#[async_trait]
impl SupervisorSource for SupervisordSource {
    async fn listen(&mut self, listener: &mut WordListener) -> Result<(), SupervisorError> {
        let mut connection = HttpConnection::open(&self.place).await?;
        let mut before: HashMap<String, (ProcessWord, Option<String>)> = HashMap::new();
        let mut round = interval(self.pause);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            round.tick().await;
            let at = clock::now();
            let call = connection.call(&self.place, "supervisor.getAllProcessInfo");
            let answer = timeout(ANSWER_TIMEOUT, call).await;
            let late = |_| SupervisorError("supervisord has not answered within 5 s".to_owned());
            let answer = answer.map_err(late)??;
            let structs = xml_rpc::read_structs(&answer);
            let structs = structs.map_err(|why| SupervisorError::of("supervisord", why))?;
            for process in listener.processes() {
                let Some(said) = find(&structs, &process) else {
                    before.remove(&process);
                    listener.unknown(&process, "supervisord has no such process", at);
                    continue;
                };
                if before.get(&process) != Some(&said) {
                    listener.hear(&process, said.0, said.1.clone(), at);
                    before.insert(process, said);
                }
            }
            listener.catch_up();
        }
    }
}

/// The process with this name: `GROUP:NAME`, or `NAME` if only one group has it.
fn find(
    structs: &[HashMap<String, String>],
    wanted: &str,
) -> Option<(ProcessWord, Option<String>)> {
    let text = |of: &HashMap<String, String>, key: &str| of.get(key).cloned().unwrap_or_default();
    let full = |of: &HashMap<String, String>| format!("{}:{}", text(of, "group"), text(of, "name"));
    let mut named = structs.iter().filter(|of| text(of, "name") == wanted);
    let found = structs.iter().find(|of| full(of) == wanted);
    let found = found.or_else(|| named.next().filter(|_| named.next().is_none()))?;
    let word = match text(found, "statename").as_str() {
        "RUNNING" | "STARTING" => ProcessWord::Running,
        "STOPPING" => ProcessWord::Stopping,
        _ => ProcessWord::Ended,
    };
    let mark = format!("{}@{}", text(found, "pid"), text(found, "start"));
    Some((word, (word != ProcessWord::Ended).then_some(mark)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_found_by_group_and_name() {
        let of = |group: &str, name: &str, state: &str| {
            let members = [
                ("group", group),
                ("name", name),
                ("statename", state),
                ("pid", "7"),
                ("start", "9"),
            ];
            members
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into()
        };
        let all = [
            of("app", "app-1", "STOPPING"),
            of("app", "app-2", "STARTING"),
            of("b", "app-2", "FATAL"),
        ];
        let mark = Some("7@9".to_owned());
        assert_eq!(
            find(&all, "app:app-1"),
            Some((ProcessWord::Stopping, mark.clone()))
        );
        assert_eq!(
            find(&all, "app-1"),
            Some((ProcessWord::Stopping, mark.clone()))
        );
        assert_eq!(find(&all, "app:app-2"), Some((ProcessWord::Running, mark)));
        assert_eq!(find(&all, "b:app-2"), Some((ProcessWord::Ended, None)));
        assert_eq!(find(&all, "app-2"), None, "two groups have it");
    }

    #[tokio::test]
    async fn answer_without_end_is_given_up() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("supervisor.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let flood = OwnedTask::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Data without a request would end the connection for another reason.
            stream.read_u8().await.unwrap();
            let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
            stream.write_all(head).await.unwrap();
            let piece = vec![b'x'; 1 << 16];
            for _ in 0..2 * MAX_ANSWER_LENGTH / piece.len() {
                if stream.write_all(&piece).await.is_err() {
                    return;
                }
            }
        });
        let place = SupervisorPlace::Socket(path);
        let mut connection = HttpConnection::open(&place).await.unwrap();
        let error = connection.call(&place, "any").await.unwrap_err();
        assert!(error.to_string().contains("limit"), "{error}");
        drop(flood);
    }
}
