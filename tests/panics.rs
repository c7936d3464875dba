//! Panics on a request's way: one request pays for it, its client hears of it, and it is counted and logged.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Once};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use lameduck::config::{self, LogFormat, LogSink};
use lameduck::proxy::accept::{self, ListenerContext, ListenerSettings};
use lameduck::proxy::buffer::Buffer;
use lameduck::proxy::client_info::ClientInfo;
use lameduck::proxy::connection::serve_one::{WrittenHead, serve_one};
use lameduck::proxy::data_plane::DataPlane;
use lameduck::proxy::memory::ConnectionMemory;
use lameduck::registry::unattended::{NoObserver, NoProbes};
use lameduck::registry::{self, persist};
use lameduck::rt::panics::{self, ThreadRole};
use lameduck::telemetry::access_log::AccessLog;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

/// When the client's stream panics, for a mistake that the proxy itself doesn't make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    /// When it is read again behind the request.
    SecondRead,
    /// When it is written to again behind ten bytes.
    SecondWrite,
}

/// A client that sends one request.
#[derive(Debug)]
struct Scripted {
    mistake: Mistake,
    sends: &'static [u8],
    reads: u32,
    writes: u32,
    written: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        space.put_slice(std::mem::take(&mut self.sends));
        self.reads += 1;
        let second = self.mistake == Mistake::SecondRead && self.reads == 2;
        assert!(!second, "for the test: read");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes += 1;
        let most = match self.mistake {
            Mistake::SecondRead => bytes.len(),
            Mistake::SecondWrite => 10,
        };
        let second = self.mistake == Mistake::SecondWrite && self.writes == 2;
        assert!(!second, "for the test: write");
        self.written.lock().unwrap().extend(&bytes[..most]);
        Poll::Ready(Ok(most))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Shutdown for Scripted {
    async fn shutdown(&mut self) {}
}

impl UniqueID for Scripted {
    fn id(&self) -> UniqueIDType {
        -1
    }
}

impl GetTimingDigest for Scripted {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Scripted {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Scripted {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Ssl for Scripted {}
impl Peek for Scripted {}

/// What the proxy logs.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log of this test's process, with the hook in place.
fn log() -> Captured {
    static START: Once = Once::new();
    static LOG: std::sync::OnceLock<Captured> = std::sync::OnceLock::new();
    let log = LOG.get_or_init(Captured::default).clone();
    START.call_once(|| {
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        panics::install_hook().unwrap();
    });
    log
}

fn on_data_threads() -> u64 {
    let mut counts = panics::counts();
    counts
        .find(|(role, _)| *role == ThreadRole::Data)
        .unwrap()
        .1
}

/// One client of a proxy whose pool has nobody, by way of HTTP/1's front door or of an HTTP/2 stream's: what it got, and
/// its line in the access log.
fn serve(mistake: Mistake, on_empty: &str, as_stream: bool) -> (String, serde_json::Value) {
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[pool]]\nname = \"app\"\n[pool.hold]\non_empty = \"{on_empty}\"\n"
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access");
    let mut config = config::parse("test.toml", &text).unwrap().config;
    config.access_log = config::AccessLogConfig {
        sink: LogSink::File(path.clone()),
        format: LogFormat::Json,
        ..config::AccessLogConfig::default()
    };
    let written = Arc::default();
    let stream = Box::new(Scripted {
        mistake,
        sends: if as_stream { b"" } else { REQUEST },
        // The head of an HTTP/2 stream was read already.
        reads: u32::from(as_stream),
        writes: 0,
        written: Arc::clone(&written),
    });
    let serving = async move {
        let access_log = AccessLog::open(&config.access_log).unwrap();
        let config = Arc::new(config);
        let state = persist::KeptState::default();
        let registry = registry::spawn(
            config.clone(),
            state,
            persist::OwnKeySource::default(),
            |_| Box::new(NoProbes),
            Box::new(NoObserver),
        );
        let plane = DataPlane::new(registry, access_log, Arc::default()).unwrap();
        let plane = Arc::new(plane);
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        if as_stream {
            let written = Buffer::holding(|out| out.extend_from_slice(REQUEST), |_| true);
            let (buffer, ()) = written.unwrap();
            let head = WrittenHead {
                buffer,
                unfit: None,
                began: None,
                share: ConnectionMemory::new(0).share(),
            };
            let origin = ClientInfo::new(Some(peer), &config.headers);
            let interrupt = plane.clients.join();
            let done = serve_one(&plane, stream, head, origin, interrupt.clone(), &config);
            done.await;
            plane.clients.leave(&interrupt);
        } else {
            let settings = ListenerSettings {
                address: Arc::new(config.listeners[0].address.clone()),
                listener: config.listeners[0].clone(),
                tls: None,
            };
            let front = ListenerContext {
                plane: plane.clone(),
                settings: ArcSwap::from_pointee(settings),
            };
            accept::receive(&front, stream, Some(peer)).await;
        }
        assert_eq!(plane.clients.open(), 0);
        assert!(plane.access_log.flush(Duration::from_secs(20)));
    };
    let thread = std::thread::Builder::new().name("proxy".to_owned());
    let served = thread.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(serving);
    });
    served.unwrap().join().unwrap();
    let got = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    let line = std::fs::read_to_string(&path).unwrap();
    (got, serde_json::from_str(line.trim()).unwrap())
}

/// One test, because the counts are the process's.
#[test]
fn panic_costs_one_request_and_is_answered_counted_and_logged() {
    let log = log();
    // Before a byte of an answer, while the request is held.
    for as_stream in [false, true] {
        let before = on_data_threads();
        let (got, line) = serve(Mistake::SecondRead, "hold", as_stream);
        assert!(got.starts_with("HTTP/1.1 500 "), "{got}");
        assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "{got}");
        assert!(
            got.to_ascii_lowercase().contains("connection: close"),
            "{got}"
        );
        assert_eq!(
            (&line["status"], &line["end"]),
            (&500.into(), &"panic".into()),
            "{line}"
        );
        assert_eq!(line["cause"], panics::CAUSE, "{line}");
        assert_eq!(line["pool"], "app", "{line}");
        assert_eq!(on_data_threads(), before + 1);
    }
    // Behind ten bytes of one.
    let before = on_data_threads();
    let (got, line) = serve(Mistake::SecondWrite, "fail", false);
    assert_eq!(got, "HTTP/1.1 5");
    assert_eq!(
        (&line["end"], &line["cause"]),
        (&"panic".into(), &panics::CAUSE.into())
    );
    assert_eq!(on_data_threads(), before + 1);
    // The log has each place once.
    let began = Instant::now();
    let mistakes = |text: &str, what: &str| text.matches(what).count();
    loop {
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let logged = (
            mistakes(&text, "for the test: read"),
            mistakes(&text, "for the test: write"),
        );
        if logged == (1, 1) {
            assert!(text.contains("tests/panics.rs:"), "{text}");
            break;
        }
        assert!(logged.0 <= 1 && logged.1 <= 1, "{text}");
        assert!(began.elapsed() < Duration::from_secs(10), "{text}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
