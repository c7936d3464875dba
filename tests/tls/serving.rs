//! What a client gets: its certificate, its version, a resumed session, the right headers.

mod plain_text;

use std::time::Duration;

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::rig::{PATIENCE, Rig, ask, connect, fetch, get, read_to_end};
use lameduck_rig::certificates::{Authority, Client};

type Versions = &'static [&'static rustls::SupportedProtocolVersion];
static ONLY_12: Versions = &[&TLS12];
static ONLY_13: Versions = &[&TLS13];

#[lameduck_rig::test]
async fn two_file_names_are_enough() {
    let rig = Rig::new("").await;
    for versions in [ONLY_12, ONLY_13] {
        let client = Client {
            versions: Some(versions),
            ..Client::default()
        };
        let config = client.config(&rig.authority);
        // The second one resumes.
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream = connect(rig.address(), "localhost", config.clone())
                .await
                .unwrap();
            // An end without close_notify would be an error here.
            let answer = ask(&mut stream, &get("/")).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.contains("X-Forwarded-Proto: https\r\n"), "{answer}");
            assert!(
                !answer.to_lowercase().contains("strict-transport"),
                "{answer}"
            );
            assert_eq!(
                stream.get_ref().1.handshake_kind(),
                Some(kind),
                "{versions:?}"
            );
        }
    }
    for outcome in ["full", "resumed"] {
        let handshakes = format!("lameduck_tls_handshakes_total{{outcome=\"{outcome}\"}}");
        rig.counts(&handshakes, 2.0).await;
    }
    let left = rig
        .series("lameduck_certificate_expiry_timestamp_seconds{")
        .await
        .unwrap();
    assert!(
        left > 4e9,
        "rcgen's certificates are good until 4096: {left}"
    );
    assert!(rig.metrics().await.contains("name=\"localhost\""));
    let status = |words: &[&str]| {
        let status = std::process::Command::new(super::rig::exe())
            .arg("status")
            .args(words)
            .arg("--admin")
            .arg(rig.proxy.socket())
            .output()
            .unwrap();
        String::from_utf8(status.stdout).unwrap()
    };
    for words in [&[][..], &["--listeners"]] {
        let text = status(words);
        assert!(
            text.contains("certificate of localhost expires in "),
            "{text}"
        );
    }
    let json: serde_json::Value =
        serde_json::from_str(&status(&["--listeners", "--json"])).unwrap();
    assert_eq!(json[0]["address"], rig.address().to_string(), "{json}");
    let certificate = &json[0]["certificates"][0];
    assert!(
        certificate["days_left"].as_u64().unwrap() > 365 * 1000,
        "{json}"
    );
}

#[lameduck_rig::test]
async fn protocols_are_agreed_on() {
    let rig = Rig::new("").await;
    for (offered, agreed) in [
        (&["http/1.1"][..], Some(&b"http/1.1"[..])),
        (&[], None),
        (&["h2", "http/1.1"], Some(b"h2")),
    ] {
        let client = Client {
            protocols: offered,
            ..Client::default()
        };
        let stream = connect(rig.address(), "localhost", client.config(&rig.authority))
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
    }
    let client = Client {
        protocols: &["imap"],
        ..Client::default()
    };
    let refused = connect(rig.address(), "localhost", client.config(&rig.authority))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("NoApplicationProtocol"),
        "{refused}"
    );
    let unsupported = "lameduck_tls_handshakes_total{outcome=\"unsupported\"}";
    rig.counts(unsupported, 1.0).await;
}

