//! Docker's daemon, as far as its API says that it speaks to whoever listens: versions, containers, events. It runs no
//! containers; its containers are processes of the test's.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::BroadcastStream;

/// A daemon that can go away and come back.
pub(super) struct DockerDaemon {
    socket: PathBuf,
    known: Arc<Containers>,
    serving: tokio::task::JoinHandle<()>,
}

struct Containers {
    /// When each was started; `None`: it has ended.
    started: Mutex<BTreeMap<String, Option<String>>>,
    /// The ports that they listen on, by name.
    ports: BTreeMap<String, u16>,
    events: broadcast::Sender<String>,
}

fn now() -> (String, u64) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let text = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
    (text, since.as_nanos() as u64)
}

impl DockerDaemon {
    /// Listens at this socket, with these containers running.
    pub fn start(socket: &Path, containers: impl Iterator<Item = (String, u16)>) -> Self {
        let ports: BTreeMap<_, _> = containers.collect();
        let started = ports
            .keys()
            .map(|name| (name.clone(), Some(now().0)))
            .collect();
        let known = Arc::new(Containers {
            started: Mutex::new(started),
            ports,
            events: broadcast::channel(1024).0,
        });
        Self {
            serving: tokio::spawn(serve(socket.to_owned(), known.clone())),
            socket: socket.to_owned(),
            known,
        }
    }

    /// Goes away, with every connection.
    pub fn go(&self) {
        self.serving.abort();
        let _ = std::fs::remove_file(&self.socket);
    }

    /// Comes back.
    pub fn come(&mut self) {
        self.serving = tokio::spawn(serve(self.socket.clone(), self.known.clone()));
    }

    /// Tells of what happened to a container.
    pub fn tell(&self, name: &str, action: &str, signal: Option<&str>) {
        let (text, nanoseconds) = now();
        let mut started = self.known.started.lock().unwrap();
        match action {
            "start" => drop(started.insert(name.to_owned(), Some(text))),
            "die" => drop(started.insert(name.to_owned(), None)),
            _ => {}
        }
        drop(started);
        let mut attributes = json!({ "name": name, "image": "app" });
        if let Some(signal) = signal {
            attributes["signal"] = json!(signal);
        }
        let event = json!({
            "Type": "container", "Action": action, "Actor": { "ID": name, "Attributes": attributes },
            "scope": "local", "time": nanoseconds / 1_000_000_000, "timeNano": nanoseconds,
        });
        let _ = self.known.events.send(format!("{event}\n"));
    }
}

impl Drop for DockerDaemon {
    fn drop(&mut self) {
        self.go();
    }
}

async fn serve(socket: PathBuf, known: Arc<Containers>) {
    let listener = UnixListener::bind(&socket).unwrap();
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let known = known.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, known.clone()));
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    known: Arc<Containers>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let path = request.uri().path();
    // `/v1.47/events` and `/events` are the same.
    let path = match path[1..].split_once('/') {
        Some((version, rest)) if version.starts_with("v1.") => format!("/{rest}"),
        _ => path.to_owned(),
    };
    if path == "/events" {
        // What was, up to now: this daemon has no memory.
        let query = request.uri().query();
        if query.is_some_and(|query| query.contains("until=")) {
            return Ok(Response::new(Full::new(Bytes::new()).boxed()));
        }
        let events = BroadcastStream::new(known.events.subscribe());
        let events = events.filter_map(Result::ok);
        let frames = events.map(|line| Ok(Frame::data(Bytes::from(line))));
        return Ok(Response::new(BodyExt::boxed(StreamBody::new(frames))));
    }
    let (status, body) = match path.strip_prefix("/containers/") {
        Some("json") => (200, listed(&known)),
        Some(rest) => container(rest.trim_end_matches("/json"), &known),
        None => (
            200,
            json!({ "Version": "28.2.2", "ApiVersion": "1.50", "MinAPIVersion": "1.24" }),
        ),
    };
    let body = Full::new(Bytes::from(body.to_string())).boxed();
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    Ok(response.body(body).unwrap())
}

fn listed(known: &Containers) -> Value {
    let started = known.started.lock().unwrap();
    let running = started.iter().filter(|(_, started)| started.is_some());
    let list = running.map(|(name, _)| {
        json!({
            "Id": name, "Names": [format!("/{name}")], "State": "running", "Labels": { "lameduck.pool": "app" },
            "Ports": [{ "PrivatePort": known.ports[name], "Type": "tcp" }],
            "NetworkSettings": { "Networks": { "bridge": { "IPAddress": "127.0.0.1" } } },
        })
    });
    list.collect()
}

fn container(name: &str, known: &Containers) -> (u16, Value) {
    let started = known.started.lock().unwrap();
    match started.get(name) {
        None => (
            404,
            json!({ "message": format!("No such container: {name}") }),
        ),
        Some(started) => {
            let status = if started.is_some() {
                "running"
            } else {
                "exited"
            };
            let state =
                json!({ "Status": status, "Running": started.is_some(), "StartedAt": started });
            let config = json!({ "StopSignal": "SIGTERM" });
            (
                200,
                json!({ "Id": name, "Name": format!("/{name}"), "State": state, "Config": config }),
            )
        }
    }
}
