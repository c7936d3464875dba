//! An app, and a lameduck in front of it that listens with and without TLS.

use std::net::SocketAddr;

use lameduck::tools::demo::admin;
use serde_json::json;

use super::command::Talking;
use lameduck_rig::proxy::Rig;

/// The app and the proxy.
pub struct Stand {
    pub rig: Rig,
    /// The one in tests/clients/app.js; `None`: the test has an app of its own.
    pub app: Option<Talking>,
    tls: SocketAddr,
    files: tempfile::TempDir,
}

impl Stand {
    pub async fn start() -> Self {
        let mut app = Talking::start(&["node", "tests/clients/app.js"]);
        let address = app.line().await;
        Self {
            app: Some(app),
            ..Self::before(&address, "").await
        }
    }

    /// A proxy in front of the app at this address, with these keys of `[server]`.
    pub async fn before(address: &str, server: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let listeners = format!(
            "http2 = true\n[[listener]]\naddress = \"127.0.0.1:0\"\ntls = {{ cert = {cert:?}, key = {key:?} }}\n"
        );
        let pool = format!(
            "[[pool.backend]]\nname = \"app\"\naddress = {address:?}\n[pool.health]\nrise = 1\n\
             [pool.drain]\nclose_spread = \"3s\"\n"
        );
        let rig = Rig::start(
            tempfile::tempdir().unwrap(),
            server,
            &listeners,
            &pool,
            Vec::new(),
        )
        .await;
        let all = admin::call(&rig.socket, "GET", "/v1/listeners", None)
            .await
            .unwrap();
        let tls = all[1]["address"].as_str().unwrap().parse().unwrap();
        Self {
            rig,
            app: None,
            tls,
            files,
        }
    }

    /// The root's URL.
    pub fn url(&self, scheme: &str) -> String {
        let address = match scheme {
            "https" | "wss" => self.tls,
            _ => self.rig.address,
        };
        format!("{scheme}://{address}/")
    }

    /// A file with this text; its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Drains the app, and waits for the end of that: three seconds at most, over which the ends of streams are spread.
    pub async fn drain(&self, until: &str) {
        let body = json!({ "timeout": "3s", "until": until });
        let path = "/v1/pools/app/backends/app/drain";
        admin::call(&self.rig.socket, "POST", path, Some(&body))
            .await
            .unwrap();
    }

    pub async fn resume(&self) {
        let path = "/v1/pools/app/backends/app/resume";
        let body = json!({ "wait": "20s" });
        admin::call(&self.rig.socket, "POST", path, Some(&body))
            .await
            .unwrap();
    }
}
