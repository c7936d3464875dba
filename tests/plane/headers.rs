//! Heads as the backend and the client receive them.

use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wire::{Message, Wire, field, has};

/// What the backend receives for these bytes.
async fn received(rig: &Rig, request: &str) -> String {
    let mut client = rig.ask(request).await;
    let (_, mut backend) = rig.first().await;
    let head = backend.head().await;
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status(), 200);
    head
}

/// Claims of a client nobody trusts are replaced.
#[lameduck_rig::test]
async fn an_untrusted_client_is_not_believed() {
    let rig = Rig::one().await;
    let head = received(
        &rig,
        "GET / HTTP/1.1\r\nHost: shop:81\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Request-Id: mine-1\r\n\r\n",
    )
    .await;
    assert!(has(&head, "X-Forwarded-For: 127.0.0.1"), "{head}");
    assert!(has(&head, "X-Forwarded-Proto: http"), "{head}");
    assert!(has(&head, "X-Forwarded-Host: shop:81"), "{head}");
    assert!(has(&head, "X-Request-Id: mine-1"), "{head}");
    assert!(has(&head, "Host: shop:81"), "{head}");
    assert!(
        !head.contains("6.6.6.6") && !head.contains("evil"),
        "{head}"
    );
    assert_eq!(field(&head, "via"), None);
    let made = received(&rig, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(
        field(&made, "x-request-id").is_some_and(|id| id.len() >= 16),
        "{made}"
    );
}

/// A trusted one's chain goes on; RFC 7239 and RFC 9110 §7.6.3 where they are wanted.
#[lameduck_rig::test]
async fn a_trusted_client_is_believed() {
    let rig = Rig::new(Setup {
        tables: "[headers]\ntrusted = [\"127.0.0.0/8\"]\nforwarded = true\nvia = true",
        ..Setup::default()
    })
    .await;
    let head = received(
        &rig,
        "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nForwarded: for=9.9.9.9\r\nVia: 1.1 edge\r\n\r\n",
    )
    .await;
    assert!(has(&head, "X-Forwarded-For: 9.9.9.9, 127.0.0.1"), "{head}");
    assert!(has(&head, "X-Forwarded-Proto: https"), "{head}");
    assert!(
        has(
            &head,
            "Forwarded: for=9.9.9.9, for=127.0.0.1;host=\"shop\";proto=http"
        ),
        "{head}"
    );
    assert!(
        has(&head, "Via: 1.1 edge") && has(&head, "Via: 1.1 lameduck"),
        "{head}"
    );
}

/// `preserve_host = false`: the backend's own address.
#[lameduck_rig::test]
async fn the_host_can_be_the_backends() {
    let rig = Rig::new(Setup {
        pool: "[pool.upstream]\npreserve_host = false",
        ..Setup::default()
    })
    .await;
    let head = received(&rig, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    assert!(
        has(&head, &format!("Host: {}", rig.backends[0].address)),
        "{head}"
    );
    assert!(has(&head, "X-Forwarded-Host: shop"), "{head}");
    assert_eq!(head.matches("Host: ").count(), 2, "{head}");
}

/// RFC 9112 §3.2.2: an absolute target becomes origin form, its authority the host.
#[lameduck_rig::test]
async fn an_absolute_target_is_made_relative() {
    let rig = Rig::one().await;
    let head = received(&rig, "GET http://real/a?b HTTP/1.1\r\nHost: other\r\n\r\n").await;
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
    assert!(
        has(&head, "Host: real") && !head.contains("other"),
        "{head}"
    );
    let old = received(&rig, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(
        has(&old, &format!("Host: {}", rig.backends[0].address)),
        "{old}"
    );
}

/// RFC 9110 §7.6.1: what belongs to one hop stays there, both ways, and with it what `Connection` names.
#[lameduck_rig::test]
async fn fields_of_the_hop_end_here() {
    let rig = Rig::one().await;
    let mut client = rig
        .ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop, Authorization\r\nX-Hop: 1\r\nAuthorization: keep\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: trailers, gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nX-End: 1\r\n\r\n")
        .await;
    let mut backend = rig.backends[0].accept().await;
    let head = backend.head().await;
    for gone in [
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "http2-settings",
    ] {
        assert_eq!(field(&head, gone), None, "{head}");
    }
    assert!(
        has(&head, "X-End: 1") && has(&head, "Authorization: keep") && has(&head, "TE: trailers"),
        "{head}"
    );
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\nX-End: 1\r\n\r\n")
        .await;
    let response = client.response().await;
    assert!(response.has("X-End: 1"));
    for gone in ["x-hop", "keep-alive", "connection"] {
        assert_eq!(response.field(gone), None, "{}", response.head);
    }
}

async fn asked(client: &mut Wire, line: &str, host: &str) -> Message {
    client
        .send(format!("GET {line} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        .await;
    client.response().await
}

/// Routes go by host and by path, on one client connection.
#[lameduck_rig::test]
async fn routes_go_by_host_and_path() {
    let (backends, port) = lameduck_rig::backend::backends(2).await;
    let dir = tempfile::tempdir().unwrap();
    let health = format!(
        "[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1\nfast_interval = \"10ms\""
    );
    let pool = |n: usize| {
        format!(
            "[[pool.backend]]\nname = \"b\"\naddress = \"{}\"\n{health}",
            backends[n].address
        )
    };
    let pools = format!("{}\n[[pool]]\nname = \"api\"\n{}", pool(0), pool(1));
    let routes = "[[route]]\nhost = \"shop\"\npool = \"app\"\n[[route]]\nhost = \"shop\"\npath_prefix = \"/api\"\npool = \"api\"\n[[route]]\nhost = \"*.shop\"\npool = \"api\"";
    let rig = Rig::start(dir, "", routes, &pools, backends).await;
    let serve = |index: usize, text: &'static str| {
        let accepting = rig.backends[index].accept();
        async move {
            let mut backend = accepting.await;
            while backend.head_or_end().await.is_some() {
                backend.answer(text).await;
            }
        }
    };
    let asking = async {
        let mut client = rig.client().await;
        for (path, host, text) in [
            ("/", "shop", "app"),
            ("/api", "shop", "api"),
            ("/api/x?y", "shop:8080", "api"),
            ("/apis", "shop", "app"),
            ("/", "x.shop", "api"),
            ("/", "SHOP", "app"),
        ] {
            assert_eq!(
                asked(&mut client, path, host).await.text(),
                text,
                "{host}{path}"
            );
        }
        assert_eq!(asked(&mut client, "/", "elsewhere").await.status(), 404);
    };
    tokio::select! {
        () = asking => {}
        ((), ()) = async { tokio::join!(serve(0, "app"), serve(1, "api")) } => unreachable!("the proxy closed both"),
    }
}

/// What nobody may say but the proxy, said behind the body: an app that merges trailers into the header would believe it.
#[lameduck_rig::test]
async fn forged_field_in_a_trailer_never_reaches_the_backend() {
    let rig = Rig::one().await;
    for name in [
        "X-Client-Cert-Verified",
        "x_client_cert_subject",
        "Client-Cert",
        "Client_Cert_Chain",
        "X-Forwarded-Proto",
        "X_Real_Ip",
        "Via",
        "X-Request-Id",
        "Proxy-Authorization",
        "Content_Type",
        "If-Match",
    ] {
        let mut client = rig
            .ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            .await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        client.send(format!("0\r\n{name}: forged\r\n\r\n")).await;
        assert_eq!(client.response().await.status(), 400, "{name}");
        let (got, _) = backend.rest().await;
        let got = String::from_utf8_lossy(&got).into_owned();
        assert!(
            !got.contains("forged") && !got.contains(name),
            "{name}: {got}"
        );
    }
}
