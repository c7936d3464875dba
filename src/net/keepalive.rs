//! TCP keepalive: how the kernel finds out that a peer has vanished without closing its connection.
//!
//! Without it, a client that lost its network during a tunnel (a WebSocket, an event stream, a gRPC call) would hold
//! its connection, and one to the backend, for ever. The kernel sends a probe to a peer that was silent for `idle`, and
//! a further one every `interval`. After `count` probes without an answer the connection is dead, and a read returns an
//! error. A healthy silent peer costs one empty packet a minute, and notices nothing.

use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Probes without an answer before a connection is dead.
const PROBE_COUNT: u32 = 6;

/// Longest time that the kernel accepts (`MAX_TCP_KEEPIDLE`).
const MAX_IDLE: Duration = Duration::from_secs(32_767);

/// Keepalive settings: when the kernel probes a silent peer, and when it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe; whole seconds, from 1 s to 9 h.
    pub idle: Duration,
    /// Time between two probes: a sixth of `idle`, but at least 1 s.
    pub interval: Duration,
    /// Probes without an answer before the connection is dead.
    pub count: u32,
    /// Longest time that sent data may stay unacknowledged (`TCP_USER_TIMEOUT`). Keepalive sends no probes while data
    /// is unacknowledged, and without this limit the kernel retransmits for a quarter of an hour. `None`: the kernel
    /// decides.
    pub unacknowledged: Option<Duration>,
}

impl Keepalive {
    /// Settings with this much silence before the first probe; `None` switches keepalive off.
    ///
    /// `patience` is how long lameduck waits for a peer that takes no bytes. `TCP_USER_TIMEOUT` also ends the
    /// connection of such a peer, even if it is alive, so it is left out if it would be shorter than `patience`.
    pub fn after(idle: Option<Duration>, patience: Duration) -> Option<Self> {
        let second = Duration::from_secs(1);
        let idle = idle?.clamp(second, MAX_IDLE);
        let idle = Duration::from_secs(idle.as_secs_f64().round() as u64);
        let interval = Duration::from_secs((idle.as_secs() / u64::from(PROBE_COUNT)).max(1));
        let all = idle + interval * PROBE_COUNT;
        Some(Self {
            idle,
            interval,
            count: PROBE_COUNT,
            unacknowledged: (patience <= all).then_some(all),
        })
    }

    /// Default for connections without settings of their own: those of probes and of the admin API.
    pub fn standard() -> Self {
        let idle = Duration::from_secs(60);
        let interval = Duration::from_secs(10);
        Self {
            idle,
            interval,
            count: PROBE_COUNT,
            unacknowledged: Some(idle + interval * PROBE_COUNT),
        }
    }
}

/// Sets keepalive on a TCP socket, or switches it off. On Linux, connections inherit it from the listening socket, so
/// that a new client costs no further system call.
///
/// A socket that supports none of it (a unix socket, another system) works without; that is logged.
pub fn set_keepalive(socket: &impl AsFd, keepalive: Option<Keepalive>) {
    let socket = SockRef::from(socket);
    let set = match keepalive {
        None => socket.set_keepalive(false),
        Some(keepalive) => socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(keepalive.idle)
                .with_interval(keepalive.interval)
                .with_retries(keepalive.count),
        ),
    };
    let unacknowledged = keepalive.and_then(|keepalive| keepalive.unacknowledged);
    #[cfg(target_os = "linux")]
    let set = set.and_then(|()| socket.set_tcp_user_timeout(unacknowledged));
    if let Err(error) = set {
        tracing::debug!(%error, ?unacknowledged, "a connection goes without TCP keepalive");
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn accepted_connections_inherit_the_listeners_keepalive() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = || {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (listener.accept().unwrap().0, client)
        };
        let keepalive = Keepalive::after(Some(Duration::from_secs(60)), Duration::ZERO);
        set_keepalive(&listener, keepalive);
        let (accepted, _client) = connected();
        let socket = SockRef::from(&accepted);
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(60)
        );
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(10)
        );
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 6);
        let unacknowledged = Some(Duration::from_secs(120));
        assert_eq!(socket.tcp_user_timeout().unwrap(), unacknowledged);
        set_keepalive(&listener, None);
        let (accepted, _client) = connected();
        let socket = SockRef::from(&accepted);
        assert!(!socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    }

    #[test]
    fn every_length_is_one_that_the_kernel_takes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for idle in [
            Duration::from_nanos(1),
            Duration::from_millis(1_499),
            Duration::from_secs(60),
            Duration::from_secs(86_400),
            Duration::MAX,
        ] {
            let keepalive = Keepalive::after(Some(idle), Duration::ZERO).unwrap();
            set_keepalive(&listener, Some(keepalive));
            let socket = SockRef::from(&listener);
            assert_eq!(
                socket.tcp_keepalive_time().unwrap(),
                keepalive.idle,
                "{idle:?}"
            );
        }
        assert_eq!(Keepalive::after(None, Duration::ZERO), None);
    }

    #[test]
    fn a_longer_patience_of_the_user_is_not_cut_short() {
        let after = |patience| {
            let keepalive = Keepalive::after(Some(Duration::from_secs(60)), patience).unwrap();
            keepalive.unacknowledged
        };
        assert_eq!(
            after(Duration::from_secs(30)),
            Some(Duration::from_secs(120))
        );
        assert_eq!(after(Duration::from_secs(600)), None);
    }
}
