//! Arguments of command lines: names, durations, and the addresses of admin APIs.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::core::drain::RestartSign;
use crate::core::uri;
use crate::registry::names;

/// Name of a backend, as `POOL/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendName {
    /// The pool.
    pub pool: String,
    /// Name of the backend in it: `api-0` means all backends of that name, `api-0~2` one of them.
    pub name: String,
}

impl FromStr for BackendName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((pool, name)) if !pool.is_empty() && !name.is_empty() => Ok(Self {
                pool: pool.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(
                "write POOL/NAME, for example app/app-1; `lameduck status` lists them".to_owned(),
            ),
        }
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pool, self.name)
    }
}

impl BackendName {
    /// Its path in the API.
    pub fn path(&self) -> String {
        format!(
            "/v1/pools/{}/backends/{}",
            segment(&self.pool),
            segment(&self.name)
        )
    }

    /// Whether it means the backend that is shown as `shown`.
    pub fn matches_name(&self, shown: &str) -> bool {
        names::matches_name(&self.name, shown)
    }
}

/// Variable in which Oxmgr tells its `pre_reload_cmd` the name of the process.
const OXMGR_PROCESS: &str = "OXMGR_PROCESS";

/// Parses `POOL/NAME`; in a hook of Oxmgr, `POOL` alone means the process that the hook is run for.
///
/// # Errors
/// The text is malformed. The message has an example.
pub fn backend(text: &str) -> Result<BackendName, String> {
    named_by(text, std::env::var(OXMGR_PROCESS).ok())
}

fn named_by(text: &str, process: Option<String>) -> Result<BackendName, String> {
    match process.filter(|name| !name.is_empty()) {
        Some(name) if !text.is_empty() && !text.contains('/') => Ok(BackendName {
            pool: text.to_owned(),
            name,
        }),
        _ => text.parse(),
    }
}

/// What shows that a backend has restarted, for `drain --until restarted` and `roll`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RestartedWhen {
    /// Another process is seen: another listening socket, an answer after a refused connect, or a new registration
    NewProcess,
    /// What was there has ended, then fresh probes pass. In a drain: each process that accepted connections (lameduck
    /// has to see them: as root, or as their user). In a roll: the command
    Exit,
    /// Fresh probes pass: after one that failed, or 5 s after the drain was complete (in a roll: the command)
    Probe,
}

impl From<RestartedWhen> for RestartSign {
    fn from(when: RestartedWhen) -> Self {
        match when {
            RestartedWhen::NewProcess => Self::NewProcess,
            RestartedWhen::Exit => Self::Exit,
            RestartedWhen::Probe => Self::Probe,
        }
    }
}

/// In whose name a command speaks. Each lifts its own drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ActorArg {
    /// A person
    Operator,
    /// A supervisor's hook: such a drain expires by itself, 60 s after its deadline
    Supervisor,
}

impl ActorArg {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Supervisor => "supervisor",
        }
    }
}

/// A pool or a backend: `POOL` or `POOL/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetName {
    /// All backends of a pool.
    Pool(String),
    /// One backend.
    Backend(BackendName),
}

impl FromStr for TargetName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return text.parse().map(TargetName::Backend);
        }
        if text.is_empty() {
            return Err("write POOL or POOL/NAME, for example app/app-1".to_owned());
        }
        Ok(TargetName::Pool(text.to_owned()))
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetName::Pool(pool) => f.write_str(pool),
            TargetName::Backend(backend) => backend.fmt(f),
        }
    }
}

/// Parses `POOL/NAME`, or `POOL` for all of its backends; in a hook of Oxmgr, as [`backend`] does.
///
/// # Errors
/// The text is malformed. The message has an example.
pub fn backend_or_pool(text: &str) -> Result<TargetName, String> {
    match named_by(text, std::env::var(OXMGR_PROCESS).ok()) {
        Ok(backend) => Ok(TargetName::Backend(backend)),
        Err(_) => text.parse(),
    }
}

/// Parses a pool's name, and refuses a backend's.
///
/// # Errors
/// The text is malformed. The message has an example.
pub fn pool(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains('/') {
        true => Err("write POOL, for example app; `lameduck status` lists them".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// Address of an admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminEndpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
    /// `host:port`, over TLS.
    Tls(String),
}

impl FromStr for AdminEndpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        for (scheme, kind) in [
            ("http://", AdminEndpoint::Tcp as fn(String) -> AdminEndpoint),
            ("https://", AdminEndpoint::Tls),
        ] {
            let Some(rest) = text.strip_prefix(scheme) else {
                continue;
            };
            let authority = rest.trim_end_matches('/');
            let port = authority.rsplit_once(':').map(|(_, port)| port);
            if port.is_some_and(|port| port.parse::<u16>().is_ok()) && !authority.contains('/') {
                return Ok(kind(authority.to_owned()));
            }
            return Err(format!(
                "write {scheme}HOST:PORT and nothing after it, for example {scheme}127.0.0.1:9901"
            ));
        }
        let path = text.strip_prefix("unix:").unwrap_or(text);
        let is_path = text.starts_with("unix:") || path.contains('/') || path.ends_with(".sock");
        if path.is_empty() || path.contains("://") || !is_path {
            return Err(
                "write a socket's path, for example /run/lameduck/lameduck.sock, or \
                 http://127.0.0.1:9901, or https://lb-1.internal:9901"
                    .to_owned(),
            );
        }
        Ok(AdminEndpoint::Unix(path.into()))
    }
}