/// HTTP/2 has the same identity, scheme and policy as HTTP/1.
#[lameduck_rig::test]
async fn http2_is_spoken_where_it_was_agreed_on() {
    let tls = "client_auth = \"optional\"\nclient_ca = \"$DIR/ca.pem\"";
    let rig = Rig::with(tls, "hsts = \"1d\"", "").await;
    let me = rig.authority.sign(&["me.example"]);
    let client = Client {
        shows: Some(&me),
        protocols: &["h2"],
        ..Client::default()
    };
    let stream = connect(rig.address(), "localhost", client.config(&rig.authority))
        .await
        .unwrap();
    let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let request =
        http::Request::get("https://localhost/two").header("x-client-cert-subject", "forged");
    let (response, _) = requests
        .send_request(request.body(()).unwrap(), true)
        .unwrap();
    let response = tokio::time::timeout(PATIENCE, response)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["strict-transport-security"],
        "max-age=86400"
    );
    let (mut body, mut text) = (response.into_body(), Vec::new());
    while let Some(data) = body.data().await {
        text.extend_from_slice(&data.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("X-Client-Cert-San: DNS:me.example\r\n"),
        "{text}"
    );
    assert!(
        text.contains("X-Forwarded-Proto: https\r\n") && !text.contains("forged"),
        "{text}"
    );
    drop((requests, body));
    tokio::time::timeout(PATIENCE, driver)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[lameduck_rig::test]
async fn http1_only_where_http2_is_off() {
    let rig = Rig::with("", "http2 = false", "").await;
    let client = Client {
        protocols: &["h2", "http/1.1"],
        ..Client::default()
    };
    let stream = connect(rig.address(), "localhost", client.config(&rig.authority))
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[lameduck_rig::test]
async fn each_name_has_its_certificate() {
    let rig = Rig::new("").await;
    let dir = rig.dir().to_owned();
    for (file, names) in [
        ("wild", &["*.example.org", "example.org"][..]),
        ("shop", &["shop.example.org", "Store.Example.COM"]),
    ] {
        let pair = rig.authority.sign(names);
        pair.write(
            &dir.join(format!("{file}.pem")),
            &dir.join(format!("{file}.key")),
        );
    }
    let config = std::fs::read_to_string(rig.proxy.config()).unwrap();
    let more = ["wild", "shop"].map(|file| {
        let dir = dir.display();
        format!("[[listener.tls.certificates]]\ncert = \"{dir}/{file}.pem\"\nkey = \"{dir}/{file}.key\"\n")
    });
    let config = config.replacen("[[pool]]", &format!("{}\n[[pool]]", more.concat()), 1);
    std::fs::write(rig.proxy.config(), config).unwrap();
    let changes = rig.reload().await.unwrap();
    assert!(!changes.contains("restart"), "{changes}");
    let good = [
        "localhost",
        "example.org",
        "a.example.org",
        "shop.example.org",
        "SHOP.example.org",
        "store.example.com",
    ];
    for name in good {
        connect(rig.address(), name, rig.client())
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    // A wildcard stands for one label; whoever asks for anything else gets the first, and judges by itself.
    for name in ["a.b.example.org", "example.com", "127.0.0.1"] {
        let refused = connect(rig.address(), name, rig.client())
            .await
            .unwrap_err();
        assert!(
            refused.to_string().contains("not valid for name"),
            "{name}: {refused}"
        );
    }
    let alerts = "lameduck_tls_handshakes_total{outcome=\"refused_by_client\"}";
    rig.counts(alerts, 3.0).await;
}

#[lameduck_rig::test]
async fn old_versions_are_refused() {
    let rig = Rig::new("min_version = \"1.3\"").await;
    let old = Client {
        versions: Some(ONLY_12),
        ..Client::default()
    };
    let refused = connect(rig.address(), "localhost", old.config(&rig.authority))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");
    assert!(fetch(&rig, rig.client()).await.is_ok());
}

#[lameduck_rig::test]
async fn hsts_is_said_over_tls_unless_the_app_says_its_own() {
    let rig = Rig::with("", "hsts = \"1d\"", "max_uri = \"1KiB\"").await;
    let mut answers = Vec::new();
    for path in ["/", "/own-hsts", &"/x".repeat(1000)] {
        let mut stream = connect(rig.address(), "localhost", rig.client())
            .await
            .unwrap();
        answers.push(ask(&mut stream, &get(path)).await.unwrap());
    }
    assert!(
        answers[0].contains("\r\nStrict-Transport-Security: max-age=86400\r\n"),
        "{}",
        answers[0]
    );
    let said = answers[1].to_lowercase();
    assert_eq!(
        said.matches("strict-transport-security").count(),
        1,
        "{said}"
    );
    assert!(said.contains("max-age=7; includesubdomains"), "{said}");
    assert!(answers[2].starts_with("HTTP/1.1 414"), "{}", answers[2]);
}

/// A body that is larger than all buffers on the way, both ways at once, slowly taken.
#[lameduck_rig::test]
async fn large_bodies_arrive_whole() {
    let backend = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = backend.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = backend.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let Ok(count) = stream.read(&mut head).await else {
                    return;
                };
                if head[..count].starts_with(b"GET /health") {
                    let _ = stream
                        .write_all(
                            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                        )
                        .await;
                    return;
                }
                let body: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
                let _ = stream
                    .write_all(
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())
                            .as_bytes(),
                    )
                    .await;
                let _ = stream.write_all(&body).await;
            });
        }
    });
    let rig = Rig::before("", "", "", &[("big".to_owned(), address)]).await;
    let mut stream = connect(rig.address(), "localhost", rig.client())
        .await
        .unwrap();
    stream.write_all(get("/big").as_bytes()).await.unwrap();
    // Buffers fill up in the meantime.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let body = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap()
        + 4;
    assert_eq!(answer.len() - body, 8_000_000);
    assert!(
        answer[body..]
            .iter()
            .enumerate()
            .all(|(n, byte)| *byte == (n % 251) as u8)
    );
}

