//! A proxy that orders certificates, and clients that look at them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use lameduck::tools::demo::admin;
use lameduck_rig::ports::free_address;
pub use lameduck_rig::wait::{PATIENCE, until};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_rustls::TlsConnector;

/// Where a proxy is to listen, known before it starts: an authority is told so.
#[derive(Clone, Copy)]
pub struct Ports {
    pub tls: SocketAddr,
    pub plain: SocketAddr,
}

impl Ports {
    pub fn free() -> Self {
        Self {
            tls: free_address(),
            plain: free_address(),
        }
    }
}

/// A proxy.
pub struct Proxy {
    pub ports: Ports,
    child: Child,
    dir: PathBuf,
}

impl Proxy {
    /// Starts one in this directory, with these keys of `[listener.acme]` and of the listener beside them.
    pub async fn start(dir: &Path, ports: Ports, listener: &str, acme: &str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        write_config(dir, ports, listener, acme);
        Self::start_again(dir, ports).await
    }

    /// Starts one with the configuration that is there.
    pub async fn start_again(dir: &Path, ports: Ports) -> Self {
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(dir.join("log"))
            .unwrap();
        let child = Command::new(lameduck_rig::place::exe())
            .arg("run")
            .arg("-c")
            .arg(dir.join("c.toml"))
            .env_remove("LAMEDUCK_ADMIN")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut proxy = Self {
            ports,
            child,
            dir: dir.to_owned(),
        };
        let socket = proxy.socket();
        until("the proxy's start", async || {
            if let Some(status) = proxy.child.try_wait().unwrap() {
                panic!("the proxy has exited: {status}\n{}", proxy.log());
            }
            let started = admin::request(&socket, "GET", "/-/started", None).await;
            matches!(started, Ok((200, _)))
        })
        .await;
        proxy
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("s")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap()
    }

    pub async fn logs(&self, text: &str) {
        until(text, async || self.log().contains(text)).await;
    }

    /// Another configuration, applied.
    pub async fn reload(&self, listener: &str, acme: &str) -> Value {
        write_config(&self.dir, self.ports, listener, acme);
        let socket = self.socket();
        let reload = admin::call(&socket, "POST", "/v1/config/reload", None);
        reload.await.unwrap()
    }

    /// What the API says of the listener with TLS.
    pub async fn listener(&self) -> Value {
        let all = admin::call(&self.socket(), "GET", "/v1/listeners", None).await;
        let all = all.unwrap();
        let own = self.ports.tls.to_string();
        let mut listeners = all.as_array().unwrap().iter();
        listeners
            .find(|one| one["address"] == *own)
            .unwrap()
            .clone()
    }

    /// What the API says of its first ordered certificate.
    pub async fn ordered(&self) -> Value {
        self.listener().await["acme"][0].clone()
    }

    /// Waits until the first ordered certificate is in this state.
    pub async fn until_state(&self, state: &str) -> Value {
        let mut last = Value::Null;
        for _ in 0..4000 {
            last = self.ordered().await;
            if last["state"] == state {
                return last;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("it is never {state}: {last}\n{}", self.log());
    }

    pub async fn metrics(&self) -> String {
        let scraped = admin::request(&self.socket(), "GET", "/metrics", None).await;
        String::from_utf8(scraped.unwrap().1.to_vec()).unwrap()
    }

    /// kill -9.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Shakes hands and asks for `/`: the certificate that was shown, and the answer.
    pub async fn get(&self, name: &str, client: &Arc<ClientConfig>) -> std::io::Result<Seen> {
        let stream = TcpStream::connect(self.ports.tls).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connecting = TlsConnector::from(client.clone()).connect(name, stream);
        let mut stream = tokio::time::timeout(PATIENCE, connecting).await.unwrap()?;
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(Seen {
            certificate: shown,
            answer: String::from_utf8(answer).unwrap(),
        })
    }

    /// Waits until it is served with a certificate of this authority that has the name.
    pub async fn until_served(&self, name: &str, client: &Arc<ClientConfig>) -> Seen {
        let mut last = None;
        for _ in 0..2000 {
            match self.get(name, client).await {
                Ok(seen) => return seen,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{name} is never served: {last:?}\n{}", self.log());
    }

    /// One request without TLS.
    pub async fn plain(&self, request: &str) -> String {
        ask_plain(self.ports.plain, request).await.unwrap()
    }
}

/// What a client has seen.
pub struct Seen {
    pub certificate: CertificateDer<'static>,
    pub answer: String,
}

impl Seen {
    /// The names in the certificate.
    pub fn names(&self) -> Vec<String> {
        use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
        let (_, parsed) = X509Certificate::from_der(&self.certificate).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        let names = names.value.general_names.iter();
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            other => panic!("{other}"),
        };
        names.map(dns).collect()
    }
}

pub async fn ask_plain(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8(answer).unwrap())
}

fn write_config(dir: &Path, ports: Ports, listener: &str, acme: &str) {
    let Ports { tls, plain } = ports;
    let path = dir.display();
    let text = format!(
        "[server]\nthreads = 1\nstate_dir = \"{path}/state\"\n[admin]\nsocket = \"{path}/s\"\nhttp = \"\"\n\
         [access_log]\npath = \"off\"\n\
         [[listener]]\naddress = \"{plain}\"\nredirect_https = true\n\
         [[listener]]\naddress = \"{tls}\"\n{listener}\n[listener.acme]\n{acme}\n\
         [[pool]]\nname = \"app\"\n[[route]]\nrespond = {{ status = 200, body = \"hello\" }}\n",
    );
    let text = text.replace("path = \"off\"", &format!("path = \"{path}/access\""));
    let text = match acme.is_empty() {
        true => text.replace("[listener.acme]\n", ""),
        false => text,
    };
    std::fs::write(dir.join("c.toml"), text).unwrap();
}

/// A client that trusts this certificate.
pub fn client_of(pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(lameduck::tls::provider());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    // A session that goes on shows the certificate that it began with.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The account's directory in a proxy's.
pub fn account_dir(dir: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(dir.join("state/acme")).unwrap();
    entries.next().unwrap().unwrap().path()
}

pub fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}