impl fmt::Display for AdminEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminEndpoint::Unix(path) => path.display().fmt(f),
            AdminEndpoint::Tcp(authority) => write!(f, "http://{authority}"),
            AdminEndpoint::Tls(authority) => write!(f, "https://{authority}"),
        }
    }
}

/// Message if none of these proxies answers: each with its reason, and what to do.
pub fn unreachable(failures: &[(&AdminEndpoint, io::Error)]) -> String {
    let tried: Vec<String> = failures
        .iter()
        .map(|(endpoint, error)| format!("{endpoint} ({})", describe_error(error)))
        .collect();
    let denied = failures
        .iter()
        .any(|(_, error)| error.kind() == io::ErrorKind::PermissionDenied);
    let remedy = if denied {
        "Run this as the proxy's user, or as a member of its socket's group ([admin] group)."
    } else {
        "Is it running (`lameduck run`)? If its admin API is elsewhere, name it with --admin or LAMEDUCK_ADMIN."
    };
    format!(
        "can't reach the proxy: tried {}. {remedy}",
        tried.join(" and ")
    )
}

fn describe_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody listens".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => error.to_string(),
    }
}

/// Checks a duration, and returns it as it was written, for the server.
///
/// # Errors
/// The text is malformed. The message has examples.
pub fn duration(text: &str) -> Result<String, String> {
    match crate::config::duration::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(why) => Err(format!("{why}; write it like 30s, 500ms, 2m or 1m30s")),
    }
}

/// Value of `--lame-duck`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LameDuckArg {
    /// This long.
    For(Duration),
    /// Until no new requests arrive any more.
    Auto,
}

impl FromStr for LameDuckArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => longest_day(text)
                .map(Self::For)
                .map_err(|why| format!("{why}, or `auto`")),
        }
    }
}

/// Parses a duration of at most a day.
///
/// # Errors
/// The text is malformed, or the duration is too long. The message has examples.
pub fn longest_day(text: &str) -> Result<Duration, String> {
    duration(text)?;
    let time = crate::config::duration::parse(text)?;
    match time <= Duration::from_secs(24 * 3600) {
        true => Ok(time),
        false => Err("a day is the most".to_owned()),
    }
}

/// Encodes one segment of a path; unreserved characters stay (RFC 3986, section 2.3).
pub fn segment(text: &str) -> String {
    uri::encoded(text, uri::is_unreserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_two_parts() {
        let name: BackendName = "app/api-0".parse().unwrap();
        assert_eq!(name.path(), "/v1/pools/app/backends/api-0");
        assert!(name.matches_name("api-0") && name.matches_name("api-0~2"));
        assert!(!name.matches_name("api-01"));
        let second: BackendName = "app/api-0~2".parse().unwrap();
        assert!(second.matches_name("api-0~2") && !second.matches_name("api-0"));
        for bad in ["app", "/api", "app/", ""] {
            assert!(
                bad.parse::<BackendName>()
                    .unwrap_err()
                    .contains("app/app-1")
            );
        }
    }

    #[test]
    fn a_hook_of_oxmgr_s_need_not_name_the_process() {
        let named = |text, process: &str| named_by(text, Some(process.to_owned()));
        assert_eq!(named("app", "api-0"), "app/api-0".parse());
        assert_eq!(named("app/x", "api-0"), "app/x".parse());
        assert!(named("app/", "api-0").is_err());
        assert!(named("app", "").is_err() && named_by("app", None).is_err());
    }

    #[test]
    fn odd_names_are_encoded() {
        let name: BackendName = "a b/c/d?#é".parse().unwrap();
        assert_eq!(name.path(), "/v1/pools/a%20b/backends/c%2Fd%3F%23%C3%A9");
    }

    #[test]
    fn endpoints_are_paths_or_urls() {
        let unix = |path: &str| Ok(AdminEndpoint::Unix(path.into()));
        assert_eq!("/run/x.sock".parse(), unix("/run/x.sock"));
        assert_eq!("unix:x".parse(), unix("x"));
        assert_eq!("x.sock".parse(), unix("x.sock"));
        let tcp = |authority: &str| Ok(AdminEndpoint::Tcp(authority.into()));
        assert_eq!("http://localhost:9901/".parse(), tcp("localhost:9901"));
        assert_eq!("http://[::1]:9901".parse(), tcp("[::1]:9901"));
        let tls = AdminEndpoint::Tls("lb-1:9901".to_owned());
        assert_eq!(tls.to_string().parse(), Ok(tls));
        for bad in [
            "",
            "ftp://x:1",
            "http://x",
            "http://x:1/v1",
            "127.0.0.1:9901",
        ] {
            let error = bad.parse::<AdminEndpoint>().unwrap_err();
            assert!(error.contains("http://127.0.0.1:9901"), "{bad}: {error}");
        }
    }
}
