//! The crowd: requests over HTTP/1 with and without TLS, over HTTP/2, calls of gRPC, WebSockets and event streams, and somebody
//! who connects anew all the time and looks how long that takes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::oracle::{Loss, Sent};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::mixed::{Seen, ask_over_http2, trusting};
use super::Crowd;
use super::fronts::Site;
use crate::harness::get;
use crate::harness::streams::{How, Streams};

/// What the crowd has noticed.
#[derive(Debug, Default)]
pub struct Findings {
    pub answered: u64,
    /// Connects that were refused.
    pub refused: u64,
    /// Requests and calls without a whole answer.
    pub lost: u64,
    pub sockets_closed: u64,
    pub events_ended: u64,
    pub messages_lost: u64,
    /// The longest that somebody who came anew has waited for an answer.
    pub pause: Duration,
    /// Some of what was lost.
    samples: Vec<String>,
}

impl Findings {
    pub fn assert_nothing_noticed(&self) {
        assert_eq!((self.refused, self.lost), (0, 0), "{self:#?}");
        assert_eq!(
            (self.sockets_closed, self.events_ended, self.messages_lost),
            (0, 0, 0),
            "{self:#?}"
        );
        assert!(self.answered > 50, "{self:#?}");
    }

    fn note(&mut self, why: String) {
        match why.contains("refused") || why.contains("Refused") {
            true => self.refused += 1,
            false => self.lost += 1,
        }
        if self.samples.len() < 10 {
            self.samples.push(why);
        }
    }

    fn add_load(&mut self, sent: Vec<Sent>) {
        for one in sent {
            match one.outcome {
                Ok(_) => self.answered += 1,
                Err(Loss::Refused) => self.note("refused".to_owned()),
                Err(loss) => self.note(format!("{:?}: {loss:?}", one.kind)),
            }
        }
    }

    fn add_seen(&mut self, seen: Seen) {
        self.answered += seen.answered;
        seen.failed.into_iter().for_each(|why| self.note(why));
    }
}

/// All of them, running.
pub struct Clients {
    load: Load,
    over_tls: Load,
    others: Vec<JoinHandle<Seen>>,
    streams: Streams,
    pauses: Arc<Mutex<Duration>>,
    stop: watch::Sender<bool>,
}

impl Clients {
    pub async fn start(site: &Site, dir: &Path, crowd: Crowd) -> Self {
        let period = Duration::from_millis(match crowd.sockets > 100 {
            true => 2_000,
            false => 50,
        });
        let streams = Streams::open_of(site.plain, crowd.sockets, crowd.events, period).await;
        let (stop, stopped) = watch::channel(false);
        // Four fifths of the requests in cleartext, the rest over TLS.
        let quick = |address, rate| LoadPlan {
            slow_percent: 2,
            slow: Duration::from_millis(500),
            ..LoadPlan::new(address, rate)
        };
        let load = Load::start(quick(site.plain, crowd.rate * 4 / 5));
        let over_tls = Load::start(LoadPlan {
            tls: Some(trusting(dir, b"http/1.1")),
            post_percent: 0,
            slow_percent: 0,
            ..quick(site.encrypted, crowd.rate / 5)
        });
        let pauses = Arc::new(Mutex::new(Duration::ZERO));
        let others = vec![
            tokio::spawn(ask_over_http2(
                site.encrypted,
                trusting(dir, b"h2"),
                stopped.clone(),
            )),
            tokio::spawn(call(site.encrypted, trusting(dir, b"h2"), stopped.clone())),
            tokio::spawn(come_anew(site.plain, pauses.clone(), stopped)),
        ];
        Self {
            load,
            over_tls,
            others,
            streams,
            pauses,
            stop,
        }
    }

    pub fn load(&self) -> &Load {
        &self.load
    }

    /// The longest pause so far; from now on, another one is looked for.
    pub fn forget_pauses(&mut self) -> Duration {
        std::mem::take(&mut *self.pauses.lock())
    }

