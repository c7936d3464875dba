//! An authority of the test's own: RFC 8555 as far as a client needs it, and every fault that a test asks for. It believes
//! all signatures; it looks at HTTP challenges, and signs what the request for the certificate says.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, PublicKeyData,
    SerialNumber, SignatureAlgorithm,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use super::rig::{ask_plain, client_of};

/// What an authority does instead of what it should.
#[derive(Clone)]
pub enum Fault {
    /// A problem of this type and status, with `Retry-After` in seconds.
    Problem(&'static str, u16, Option<u32>),
    /// This status, and a page.
    Page(u16),
    /// No answer at all.
    Hang,
    /// The connection is closed.
    HangUp,
}

/// What a test sets.
pub struct Script {
    /// By the first part of the path: what its next requests get.
    pub faults: HashMap<&'static str, VecDeque<Fault>>,
    /// How often an order is said to be in the works after it was finalized.
    pub processing: u32,
    /// Life of what is issued, in seconds from now, one after the other; the last one stays.
    pub lives: VecDeque<(i64, i64)>,
    /// What is issued has another name in it.
    pub is_wrong: bool,
    /// Renewal windows in seconds from now, one for each certificate in its order; no list: no such advice.
    pub windows: Option<Vec<(i64, i64)>>,
    /// The proxies that a challenge is looked for at: all have to answer.
    pub validated_at: Vec<SocketAddr>,
    /// So many orders are taken; further ones wait until the test raises this.
    pub most_orders: usize,
}

/// What was asked.
#[derive(Default)]
pub struct Heard {
    /// First parts of the paths, in their order.
    pub requests: Vec<String>,
    /// New orders: what they said.
    pub orders: Vec<Value>,
    issued: u64,
    orders_made: Vec<OrderState>,
}

impl Heard {
    /// What is in the works is done.
    pub fn finish_all(&mut self) {
        for order in &mut self.orders_made {
            order.processing = order.processing.map(|_| 0);
        }
    }
}

struct OrderState {
    names: Vec<String>,
    is_seen: bool,
    is_invalid: bool,
    processing: Option<u32>,
    chain: Option<String>,
}

/// The authority.
pub struct TestAuthority {
    pub address: SocketAddr,
    pub script: Mutex<Script>,
    pub heard: Mutex<Heard>,
    issuer: Issuer<'static, KeyPair>,
    pub root: String,
    pub ca: PathBuf,
}

struct RequestKey(Vec<u8>);

impl PublicKeyData for RequestKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl TestAuthority {
    /// Starts one, which looks for challenges at these proxies. The file of its root goes into `dir`.
    pub async fn start(dir: &Path, validated_at: &[SocketAddr]) -> Arc<Self> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = lameduck_rig::certificates::subject("the test's authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let own_key = KeyPair::generate().unwrap();
        let certificate = own.signed_by(&own_key, &issuer).unwrap();
        let builder = ServerConfig::builder_with_provider(lameduck::tls::provider());
        let tls = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own_key.serialize_der())),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ca = dir.join("authority.pem");
        std::fs::write(&ca, &root).unwrap();
        let authority = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            script: Mutex::new(Script {
                faults: HashMap::new(),
                processing: 0,
                lives: VecDeque::from([(-3600, 90 * 86_400)]),
                is_wrong: false,
                windows: None,
                validated_at: validated_at.to_vec(),
                most_orders: usize::MAX,
            }),
            heard: Mutex::default(),
            issuer,
            root,
            ca,
        });
        let serving = authority.clone();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(tls));
            while let Ok((stream, _)) = listener.accept().await {
                let (serving, acceptor) = (serving.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serving.serve(stream).await;
                    }
                });
            }
        });
        authority
    }

    /// Keys of `[listener.acme]` that lead here.
    pub fn keys(&self, domains: &[&str]) -> String {
        format!(
            "domains = {domains:?}\ndirectory = \"https://{}/dir\"\nca = {:?}\nchallenge = \"http-01\"\n",
            self.address, self.ca
        )
    }

    pub fn client(&self) -> Arc<rustls::ClientConfig> {
        client_of(&self.root)
    }

    /// From now on, the next requests of this kind get these.
    pub fn fault(&self, part: &'static str, faults: &[Fault]) {
        let mut script = self.script.lock();
        script
            .faults
            .entry(part)
            .or_default()
            .extend(faults.iter().cloned());
    }

    /// So many new orders were asked for.
    pub fn orders(&self) -> usize {
        self.heard.lock().orders.len()
    }

    /// How often this part was asked for.
    pub fn asked(&self, part: &str) -> usize {
        let heard = self.heard.lock();
        heard.requests.iter().filter(|asked| *asked == part).count()
    }

    async fn serve(&self, mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>) {
        let Some((method, path, body)) = read_request(&mut stream).await else {
            return;
        };
        let mut parts = path.trim_start_matches('/').split('/');
        let (part, number) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or("0"),
        );
        let payload = serde_json::from_slice::<Value>(&body).ok().and_then(|jws| {
            let payload = BASE64.decode(jws["payload"].as_str()?).ok()?;
            serde_json::from_slice(&payload).ok()
        });
        let fault = {
            self.heard.lock().requests.push(part.to_owned());
            let mut script = self.script.lock();
            script
                .faults
                .iter_mut()
                .find(|(key, _)| **key == part)
                .and_then(|(_, queue)| queue.pop_front())
        };
        let (status, fields, body) = match fault {
            Some(Fault::Hang) => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                return;
            }
            Some(Fault::HangUp) => return,
            Some(Fault::Page(status)) => (status, String::new(), "<h1>sorry</h1>".to_owned()),
            Some(Fault::Problem(kind, status, after)) => {
                let after =
                    after.map_or_else(String::new, |after| format!("Retry-After: {after}\r\n"));
                let problem = json!({
                    "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": format!("the test wants {kind}"),
                    "status": status,
                });
                (status, after, problem.to_string())
            }
            None => self.answer(&method, part, number, payload).await,
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\nReplay-Nonce: {:x}\r\nContent-Length: {}\r\nConnection: close\r\n{fields}\r\n",
            fastrand::u64(..),
            body.len()
        );
        let body = if method == "HEAD" { "" } else { &body };
        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    async fn answer(
        &self,
        method: &str,
        part: &str,
        number: &str,
        payload: Option<Value>,
    ) -> (u16, String, String) {
        let base = format!("https://{}", self.address);
        let place: usize = number.parse().unwrap_or(0);
        let fine = |body: Value| (200, String::new(), body.to_string());
        match part {
            "dir" => {
                let mut directory = json!({
                    "newNonce": format!("{base}/nonce"), "newAccount": format!("{base}/account"),
                    "newOrder": format!("{base}/neworder"), "revokeCert": format!("{base}/revoke"),
                    "keyChange": format!("{base}/change"),
                });
                if self.script.lock().windows.is_some() {
                    directory["renewalInfo"] = format!("{base}/ari").into();
                }
                fine(directory)
            }
            "nonce" => (200, String::new(), String::new()),
            "account" => {
                let account = json!({ "status": "valid" });
                (
                    201,
                    format!("Location: {base}/account/1\r\n"),
                    account.to_string(),
                )
            }
            "neworder" => {
                let payload = payload.unwrap();
                let names = payload["identifiers"].as_array().unwrap().iter();
                let names = names.map(|name| name["value"].as_str().unwrap().to_owned());
                let state = OrderState {
                    names: names.collect(),
                    is_seen: false,
                    is_invalid: false,
                    processing: None,
                    chain: None,
                };
                let place = {
                    let mut heard = self.heard.lock();
                    heard.orders.push(payload.clone());
                    heard.orders_made.push(state);
                    heard.orders_made.len() - 1
                };
                while place >= self.script.lock().most_orders {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let mut order = self.order(&base, place);
                if let Some(replaces) = payload.get("replaces") {
                    order["replaces"] = replaces.clone();
                }
                (
                    201,
                    format!("Location: {base}/order/{place}\r\n"),
                    order.to_string(),
                )
            }
            "order" if place < self.heard.lock().orders_made.len() => {
                fine(self.order(&base, place))
            }
            "authz" | "challenge" => {
                // One number for order and name.
                let (order, name) = (place / 1000, place % 1000);
                if part == "challenge" && !self.heard.lock().orders_made[order].is_seen {
                    let seen = self.validate(place).await;
                    let mut heard = self.heard.lock();
                    let last = name + 1 == heard.orders_made[order].names.len();
                    heard.orders_made[order].is_invalid |= !seen;
                    heard.orders_made[order].is_seen |= seen && last;
                }
                let heard = self.heard.lock();
                let state = &heard.orders_made[order];
                let status = match (state.is_invalid, state.is_seen) {
                    (true, _) => "invalid",
                    (_, true) => "valid",
                    _ => "pending",
                };
                let mut challenge = json!({
                    "type": "http-01", "url": format!("{base}/challenge/{place}"),
                    "token": format!("token-{place}"), "status": status,
                });
                if state.is_invalid {
                    challenge["error"] = json!({
                        "type": "urn:ietf:params:acme:error:connection", "detail": "nobody answers there",
                    });
                }
                match part {
                    "challenge" => {
                        challenge["status"] = "processing".into();
                        challenge.as_object_mut().unwrap().remove("error");
                        fine(challenge)
                    }
                    _ => fine(json!({
                        "status": status, "challenges": [challenge],
                        "identifier": { "type": "dns", "value": state.names[name] },
                    })),
                }
            }
            "finalize" => {
                let request = payload.unwrap()["csr"].as_str().unwrap().to_owned();
                let chain = self.sign(place, &BASE64.decode(request).unwrap());
                let processing = self.script.lock().processing;
                {
                    let mut heard = self.heard.lock();
                    heard.orders_made[place].chain = Some(chain);
                    heard.orders_made[place].processing = Some(processing);
                }
                fine(self.order(&base, place))
            }
            "cert" => {
                let chain = self.heard.lock().orders_made[place].chain.clone().unwrap();
                (200, String::new(), chain)
            }
            "ari" => {
                let issued = self.heard.lock().issued as usize;
                let windows = self.script.lock().windows.clone().unwrap();
                let (start, end) = windows[(issued - 1).min(windows.len() - 1)];
                let body = json!({
                    "suggestedWindow": { "start": rfc3339(start), "end": rfc3339(end) },
                    "explanationURL": "https://authority.test/why",
                });
                (200, "Retry-After: 600\r\n".to_owned(), body.to_string())
            }
            _ => {
                let problem =
                    json!({ "detail": format!("{method} /{part}: there is none"), "status": 404 });
                (404, String::new(), problem.to_string())
            }
        }
    }

    fn order(&self, base: &str, place: usize) -> Value {
        let mut heard = self.heard.lock();
        let state = &mut heard.orders_made[place];
        let status = match &mut state.processing {
            _ if state.is_invalid => "invalid",
            Some(0) => "valid",
            Some(left) => {
                *left -= 1;
                "processing"
            }
            None if state.is_seen => "ready",
            None => "pending",
        };
        let authorizations =
            (0..state.names.len()).map(|name| format!("{base}/authz/{}", place * 1000 + name));
        json!({
            "status": status, "authorizations": authorizations.collect::<Vec<_>>(),
            "finalize": format!("{base}/finalize/{place}"), "certificate": format!("{base}/cert/{place}"),
        })
    }

    /// Whether every proxy answers the challenge.
    async fn validate(&self, place: usize) -> bool {
        let proxies = self.script.lock().validated_at.clone();
        for proxy in proxies {
            let request = format!(
                "GET /.well-known/acme-challenge/token-{place} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
            );
            let answer = ask_plain(proxy, &request).await.unwrap_or_default();
            let is_right = answer.starts_with("HTTP/1.1 200")
                && answer.contains(&format!("\r\n\r\ntoken-{place}."));
            if !is_right {
                return false;
            }
        }
        true
    }

    fn sign(&self, place: usize, request: &[u8]) -> String {
        let (_, request) = X509CertificationRequest::from_der(request).unwrap();
        let key = &request
            .certification_request_info
            .subject_pki
            .subject_public_key;
        let mut heard = self.heard.lock();
        heard.issued += 1;
        let mut script = self.script.lock();
        let names = match script.is_wrong {
            true => vec!["other.test".to_owned()],
            false => heard.orders_made[place].names.clone(),
        };
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from(heard.issued));
        let (from, until) = match script.lives.len() {
            1 => script.lives[0],
            _ => script.lives.pop_front().unwrap(),
        };
        let now = std::time::SystemTime::now();
        let at = |seconds: i64| match seconds < 0 {
            true => now - Duration::from_secs(seconds.unsigned_abs()),
            false => now + Duration::from_secs(seconds.unsigned_abs()),
        };
        params.not_before = at(from).into();
        params.not_after = at(until).into();
        let key = RequestKey(key.data.to_vec());
        params.signed_by(&key, &self.issuer).unwrap().pem()
    }
}

fn rfc3339(seconds: i64) -> String {
    let now = std::time::SystemTime::now();
    let at = match seconds < 0 {
        true => now - Duration::from_secs(seconds.unsigned_abs()),
        false => now + Duration::from_secs(seconds.unsigned_abs()),
    };
    humantime::format_rfc3339_seconds(at).to_string()
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let count = stream
            .read(&mut piece)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    while bytes.len() < end + length.unwrap_or(0) {
        let count = stream
            .read(&mut piece)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
    }
    Some((method, path, bytes[end..].to_vec()))
}
