//! A backend that speaks HTTP/1.0, as its probes find out.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use lameduck_rig::proxy::Rig;

/// Answers each connection's first bytes in HTTP/1.0, and closes it.
async fn answer_in_http10(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            if stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                let _ = stream
                    .write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await;
            }
        });
    }
}

/// It would take chunks for the body's content, or answer 501 (RFC 9112, section 6.1).
#[lameduck_rig::test]
async fn chunked_request_to_an_http10_backend_is_a_411_and_one_with_a_length_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pool = format!(
        "[[pool.backend]]\naddress = \"{}\"\n[pool.health]\nfast_interval = \"10ms\"\n",
        listener.local_addr().unwrap()
    );
    let server = tokio::spawn(answer_in_http10(listener));
    let rig = Rig::start(tempfile::tempdir().unwrap(), "", "", &pool, Vec::new()).await;
    rig.until("ready", |pool| pool.backends[0].state == "ready")
        .await;
    let chunked =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let answer = rig.ask(chunked).await.response().await;
    assert!(answer.head.starts_with("HTTP/1.1 411"), "{}", answer.head);
    let whole = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let answer = rig.ask(whole).await.response().await;
    assert!(answer.head.starts_with("HTTP/1.1 200"), "{}", answer.head);
    let log = rig.access_log(2).await;
    let refused = log.iter().find(|line| line["status"] == 411).unwrap();
    assert_eq!(refused["end"], "bad_request");
    assert!(
        refused["cause"].as_str().unwrap().contains("HTTP/1.0"),
        "{refused}"
    );
    server.abort();
}
