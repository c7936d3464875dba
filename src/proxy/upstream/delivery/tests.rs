//! Which events prove that a request never arrived, and which don't, on real sockets.

mod encrypted;

use std::net::Shutdown;
use std::sync::Arc;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::core::Time;
use crate::net::accept_queue::AcceptState;
use crate::registry::endpoint::tests::endpoint_at;

const FIRST: &[u8] = b"POST /first HTTP/1.1\r\n\r\n";
/// Timeout for a write that may never end.
const PATIENCE: Duration = Duration::from_millis(200);
const SECOND: &[u8] = b"POST /second HTTP/1.1\r\n\r\n";

/// Returns an idle connection that has carried one request, and the backend's end of it.
async fn kept() -> (Box<IdleConnection>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut connection, theirs) =
        tokio::join!(open(listener.local_addr().unwrap()), listener.accept());
    let mut theirs = theirs.unwrap().0;
    write(&mut connection, FIRST).await.unwrap();
    theirs.read_exact(&mut [0; FIRST.len()]).await.unwrap();
    theirs.write_all(b"!").await.unwrap();
    connection.stream.read_exact(&mut [0; 1]).await.unwrap();
    connection.sent += FIRST.len() as u64;
    (connection, theirs)
}

async fn open(address: std::net::SocketAddr) -> Box<IdleConnection> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let stream = pingora::protocols::l4::stream::Stream::from(stream);
    Box::new(IdleConnection {
        stream: Box::new(stream),
        epoch: 0,
        transport: 0,
        expires: Time::MAX,
        safe_until: Time::MAX,
        requests: 0,
        sent: 0,
        accepted: false,
        ticket: Arc::new(endpoint_at(address)).connection_opened(),
    })
}

/// Sends a request without checking the connection first, as the proxy would.
async fn write(connection: &mut IdleConnection, request: &[u8]) -> std::io::Result<()> {
    connection.requests += 1;
    connection.stream.write_all(request).await?;
    connection.stream.flush().await
}

/// Waits until the backend's end has this many unread bytes.
async fn arrived(theirs: &TcpStream, bytes: usize) {
    let mut unread = vec![0; bytes];
    while theirs.peek(&mut unread).await.unwrap() < bytes {
        tokio::task::yield_now().await;
    }
}

async fn ended(connection: &mut IdleConnection) -> std::io::Result<usize> {
    connection.stream.read(&mut [0; 1]).await
}

#[tokio::test]
async fn request_written_to_a_closed_connection_never_arrived() {
    let (mut connection, theirs) = kept().await;
    drop(theirs);
    write(&mut connection, SECOND).await.unwrap();
    // The end of the stream first; a broken pipe if the reset was quicker.
    assert!(!ended(&mut connection).await.is_ok_and(|count| count > 0));
    assert!(is_undelivered(&connection, SECOND.len() as u64).await);
}

#[tokio::test]
async fn the_end_of_the_stream_acknowledges_what_was_delivered_before() {
    let (mut connection, mut theirs) = kept().await;
    write(&mut connection, SECOND).await.unwrap();
    theirs.read_exact(&mut [0; SECOND.len()]).await.unwrap();
    drop(theirs);
    assert_eq!(ended(&mut connection).await.unwrap(), 0);
    assert!(!is_undelivered(&connection, SECOND.len() as u64).await);
}

/// A backend that closes with unread bytes resets at once. In this case nothing is acknowledged either, which is why
/// the rule requires the end of the stream first: the exchange reports this as a reset, and no proof is attempted.
#[tokio::test]
async fn a_reset_without_an_end_is_reported_as_a_reset() {
    let (mut connection, theirs) = kept().await;
    write(&mut connection, SECOND).await.unwrap();
    arrived(&theirs, SECOND.len()).await;
    drop(theirs);
    let error = ended(&mut connection).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// An accept queue receives a connection and its request, and is closed with both: acknowledged, and read by nobody.
/// This can't be told from a request that was read.
#[tokio::test]
async fn a_first_request_is_never_proven() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut connection = open(listener.local_addr().unwrap()).await;
    write(&mut connection, SECOND).await.unwrap();
    drop(listener);
    assert!(ended(&mut connection).await.is_err());
    assert!(!is_undelivered(&connection, SECOND.len() as u64).await);
}

/// Once the connection is known to have left the queue, the first request is judged like any other.
#[tokio::test]
async fn a_first_request_on_an_accepted_connection_is_proven() {
    for is_read in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut connection = open(listener.local_addr().unwrap()).await;
        let (mut theirs, _) = listener.accept().await.unwrap();
        let Some(place) = socket::peer_accept_state(&connection.stream) else {
            return;
        };
        connection.accepted = place == AcceptState::Process;
        if is_read {
            write(&mut connection, FIRST).await.unwrap();
            theirs.read_exact(&mut [0; FIRST.len()]).await.unwrap();
            drop(theirs);
        } else {
            drop(theirs);
            write(&mut connection, FIRST).await.unwrap();
        }
        assert!(!ended(&mut connection).await.is_ok_and(|count| count > 0));
        let undelivered = is_undelivered(&connection, FIRST.len() as u64).await;
        assert_eq!(undelivered, !is_read);
    }
}

#[tokio::test]
async fn half_closed_backend_may_have_read_the_request() {
    let (mut connection, mut theirs) = kept().await;
    SockRef::from(&theirs).shutdown(Shutdown::Write).unwrap();
    write(&mut connection, SECOND).await.unwrap();
    assert_eq!(ended(&mut connection).await.unwrap(), 0);
    theirs.read_exact(&mut [0; SECOND.len()]).await.unwrap();
    assert!(!is_undelivered(&connection, SECOND.len() as u64).await);
    // Nor after the backend has closed for good: it read everything, so there is no reset.
    drop(theirs);
    assert!(!is_undelivered(&connection, SECOND.len() as u64).await);
}

/// The backend reads a part and then closes. A request in one segment counts as undelivered, because the app never
/// had all of it (unless it was acknowledged meanwhile, which takes the kernel 40 ms); with several segments, it is
/// unknown what was read.
#[tokio::test]
async fn half_closed_backend_that_resets_had_only_a_part_of_the_request() {
    for size in [100, 400_000] {
        let (mut connection, mut theirs) = kept().await;
        SockRef::from(&theirs).shutdown(Shutdown::Write).unwrap();
        let request = vec![b'x'; size];
        // Bytes that the peer's kernel doesn't accept are still unsent when the peer closes.
        let sending = tokio::time::timeout(PATIENCE, write(&mut connection, &request));
        let reading = async {
            arrived(&theirs, 60).await;
            theirs.read_exact(&mut [0; 30]).await.unwrap();
        };
        let (sent, ()) = tokio::join!(sending, reading);
        assert!(sent.is_ok_and(|sent| sent.is_ok()) || size > 100);
        drop(theirs);
        assert!(!ended(&mut connection).await.is_ok_and(|count| count > 0));
        let fate = socket::read_tcp_info(&connection.stream).unwrap();
        let undelivered = size == 100 && fate.acknowledged == connection.sent;
        assert_eq!(
            is_undelivered(&connection, size as u64).await,
            undelivered,
            "{size}: {fate:?}"
        );
    }
}
