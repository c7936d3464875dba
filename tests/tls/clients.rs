//! Clients' certificates, and what the app learns of them.

use lameduck::tools::demo::admin;
use rcgen::{DnType, SanType};

use super::rig::{Rig, ask, connect, fetch, until};
use lameduck_rig::certificates::{Authority, Client, Pair, replace, subject};

const REQUIRED: &str = "client_auth = \"required\"\nclient_ca = \"$DIR/ca.pem\"";
const OPTIONAL: &str = "client_auth = \"optional\"\nclient_ca = \"$DIR/ca.pem\"";

fn shows<'a>(pair: &'a Pair) -> Client<'a> {
    Client {
        shows: Some(pair),
        ..Client::default()
    }
}

/// What a request looks like that claims to be somebody.
const FORGED: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nX-Client-Cert-Subject: CN=forged\r\nx_client_cert_fingerprint: forged\r\n\
    X-CLIENT-CERT-SAN: DNS:forged\r\nX-Client-Cert: forged\r\nClient-Cert: :Zm9yZ2Vk:\r\nConnection: close\r\n\r\n";

#[lameduck_rig::test]
async fn certificate_names_reach_the_app_and_cannot_be_forged() {
    let rig = Rig::new(OPTIONAL).await;
    let pair = rig.authority.sign_as(&["me.example"], |params| {
        params.distinguished_name = subject("Zoë, the\r\nX-Admin: 1");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "A & B");
        params
            .subject_alt_names
            .push(SanType::URI("spiffe://a/b".try_into().unwrap()));
        params
            .subject_alt_names
            .push(SanType::IpAddress([192, 0, 2, 7].into()));
    });
    let config = shows(&pair).config(&rig.authority);
    // Resumed sessions know it, too.
    for _ in 0..2 {
        let mut stream = connect(rig.address(), "localhost", config.clone())
            .await
            .unwrap();
        let answer = ask(&mut stream, FORGED).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let subject =
            "\r\nX-Client-Cert-Subject: O=A & B,CN=Zo\\c3\\ab\\, the\\0d\\0aX-Admin: 1\r\n";
        assert!(answer.contains(subject), "{answer}");
        let names = "\r\nX-Client-Cert-San: DNS:me.example,URI:spiffe://a/b,IP:192.0.2.7\r\n";
        assert!(answer.contains(names), "{answer}");
        let fingerprint = answer.split("X-Client-Cert-Fingerprint: ").nth(1).unwrap();
        assert_eq!(fingerprint.find("\r\n"), Some(64), "{answer}");
        assert!(!answer.to_lowercase().contains("forged"), "{answer}");
    }
    // Without one nothing is said, and nothing forged.
    let mut stream = connect(rig.address(), "localhost", rig.client())
        .await
        .unwrap();
    let answer = ask(&mut stream, FORGED).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        !answer.to_lowercase().contains("client-cert") && !answer.contains("forged"),
        "{answer}"
    );
}

#[lameduck_rig::test]
async fn no_good_certificate_no_connection() {
    let rig = Rig::new(REQUIRED).await;
    let good = rig.authority.sign(&["me"]);
    assert!(
        fetch(&rig, shows(&good).config(&rig.authority))
            .await
            .is_ok()
    );
    let stranger = Authority::new("another authority").sign(&["me"]);
    let expired = rig.authority.sign_expired(&["me"]);
    for (client, why) in [
        (Client::default(), "CertificateRequired"),
        (shows(&stranger), "UnknownCA"),
        (shows(&expired), "CertificateExpired"),
    ] {
        // TLS 1.3 clients learn of it when they read; the alert must not be lost in a reset.
        let refused = fetch(&rig, client.config(&rig.authority))
            .await
            .unwrap_err();
        assert!(refused.to_string().contains(why), "{why}: {refused}");
    }
    let refused = "lameduck_tls_handshakes_total{outcome=\"client_certificate\"}";
    rig.counts(refused, 3.0).await;
}

