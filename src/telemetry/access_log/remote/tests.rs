use std::io::Read as _;
use std::net::TcpListener;

use super::*;

const SOON: Duration = Duration::from_secs(10);

fn received(socket: &UnixDatagram) -> String {
    let mut buffer = vec![0; 100_000];
    socket.set_read_timeout(Some(SOON)).unwrap();
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[test]
fn daemon_that_comes_late_and_is_started_anew_gets_its_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut sink = RemoteSink::syslog(SyslogTarget::Unix(path.clone()));
    let loss = sink
        .send_lines(b"<30>1 one\n<30>1 two\n", || false)
        .unwrap_err();
    assert_eq!(loss.lines, Some(2), "{loss:?}");
    let daemon = UnixDatagram::bind(&path).unwrap();
    sink.again = None;
    sink.send_lines(b"<30>1 three\n<30>1 four\n", || false)
        .unwrap();
    assert_eq!(received(&daemon), "<30>1 three");
    assert_eq!(received(&daemon), "<30>1 four");
    drop(daemon);
    std::fs::remove_file(&path).unwrap();
    let daemon = UnixDatagram::bind(&path).unwrap();
    sink.send_lines(b"<30>1 five\n", || false).unwrap();
    assert_eq!(received(&daemon), "<30>1 five");
}

#[test]
fn daemon_that_takes_nothing_costs_one_wait_and_its_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let _daemon = UnixDatagram::bind(&path).unwrap();
    let mut sink = RemoteSink::syslog(SyslogTarget::Unix(path));
    let lines = "<30>1 line\n".repeat(5000);
    let began = Instant::now();
    let loss = sink.send_lines(lines.as_bytes(), || false).unwrap_err();
    // One for each line would be more than an hour.
    assert!(began.elapsed() < Duration::from_secs(30));
    let lost = loss.lines.unwrap();
    assert!((1000..5000).contains(&lost), "{lost}");
}

#[test]
fn lines_over_tcp_are_counted_octets_and_a_new_connection_follows_a_broken_one() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = SyslogTarget::Tcp(server.local_addr().unwrap().to_string());
    let mut sink = RemoteSink::syslog(target);
    sink.send_lines(b"<30>1 one\n<30>1 three\n", || false)
        .unwrap();
    let (mut stream, _) = server.accept().unwrap();
    let mut text = [0; 23];
    stream.read_exact(&mut text).unwrap();
    assert_eq!(
        &text,
        b"9 <30>1 one11 <30>1 three".first_chunk::<23>().unwrap()
    );
    drop(stream);
    // The first line may still go into a connection that is closed already.
    for _ in 0..100 {
        let _ = sink.send_lines(b"<30>1 again\n", || false);
        server.set_nonblocking(true).unwrap();
        if let Ok((mut stream, _)) = server.accept() {
            stream.set_nonblocking(false).unwrap();
            let mut text = [0; 14];
            stream.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"11 <30>1 again");
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no new connection");
}

#[test]
fn lines_over_udp_are_datagrams_and_long_ones_are_cut() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(SOON)).unwrap();
    let target = SyslogTarget::Udp(server.local_addr().unwrap().to_string());
    let mut sink = RemoteSink::syslog(target);
    let long = format!("<30>1 one\n{}\n", "x".repeat(70_000));
    sink.send_lines(long.as_bytes(), || false).unwrap();
    let mut buffer = vec![0; 100_000];
    let length = server.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"<30>1 one");
    assert_eq!(server.recv(&mut buffer).unwrap(), LONGEST_DATAGRAM);
}
