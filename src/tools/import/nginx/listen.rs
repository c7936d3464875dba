//! The directive `listen`, in all its forms.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::tree::NginxDirective;

/// Address of a `listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenPlace {
    /// An address and a port.
    Port(SocketAddr),
    /// The path of a unix socket.
    Unix(String),
}

impl ListenPlace {
    /// Port, if it has one.
    pub fn port(&self) -> Option<u16> {
        match self {
            ListenPlace::Port(address) => Some(address.port()),
            ListenPlace::Unix(_) => None,
        }
    }

    /// Whether it stands for all addresses of this machine.
    pub fn is_wide(&self) -> bool {
        matches!(self, ListenPlace::Port(address) if address.ip().is_unspecified())
    }

    /// Whether it is an IPv4 address.
    pub fn is_ipv4(&self) -> bool {
        matches!(self, ListenPlace::Port(address) if address.is_ipv4())
    }
}

impl fmt::Display for ListenPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenPlace::Port(address) => write!(f, "{address}"),
            ListenPlace::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// A `listen` directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NginxListen {
    /// Address and port, or unix socket.
    pub address: ListenPlace,
    /// Whether it has `default_server`.
    pub is_default: bool,
    /// Whether it has `ssl`.
    pub ssl: bool,
    /// Whether it has `http2`.
    pub http2: bool,
    /// Whether it has `proxy_protocol`.
    pub proxy_protocol: bool,
    /// Whether it has `ipv6only=off`, so that it accepts IPv4, too.
    pub both_families: bool,
}

impl NginxListen {
    /// Default for a server without `listen`.
    pub fn unwritten() -> Self {
        NginxListen {
            address: ListenPlace::Port(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 80)),
            is_default: false,
            ssl: false,
            http2: false,
            proxy_protocol: false,
            both_families: false,
        }
    }
}

/// Parses a `listen` directive.
///
/// # Errors
/// Reason why it can't be imported.
pub fn read_listen(directive: &NginxDirective) -> Result<NginxListen, String> {
    let mut listen = NginxListen {
        address: read_address(directive.arg(0))?,
        ..NginxListen::unwritten()
    };
    for word in directive.args().iter().skip(1) {
        match word.as_str() {
            "default_server" | "default" => listen.is_default = true,
            "ssl" => listen.ssl = true,
            "http2" => listen.http2 = true,
            "proxy_protocol" => listen.proxy_protocol = true,
            "ipv6only=off" => listen.both_families = true,
            "quic" => return Err("lameduck has no HTTP/3".into()),
            // Options of the socket change no response.
            "ipv6only=on" | "reuseport" | "deferred" | "bind" | "multipath" => {}
            option
                if [
                    "backlog=",
                    "rcvbuf=",
                    "sndbuf=",
                    "fastopen=",
                    "so_keepalive=",
                    "setfib=",
                    "accept_filter=",
                ]
                .iter()
                .any(|known| option.starts_with(known)) => {}
            other => return Err(format!("`{other}` is not known")),
        }
    }
    Ok(listen)
}

fn read_address(text: &str) -> Result<ListenPlace, String> {
    match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => Ok(ListenPlace::Unix(path.to_owned())),
        Some(_) => Err("the path of a unix socket begins with a slash".into()),
        None => read_port(text).map(ListenPlace::Port),
    }
}

fn read_port(text: &str) -> Result<SocketAddr, String> {
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::new(any, port));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port.map(str::parse::<u16>) {
        None => 80,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return Err("it is not one port; write a `listen` for each".into()),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match (host, bare.unwrap_or(host).parse::<IpAddr>()) {
        ("*", _) => Ok(SocketAddr::new(any, port)),
        (_, Ok(ip)) => Ok(SocketAddr::new(ip, port)),
        ("localhost", _) => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        _ => Err("lameduck listens on IP addresses, not on names".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::import::nginx::tree::TreeReader;

    fn read(text: &str) -> Result<NginxListen, String> {
        let tree = TreeReader::new(".").read_text("x", &format!("listen {text};"), 0);
        read_listen(&tree.unwrap()[0])
    }

    #[test]
    fn every_form_of_address_is_read() {
        for (text, address) in [
            ("80", "0.0.0.0:80"),
            ("*:8080", "0.0.0.0:8080"),
            ("127.0.0.1", "127.0.0.1:80"),
            ("127.0.0.1:81 backlog=512 reuseport", "127.0.0.1:81"),
            ("[::]:80 ipv6only=on", "[::]:80"),
            ("[::1]", "[::1]:80"),
            ("localhost:3000", "127.0.0.1:3000"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
        ] {
            assert_eq!(read(text).unwrap().address.to_string(), address, "{text}");
        }
        let all = read("[::]:443 ssl http2 proxy_protocol default_server ipv6only=off").unwrap();
        assert!(all.ssl && all.http2 && all.proxy_protocol && all.is_default && all.both_families);
        for bad in [
            "unix:run/x.sock",
            "8000-8010",
            "example.org:80",
            "443 quic",
            "80 what",
            "1:2:3",
            "",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
