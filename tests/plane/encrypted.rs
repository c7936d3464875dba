//! Backends behind TLS: whom the proxy trusts, what it shows of itself, and what a kept connection may do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lameduck::registry::view::PoolView;
use tokio_rustls::TlsAcceptor;

use super::authority::{Authority, Identity, Server, TLS12, TLS13, shake_hands};
use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::Wire;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

/// A proxy whose backends speak TLS, and their health checks don't.
async fn rig(backends: usize, tls: &str, more: &str) -> Rig {
    let pool = format!("tls = false\n[pool.tls]\n{tls}\n{more}");
    Rig::new(Setup {
        backends,
        // A handful of tests, each with one.
        pool: pool.leak(),
        ..Setup::default()
    })
    .await
}

/// The next connection, after its handshake.
async fn accept(rig: &Rig, index: usize, acceptor: &TlsAcceptor) -> Wire {
    let stream = rig.backends[index].accept_bare().await;
    Wire::over(shake_hands(acceptor, stream).await.unwrap())
}

fn acceptor(identity: &Identity) -> TlsAcceptor {
    identity.serve(&Server::default())
}

#[lameduck_rig::test]
async fn requests_share_a_connection_that_a_drain_ends_with_a_goodbye() {
    let authority = Authority::new();
    let rig = rig(1, &format!("ca = {:?}", authority.ca()), "").await;
    let identity = authority.identity(rig.backends[0].address.ip());
    for versions in [TLS13, TLS12] {
        let acceptor = identity.serve(&Server {
            versions,
            ..Server::default()
        });
        let mut client = rig.ask(GET).await;
        let stream = rig.backends[0].accept_bare().await;
        let stream = shake_hands(&acceptor, stream).await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(session.server_name(), None, "an address is no name");
        // In TLS 1.3 tickets follow the handshake: they are on the idle connection, and nobody asked for them.
        let mut backend = Wire::over(stream);
        for round in 0..3 {
            assert!(backend.head().await.starts_with("GET / HTTP/1.1\r\n"));
            backend.send(OK).await;
            assert_eq!(client.response().await.text(), "ok");
            // The reaper looks, too.
            tokio::time::sleep(Duration::from_millis(600)).await;
            client = rig.ask(if round < 2 { GET } else { "" }).await;
        }
        let drain = rig.drain(0, "5s", "resumed");
        // An end without a goodbye would be an error here.
        backend.closed().await;
        assert_eq!(drain.await.unwrap().in_flight, 0);
        rig.resume(0).await;
    }
}

#[lameduck_rig::test]
async fn a_connection_that_the_backend_has_closed_is_not_used_again() {
    let authority = Authority::new();
    let rig = rig(1, &format!("ca = {:?}", authority.ca()), "").await;
    let acceptor = acceptor(&authority.identity(rig.backends[0].address.ip()));
    for goodbye in [true, false] {
        let mut client = rig.ask(POST).await;
        let mut backend = accept(&rig, 0, &acceptor).await;
        backend.request().await;
        backend.send(OK).await;
        client.response().await;
        if goodbye {
            backend.finish().await;
        } else {
            drop(backend);
        }
        // Until the end has arrived, it looks open.
        rig.until("the connection is gone", |pool| {
            pool.backends[0].connections <= 1
        })
        .await;
        let mut client = rig.ask(POST).await;
        let mut backend = accept(&rig, 0, &acceptor).await;
        assert_eq!(backend.request().await.text(), "body");
        backend.send(OK).await;
        assert_eq!(client.response().await.status(), 200);
        drop(backend);
    }
}