/// A session is not resumed past a change of who may connect.
#[lameduck_rig::test]
async fn another_authority_is_in_force_at_once() {
    let rig = Rig::new(REQUIRED).await;
    let other = Authority::new("another authority");
    let (old, new) = (rig.authority.sign(&["me"]), other.sign(&["me"]));
    let (old, new) = (
        shows(&old).config(&rig.authority),
        shows(&new).config(&rig.authority),
    );
    assert!(fetch(&rig, old.clone()).await.is_ok());
    assert!(fetch(&rig, new.clone()).await.is_err());
    let mut kept = connect(rig.address(), "localhost", old.clone())
        .await
        .unwrap();
    replace(&rig.dir().join("ca.pem"), &other.pem);
    until("the new authority", async || {
        fetch(&rig, new.clone()).await.is_ok()
    })
    .await;
    // The old client has a ticket.
    assert!(fetch(&rig, old).await.is_err());
    // Connections keep what they began with.
    assert!(
        ask(&mut kept, FORGED)
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
}

/// Who is in a list is let in no more, and neither is a session that began before.
#[lameduck_rig::test]
async fn whoever_is_revoked_is_refused_at_once() {
    let tls = format!("{REQUIRED}\nclient_crl = \"$DIR/ca.pem\"");
    let rig = Rig::revoking(&tls, |authority| authority.revoke(&[], 4000)).await;
    let of = |serial: u64| {
        let signed = |params: &mut rcgen::CertificateParams| {
            params.serial_number = Some(serial.into());
        };
        let pair = rig.authority.sign_as(&["me"], signed);
        shows(&pair).config(&rig.authority)
    };
    let (one, two) = (of(7), of(8));
    for client in [&one, &two] {
        assert!(fetch(&rig, client.clone()).await.is_ok());
    }
    let file = rig.dir().join("ca.pem");
    let revoked = |list: &str| replace(&file, &format!("{}{list}", rig.authority.pem));
    revoked(&rig.authority.revoke(&[7], 4000));
    until("the new list", async || {
        fetch(&rig, one.clone()).await.is_err()
    })
    .await;
    let refused = fetch(&rig, one.clone()).await.unwrap_err();
    assert!(
        refused.to_string().contains("CertificateRevoked"),
        "{refused}"
    );
    assert!(fetch(&rig, two.clone()).await.is_ok());
    // One that is out of date is better than none.
    revoked(&rig.authority.revoke(&[7], 2025));
    rig.reload().await.unwrap();
    assert!(fetch(&rig, one).await.is_err());
    assert!(fetch(&rig, two).await.is_ok());
    // Of an authority without a list, nothing is known.
    revoked(&Authority::new("another authority").revoke(&[], 4000));
    rig.reload().await.unwrap();
    assert!(fetch(&rig, of(9)).await.is_err());
}

/// A route's demand is met by the connection's own handshake, and by nothing that a client says.
#[lameduck_rig::test]
async fn route_lets_in_only_the_certificates_that_it_names() {
    let routes = "[[listener]]\naddress = \"127.0.0.1:0\"\n\
        [[route]]\npool = \"app\"\n\
        [[route]]\npath_prefix = \"/any\"\npool = \"app\"\nclient_certificate = \"required\"\n\
        [[route]]\npath_prefix = \"/ops\"\npool = \"app\"\n\
        client_certificate = { subject = \"CN=ops,O=Example\", san = [\"DNS:ops.example\", \"URI:spiffe://a/ops\"] }\n";
    let rig = Rig::new(&format!("{OPTIONAL}\n{routes}")).await;
    let named = |name: &str, san: &str| {
        rig.authority.sign_as(&[san], |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            let names = [
                (DnType::OrganizationName, "Example"),
                (DnType::CommonName, name),
            ];
            for (kind, name) in names {
                params.distinguished_name.push(kind, name);
            }
        })
    };
    let ops = named("ops", "ops.example");
    let (other_name, other_host) = (named("dev", "ops.example"), named("ops", "dev.example"));
    let forged =
        "X-Client-Cert-Subject: CN=ops,O=Example\r\nX-Client-Cert-San: DNS:ops.example\r\n";
    for (client, any, inner) in [
        (shows(&ops), 200, 200),
        (shows(&other_name), 200, 403),
        (shows(&other_host), 200, 403),
        (Client::default(), 403, 403),
    ] {
        let config = client.config(&rig.authority);
        for (path, expected) in [
            ("/", 200),
            ("/any", any),
            ("/ops/x", inner),
            ("//ops", inner),
        ] {
            let mut stream = connect(rig.address(), "localhost", config.clone())
                .await
                .unwrap();
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\n{forged}Connection: close\r\n\r\n"
            );
            let answer = ask(&mut stream, &request).await.unwrap();
            let status = answer.get(9..12).unwrap_or_default();
            assert_eq!(status, expected.to_string(), "{path}: {answer}");
        }
    }
    // Without TLS there is no handshake to look at.
    let listeners = admin::call(rig.proxy.socket(), "GET", "/v1/listeners", None)
        .await
        .unwrap();
    let addresses = listeners.as_array().unwrap().iter();
    let mut plain = addresses.map(|listener| listener["address"].as_str().unwrap());
    let plain = plain.find(|address| *address != rig.address().to_string());
    let mut stream = tokio::net::TcpStream::connect(plain.unwrap())
        .await
        .unwrap();
    let request =
        format!("GET /any HTTP/1.1\r\nHost: localhost\r\n{forged}Connection: close\r\n\r\n");
    let answer = ask(&mut stream, &request).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}
