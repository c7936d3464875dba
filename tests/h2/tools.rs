//! The tools that people have: curl, nghttp and h2load.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::floods::serve;
use lameduck_rig::h2_client::rig;
use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::setting::skip;

/// For all of a tool's requests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a tool; `None`: this machine lacks it.
async fn run(tool: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match timeout(PATIENCE, output).await.expect("it doesn't end") {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "{tool} {arguments:?}: {text}{errors}"
            );
            Some(text)
        }
        Err(_) => {
            skip("HTTP/2's tools", &format!("{tool} (run tests/setup.sh)"));
            None
        }
    }
}

fn url(rig: &Rig, path: &str) -> String {
    format!("http://{}{path}", rig.address)
}

#[lameduck_rig::test(threads = 2)]
async fn curl_and_nghttp_agree() {
    let mut rig = rig("").await;
    let backend = serve(&mut rig);
    let url = url(&rig, "/");
    let format = "%{http_version} %{http_code}";
    let arguments = ["-sS", "--http2-prior-knowledge", "-w", format, &url];
    if let Some(text) = run("curl", &arguments).await {
        assert_eq!(text, "here2 200");
    }
    if let Some(text) = run("curl", &["-sS", "-w", format, &url]).await {
        assert_eq!(text, "here1.1 200", "HTTP/1 on the same listener");
    }
    if let Some(text) = run("nghttp", &["-v", "--no-dep", &url]).await {
        assert!(
            text.contains(":status: 200") && text.contains("SETTINGS_ENABLE_CONNECT_PROTOCOL"),
            "{text}"
        );
        assert!(
            !text.contains("RST_STREAM") && text.contains("error_code=NO_ERROR"),
            "{text}"
        );
    }
    backend.abort();
}

#[lameduck_rig::test(threads = 2)]
async fn h2load_loses_nothing() {
    let mut rig = rig("").await;
    let backend = serve(&mut rig);
    let url = url(&rig, "/");
    if let Some(text) = run("h2load", &["-n2000", "-c4", "-m50", &url]).await {
        assert!(
            text.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"),
            "{text}"
        );
    }
    backend.abort();
}

/// Over TLS, `h2` is what both sides like best (ALPN).
#[lameduck_rig::test(threads = 2)]
async fn curl_gets_http2_over_tls() {
    let files = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tables = format!("tls = {{ cert = {cert:?}, key = {key:?} }}");
    let mut rig = Rig::new(Setup {
        // The test's only listener, as long as the test itself.
        tables: Box::leak(tables.into_boxed_str()),
        ..Setup::default()
    })
    .await;
    let backend = serve(&mut rig);
    let url = format!("https://{}/", rig.address);
    let format = "%{http_version} %{http_code}";
    if let Some(text) = run("curl", &["-sSk", "-w", format, &url]).await {
        assert_eq!(text, "here2 200");
        let line = &rig.access_log(1).await[0];
        assert!(line.to_string().contains("HTTP/2.0"), "{line}");
    }
    if let Some(text) = run("h2load", &["-n1000", "-c4", "-m50", &url]).await {
        assert!(
            text.contains("1000 succeeded, 0 failed, 0 errored, 0 timeout"),
            "{text}"
        );
    }
    backend.abort();
}
