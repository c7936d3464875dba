//! Reasons why a connection to a backend could not be opened: the same words for probes, requests, metrics and
//! messages.

use std::io;

/// Cause of a failed connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectFault {
    /// No process listens (ECONNREFUSED).
    Refused,
    /// The unix socket's file does not exist (ENOENT).
    NoSocket,
    /// The unix socket may not be opened (EACCES, EPERM), or a firewall of this host forbids the connection.
    NotPermitted,
    /// No answer to the connect in time.
    TimedOut,
    /// A unix socket's accept queue is full (EAGAIN).
    QueueFull,
    /// The connection was closed at once (ECONNRESET, EPIPE).
    Reset,
    /// The backend's host can't be reached (EHOSTUNREACH).
    HostUnreachable,
    /// There is no route to the backend's network (ENETUNREACH).
    NetworkUnreachable,
    /// The backend's name leads to no address.
    NoAddress,
    /// The backend's address is one of this proxy's own listeners.
    OwnAddress,
    /// The TLS handshake failed.
    Handshake,
    /// The backend closed the connection without sending HTTP/2.
    NotHttp2,
    /// The listener closed the connection before a process had accepted it.
    NotAccepted,
    /// No process accepted the connection in time.
    Ignored,
    /// The backend began to drain meanwhile.
    Draining,
    /// No local port is left for this destination (EADDRNOTAVAIL).
    NoPort,
    /// This process has as many open files as it may have (EMFILE).
    NoDescriptor,
    /// The whole system has as many open files as it may have (ENFILE).
    NoSystemDescriptor,
    /// The kernel has no memory left for the connection (ENOBUFS, ENOMEM).
    NoMemory,
    /// Anything else; the log has its text.
    Other,
}

/// The two causes that a 503 can name: directly after the attempts, and after a wait for another backend.
macro_rules! told {
    ($fault:expr, $before:literal, $($variant:ident => $text:literal,)+) => {
        match $fault {
            $(ConnectFault::$variant => concat!($before, $text),)+
        }
    };
}

macro_rules! lines {
    ($fault:expr, $before:literal) => {
        told!($fault, $before,
            Refused => "the last one tried refused the connection",
            NoSocket => "the unix socket of the last one tried does not exist",
            NotPermitted => "lameduck may not connect to the last one tried (permission denied)",
            TimedOut => "the last one tried did not answer the connect in time",
            QueueFull => "the accept queue of the last one tried is full",
            Reset => "the last one tried reset the connection",
            HostUnreachable => "the host of the last one tried can't be reached",
            NetworkUnreachable => "there is no route to the network of the last one tried",
            NoAddress => "the name of the last one tried can't be resolved",
            OwnAddress => "the address of the last one tried leads back to lameduck",
            Handshake => "the TLS handshake with the last one tried failed",
            NotHttp2 => "the last one tried does not speak HTTP/2",
            NotAccepted => "the last one tried closed the connection before it had accepted it",
            Ignored => "the last one tried did not accept the connection in time",
            Draining => "the last one tried began to drain",
            NoPort => "lameduck's host has no local port left for the last one tried (net.ipv4.ip_local_port_range; \
                       lameduck's log says what to do)",
            NoDescriptor => "lameduck has too many open files",
            NoSystemDescriptor => "lameduck's host has too many open files",
            NoMemory => "lameduck's host has no memory left for connections",
            Other => "the connect to the last one tried failed, see lameduck's log",
        )
    };
}

