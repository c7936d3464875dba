//! Addresses of backends: `127.0.0.1:3000`, `[::1]:3000`, `app.internal:3000`, `unix:/run/app.sock`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Longest path of a unix socket that Linux accepts (`sun_path` without its terminating zero).
pub const MAX_UNIX_PATH: usize = 107;

/// Characters that a path may not contain, because `lameduck roll` puts addresses into commands, some of which are
/// scripts. A space can't start a shell instruction, so it is permitted.
const SHELL: &str = "\"'`$\\;|&<>(){}*?![]";

/// An address of a backend or a probe.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An IP address and port.
    Socket(SocketAddr),
    /// A host name and port, which is resolved repeatedly.
    Name(String, u16),
    /// A unix socket, written `unix:/path`.
    Unix(PathBuf),
}

/// Error for a text that is not an address, with the correct form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError {
    /// What is wrong: a clause that follows the value and a colon.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl AddressError {
    fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        AddressError {
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

impl std::error::Error for AddressError {}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Socket(address) => write!(f, "{address}"),
            Address::Name(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Parses a backend's address. Port 0 is refused, since nothing can listen there.
impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix_path(path, "unix:/run/app.sock").map(Address::Unix);
        }
        if text.starts_with('/') {
            return Err(AddressError::new(
                "a unix socket needs its prefix",
                format!("write `unix:{text}`"),
            ));
        }
        let (host, port) = host_port(text)?;
        if port == 0 {
            return Err(AddressError::new(
                "port 0 is nobody's",
                "write the port that the app listens on",
            ));
        }
        Ok(match host {
            Host::Ip(ip) => Address::Socket(SocketAddr::new(ip, port)),
            Host::Name(name) => Address::Name(name, port),
        })
    }
}

/// Parses a TCP address to listen on: an IP address and a port, 0 for any free one.
///
/// # Errors
/// Any other text; the remedy says what to write.
pub fn listen(text: &str) -> Result<SocketAddr, AddressError> {
    if text.starts_with("unix:") || text.starts_with('/') {
        return Err(AddressError::new(
            "it is a unix socket, and TCP is wanted here",
            "write an IP address and a port, such as `127.0.0.1:8080`",
        ));
    }
    if let Some(port) = text.strip_prefix(':').or(text.strip_prefix("*:"))
        && port.parse::<u16>().is_ok()
    {
        return Err(AddressError::new(
            "it doesn't say on which address",
            format!(
                "write `0.0.0.0:{port}` for everybody, or `127.0.0.1:{port}` for this host only"
            ),
        ));
    }
    if text.parse::<u16>().is_ok() {
        return Err(AddressError::new(
            "it is a port without an address",
            format!(
                "write `0.0.0.0:{text}` for everybody, or `127.0.0.1:{text}` for this host only"
            ),
        ));
    }
    match host_port(text)? {
        (Host::Ip(ip), port) => Ok(SocketAddr::new(ip, port)),
        (Host::Name(name), port) => {
            let ip = if name == "localhost" {
                "127.0.0.1"
            } else {
                "0.0.0.0"
            };
            Err(AddressError::new(
                format!("`{name}` is a name, and listening needs an IP address"),
                format!("write `{ip}:{port}`"),
            ))
        }
    }
}

enum Host {
    Ip(IpAddr),
    Name(String),
}

/// Parses the path of a unix socket; `example` is an address for the remedy.
pub(super) fn unix_path(path: &str, example: &str) -> Result<PathBuf, AddressError> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(AddressError::new(
            "a unix socket needs an absolute path",
            format!("write `{example}`, with the whole path"),
        ));
    }
    if path.contains(|c: char| c.is_control()) {
        return Err(AddressError::new(
            "its path has a control character in it",
            "write a path of plain characters",
        ));
    }
    if let Some(c) = path.chars().find(|c| SHELL.contains(*c)) {
        return Err(AddressError::new(
            format!("its path has `{c}` in it, which shells read as an instruction"),
            "use a path without quotes and the other characters that mean something to a shell",
        ));
    }
    if path.len() > MAX_UNIX_PATH {
        return Err(AddressError::new(
            format!(
                "its path has {} bytes, and a unix socket's can have {MAX_UNIX_PATH}",
                path.len()
            ),
            "use a shorter directory, such as one below /run",
        ));
    }
    Ok(PathBuf::from(path))
}

