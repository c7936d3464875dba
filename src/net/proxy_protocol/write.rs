//! The PROXY header that lameduck sends to backends (HAProxy's specification, version 2.2).

use std::net::{IpAddr, SocketAddr};

use crate::config::ProxyProtocol;

/// First bytes of every header of version 2 (section 2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and the command for a connection of the proxy's own.
const LOCAL: u8 = 0x20;
/// Version 2, and the command for a connection on behalf of a client.
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Header for a connection on behalf of `client`, which has connected to `local`; empty if the protocol is off.
pub fn on_behalf(version: ProxyProtocol, client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let (client, local) = same_family(client, local);
    match version {
        ProxyProtocol::Off => Vec::new(),
        ProxyProtocol::V1 => {
            let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (client.ip(), local.ip());
            let (from_port, to_port) = (client.port(), local.port());
            format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n").into_bytes()
        }
        ProxyProtocol::V2 => {
            let family = if client.is_ipv4() { TCP4 } else { TCP6 };
            let mut block = Vec::with_capacity(36);
            for address in [client, local] {
                match address.ip() {
                    IpAddr::V4(ip) => block.extend(ip.octets()),
                    IpAddr::V6(ip) => block.extend(ip.octets()),
                }
            }
            block.extend(client.port().to_be_bytes());
            block.extend(local.port().to_be_bytes());
            encode_v2(PROXY, family, &block)
        }
    }
}

/// Header for a connection on behalf of an unknown client, such as one that the proxy in front announced without an
/// address. Our own address, or that proxy's, would be wrong (section 2.1, `UNKNOWN`; section 2.2, `AF_UNSPEC`).
pub fn for_unknown_client(version: ProxyProtocol) -> Vec<u8> {
    match version {
        ProxyProtocol::Off => Vec::new(),
        ProxyProtocol::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
        ProxyProtocol::V2 => encode_v2(PROXY, UNSPECIFIED, &[]),
    }
}

/// Header for a connection of the proxy's own, such as a probe's. The backend then uses the addresses of the
/// connection.
pub fn for_own_connection(version: ProxyProtocol) -> Vec<u8> {
    match version {
        ProxyProtocol::Off => Vec::new(),
        ProxyProtocol::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
        ProxyProtocol::V2 => encode_v2(LOCAL, UNSPECIFIED, &[]),
    }
}

fn encode_v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    // The length is at most 36: two IPv6 addresses and ports.
    header.extend((block.len() as u16).to_be_bytes());
    header.extend(block);
    header
}

/// Converts both addresses to one family, as the header can hold only one. A connection that arrived on a socket for
/// both families counts as IPv4 if both of its ends do.
fn same_family(client: SocketAddr, local: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (client, local) = (plain(client), plain(local));
    if client.is_ipv4() == local.is_ipv4() {
        return (client, local);
    }
    let wide = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    (wide(client), wide(local))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: ProxyProtocol, client: &str, local: &str) -> Vec<u8> {
        on_behalf(version, client.parse().unwrap(), local.parse().unwrap())
    }

    #[test]
    fn version_1_header_is_a_line_of_text() {
        let line =
            |client, local| String::from_utf8(header(ProxyProtocol::V1, client, local)).unwrap();
        assert_eq!(
            line("192.0.2.7:56324", "198.51.100.1:443"),
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
        );
        assert_eq!(
            line("[2001:db8::7]:1", "[2001:db8::1]:65535"),
            "PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n"
        );
        let mapped = line("[::ffff:192.0.2.7]:1", "[::ffff:198.51.100.1]:2");
        assert_eq!(mapped, "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n");
        let mixed = line("192.0.2.7:1", "[2001:db8::1]:2");
        assert_eq!(mixed, "PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1 2\r\n");
        assert_eq!(for_own_connection(ProxyProtocol::V1), b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_header_is_binary() {
        let v4 = header(ProxyProtocol::V2, "192.0.2.7:258", "198.51.100.1:443");
        let expected = b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A\x21\x11\x00\x0C\
            \xC0\x00\x02\x07\xC6\x33\x64\x01\x01\x02\x01\xBB";
        assert_eq!(v4, expected);
        let v6 = header(ProxyProtocol::V2, "[2001:db8::7]:1", "[2001:db8::1]:2");
        assert_eq!(v6[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!((v6.len(), &v6[48..]), (52, &[0, 1, 0, 2][..]));
        let own = for_own_connection(ProxyProtocol::V2);
        assert_eq!(
            (&own[..12], &own[12..]),
            (&SIGNATURE[..], &[0x20, 0, 0, 0][..])
        );
    }

    #[test]
    fn header_for_an_unknown_client_has_no_address() {
        assert_eq!(for_unknown_client(ProxyProtocol::V1), b"PROXY UNKNOWN\r\n");
        let header = for_unknown_client(ProxyProtocol::V2);
        assert_eq!(
            (&header[..12], &header[12..]),
            (&SIGNATURE[..], &[0x21, 0, 0, 0][..])
        );
        assert!(for_unknown_client(ProxyProtocol::Off).is_empty());
    }

    #[test]
    fn header_is_empty_if_the_protocol_is_off() {
        assert!(header(ProxyProtocol::Off, "192.0.2.7:1", "192.0.2.1:2").is_empty());
        assert!(for_own_connection(ProxyProtocol::Off).is_empty());
    }
}
