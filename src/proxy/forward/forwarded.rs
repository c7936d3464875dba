//! Finds the client's address behind trusted proxies, as those proxies report it.
//!
//! Each proxy appends the address from which it got the request, so the list is read from its right end, as long as
//! the proxy that wrote an entry is trusted. Entries further left may be forged. The address of the connection itself
//! is checked before the list: callers use this module only if that address is trusted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::proxy::h1::fields::FieldKind;
use crate::proxy::h1::request::RequestHead;

/// Maximum number of entries read; real chains of proxies are shorter.
const MAX_HOPS: usize = 64;

/// Returns the client's address: the rightmost address that is not trusted, or the leftmost if all are. An entry that
/// is not an address (`unknown`, `_hidden`, anything else) ends the search at the entry before it. `None`: there is
/// no address.
///
/// `X-Forwarded-For` is read if present, otherwise `Forwarded` (RFC 7239): many proxies write the former, and most of
/// them pass on the latter as the client sent it.
pub fn client(buf: &[u8], head: &RequestHead, trusts: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let kinds = [
        (FieldKind::XForwardedFor, plain as fn(&[u8]) -> _),
        (FieldKind::Forwarded, named),
    ];
    let (kind, read) = kinds
        .into_iter()
        .find(|(kind, _)| head.kinds & kind.bit() != 0)?;
    let lines = head.fields.iter().rev().filter(|field| field.kind == kind);
    let entries = lines.flat_map(|field| FromRight(Some(field.value.of(buf))));
    let mut found = None;
    for entry in entries.filter(|entry| !entry.is_empty()).take(MAX_HOPS) {
        let Some(address) = read(entry) else {
            break;
        };
        found = Some(address);
        if !trusts(address) {
            break;
        }
    }
    found
}

/// The entries of a list from right to left, trimmed.
struct FromRight<'a>(Option<&'a [u8]>);

impl<'a> Iterator for FromRight<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let list = self.0?;
        let mut quoted = false;
        for at in (0..list.len()).rev() {
            match list[at] {
                // Read from the right, a quoted string begins at the quote that no backslash escapes.
                b'"' if !(quoted && is_escaped(list, at)) => quoted = !quoted,
                b',' if !quoted => {
                    self.0 = Some(&list[..at]);
                    return Some(list[at + 1..].trim_ascii());
                }
                _ => {}
            }
        }
        self.0 = None;
        Some(list.trim_ascii())
    }
}

/// Returns whether an odd number of backslashes precedes this position.
fn is_escaped(text: &[u8], at: usize) -> bool {
    let backslashes = text[..at].iter().rev().take_while(|byte| **byte == b'\\');
    backslashes.count() % 2 == 1
}

/// Parses an entry of `X-Forwarded-For`: an address, with or without port.
fn plain(entry: &[u8]) -> Option<IpAddr> {
    node(std::str::from_utf8(entry).ok()?)
}

/// Parses an element of `Forwarded` (RFC 7239 §4): its only `for` parameter.
fn named(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    for pair in pairs(std::str::from_utf8(element).ok()?) {
        let (name, value) = pair.split_once('=')?;
        if !name.trim_ascii().eq_ignore_ascii_case("for") {
            continue;
        }
        let value = value.trim_ascii();
        let value = match value.strip_prefix('"') {
            Some(quoted) => quoted.strip_suffix('"')?,
            None => value,
        };
        if found.replace(node(value)?).is_some() {
            return None;
        }
    }
    found
}

/// Splits at semicolons outside of quotes.
fn pairs(element: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    element.split(move |c| {
        let plain = !std::mem::take(&mut escaped);
        match c {
            '\\' if quoted => escaped = plain,
            '"' if plain => quoted = !quoted,
            _ => {}
        }
        c == ';' && !quoted
    })
}

/// Parses an IPv4 address, or an IPv6 address in brackets, with or without port (RFC 7239 §6). An IPv6 address
/// without brackets is accepted too, as used in `X-Forwarded-For`.
fn node(text: &str) -> Option<IpAddr> {
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        let address = address.parse::<Ipv6Addr>().ok()?;
        fits.then_some(IpAddr::V6(address))?
    } else if let Ok(address) = text.parse::<IpAddr>() {
        address
    } else {
        let (address, port) = text.split_once(':')?;
        let address = address.parse::<Ipv4Addr>().ok()?;
        is_port(port).then_some(IpAddr::V4(address))?
    };
    Some(address.to_canonical())
}