#[lameduck_rig::test]
async fn nothing_is_sent_to_a_backend_that_cannot_be_trusted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let tls = format!("ca = {:?}", authority.ca());
    let rig = rig(2, &tls, "[pool.hold]\non_empty = \"fail\"").await;
    let (bad, good) = (rig.backends[0].address.ip(), rig.backends[1].address.ip());
    let good = acceptor(&authority.identity(good));
    for (what, identity, said) in [
        ("expired", authority.expired(bad), "has expired"),
        (
            "another name",
            authority.identity("other.internal"),
            "but for",
        ),
        ("a stranger's", stranger.identity(bad), "signed by nobody"),
    ] {
        let bad = acceptor(&identity);
        // Whichever comes first: the other one answers, whatever the method.
        let mut refused = false;
        for _ in 0..500 {
            let mut client = rig.ask(POST).await;
            let mut served = false;
            while !served {
                tokio::select! {
                    stream = rig.backends[0].accept_bare() => {
                        let error = shake_hands(&bad, stream).await.expect_err(what);
                        assert!(error.to_string().contains("alert"), "{what}: {error}");
                        refused = true;
                    }
                    stream = rig.backends[1].accept_bare() => {
                        let mut backend = Wire::over(shake_hands(&good, stream).await.unwrap());
                        assert_eq!(backend.request().await.text(), "body");
                        backend.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
                        assert_eq!(client.response().await.status(), 204);
                        served = true;
                    }
                }
            }
            if refused {
                break;
            }
            // After a refusal it is gone round until a probe has passed.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(refused, "{what}: it was never tried");
        rig.logs("no request is sent to it").await;
        if what == "expired" {
            rig.logs(said).await;
        }
    }
}

#[lameduck_rig::test]
async fn each_failure_is_told_in_its_own_words() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let tls = format!("ca = {:?}", authority.ca());
    for (identity, said) in [
        (
            authority.identity("other.internal"),
            "but for other.internal",
        ),
        (
            stranger.identity("127.0.0.1"),
            "signed by nobody that is trusted",
        ),
    ] {
        let rig = rig(1, &tls, "[pool.hold]\non_empty = \"fail\"").await;
        let mut client = rig.ask(GET).await;
        let stream = rig.backends[0].accept_bare().await;
        shake_hands(&acceptor(&identity), stream).await.unwrap_err();
        assert_eq!(client.response().await.status(), 503);
        rig.logs(said).await;
    }
    // Without TLS.
    let rig = rig(1, &tls, "[pool.hold]\non_empty = \"fail\"").await;
    let mut client = rig.ask(POST).await;
    let mut backend = rig.backends[0].accept().await;
    let hello = backend.exactly(3).await;
    assert_eq!(hello[..2], [0x16, 3], "a handshake, not a request");
    backend
        .send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status(), 503);
    rig.logs("is not TLS").await;
}

/// RFC 9113 §3.2: over TLS, HTTP/2 has to be agreed on. Whoever doesn't gets no request, neither in HTTP/2 nor in HTTP/1.
#[lameduck_rig::test]
async fn a_backend_that_does_not_agree_to_http2_gets_no_request() {
    let authority = Authority::new();
    let tls = format!("ca = {:?}", authority.ca());
    let more = "[pool.upstream]\nhttp2 = true\n[pool.hold]\non_empty = \"fail\"";
    // One that knows ALPN says so; one that doesn't says nothing.
    for protocols in [&["http/1.1"][..], &[]] {
        let rig = rig(1, &tls, more).await;
        let server = Server {
            protocols,
            ..Server::default()
        };
        let acceptor = authority
            .identity(rig.backends[0].address.ip())
            .serve(&server);
        let mut client = rig.ask(POST).await;
        let stream = rig.backends[0].accept_bare().await;
        if let Ok(stream) = shake_hands(&acceptor, stream).await {
            Wire::over(stream).gone().await;
        }
        assert_eq!(client.response().await.status(), 503);
        let said = "it does not speak the HTTP version that was asked for (ALPN)";
        rig.logs(said).await;
    }
}

