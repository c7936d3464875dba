//! `peer load` over TLS: `peer-tls ADDRESS OPTION=VALUE…`, see `benches/peers/peer`. Besides its options:
//! `resume=1` lets connections resume the session of an earlier one (with `fresh=1`; fails if one doesn't).
//! The server's certificate is not checked.

use std::error::Error;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, process};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, HandshakeKind, SignatureScheme, StreamOwned};

#[allow(dead_code, reason = "the backend's half goes unused here")]
#[path = "../../../peer/backend.rs"]
mod backend;
#[allow(dead_code, reason = "the backend's half goes unused here")]
#[path = "../../../peer/http.rs"]
mod http;
#[path = "../../../peer/latency.rs"]
mod latency;
#[path = "../../../peer/load.rs"]
mod load;
#[path = "../../../peer/work.rs"]
mod work;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn main() {
    if let Err(error) = run() {
        eprintln!("peer-tls: {error}");
        process::exit(1);
    }
}

fn run() -> Outcome {
    let args: Vec<String> = env::args().skip(1).collect();
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    if args.is_empty() {
        return Err("usage: peer-tls ADDRESS OPTION=VALUE…".into());
    }
    let address = args.remove(0);
    let resume = args.iter().any(|option| *option == "resume=1");
    args.retain(|option| !option.starts_with("resume="));
    let plan = load::Plan::parse(&args)?;
    let config = Arc::new(config(resume)?);
    let name = ServerName::try_from("bench.example")?;
    let full = AtomicUsize::new(0);
    let connect = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut session =
            ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        if session.handshake_kind() != Some(HandshakeKind::Resumed) {
            full.fetch_add(1, Ordering::Relaxed);
        }
        Ok(StreamOwned::new(session, stream))
    };
    let figures = load::run(&plan, connect)?;
    let full = full.into_inner();
    // The first of each thread has nothing to resume; tickets that cross cost a few more.
    if resume && plan.fresh && full > plan.threads + plan.requests / 10 {
        return Err(format!("{full} of {} handshakes were not resumed", plan.requests).into());
    }
    println!("{figures}");
    Ok(())
}

fn config(resume: bool) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(algorithms(&provider))))
        .with_no_client_auth();
    config.resumption = match resume {
        true => Resumption::in_memory_sessions(64),
        false => Resumption::disabled(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn algorithms(provider: &CryptoProvider) -> WebPkiSupportedAlgorithms {
    provider.signature_verification_algorithms
}

/// Takes any certificate, but verifies the signature as clients do.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
