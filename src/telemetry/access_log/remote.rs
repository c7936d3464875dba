//! Sends lines to a daemon: to syslog over a local socket, UDP or TCP, or to systemd's journal.
//!
//! The daemon may start late, stop, or read nothing. A line waits for a second at most, and is then lost and counted.
//! Only the log's own thread waits.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::journal;
use super::sink::SinkLoss;
use crate::config::SyslogTarget;

/// Longest time that one line or one connect may wait.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Time between two attempts to reach a daemon that could not be reached.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Longest datagram for a syslog server, in bytes: a little less than UDP can carry. Longer lines are cut.
const LONGEST_DATAGRAM: usize = 60_000;

/// Destination of lines, and its socket.
#[derive(Debug)]
pub(super) struct RemoteSink {
    target: RemoteTarget,
    socket: Option<RemoteSocket>,
    /// Time before which no further attempt is made.
    again: Option<Instant>,
    message: Vec<u8>,
}

#[derive(Debug)]
enum RemoteTarget {
    Syslog(SyslogTarget),
    Journal(PathBuf),
}

#[derive(Debug)]
enum RemoteSocket {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl RemoteSink {
    /// Sends to a syslog daemon or server.
    pub(super) fn syslog(target: SyslogTarget) -> Self {
        Self::new(RemoteTarget::Syslog(target))
    }

    /// Sends to the journal at this socket.
    pub(super) fn journal(socket: PathBuf) -> Self {
        Self::new(RemoteTarget::Journal(socket))
    }

    fn new(target: RemoteTarget) -> Self {
        Self {
            target,
            socket: None,
            again: None,
            message: Vec::new(),
        }
    }

    /// Closes the socket; the next line connects again.
    pub(super) fn close(&mut self) {
        (self.socket, self.again) = (None, None);
    }

    /// Sends whole lines, each as a message of its own.
    pub(super) fn send_lines(
        &mut self,
        lines: &[u8],
        give_up: impl Fn() -> bool,
    ) -> Result<(), SinkLoss> {
        let mut lost = 0;
        let mut last = None;
        let mut left = lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        while let Some(line) = left.next() {
            let Err(error) = self.send(line) else {
                continue;
            };
            lost += 1;
            let is_stuck = is_late(&error);
            last = Some(error);
            // Each further line would wait as long, and delay those behind it, so all are dropped.
            if is_stuck || self.socket.is_none() || give_up() {
                lost += left.by_ref().count() as u64;
            }
        }
        match last {
            None => Ok(()),
            Some(error) => Err(SinkLoss {
                lines: Some(lost),
                error,
            }),
        }
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        let was_open = self.socket.is_some();
        match self.try_send(line) {
            Err(error) if was_open && !is_late(&error) && self.is_stream_or_gone(&error) => {
                // A daemon that was restarted has another socket, so the send is tried once more.
                self.close();
                self.try_send(line)
            }
            sent => sent,
        }
    }

    fn is_stream_or_gone(&self, error: &io::Error) -> bool {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::NotConnected
                | io::ErrorKind::NotFound
        )
    }

    fn try_send(&mut self, line: &[u8]) -> io::Result<()> {
        if self.socket.is_none() {
            self.connect()?;
        }
        self.message.clear();
        match (&self.target, &self.socket) {
            (RemoteTarget::Journal(_), _) => journal::write_entry(line, &mut self.message),
            (_, Some(RemoteSocket::Tcp(_))) => {
                let _ = write!(self.message, "{} ", line.len());
                self.message.extend_from_slice(line);
            }
            _ => {
                let end = line.len().min(LONGEST_DATAGRAM);
                self.message.extend_from_slice(&line[..end]);
            }
        }
        let sent = match &mut self.socket {
            Some(RemoteSocket::Unix(socket)) => socket.send(&self.message).map(drop),
            Some(RemoteSocket::Udp(socket)) => socket.send(&self.message).map(drop),
            Some(RemoteSocket::Tcp(stream)) => stream.write_all(&self.message),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        if sent.is_err() && matches!(self.socket, Some(RemoteSocket::Tcp(_))) {
            // Part of the message may have been sent, and what follows would be read as its rest.
            self.socket = None;
        }
        sent
    }

    fn connect(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.again.is_some_and(|again| now < again) {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "who takes the log can't be reached",
            ));
        }
        self.again = Some(now + RETRY_INTERVAL);
        let socket = match &self.target {
            RemoteTarget::Journal(path) | RemoteTarget::Syslog(SyslogTarget::Unix(path)) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(Some(SEND_TIMEOUT))?;
                RemoteSocket::Unix(socket)
            }
            RemoteTarget::Syslog(SyslogTarget::Udp(server)) => RemoteSocket::Udp(udp(server)?),
            RemoteTarget::Syslog(SyslogTarget::Tcp(server)) => RemoteSocket::Tcp(tcp(server)?),
        };
        self.socket = Some(socket);
        self.again = None;
        Ok(())
    }
}

fn udp(server: &str) -> io::Result<UdpSocket> {
    let address = one_address(server)?;
    let own: SocketAddr = match address {
        SocketAddr::V4(_) => ([0; 4], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(own)?;
    socket.connect(address)?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok(socket)
}

fn tcp(server: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&one_address(server)?, SEND_TIMEOUT)?;
    stream.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok(stream)
}

fn one_address(server: &str) -> io::Result<SocketAddr> {
    let mut addresses = server.to_socket_addrs()?;
    let none = || io::Error::new(io::ErrorKind::NotFound, "the server's name has no address");
    addresses.next().ok_or_else(none)
}

fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests;
