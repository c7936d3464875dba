//! Health checks over gRPC, against grpcio's own health service.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::authority::Authority;
use lameduck_rig::place::{in_venv, root};
use lameduck_rig::proxy::Rig;
use lameduck_rig::setting::skip;

/// A gRPC server in Python.
struct App {
    port: u16,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    child: Child,
}

impl App {
    /// `None` where grpcio is missing.
    async fn start(arguments: &[&str]) -> Option<Self> {
        let Some(python) = in_venv("grpc-venv", "python") else {
            skip("gRPC health checks", "grpcio (run tests/setup.sh)");
            return None;
        };
        let mut child = Command::new(python)
            .arg(root().join("tests/apps/health.py"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut app = Self {
            port: 0,
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        app.port = app.line().await.parse().unwrap();
        Some(app)
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let reading = self.output.read_line(&mut line);
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, reading)
            .await
            .expect("the app says nothing")
            .unwrap();
        line.trim().to_owned()
    }

    async fn set(&mut self, status: &str) {
        let line = format!("{status}\n");
        let input = self.input.as_mut().unwrap();
        input.write_all(line.as_bytes()).await.unwrap();
        assert_eq!(self.line().await, "set");
    }

    async fn stop(mut self) {
        self.input = None;
        assert!(self.child.wait().await.unwrap().success());
    }
}

async fn rig(app: &App, health: &str, more: &str) -> Rig {
    let pool = format!(
        "[[pool.backend]]\nname = \"b1\"\naddress = \"127.0.0.1:{}\"\n[pool.health]\ntype = \"grpc\"\nrise = 1\n\
         interval = \"200ms\"\nfast_interval = \"10ms\"\n{health}\n{more}",
        app.port
    );
    Rig::start(tempfile::tempdir().unwrap(), "", "", &pool, Vec::new()).await
}

async fn until(rig: &Rig, state: &str, said: &str) {
    rig.until(&format!("{state}: {said}"), |pool| {
        let backend = &pool.backends[0];
        let last = backend.last_probe.as_deref().unwrap_or_default();
        backend.state == state && last.contains(said)
    })
    .await;
}

/// Its states follow what the app says, and its going is no failure.
async fn follows(mut app: App, rig: &Rig) {
    until(rig, "ready", "SERVING").await;
    app.set("NOT_SERVING").await;
    until(rig, "drained", "NOT_SERVING").await;
    let drains = &rig.pool().await.backends[0].drains;
    assert!(drains.len() == 1 && drains[0].actor == "app", "{drains:?}");
    app.set("SERVING").await;
    until(rig, "ready", "SERVING").await;
    app.set("NOT_SERVING").await;
    until(rig, "drained", "NOT_SERVING").await;
    app.stop().await;
    until(rig, "drained", "refused").await;
    assert!(!rig.log().contains("ERROR"), "{}", rig.log());
}

#[lameduck_rig::test]
async fn a_server_that_serves_no_more_is_drained_before_it_stops() {
    let Some(app) = App::start(&[]).await else {
        return;
    };
    let rig = rig(&app, "", "").await;
    follows(app, &rig).await;
}

#[lameduck_rig::test]
async fn grpc_health_over_tls_follows_what_the_app_says() {
    let authority = Authority::new();
    authority.shown("app", &authority.identity("127.0.0.1"));
    let [cert, key] = ["app.pem", "app.key"].map(|name| authority.dir().join(name));
    let arguments = [
        "--cert",
        cert.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    let Some(app) = App::start(&arguments).await else {
        return;
    };
    let rig = rig(&app, "", &format!("[pool.tls]\nca = {:?}", authority.ca())).await;
    follows(app, &rig).await;
}

#[lameduck_rig::test]
async fn a_server_that_stops_without_a_word_is_noticed_by_its_connection() {
    let Some(app) = App::start(&[]).await else {
        return;
    };
    // The next probe is far away.
    let rig = rig(&app, "timeout = \"1s\"", "").await;
    until(&rig, "ready", "SERVING").await;
    app.stop().await;
    until(&rig, "drained", "refused").await;
}

#[lameduck_rig::test]
async fn what_is_wrong_is_said_with_what_to_do() {
    let Some(app) = App::start(&[]).await else {
        return;
    };
    let rig = self::rig(&app, "service = \"shop.Orders\"", "").await;
    until(&rig, "starting", "knows no \"shop.Orders\": see `service`").await;
    let Some(app) = App::start(&["--without"]).await else {
        return;
    };
    let rig = self::rig(&app, "", "").await;
    until(&rig, "starting", "has no grpc.health.v1.Health").await;
}

/// Answers each request over HTTP/2 with this status.
async fn answer(listener: TcpListener, status: Arc<AtomicU16>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let status = status.clone();
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                assert_eq!(request.uri().path(), "/health");
                let mut response = http::Response::new(());
                *response.status_mut() =
                    http::StatusCode::from_u16(status.load(Ordering::SeqCst)).unwrap();
                respond.send_response(response, true).unwrap();
            }
        });
    }
}

#[lameduck_rig::test]
async fn an_http_check_speaks_http2_where_requests_do() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let status = Arc::new(AtomicU16::new(200));
    let app = tokio::spawn(answer(listener, status.clone()));
    let pool = format!(
        "[[pool.backend]]\nname = \"b1\"\naddress = \"{address}\"\n[pool.health]\nrise = 1\n\
         interval = \"200ms\"\nfast_interval = \"10ms\"\n[pool.upstream]\nhttp2 = true"
    );
    let rig = Rig::start(tempfile::tempdir().unwrap(), "", "", &pool, Vec::new()).await;
    until(&rig, "ready", "200 in").await;
    status.store(503, Ordering::SeqCst);
    until(&rig, "drained", "503 Service Unavailable").await;
    status.store(200, Ordering::SeqCst);
    until(&rig, "ready", "200 in").await;
    app.abort();
}
