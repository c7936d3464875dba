//! A real proxy with TLS in front of a backend that says what it was asked.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lameduck::tools::demo::admin;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::demo::scratch::ScratchDir;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use lameduck_rig::certificates::{Authority, Client, Pair};
pub use lameduck_rig::place::exe;
pub use lameduck_rig::setting::{proving, skip};
pub use lameduck_rig::wait::{PATIENCE, until};

/// A proxy, its authority, and its files.
pub struct Rig {
    pub authority: Authority,
    pub proxy: DemoProxy,
    pub log: PathBuf,
    // Last: the proxy writes into it.
    pub scratch: ScratchDir,
}

impl Rig {
    /// With a certificate for `localhost`, and these further keys of `[listener.tls]`.
    pub async fn new(tls: &str) -> Self {
        Self::with(tls, "", "").await
    }

    /// The same with keys of the listener and of `[server]`.
    pub async fn with(tls: &str, listener: &str, server: &str) -> Self {
        let backend = echo().await;
        Self::before(tls, listener, server, &[("echo".to_owned(), backend)]).await
    }

    /// The same in front of these backends. `$DIR` in `tls` is where the files are.
    pub async fn before(
        tls: &str,
        listener: &str,
        server: &str,
        backends: &[(String, SocketAddr)],
    ) -> Self {
        let nothing = |_: &Authority| String::new();
        Self::made(tls, listener, server, backends, nothing).await
    }

    /// With a list of revoked certificates in the authority's file.
    pub async fn revoking(tls: &str, list: impl FnOnce(&Authority) -> String) -> Self {
        let backends = [("echo".to_owned(), echo().await)];
        Self::made(tls, "", "", &backends, list).await
    }

    async fn made(
        tls: &str,
        listener: &str,
        server: &str,
        backends: &[(String, SocketAddr)],
        list: impl FnOnce(&Authority) -> String,
    ) -> Self {
        let authority = Authority::new("the authority");
        let scratch = ScratchDir::new("lameduck-tls").unwrap();
        let dir = scratch.path().to_owned();
        authority
            .sign(&["localhost"])
            .write(&dir.join("cert.pem"), &dir.join("key.pem"));
        let signers = authority.pem.clone() + &list(&authority);
        lameduck_rig::certificates::replace(&dir.join("ca.pem"), &signers);
        let proxy = Self::start(&dir, tls, listener, server, backends).await;
        Self {
            authority,
            proxy,
            log: dir.join("proxy.log"),
            scratch,
        }
    }

    pub async fn start(
        dir: &Path,
        tls: &str,
        listener: &str,
        server: &str,
        backends: &[(String, SocketAddr)],
    ) -> DemoProxy {
        let settings = ProxySettings {
            listener: listener_toml(dir, tls, listener),
            server: server.to_owned(),
            pool: "[pool.health]\nrise = 1\nfast_interval = \"10ms\"".to_owned(),
            ..ProxySettings::default()
        };
        let mut proxy = DemoProxy::start_with(exe(), "proxy", dir, &settings, backends)
            .await
            .unwrap();
        proxy.eligible().await.unwrap();
        proxy
    }

    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    pub fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// Replaces the pair that is served.
    pub fn swap(&self, pair: &Pair) {
        pair.write(&self.dir().join("cert.pem"), &self.dir().join("key.pem"));
    }

    /// What a client without a certificate is.
    pub fn client(&self) -> Arc<ClientConfig> {
        Client::default().config(&self.authority)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub async fn metrics(&self) -> String {
        let (_, text) = admin::request(self.proxy.socket(), "GET", "/metrics", None)
            .await
            .unwrap();
        String::from_utf8(text.to_vec()).unwrap()
    }

    /// The value of one series, given as it is written.
    pub async fn series(&self, name: &str) -> Option<f64> {
        let metrics = self.metrics().await;
        let line = metrics.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Waits until a series has this value: handshakes are counted a little behind what their client sees of them.
    pub async fn counts(&self, name: &str, wanted: f64) {
        let what = format!("{name} to be {wanted}");
        until(&what, async || self.series(name).await == Some(wanted)).await;
    }

    pub async fn reload(&self) -> Result<String, String> {
        let answer = admin::call(self.proxy.socket(), "POST", "/v1/config/reload", None).await;
        answer
            .map(|value| value.to_string())
            .map_err(|error| error.to_string())
    }
}

fn listener_toml(dir: &Path, tls: &str, listener: &str) -> String {
    let dir = dir.display().to_string();
    let mut text = listener.to_owned();
    let _ = write!(
        text,
        "\n[listener.tls]\ncert = \"{dir}/cert.pem\"\nkey = \"{dir}/key.pem\"\n{}\n",
        tls.replace("$DIR", &dir)
    );
    text
}

/// Connects and shakes hands.
pub async fn connect(
    address: SocketAddr,
    name: &str,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let shaking = TlsConnector::from(config).connect(name, stream);
    tokio::time::timeout(PATIENCE, shaking)
        .await
        .expect("the handshake takes too long")
}

/// Sends a request that asks to close, and reads to the end; `UnexpectedEof` where no close_notify came.
pub async fn ask(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    request: &str,
) -> std::io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    read_to_end(stream).await
}

pub async fn read_to_end(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<String> {
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("no end comes")?;
    Ok(String::from_utf8(answer).unwrap())
}

/// `GET`, asking to close.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// One request on a connection of its own.
pub async fn fetch(rig: &Rig, config: Arc<ClientConfig>) -> std::io::Result<String> {
    let mut stream = connect(rig.address(), "localhost", config).await?;
    ask(&mut stream, &get("/")).await
}

/// A backend that answers each request with its head; to `/slow` after half a second.
pub async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

async fn answer(mut stream: TcpStream) {
    let (mut buffer, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            match stream.read(&mut chunk).await {
                Ok(count) if count > 0 => buffer.extend_from_slice(&chunk[..count]),
                _ => return,
            }
        };
        let head: Vec<u8> = buffer.drain(..end).collect();
        if head.starts_with(b"GET /slow") {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let own = if head.starts_with(b"GET /own-hsts") {
            "Strict-Transport-Security: max-age=7; includeSubDomains\r\n"
        } else {
            ""
        };
        let mut out = format!(
            "HTTP/1.1 200 OK\r\n{own}Content-Length: {}\r\n\r\n",
            head.len()
        );
        out.push_str(std::str::from_utf8(&head).unwrap());
        if stream.write_all(out.as_bytes()).await.is_err() {
            return;
        }
    }
}