#[lameduck_rig::test]
async fn a_stranger_is_not_trusted() {
    let rig = Rig::new("").await;
    let other = Authority::new("another authority");
    let refused = connect(rig.address(), "localhost", Client::default().config(&other)).await;
    assert!(refused.unwrap_err().to_string().contains("UnknownIssuer"));
}

/// A PROXY protocol header comes before the handshake; without one there is none.
#[lameduck_rig::test]
async fn a_proxy_in_front_names_the_client() {
    let rig = Rig::with(
        "",
        "proxy_protocol = true",
        "[headers]\ntrusted = [\"127.0.0.1\"]",
    )
    .await;
    let name = || "localhost".to_owned().try_into().unwrap();
    let connector = tokio_rustls::TlsConnector::from(rig.client());
    let mut stream = TcpStream::connect(rig.address()).await.unwrap();
    stream
        .write_all(b"PROXY TCP6 2001:db8::9 ::1 1 2\r\n")
        .await
        .unwrap();
    let mut stream = connector.connect(name(), stream).await.unwrap();
    let answer = ask(&mut stream, &get("/")).await.unwrap();
    assert!(
        answer.contains("X-Forwarded-For: 2001:db8::9\r\n"),
        "{answer}"
    );
    assert!(answer.contains("X-Forwarded-Proto: https\r\n"), "{answer}");
    let stream = TcpStream::connect(rig.address()).await.unwrap();
    assert!(connector.connect(name(), stream).await.is_err());
}

/// TLS over a unix socket: the same certificate, HTTP/2 where it is agreed on, and a client that is not known.
#[lameduck_rig::test]
async fn unix_socket_with_tls_serves_as_an_address_does() {
    let rig = Rig::new("").await;
    let path = rig.dir().join("tls-socket");
    let dir = rig.dir().display().to_string();
    let config = std::fs::read_to_string(rig.proxy.config()).unwrap();
    let second = format!(
        "[[listener]]\naddress = \"unix:{}\"\n[listener.tls]\ncert = \"{dir}/cert.pem\"\nkey = \"{dir}/key.pem\"\n\n[[pool]]",
        path.display()
    );
    std::fs::write(rig.proxy.config(), config.replacen("[[pool]]", &second, 1)).unwrap();
    rig.reload().await.unwrap();
    let shake = async |config| {
        let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let shaking = tokio_rustls::TlsConnector::from(config).connect(name, stream);
        tokio::time::timeout(PATIENCE, shaking).await.unwrap()
    };
    for kind in [HandshakeKind::Full, HandshakeKind::Full] {
        let mut stream = shake(rig.client()).await.unwrap();
        let answer = ask(&mut stream, &get("/")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("X-Forwarded-Proto: https\r\n"), "{answer}");
        assert!(answer.contains("X-Forwarded-For: unknown\r\n"), "{answer}");
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
    }
    // Whom the client doesn't trust, it doesn't trust here either; and plain text is told so.
    let stranger = Authority::new("another authority");
    assert!(shake(Client::default().config(&stranger)).await.is_err());
    let mut plain = tokio::net::UnixStream::connect(&path).await.unwrap();
    plain.write_all(get("/").as_bytes()).await.unwrap();
    let told = read_to_end(&mut plain).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 400"), "{told}");
}
