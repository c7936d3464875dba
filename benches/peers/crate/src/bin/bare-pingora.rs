//! The baseline: a proxy on pingora-proxy that does nothing of its own. No probes, no log, no metrics, no headers.
//!
//! `bare-pingora LISTEN BACKENDS [CERTIFICATE KEY]`: BACKENDS are addresses with commas between, taken in turn.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pingora::listeners::tls::TlsSettings;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;

struct Bare {
    backends: Vec<String>,
    next: AtomicUsize,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.backends.len();
        Ok(Box::new(HttpPeer::new(&self.backends[next], false, String::new())))
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (listen, backends, tls) = match &args[..] {
        [listen, backends] => (listen, backends, None),
        [listen, backends, certificate, key] => (listen, backends, Some((certificate, key))),
        _ => return Error::e_explain(ErrorType::InternalError, "LISTEN BACKENDS [CERT KEY]"),
    };
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: 1024,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let bare = Bare {
        backends: backends.split(',').map(str::to_owned).collect(),
        next: AtomicUsize::new(0),
    };
    let mut service = http_proxy_service(&server.configuration, bare);
    match tls {
        None => service.add_tcp(listen),
        Some((certificate, key)) => {
            let mut settings = TlsSettings::intermediate(certificate, key)?;
            settings.enable_h2();
            service.add_tls_with_settings(listen, None, settings);
        }
    }
    server.add_service(service);
    server.run_forever()
}