    pub async fn stop(self) -> Findings {
        let mut findings = Findings {
            pause: *self.pauses.lock(),
            ..Findings::default()
        };
        self.stop.send_replace(true);
        for other in self.others {
            findings.add_seen(other.await.unwrap());
        }
        for end in self.streams.close() {
            match end.how {
                How::Closed { unanswered, .. } => {
                    findings.sockets_closed += 1;
                    findings.messages_lost += unanswered;
                }
                How::Finished => findings.events_ended += 1,
                How::Broken(why) => {
                    if why.contains("instead of") {
                        findings.messages_lost += 1;
                    }
                    match why.starts_with("websocket") {
                        true => findings.sockets_closed += 1,
                        false => findings.events_ended += 1,
                    }
                    if findings.samples.len() < 10 {
                        findings.samples.push(why);
                    }
                }
            }
        }
        findings.add_load(self.load.stop().await);
        findings.add_load(self.over_tls.stop().await);
        findings
    }
}

/// Connects for each request, one after the other.
async fn come_anew(
    address: SocketAddr,
    pauses: Arc<Mutex<Duration>>,
    stop: watch::Receiver<bool>,
) -> Seen {
    let mut seen = Seen::default();
    while !*stop.borrow() {
        let began = Instant::now();
        match get(address, "/").await {
            Ok((200, _)) => seen.answered += 1,
            Ok((status, _)) => seen.failed.push(status.to_string()),
            Err(loss) => seen.failed.push(format!("{loss:?}")),
        }
        let took = began.elapsed();
        {
            let mut longest = pauses.lock();
            *longest = longest.max(took);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    seen
}

/// An app that answers each call of gRPC with an empty message, and passes health checks that connect.
pub async fn start_grpc_app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_calls(stream));
        }
    });
    address
}

async fn answer_calls(stream: TcpStream) -> Option<()> {
    let mut connection = h2::server::handshake(stream).await.ok()?;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
            }
            let head = http::Response::builder().header("content-type", "application/grpc");
            let mut stream = respond.send_response(head.body(()).ok()?, false).ok()?;
            stream.send_data(Bytes::from_static(&[0; 5]), false).ok()?;
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            stream.send_trailers(trailers).ok()
        });
    }
    Some(())
}

/// Calls of gRPC over TLS, on one connection until its server says that it goes.
async fn call(address: SocketAddr, config: Arc<ClientConfig>, stop: watch::Receiver<bool>) -> Seen {
    let mut seen = Seen::default();
    'connections: while !*stop.borrow() {
        let tcp = match TcpStream::connect(address).await {
            Ok(tcp) => tcp,
            Err(error) => {
                seen.failed.push(error.to_string());
                continue;
            }
        };
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(config.clone());
        let handshake = async {
            let tls = connector
                .connect(name, tcp)
                .await
                .map_err(|error| error.to_string())?;
            h2::client::handshake(tls)
                .await
                .map_err(|error| error.to_string())
        };
        let (mut client, connection) = match handshake.await {
            Ok(both) => both,
            Err(why) => {
                seen.failed.push(why);
                continue;
            }
        };
        let driver = tokio::spawn(connection);
        while !*stop.borrow() {
            client = match client.ready().await {
                Ok(client) => client,
                Err(_) => continue 'connections,
            };
            match call_once(&mut client).await {
                Ok(()) => seen.answered += 1,
                Err(error)
                    if error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM) =>
                {
                    continue 'connections;
                }
                Err(error) => seen.failed.push(format!("gRPC: {error}")),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        driver.abort();
    }
    seen
}

async fn call_once(client: &mut h2::client::SendRequest<Bytes>) -> Result<(), h2::Error> {
    let request = http::Request::post("https://localhost/grpc.Nothing/Do")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let (answer, mut stream) = client.send_request(request.body(()).unwrap(), false)?;
    stream.send_data(Bytes::from_static(&[0; 5]), true)?;
    let answer = answer.await?;
    let status = answer.status();
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    let trailers = body.trailers().await?;
    let is_well = trailers
        .is_some_and(|trailers| trailers.get("grpc-status").is_some_and(|code| code == "0"));
    // As any other call that came to nothing.
    match status.is_success() && is_well {
        true => Ok(()),
        false => Err(h2::Reason::INTERNAL_ERROR.into()),
    }
}