/// Returns whether this is a port number, or a name that hides one.
fn is_port(text: &str) -> bool {
    let all =
        |text: &str, fits: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|b| fits(&b));
    match text.strip_prefix('_') {
        Some(name) => all(name, |b| b.is_ascii_alphanumeric() || b"._-".contains(b)),
        None => text.len() <= 5 && all(text, u8::is_ascii_digit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::h1::request::{HeadLimits, HeadProgress};

    /// Returns the client that these lines report, if 10.0.0.0/8 and fd00::/8 are trusted.
    fn found(lines: &[&str]) -> Option<String> {
        let text = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n",
            lines.join("\r\n")
        );
        let mut head = RequestHead::new();
        let limits = HeadLimits {
            max_header: 1 << 16,
            max_uri: 4096,
        };
        assert_eq!(
            head.parse(text.as_bytes(), &limits),
            Ok(HeadProgress::Complete),
            "{text}"
        );
        let trusts = |address| match address {
            IpAddr::V4(address) => address.octets()[0] == 10,
            IpAddr::V6(address) => address.segments()[0] >> 8 == 0xfd,
        };
        client(text.as_bytes(), &head, trusts).map(|address| address.to_string())
    }

    #[test]
    fn the_rightmost_untrusted_address_is_the_client() {
        for (line, client) in [
            ("192.0.2.1", "192.0.2.1"),
            ("6.6.6.6, 192.0.2.1", "192.0.2.1"),
            ("6.6.6.6, 192.0.2.1, 10.0.0.1,10.0.0.2", "192.0.2.1"),
            ("10.6.6.6, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
            // All are trusted: the one furthest away.
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("192.0.2.1:4711, 10.0.0.2:80", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1], fd00::2", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:192.0.2.1, ::ffff:10.0.0.1", "192.0.2.1"),
            (" , 192.0.2.1 ,, 10.0.0.1 ,", "192.0.2.1"),
            // An entry that is not an address ends the search at the last trustworthy one.
            ("192.0.2.1, unknown, 10.0.0.1", "10.0.0.1"),
            ("192.0.2.1, _hidden, 10.0.0.1", "10.0.0.1"),
            ("192.0.2.1, \"x, 10.0.0.1", "10.0.0.1"),
            ("192.0.2.1, 1.2.3.4.5, 10.0.0.1", "10.0.0.1"),
            ("192.0.2.1, 01.2.3.4, 10.0.0.1", "10.0.0.1"),
            ("192.0.2.1, 1.2.3.4:99999999, 10.0.0.1", "10.0.0.1"),
            ("192.0.2.1, fe80::1%eth0, 10.0.0.1", "10.0.0.1"),
            ("192.0.2.1, \u{fc}, 10.0.0.1", "10.0.0.1"),
        ] {
            let line = format!("X-Forwarded-For: {line}");
            assert_eq!(found(&[&line]).as_deref(), Some(client), "{line}");
        }
        for line in ["unknown", "", ",", "192.0.2.1, garbage", "[::1", "[::1]x"] {
            let line = format!("X-Forwarded-For: {line}");
            assert_eq!(found(&[&line]), None, "{line}");
        }
        assert_eq!(found(&["X-Real-IP: 6.6.6.6"]), None);
    }

    #[test]
    fn elements_of_forwarded() {
        for (line, client) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=\"192.0.2.1\";proto=http", "192.0.2.1"),
            ("proto=http; FOR=192.0.2.1 ;by=10.0.0.1", "192.0.2.1"),
            ("for=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("for=\"[2001:db8::1]:_port\", for=10.0.0.1", "2001:db8::1"),
            (
                "for=6.6.6.6, for=192.0.2.1;host=\"a,b;for=6.6.6.6\"",
                "192.0.2.1",
            ),
            ("for=192.0.2.1;host=\"a\\\",for=6.6.6.6\"", "192.0.2.1"),
            // A client's unclosed quote doesn't affect the entries to its right.
            ("for=\"6.6.6.6, for=192.0.2.1, for=10.0.0.1", "192.0.2.1"),
            ("for=192.0.2.1, for=_hidden, for=10.0.0.1", "10.0.0.1"),
            ("for=192.0.2.1, for=unknown, for=10.0.0.1", "10.0.0.1"),
            ("for=192.0.2.1, proto=http, for=10.0.0.1", "10.0.0.1"),
            (
                "for=192.0.2.1, for=1.1.1.1;for=2.2.2.2, for=10.0.0.1",
                "10.0.0.1",
            ),
            ("for=192.0.2.1, rubbish, for=10.0.0.1", "10.0.0.1"),
        ] {
            let line = format!("Forwarded: {line}");
            assert_eq!(found(&[&line]).as_deref(), Some(client), "{line}");
        }
        for line in ["for=unknown", "for=\"192.0.2.1", "proto=http", "for="] {
            let line = format!("Forwarded: {line}");
            assert_eq!(found(&[&line]), None, "{line}");
        }
    }

    #[test]
    fn lines_are_one_list_and_one_kind_of_them_is_read() {
        let two = [
            "X-Forwarded-For: 6.6.6.6, 192.0.2.1",
            "x-forwarded-for: 10.0.0.1",
        ];
        assert_eq!(found(&two).as_deref(), Some("192.0.2.1"));
        let both = ["Forwarded: for=6.6.6.6", "X-Forwarded-For: 192.0.2.1"];
        assert_eq!(found(&both).as_deref(), Some("192.0.2.1"));
        let hidden = ["Forwarded: for=6.6.6.6", "X-Forwarded-For: unknown"];
        assert_eq!(found(&hidden), None);
    }

    #[test]
    fn a_long_list_is_not_walked_to_its_end() {
        let line = format!("X-Forwarded-For: 192.0.2.1{}", ", 10.0.0.1".repeat(1000));
        assert_eq!(found(&[&line]).as_deref(), Some("10.0.0.1"));
    }
}