fn host_port(text: &str) -> Result<(Host, u16), AddressError> {
    if text.is_empty() {
        return Err(AddressError::new("it is empty", "write `host:port`"));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.split('/').next().unwrap_or(rest);
        return Err(match scheme {
            "https" => AddressError::new(
                "TLS has a section of its own",
                format!("write only `{rest}`, and add [pool.tls] below the pool"),
            ),
            "unix" => AddressError::new("it is a URL", "write `unix:/path`, with one slash"),
            _ => AddressError::new("it is a URL", format!("write only `{rest}`")),
        });
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        // `::1:3000` is a valid IPv6 address, but the user hardly means that.
        let split = text
            .rsplit_once(':')
            .filter(|(host, _)| host.parse::<Ipv6Addr>().is_ok());
        let remedy = match split {
            Some((host, port)) => format!("write `[{host}]:{port}`, or `[{text}]:PORT`"),
            None => format!("write `[{text}]:PORT`"),
        };
        return Err(AddressError::new(
            "an IPv6 address needs brackets, and a port",
            remedy,
        ));
    }
    if text.parse::<u16>().is_ok() {
        return Err(AddressError::new(
            "it is a port without a host",
            format!("write `127.0.0.1:{text}`"),
        ));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => {
                return Err(AddressError::new(
                    "the bracket is not closed",
                    "write `[::1]:3000`",
                ));
            }
        },
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let Some(port) = port.filter(|port| !port.is_empty()) else {
        return Err(AddressError::new(
            "it has no port",
            format!("write `{}:PORT`", text.trim_end_matches(':')),
        ));
    };
    if port.contains('/') {
        return Err(AddressError::new(
            "an address has no path",
            "write only `host:port`",
        ));
    }
    // The parser of `u16` accepts a plus sign.
    let number = port.parse::<u16>().ok().filter(|_| !port.starts_with('+'));
    let Some(port) = number else {
        return Err(AddressError::new(
            format!("`{port}` is not a port"),
            "write a number from 1 to 65535 after the colon",
        ));
    };
    if text.starts_with('[') {
        let ip: Ipv6Addr = host.parse().map_err(|_| {
            AddressError::new(
                format!("`{host}` is not an IPv6 address"),
                "write `[::1]:3000`",
            )
        })?;
        return Ok((Host::Ip(IpAddr::V6(ip)), port));
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(if ip.is_ipv6() {
            return Err(AddressError::new(
                "an IPv6 address needs brackets",
                format!("write `[{host}]:{port}`"),
            ));
        } else {
            (Host::Ip(ip), port)
        });
    }
    name(host).map(|name| (Host::Name(name), port))
}

fn name(host: &str) -> Result<String, AddressError> {
    if host.is_empty() {
        return Err(AddressError::new(
            "it has no host",
            "write `127.0.0.1` or a name before the colon",
        ));
    }
    let bare = host.strip_suffix('.').unwrap_or(host);
    if host.contains(':') {
        return Err(AddressError::new(
            "it has more than one colon",
            "write `host:port`, or `[address]:port` for IPv6",
        ));
    }
    if bare
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(AddressError::new(
            format!("`{host}` is not an IPv4 address"),
            "write four numbers from 0 to 255, such as `127.0.0.1`",
        ));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if bare.len() > 253 || !bare.split('.').all(label) {
        return Err(AddressError::new(
            format!("`{host}` is not a host name"),
            "write letters, digits, `-`, `_` and dots only",
        ));
    }
    Ok(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_shows() {
        for text in [
            "127.0.0.1:3000",
            "[::1]:3000",
            "app.internal:3000",
            "my_app-1:80",
            "unix:/run/app.sock",
            "unix:/run/my app@1,2+3=é.sock",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!(
            "LocalHost:80".parse::<Address>().unwrap(),
            Address::Name("localhost".into(), 80)
        );
        assert_eq!(listen("127.0.0.1:0").unwrap().port(), 0);
        assert!(listen("[::]:8080").unwrap().is_ipv6());
    }

    #[test]
    fn says_what_is_wrong_and_what_to_write() {
        for (text, message) in [
            ("", "it is empty"),
            ("3000", "it is a port without a host"),
            ("localhost", "it has no port"),
            ("localhost:", "it has no port"),
            (":3000", "it has no host"),
            ("::1", "an IPv6 address needs brackets, and a port"),
            ("fe80::1:x:80", "it has more than one colon"),
            ("[::1]", "it has no port"),
            ("[::1:80", "the bracket is not closed"),
            ("[::z]:80", "`::z` is not an IPv6 address"),
            ("a:0", "port 0 is nobody's"),
            ("a:70000", "`70000` is not a port"),
            ("a:+80", "`+80` is not a port"),
            ("a:80/x", "an address has no path"),
            ("http://a:80/x", "it is a URL"),
            ("https://a:80", "TLS has a section of its own"),
            ("300.1.1.1:80", "`300.1.1.1` is not an IPv4 address"),
            ("a b:80", "`a b` is not a host name"),
            ("-a:80", "`-a` is not a host name"),
            ("/run/a.sock", "a unix socket needs its prefix"),
            ("unix:run/a.sock", "a unix socket needs an absolute path"),
            ("unix:/a\nb", "its path has a control character in it"),
            (
                "unix:/a$(b)",
                "its path has `$` in it, which shells read as an instruction",
            ),
            (
                "unix:/a;b",
                "its path has `;` in it, which shells read as an instruction",
            ),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error.message, message, "{text:?}");
            assert!(!error.remedy.is_empty());
        }
        for c in SHELL.chars() {
            assert!(format!("unix:/a{c}b").parse::<Address>().is_err(), "{c}");
            assert!(format!("a{c}b:80").parse::<Address>().is_err(), "{c}");
        }
        let long = format!("unix:/{}", "a".repeat(107));
        assert!(
            long.parse::<Address>()
                .unwrap_err()
                .message
                .contains("108 bytes")
        );
        for text in [":80", "*:80", "80", "localhost:80", "unix:/a", "", "::"] {
            assert!(listen(text).is_err(), "{text}");
        }
        assert_eq!(
            listen(":80").unwrap_err().remedy,
            listen("80").unwrap_err().remedy
        );
    }

    proptest! {
        #[test]
        fn never_panics_and_round_trips(text in "(unix:)?[\\[\\]a-z0-9.:/+-]{0,24}|\\PC*") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
            let _ = listen(&text);
        }
    }
}
