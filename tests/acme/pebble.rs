//! Let's Encrypt's own test authority, with a DNS server that sends every name to this machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use lameduck_rig::certificates::{Authority, Client};
use lameduck_rig::ports::free_address;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_rustls::TlsConnector;

use super::rig::{Ports, until};

/// A running pebble.
pub struct Pebble {
    pub directory: String,
    pub ca: PathBuf,
    management: SocketAddr,
    own: Authority,
    _processes: [Child; 2],
}

/// The key that it has given out, where it wants accounts to be bound.
pub const EAB: (&str, &str) = (
    "kid-1",
    "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W",
);

impl Pebble {
    /// Starts one that looks for challenges at these ports; `None`: there is no pebble here.
    pub async fn start(dir: &Path, ports: Ports, wants_eab: bool) -> Option<Self> {
        let found = std::process::Command::new("pebble").arg("-h").output();
        found.ok()?;
        let [api, management, dns, dns_management] = std::array::from_fn(|_| free_address());
        let own = Authority::new("pebble's own");
        own.sign(&["127.0.0.1"])
            .write(&dir.join("pebble.pem"), &dir.join("pebble.key"));
        let ca = dir.join("pebble-ca.pem");
        std::fs::write(&ca, &own.pem).unwrap();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": api.to_string(), "managementListenAddress": management.to_string(),
            "certificate": dir.join("pebble.pem"), "privateKey": dir.join("pebble.key"),
            "httpPort": ports.plain.port(), "tlsPort": ports.tls.port(), "ocspResponderURL": "",
            "externalAccountBindingRequired": wants_eab, "externalAccountMACKeys": { EAB.0: EAB.1 },
        }});
        std::fs::write(dir.join("pebble.json"), config.to_string()).unwrap();
        let run = |program: &str, args: &[&str], log: &str| {
            let log = std::fs::File::create(dir.join(log)).unwrap();
            Command::new(program)
                .args(args)
                .env("PEBBLE_VA_SLEEPTIME", "1")
                // Three in a row fail an order until its next try, seconds later: of a fifth of all, that is no rarity.
                .env("PEBBLE_WFE_NONCEREJECT", "5")
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .kill_on_drop(true)
                .spawn()
                .unwrap()
        };
        let (dns, dns_management) = (dns.to_string(), dns_management.to_string());
        let names = run(
            "pebble-challtestsrv",
            &[
                "-defaultIPv6",
                "",
                "-dns01",
                &dns,
                "-http01",
                "",
                "-https01",
                "",
                "-tlsalpn01",
                "",
                "-management",
                &dns_management,
            ],
            "dns.log",
        );
        let config = dir.join("pebble.json").display().to_string();
        let authority = run(
            "pebble",
            &["-config", &config, "-dnsserver", &dns],
            "pebble.log",
        );
        until("pebble", async || TcpStream::connect(api).await.is_ok()).await;
        until("its DNS server", async || {
            TcpStream::connect(&dns).await.is_ok()
        })
        .await;
        Some(Self {
            directory: format!("https://{api}/dir"),
            ca,
            management,
            own,
            _processes: [names, authority],
        })
    }

    /// The root of what it signs, which it makes anew at each start.
    pub async fn root(&self) -> String {
        let config = Client::default().config(&self.own);
        let stream = TcpStream::connect(self.management).await.unwrap();
        let name = ServerName::from(self.management.ip());
        let mut stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .unwrap();
        stream
            .write_all(b"GET /roots/0 HTTP/1.0\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Keys of `[listener.acme]` that lead here.
    pub fn keys(&self, domains: &[&str]) -> String {
        format!(
            "domains = {domains:?}\ndirectory = {:?}\nca = {:?}\n",
            self.directory, self.ca
        )
    }
}