impl ConnectFault {
    /// Fault that the error of a failed connect stands for.
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EADDRNOTAVAIL) => Self::NoPort,
            Some(libc::EMFILE) => Self::NoDescriptor,
            Some(libc::ENFILE) => Self::NoSystemDescriptor,
            Some(libc::ENOBUFS | libc::ENOMEM) => Self::NoMemory,
            Some(libc::EAGAIN) => Self::QueueFull,
            Some(libc::EACCES | libc::EPERM) => Self::NotPermitted,
            Some(libc::EHOSTUNREACH | libc::EHOSTDOWN) => Self::HostUnreachable,
            Some(libc::ENETUNREACH | libc::ENETDOWN) => Self::NetworkUnreachable,
            Some(libc::ENOENT) => Self::NoSocket,
            _ => match error.kind() {
                io::ErrorKind::ConnectionRefused => Self::Refused,
                io::ErrorKind::TimedOut => Self::TimedOut,
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof => Self::Reset,
                _ => Self::Other,
            },
        }
    }

    /// Label value in `lameduck_connect_failures_total`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::NoSocket => "no_socket",
            Self::NotPermitted => "not_permitted",
            Self::TimedOut => "timeout",
            Self::QueueFull => "queue_full",
            Self::Reset => "reset",
            Self::HostUnreachable => "host_unreachable",
            Self::NetworkUnreachable => "network_unreachable",
            Self::NoAddress => "no_address",
            Self::OwnAddress => "own_address",
            Self::Handshake => "tls",
            Self::NotHttp2 => "not_http2",
            Self::NotAccepted => "not_accepted",
            Self::Ignored => "ignored",
            Self::Draining => "draining",
            Self::NoPort => "no_local_port",
            Self::NoDescriptor => "no_descriptor",
            Self::NoSystemDescriptor => "no_system_descriptor",
            Self::NoMemory => "no_memory",
            Self::Other => "other",
        }
    }

    /// Whether this host or this process lacks a resource: such a fault says nothing about the backend.
    pub const fn is_own_shortage(self) -> bool {
        matches!(
            self,
            Self::NoPort | Self::NoDescriptor | Self::NoSystemDescriptor | Self::NoMemory
        )
    }

    /// Remedy for a shortage of this host; empty for faults of the backend's side.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NoPort => {
                "every local port of this destination is in use: widen net.ipv4.ip_local_port_range, give the backend \
                 more addresses or ports, let it keep connections alive (idle_timeout in [pool.upstream], the app's \
                 own keep-alive), or use unix sockets"
            }
            Self::NoDescriptor => "raise the limit on open files (ulimit -n, LimitNOFILE)",
            Self::NoSystemDescriptor => "raise fs.file-max, or find what holds so many files open",
            Self::NoMemory => "free memory on this host, or raise net.ipv4.tcp_mem",
            _ => "",
        }
    }

    /// Cause of a 503 after every backend was tried.
    pub const fn cause(self) -> &'static str {
        lines!(self, "no backend could be reached: ")
    }

    /// Cause of a 503 after the request also waited in vain for another backend.
    pub const fn cause_after_hold(self) -> &'static str {
        lines!(self, "no backend became ready in time: ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_become_the_faults_that_they_name() {
        for (code, fault) in [
            (libc::ECONNREFUSED, ConnectFault::Refused),
            (libc::ENOENT, ConnectFault::NoSocket),
            (libc::EACCES, ConnectFault::NotPermitted),
            (libc::ETIMEDOUT, ConnectFault::TimedOut),
            (libc::EAGAIN, ConnectFault::QueueFull),
            (libc::ECONNRESET, ConnectFault::Reset),
            (libc::EHOSTUNREACH, ConnectFault::HostUnreachable),
            (libc::ENETUNREACH, ConnectFault::NetworkUnreachable),
            (libc::EADDRNOTAVAIL, ConnectFault::NoPort),
            (libc::EMFILE, ConnectFault::NoDescriptor),
            (libc::ENFILE, ConnectFault::NoSystemDescriptor),
            (libc::ENOBUFS, ConnectFault::NoMemory),
            (libc::EINVAL, ConnectFault::Other),
        ] {
            let found = ConnectFault::of(&io::Error::from_raw_os_error(code));
            assert_eq!(found, fault, "{code}");
            assert_eq!(fault.is_own_shortage(), !fault.remedy().is_empty());
        }
    }

    #[test]
    fn port_shortage_names_itself_in_both_causes() {
        let fault = ConnectFault::NoPort;
        assert_eq!(
            fault.cause(),
            "no backend could be reached: lameduck's host has no local port left for the last one tried \
             (net.ipv4.ip_local_port_range; lameduck's log says what to do)"
        );
        assert!(
            fault
                .cause_after_hold()
                .starts_with("no backend became ready in time: lameduck's host has no local port")
        );
    }
}
