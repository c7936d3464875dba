//! Address of a supervisor: a unix socket, or a host and port.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::SupervisorError;

/// Longest wait for a connect, or for an answer of a supervisor.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream to a supervisor.
pub(super) trait SupervisorStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> SupervisorStream for S {}

/// A supervisor's address, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SupervisorPlace {
    /// A unix socket.
    Socket(PathBuf),
    /// Host and port of a URL, with user and password if it has them.
    Http {
        /// `host:port`.
        host: String,
        /// The part before the `@`.
        login: Option<String>,
    },
}

impl SupervisorPlace {
    /// Parses `unix:/path`, `/path`, `http://[user:password@]host:port[/…]` or `tcp:host:port`.
    pub(super) fn parse(text: &str, port: u16) -> Self {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Self::Socket(PathBuf::from(path.strip_prefix("path=").unwrap_or(path)));
        }
        if text.starts_with('/') {
            return Self::Socket(PathBuf::from(text));
        }
        let rest = text.strip_prefix("http://");
        let rest = rest.or_else(|| text.strip_prefix("tcp:")).unwrap_or(text);
        let rest = rest.trim_start_matches('/');
        let authority = rest.split('/').next().unwrap_or_default();
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login.to_owned()), host),
            None => (None, authority),
        };
        let host = match host.rsplit_once(':') {
            Some((_, digits)) if digits.parse::<u16>().is_ok() => host.to_owned(),
            _ => format!("{host}:{port}"),
        };
        Self::Http { host, login }
    }

    /// Connects.
    pub(super) async fn connect(&self) -> Result<Box<dyn SupervisorStream>, SupervisorError> {
        let late = |place: String| SupervisorError::of(place, "no connection within 5 s");
        match self {
            Self::Socket(path) => {
                let stream = timeout(ANSWER_TIMEOUT, UnixStream::connect(path)).await;
                let stream = stream.map_err(|_| late(path.display().to_string()))?;
                let stream = stream.map_err(|error| SupervisorError::of(path.display(), error))?;
                Ok(Box::new(stream))
            }
            Self::Http { host, .. } => {
                let stream = timeout(ANSWER_TIMEOUT, TcpStream::connect(host)).await;
                let stream = stream.map_err(|_| late(host.clone()))?;
                let stream = stream.map_err(|error| SupervisorError::of(host, error))?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// The user's home directory.
pub(super) fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| Path::new("/root").to_owned(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_people_write_them() {
        let socket = |path: &str| SupervisorPlace::Socket(path.into());
        let http = |host: &str, login: Option<&str>| SupervisorPlace::Http {
            host: host.to_owned(),
            login: login.map(str::to_owned),
        };
        for (text, place) in [
            ("unix:/run/a.sock", socket("/run/a.sock")),
            ("unix:///run/a.sock", socket("/run/a.sock")),
            ("unix:path=/run/a.sock", socket("/run/a.sock")),
            ("/run/a.sock", socket("/run/a.sock")),
            ("http://127.0.0.1:9001", http("127.0.0.1:9001", None)),
            ("http://127.0.0.1/RPC2", http("127.0.0.1:80", None)),
            ("http://a:b@localhost:1/", http("localhost:1", Some("a:b"))),
            ("tcp://127.0.0.1:2375", http("127.0.0.1:2375", None)),
        ] {
            assert_eq!(SupervisorPlace::parse(text, 80), place, "{text}");
        }
    }
}
