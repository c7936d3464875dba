//! Result of one probe.

use std::io;

use crate::core::backend::ProbeResult;

use super::sentinel::SentinelConnection;
use crate::net::connect_fault::ConnectFault;

/// Result of one probe.
#[derive(Debug)]
pub(super) struct ProbeAnswer {
    /// Result for the core; `None`: it says nothing about the backend, because this proxy lacked something.
    pub(super) probe: Option<ProbeResult>,
    /// Description for users.
    pub(super) detail: String,
    /// The listening socket that accepted the connection, if it is known.
    pub(super) listener: Option<u64>,
    /// The connection, if it can be kept.
    pub(super) kept: Option<SentinelConnection>,
    /// Whether the peer had closed the kept connection.
    pub(super) sentinel_died: bool,
    /// Reason why the connect failed, if it did.
    pub(super) fault: Option<ConnectFault>,
}

impl ProbeAnswer {
    pub(super) fn new(probe: ProbeResult, detail: impl Into<String>) -> Self {
        Self {
            probe: Some(probe),
            detail: detail.into(),
            listener: None,
            kept: None,
            sentinel_died: false,
            fault: None,
        }
    }

    /// The result that a failed connect means.
    pub(super) fn of_connect(error: &io::Error) -> Self {
        let fault = ConnectFault::of(error);
        let answer = match fault {
            _ if fault.is_own_shortage() => Self {
                probe: None,
                ..Self::new(ProbeResult::Timeout, format!("can't probe: {error}"))
            },
            // A time-out means slow, and not gone.
            ConnectFault::QueueFull => Self::new(ProbeResult::Timeout, "the accept queue is full"),
            ConnectFault::Refused => Self::new(ProbeResult::Refused, "connection refused"),
            ConnectFault::NoSocket => Self::new(ProbeResult::Refused, "the socket does not exist"),
            ConnectFault::TimedOut => {
                Self::new(ProbeResult::Timeout, format!("can't connect: {error}"))
            }
            _ => Self::new(ProbeResult::Reset, format!("can't connect: {error}")),
        };
        Self {
            fault: Some(fault),
            ..answer
        }
    }

    /// The backend's name can't be resolved; `why` is in the resolver's words.
    pub(super) fn unresolved(why: &str) -> Self {
        Self {
            fault: Some(ConnectFault::NoAddress),
            ..Self::new(ProbeResult::Refused, why)
        }
    }

    pub(super) fn timeout(after: std::time::Duration) -> Self {
        Self::new(ProbeResult::Timeout, format!("no answer within {after:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_errors_become_probe_results() {
        let probe = |code| ProbeAnswer::of_connect(&io::Error::from_raw_os_error(code)).probe;
        assert_eq!(probe(libc::ECONNREFUSED), Some(ProbeResult::Refused));
        assert_eq!(probe(libc::ENOENT), Some(ProbeResult::Refused));
        assert_eq!(probe(libc::ETIMEDOUT), Some(ProbeResult::Timeout));
        assert_eq!(probe(libc::EAGAIN), Some(ProbeResult::Timeout));
        assert_eq!(probe(libc::EHOSTUNREACH), Some(ProbeResult::Reset));
        assert_eq!(probe(libc::ECONNRESET), Some(ProbeResult::Reset));
        // A shortage of this proxy must not take backends out.
        assert_eq!(probe(libc::EMFILE), None);
        assert_eq!(probe(libc::EADDRNOTAVAIL), None);
    }

    #[test]
    fn details_name_what_was_seen() {
        for (code, words) in [
            (libc::ECONNREFUSED, "connection refused"),
            (libc::ENOENT, "the socket does not exist"),
            (libc::EACCES, "Permission denied"),
            (libc::EHOSTUNREACH, "No route to host"),
            (libc::ENETUNREACH, "Network is unreachable"),
            (libc::EAGAIN, "the accept queue is full"),
            (libc::ENFILE, "Too many open files in system"),
            (libc::EADDRNOTAVAIL, "Cannot assign requested address"),
        ] {
            let detail = ProbeAnswer::of_connect(&io::Error::from_raw_os_error(code)).detail;
            assert!(detail.contains(words), "{code}: {detail}");
        }
    }
}