#[lameduck_rig::test]
async fn a_backend_that_wants_a_certificate_gets_it() {
    let authority = Authority::new();
    let ca = format!("ca = {:?}\n", authority.ca());
    let shown = authority.shown("client", &authority.identity("proxy.internal"));
    let rig = rig(1, &format!("{ca}{shown}server_name = \"app.internal\""), "").await;
    let acceptor = authority.identity("app.internal").serve(&Server {
        clients: Some(authority.certificate()),
        ..Server::default()
    });
    let mut client = rig.ask(GET).await;
    let stream = rig.backends[0].accept_bare().await;
    let stream = shake_hands(&acceptor, stream).await.unwrap();
    let session = stream.get_ref().1;
    assert!(
        session
            .peer_certificates()
            .is_some_and(|chain| !chain.is_empty())
    );
    assert_eq!(session.server_name(), Some("app.internal"));
    let metrics = rig.metrics().await;
    let series = "lameduck_upstream_certificate_expiry_timestamp_seconds{";
    let expiry: Vec<_> = metrics.lines().filter(|l| l.starts_with(series)).collect();
    assert_eq!(expiry.len(), 1, "{expiry:?}");
    assert!(expiry[0].contains("name=\"proxy.internal\"") && expiry[0].contains("pool=\"app\""));
    let mut backend = Wire::over(stream);
    backend.head().await;
    backend.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[lameduck_rig::test]
async fn a_backend_that_refuses_us_after_the_handshake_costs_no_request() {
    let authority = Authority::new();
    let rig = rig(2, &format!("ca = {:?}", authority.ca()), "").await;
    let [strict, lax] = [0, 1].map(|index| authority.identity(rig.backends[index].address.ip()));
    let strict = strict.serve(&Server {
        versions: TLS13,
        clients: Some(authority.certificate()),
        ..Server::default()
    });
    let lax = acceptor(&lax);
    let mut refused = false;
    for _ in 0..20 {
        let mut client = rig.ask(POST).await;
        let mut served = false;
        while !served {
            tokio::select! {
                stream = rig.backends[0].accept_bare() => {
                    // To the proxy the handshake was over before it heard of the refusal (TLS 1.3).
                    shake_hands(&strict, stream).await.unwrap_err();
                    refused = true;
                }
                stream = rig.backends[1].accept_bare() => {
                    let mut backend = Wire::over(shake_hands(&lax, stream).await.unwrap());
                    assert_eq!(backend.request().await.text(), "body");
                    backend.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
                    assert_eq!(client.response().await.status(), 204);
                    served = true;
                }
            }
        }
        if refused {
            break;
        }
    }
    assert!(refused);
    rig.logs("it refuses our certificate").await;
}

#[lameduck_rig::test]
async fn another_authority_takes_over_at_a_reload_and_a_bad_file_never() {
    let (old, new) = (Authority::new(), Authority::new());
    let rig = rig(1, &format!("ca = {:?}", old.ca()), "").await;
    let ip = rig.backends[0].address.ip();
    let get = async |acceptor: &TlsAcceptor| {
        let mut client = rig.ask(GET).await;
        let mut backend = accept(&rig, 0, acceptor).await;
        backend.head().await;
        backend.send(OK).await;
        assert_eq!(client.response().await.text(), "ok");
        backend
    };
    let mut kept = get(&acceptor(&old.identity(ip))).await;

    // The same path with other content: what is refused changes nothing.
    let path = old.dir().join("ca.pem");
    std::fs::write(&path, "not a certificate").unwrap();
    let (status, said) = rig.reload("", "").await;
    assert_ne!(status, 200);
    assert!(
        said.contains("ca.pem") && said.contains("there is no certificate in it"),
        "{said}"
    );
    let mut client = rig.ask(GET).await;
    kept.head().await;
    kept.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");

    std::fs::copy(new.ca(), &path).unwrap();
    assert_eq!(rig.reload("", "").await.0, 200);
    // Whoever was trusted before is not any more, nor is its connection used again.
    kept.closed().await;
    let kept = get(&acceptor(&new.identity(ip))).await;
    // The same again is no change.
    assert_eq!(rig.reload("", "").await.0, 200);
    let mut client = rig.ask(GET).await;
    let mut kept = kept;
    kept.head().await;
    kept.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    assert_eq!(rig.pool().await.backends[0].state, "ready");
}

/// Files are looked at all the time, as those of listeners are. A bad one changes nothing, and is told once.
#[lameduck_rig::test]
async fn another_authority_takes_over_without_a_reload() {
    let (old, new) = (Authority::new(), Authority::new());
    let rig = rig(1, &format!("ca = {:?}", old.ca()), "").await;
    let ip = rig.backends[0].address.ip();
    let mut client = rig.ask(GET).await;
    let mut kept = accept(&rig, 0, &acceptor(&old.identity(ip))).await;
    kept.head().await;
    kept.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");

    let path = old.dir().join("ca.pem");
    std::fs::write(&path, "not a certificate").unwrap();
    let looks = |outcome: &str| format!("lameduck_certificate_reload_total{{outcome={outcome:?}}}");
    let seen = async |outcome: &str, count: u64| {
        for _ in 0..2000 {
            if rig.metric(&looks(outcome)).await == Some(count) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not {outcome}: {}", rig.log());
    };
    seen("refused", 1).await;
    let told = "changed files of [pool.tls] are not used, the old ones stay in use: `ca`: ";
    rig.logs(told).await;
    let mut client = rig.ask(GET).await;
    kept.head().await;
    kept.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");

    std::fs::copy(new.ca(), &path).unwrap();
    kept.closed().await;
    seen("applied", 1).await;
    let mut client = rig.ask(GET).await;
    let mut backend = accept(&rig, 0, &acceptor(&new.identity(ip))).await;
    backend.head().await;
    backend.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    assert_eq!(rig.log().matches(told).count(), 1);
}

#[lameduck_rig::test]
async fn without_verification_anybody_is_believed_and_people_are_warned() {
    let stranger = Authority::new();
    let rig = rig(1, "verify = false", "").await;
    let mut client = rig.ask(GET).await;
    let mut backend = accept(&rig, 0, &acceptor(&stranger.expired("elsewhere"))).await;
    backend.head().await;
    backend.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    rig.logs("`verify = false`").await;
}

#[lameduck_rig::test]
async fn a_handshake_that_takes_too_long_goes_elsewhere() {
    let authority = Authority::new();
    let more = "[pool.upstream]\nconnect_timeout = \"500ms\"";
    let rig = rig(2, &format!("ca = {:?}", authority.ca()), more).await;
    let acceptor = acceptor(&authority.identity(rig.backends[1].address.ip()));
    let mut silent = Vec::new();
    while silent.is_empty() {
        let mut client = rig.ask(POST).await;
        let backend = loop {
            tokio::select! {
                stream = rig.backends[0].accept_bare() => silent.push(stream),
                // Where this test stood still, the proxy has given it up, and comes again.
                stream = rig.backends[1].accept_bare() => if let Ok(stream) = shake_hands(&acceptor, stream).await {
                    break stream;
                },
            }
        };
        let mut backend = Wire::over(backend);
        backend.request().await;
        backend
            .send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            .await;
        assert_eq!(client.response().await.status(), 204);
    }
}

#[lameduck_rig::test]
async fn health_check_of_a_tls_pool_speaks_tls() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for kind in ["http", "tcp"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let [bad, good] = [&stranger, &authority].map(|who| acceptor(&who.identity("127.0.0.1")));
        let trusted = Arc::new(AtomicBool::new(false));
        let told = trusted.clone();
        let app = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = if told.load(Ordering::SeqCst) {
                    &good
                } else {
                    &bad
                };
                if let Ok(stream) = shake_hands(acceptor, stream).await {
                    let mut probe = Wire::over(stream);
                    tokio::spawn(async move {
                        while let Some(head) = probe.head_or_end().await {
                            assert!(head.starts_with("GET /health "), "{head}");
                            probe.send(OK).await;
                        }
                    });
                }
            }
        });
        let pool = format!(
            "[[pool.backend]]\nname = \"b1\"\naddress = \"{address}\"\n[pool.health]\ntype = {kind:?}\nrise = 1\n\
             fast_interval = \"10ms\"\n[pool.tls]\nca = {:?}",
            authority.ca()
        );
        let rig = Rig::start(tempfile::tempdir().unwrap(), "", "", &pool, Vec::new()).await;
        let says = |pool: &PoolView, state: &str, what: &str| {
            let backend = &pool.backends[0];
            let last = backend.last_probe.as_deref().unwrap_or_default();
            backend.state == state && last.contains(what)
        };
        rig.until("no trust", |pool| {
            says(pool, "starting", "signed by nobody")
        })
        .await;
        trusted.store(true, Ordering::SeqCst);
        rig.until("trust", |pool| says(pool, "ready", "in ")).await;
        assert!(!app.is_finished());
        app.abort();
    }
}
