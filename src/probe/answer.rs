//! What became of one probe.

use std::io;

use crate::core::backend::Probe;

use super::sentinel::Sentinel;

/// One probe's result.
#[derive(Debug)]
pub(super) struct Answer {
    /// For the core. `None`: it says nothing about the backend (a fault on our side).
    pub(super) probe: Option<Probe>,
    /// For people.
    pub(super) detail: String,
    /// The listening socket behind the connection that was used, where known.
    pub(super) listener: Option<u64>,
    /// The connection, if it can be kept.
    pub(super) kept: Option<Sentinel>,
    /// The kept connection turned out to be closed by the peer.
    pub(super) sentinel_died: bool,
}

impl Answer {
    pub(super) fn new(probe: Probe, detail: impl Into<String>) -> Self {
        Self {
            probe: Some(probe),
            detail: detail.into(),
            listener: None,
            kept: None,
            sentinel_died: false,
        }
    }

    /// The verdict on a failed connect.
    pub(super) fn of_connect(error: &io::Error) -> Self {
        let probe = match error.raw_os_error() {
            // Ours, not the backend's: out of descriptors, ports or memory.
            Some(
                libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM,
            ) => {
                return Self {
                    probe: None,
                    ..Self::new(Probe::Timeout, format!("can't probe: {error}"))
                };
            }
            // A unix socket whose backlog is full: slow, not gone.
            Some(libc::EAGAIN) => {
                return Self::new(Probe::Timeout, "the accept queue is full");
            }
            _ => match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Probe::Refused,
                io::ErrorKind::TimedOut => Probe::Timeout,
                _ => Probe::Reset,
            },
        };
        let detail = match (probe, error.kind()) {
            (_, io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
            (_, io::ErrorKind::NotFound) => "the socket does not exist".to_owned(),
            _ => format!("can't connect: {error}"),
        };
        Self::new(probe, detail)
    }

    pub(super) fn timeout(after: std::time::Duration) -> Self {
        Self::new(Probe::Timeout, format!("no answer within {after:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_errors() {
        let probe = |code| Answer::of_connect(&io::Error::from_raw_os_error(code)).probe;
        assert_eq!(probe(libc::ECONNREFUSED), Some(Probe::Refused));
        assert_eq!(probe(libc::ENOENT), Some(Probe::Refused));
        assert_eq!(probe(libc::ETIMEDOUT), Some(Probe::Timeout));
        assert_eq!(probe(libc::EAGAIN), Some(Probe::Timeout));
        assert_eq!(probe(libc::EHOSTUNREACH), Some(Probe::Reset));
        assert_eq!(probe(libc::ECONNRESET), Some(Probe::Reset));
        // The proxy's own shortage must not take backends out.
        assert_eq!(probe(libc::EMFILE), None);
        assert_eq!(probe(libc::EADDRNOTAVAIL), None);
    }
}
