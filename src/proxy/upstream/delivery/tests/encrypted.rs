//! The same tests over TLS, where the bytes on the wire differ.

use tokio_rustls::TlsAcceptor;

use super::super::super::handshake::{ProxiedAddrs, establish, note_written};
use super::super::super::reuse::{IdleState, check_idle};
use super::*;
use crate::config::{self, UpstreamTls};
use crate::net::socket;
use crate::registry::endpoint::Transport;
use crate::tls::upstream::{Alpn, BackendTls};

type Theirs = tokio_rustls::server::TlsStream<TcpStream>;

fn acceptor() -> TlsAcceptor {
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.cert.der().clone()], key.into())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn transport() -> Transport {
    let mut tls = UpstreamTls {
        verify: false,
        ..UpstreamTls::default()
    };
    tls.client = Some(config::BuiltClient::new(Arc::new(
        BackendTls::load(&tls).unwrap(),
    )));
    Transport::of(&config::PoolConfig {
        tls: Some(tls),
        ..config::PoolConfig::named("pool")
    })
}

/// Returns a new connection, and the backend's end of it.
async fn opened() -> (Box<IdleConnection>, Theirs) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor().accept(stream).await.unwrap()
    };
    let opening = async {
        let plain = open(address).await;
        let endpoint = Arc::new(endpoint_at(address));
        let behalf = ProxiedAddrs {
            client: Some(address),
            local: None,
        };
        let IdleConnection { stream, .. } = *plain;
        let patience = Duration::from_secs(5);
        let transport = transport();
        let dressed = establish(stream, &endpoint, &transport, Alpn::Http1, patience, behalf);
        let dressed = dressed.await.unwrap();
        Box::new(IdleConnection {
            stream: dressed.stream,
            epoch: 0,
            safe_until: Time::MAX,
            transport: 0,
            expires: Time::MAX,
            requests: 0,
            sent: dressed.sent,
            accepted: dressed.accepted,
            ticket: endpoint.connection_opened(),
        })
    };
    tokio::join!(opening, accepting)
}

async fn answered(connection: &mut IdleConnection, theirs: &mut Theirs) {
    write(connection, FIRST).await.unwrap();
    theirs.read_exact(&mut [0; FIRST.len()]).await.unwrap();
    theirs.write_all(b"!").await.unwrap();
    theirs.flush().await.unwrap();
    connection.stream.read_exact(&mut [0; 1]).await.unwrap();
    note_written(connection, FIRST.len() as u64);
}

#[tokio::test]
async fn request_on_a_closed_tls_connection_never_arrived() {
    for (is_kept, says_goodbye) in [(true, true), (true, false), (false, true)] {
        let (mut connection, mut theirs) = opened().await;
        if is_kept {
            answered(&mut connection, &mut theirs).await;
        }
        if says_goodbye {
            theirs.shutdown().await.unwrap();
        }
        drop(theirs);
        write(&mut connection, SECOND).await.unwrap();
        assert!(!ended(&mut connection).await.is_ok_and(|count| count > 0));
        assert!(is_undelivered(&connection, SECOND.len() as u64).await);
    }
}

#[tokio::test]
async fn request_read_over_tls_is_never_undelivered() {
    for (is_kept, says_goodbye) in [(true, true), (true, false), (false, true)] {
        let (mut connection, mut theirs) = opened().await;
        if is_kept {
            answered(&mut connection, &mut theirs).await;
        }
        write(&mut connection, SECOND).await.unwrap();
        theirs.read_exact(&mut [0; SECOND.len()]).await.unwrap();
        if says_goodbye {
            theirs.shutdown().await.unwrap();
        }
        drop(theirs);
        assert!(!ended(&mut connection).await.is_ok_and(|count| count > 0));
        assert!(!is_undelivered(&connection, SECOND.len() as u64).await);
    }
}

#[tokio::test]
async fn session_tickets_are_ignored_and_close_notify_is_a_close() {
    let (mut connection, mut theirs) = opened().await;
    answered(&mut connection, &mut theirs).await;
    assert_eq!(check_idle(&mut connection), IdleState::Quiet);
    theirs.write_all(b"?").await.unwrap();
    theirs.flush().await.unwrap();
    unread(&connection).await;
    assert_eq!(check_idle(&mut connection), IdleState::Talking);
    theirs.shutdown().await.unwrap();
    unread(&connection).await;
    assert_eq!(check_idle(&mut connection), IdleState::Closed);
}

/// Waits until the kernel has received bytes for the proxy.
async fn unread(connection: &IdleConnection) {
    while !socket::has_unread(&connection.stream) {
        tokio::task::yield_now().await;
    }
    // The runtime has to notice the bytes too.
    tokio::time::sleep(Duration::from_millis(5)).await;
}
