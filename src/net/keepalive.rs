//! TCP keepalive: how the kernel finds out that a peer has vanished, which says nothing and closes nothing.
//!
//! Without it, a client that lost its network in mid-tunnel (a WebSocket, an event stream, a call of gRPC) would hold the
//! connection, and one of the backend's, for ever. The kernel asks a peer that was silent for `idle`, and again every
//! `interval`; after `count` questions without an answer the connection is dead, and reads as reset. A peer that answers
//! costs one empty packet a minute, and notices nothing.

use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Questions without an answer.
const COUNT: u32 = 6;

/// Most that the kernel takes (`MAX_TCP_KEEPIDLE`).
const MOST: Duration = Duration::from_secs(32_767);

/// When the kernel asks a silent peer whether it is still there, and when it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first question; whole seconds, from 1 s to 9 h.
    pub idle: Duration,
    /// Time between two questions; a sixth of `idle`, and 1 s at least.
    pub interval: Duration,
    /// Questions without an answer before the connection is dead.
    pub count: u32,
    /// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`), as keepalive is silent while some is: without
    /// it, the kernel sends it again for a quarter of an hour. `None`: that is left to the kernel.
    pub unacknowledged: Option<Duration>,
}

impl Keepalive {
    /// With this much silence before the first question; `None` for none at all.
    ///
    /// `patience` is how long a peer that takes nothing is waited for. `TCP_USER_TIMEOUT` also ends connections to a
    /// peer that is alive and takes nothing, so it is left out where that would be sooner.
    pub fn after(idle: Option<Duration>, patience: Duration) -> Option<Self> {
        let second = Duration::from_secs(1);
        let idle = idle?.clamp(second, MOST);
        let idle = Duration::from_secs(idle.as_secs_f64().round() as u64);
        let interval = Duration::from_secs((idle.as_secs() / u64::from(COUNT)).max(1));
        let all = idle + interval * COUNT;
        Some(Self {
            idle,
            interval,
            count: COUNT,
            unacknowledged: (patience <= all).then_some(all),
        })
    }

    /// The default, for connections without settings of their own: probes' and the admin API's.
    pub fn standard() -> Self {
        let idle = Duration::from_secs(60);
        let interval = Duration::from_secs(10);
        Self {
            idle,
            interval,
            count: COUNT,
            unacknowledged: Some(idle + interval * COUNT),
        }
    }
}

/// Sets it on a TCP socket, or switches it off. On Linux a listening one's accepted connections inherit it, so that a
/// new client costs no system call more.
///
/// A socket that takes none of it (a unix socket, another system) works without: that is only told in the log.
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
