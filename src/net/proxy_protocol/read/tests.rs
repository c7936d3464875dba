use super::*;

fn client(text: &str) -> ProxiedSource {
    ProxiedSource::Client(text.parse().unwrap())
}

/// A header of version 2.
fn v2(version: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([version, family]);
    bytes.extend((block.len() as u16).to_be_bytes());
    bytes.extend(block);
    bytes
}

const TCP4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

fn tcp4_with(tlvs: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&TCP4, tlvs].concat())
}

/// Adds a checksum TLV at the end of the header.
fn checked(tlvs: &[u8]) -> Vec<u8> {
    let mut bytes = tcp4_with(&[tlvs, &[CRC32C, 0, 4, 0, 0, 0, 0]].concat());
    let crc = crc32c([&bytes, &[], &[]]);
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// Each header is found in full, without the bytes that follow; for every shorter part of it, the parser waits for
/// more.
#[test]
fn complete_headers_are_found_with_what_follows_left_alone() {
    let mut tcp6 = vec![0; 36];
    tcp6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
    tcp6[32..34].copy_from_slice(&4711u16.to_be_bytes());
    let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    let mut unknown = format!("PROXY UNKNOWN {}", "x".repeat(91));
    unknown.push_str("\r\n");
    assert_eq!(unknown.len(), MAX_V1);
    let large = tcp4_with(&[&[0xe0, 0x0f, 0xe1][..], &[0; 0x0fe1]].concat());
    assert_eq!(large.len(), MAX_V2);
    for (bytes, source) in [
        (
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\r\n".to_vec(),
            client("192.0.2.7:4660"),
        ),
        (
            b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n".to_vec(),
            client("0.0.0.0:0"),
        ),
        (
            b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n".to_vec(),
            client("[2001:db8::7]:4711"),
        ),
        (
            longest.into(),
            client("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), ProxiedSource::Unknown),
        (unknown.into(), ProxiedSource::Unknown),
        (tcp4_with(&[]), client("192.0.2.7:4660")),
        (
            tcp4_with(&[4, 0, 0, 0xea, 0, 2, 1, 2]),
            client("192.0.2.7:4660"),
        ),
        (checked(&[]), client("192.0.2.7:4660")),
        (checked(&[4, 0, 3, 1, 2, 3]), client("192.0.2.7:4660")),
        (large, client("192.0.2.7:4660")),
        (v2(0x21, 0x21, &tcp6), client("[2001:db8::7]:4711")),
        (v2(0x21, 0x12, &TCP4), ProxiedSource::Unknown),
        (v2(0x21, 0x31, &[0; 216]), ProxiedSource::Unknown),
        (v2(0x21, 0x00, &[]), ProxiedSource::Unknown),
        (v2(0x21, 0x00, &[1, 2, 3]), ProxiedSource::Unknown),
        (v2(0x20, 0x00, &[]), ProxiedSource::Local),
        (v2(0x20, 0x77, &[9; 5]), ProxiedSource::Local),
    ] {
        let len = bytes.len();
        let whole = Ok(Some(ProxyHeader { len, source }));
        let more = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(parse(&more), whole, "{}", bytes.escape_ascii());
        for part in 0..len {
            assert_eq!(parse(&bytes[..part]), Ok(None), "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn malformed_headers_are_refused() {
    let too_long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    let mut wrong = checked(&[]);
    *wrong.last_mut().unwrap() ^= 1;
    let twice = [CRC32C, 0, 4, 0, 0, 0, 0];
    for (bytes, why) in [
        (&b"GET / HTTP/1.1\r\n"[..], ProxyHeaderError::Missing),
        (b"PROXIES", ProxyHeaderError::Missing),
        (
            b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            ProxyHeaderError::Missing,
        ),
        (b"\r\n\r\n\0\r\nQUIT\r", ProxyHeaderError::Missing),
        (b"\x16\x03\x01", ProxyHeaderError::Missing),
        (too_long.as_bytes(), ProxyHeaderError::TooLong),
        (b"PROXY \r\n", ProxyHeaderError::Text),
        (b"PROXY UNKNOWNX\r\n", ProxyHeaderError::Text),
        (b"PROXY UNKNOWN\n", ProxyHeaderError::Text),
        (b"PROXY TCP4\r\n", ProxyHeaderError::Text),
        (
            b"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
            ProxyHeaderError::Text,
        ),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", ProxyHeaderError::Text),
        (
            b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
            ProxyHeaderError::Text,
        ),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", ProxyHeaderError::Text),
        (
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
            ProxyHeaderError::Text,
        ),
        (
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
            ProxyHeaderError::Text,
        ),
        (
            b"PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
            ProxyHeaderError::Text,
        ),
        (
            b"PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n",
            ProxyHeaderError::Text,
        ),
        (
            b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
            ProxyHeaderError::Text,
        ),
        (
            b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
            ProxyHeaderError::Text,
        ),
        (
            b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n",
            ProxyHeaderError::Text,
        ),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n", ProxyHeaderError::Text),
        (
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r\n",
            ProxyHeaderError::Text,
        ),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", ProxyHeaderError::Text),
        (
            b"PROXY TCP4 1.1.1.1\0 2.2.2.2 1 2\r\n",
            ProxyHeaderError::Text,
        ),
        (&v2(0x11, 0x11, &TCP4), ProxyHeaderError::Binary),
        (&v2(0x22, 0x11, &TCP4), ProxyHeaderError::Binary),
        (&v2(0x21, 0x10, &TCP4), ProxyHeaderError::Binary),
        (&v2(0x21, 0x01, &TCP4), ProxyHeaderError::Binary),
        (&v2(0x21, 0x41, &TCP4), ProxyHeaderError::Binary),
        (&v2(0x21, 0x11, &TCP4[..11]), ProxyHeaderError::Binary),
        (&v2(0x21, 0x21, &TCP4), ProxyHeaderError::Binary),
        (&v2(0x21, 0x31, &[0; 215]), ProxyHeaderError::Binary),
        (&tcp4_with(&[4, 0]), ProxyHeaderError::Binary),
        (&tcp4_with(&[4, 0, 1]), ProxyHeaderError::Binary),
        (
            &tcp4_with(&[CRC32C, 0, 3, 0, 0, 0]),
            ProxyHeaderError::Binary,
        ),
        (&tcp4_with(&twice), ProxyHeaderError::Checksum),
        (&wrong, ProxyHeaderError::Checksum),
        (
            &v2(0x21, 0x11, &[0; MAX_V2 - FIXED_LENGTH + 1]),
            ProxyHeaderError::TooLong,
        ),
        (
            &v2(0x20, 0x00, &[0; MAX_V2 - FIXED_LENGTH + 1]),
            ProxyHeaderError::TooLong,
        ),
    ] {
        assert_eq!(parse(bytes), Err(why), "{}", bytes.escape_ascii());
    }
}

/// The example of RFC 3720, section B.4, and the usual check value.
#[test]
fn crc32c_matches_the_published_values() {
    assert_eq!(crc32c([b"1234", b"", b"56789"]), 0xe306_9283);
    assert_eq!(crc32c([&[0; 32], &[], &[]]), 0x8a91_36aa);
    assert_eq!(crc32c([&[0xff; 32], &[], &[]]), 0x62a8_ab43);
}
