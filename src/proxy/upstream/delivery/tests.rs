//! What proves that a request never arrived, and what doesn't, on real sockets.

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
/// For a write that may never end.
const PATIENCE: Duration = Duration::from_millis(200);
const SECOND: &[u8] = b"POST /second HTTP/1.1\r\n\r\n";

/// A kept connection that has carried one request, and the backend's end of it.
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

/// Sends a request, as the proxy would: without looking first.
async fn write(connection: &mut IdleConnection, request: &[u8]) -> std::io::Result<()> {
    connection.requests += 1;
    connection.stream.write_all(request).await?;
    connection.stream.flush().await
}

/// Waits until the backend's end has so many unread bytes.
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
async fn what_was_written_to_a_closed_connection_never_arrived() {
    let (mut connection, theirs) = kept().await;
    drop(theirs);
    write(&mut connection, SECOND).await.unwrap();
    // Its end first; a broken pipe if the reset was quicker.
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

/// A backend that closes with something unread resets at once. Nothing is acknowledged then either, which is why
/// the rule asks for the stream's end first: the exchange reports this as a reset, and nobody asks any further.
#[tokio::test]
async fn a_reset_without_an_end_is_reported_as_a_reset() {
    let (mut connection, theirs) = kept().await;
    write(&mut connection, SECOND).await.unwrap();
    arrived(&theirs, SECOND.len()).await;
    drop(theirs);
    let error = ended(&mut connection).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// A listener's queue takes a connection and its request, and dies with both: acknowledged, and read by nobody. It
/// can't be told from a request that was read.
#[tokio::test]
async fn a_first_request_is_never_proven() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut connection = open(listener.local_addr().unwrap()).await;
    write(&mut connection, SECOND).await.unwrap();
    drop(listener);
    assert!(ended(&mut connection).await.is_err());
    assert!(!is_undelivered(&connection, SECOND.len() as u64).await);
}

/// Once it is known to be out of the queue, the first request is judged like any other.
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
async fn a_backend_that_has_only_half_closed_may_have_read_it() {
    let (mut connection, mut theirs) = kept().await;
    SockRef::from(&theirs).shutdown(Shutdown::Write).unwrap();
    write(&mut connection, SECOND).await.unwrap();
    assert_eq!(ended(&mut connection).await.unwrap(), 0);
    theirs.read_exact(&mut [0; SECOND.len()]).await.unwrap();
    assert!(!is_undelivered(&connection, SECOND.len() as u64).await);
    // Nor after it has closed for good: all was read, so no reset comes.
    drop(theirs);
    assert!(!is_undelivered(&connection, SECOND.len() as u64).await);
}

/// It reads a part and then closes: one segment counts as undelivered, because the app never had the whole request
/// (unless it has been acknowledged meanwhile, which takes the kernel 40 ms); of several, who knows what was read.
#[tokio::test]
async fn a_half_closed_backend_that_reads_a_part_and_resets_had_it_only_in_part() {
    for size in [100, 400_000] {
        let (mut connection, mut theirs) = kept().await;
        SockRef::from(&theirs).shutdown(Shutdown::Write).unwrap();
        let request = vec![b'x'; size];
        // What the peer's kernel doesn't take is still unsent when the peer closes.
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
