//! The PROXY protocol's header: nothing in it may be read in two ways.

use std::net::{IpAddr, SocketAddr};

use lameduck::net::proxy_protocol::read::{
    MAX_V1, MAX_V2, ProxiedSource, ProxyHeader, ProxyHeaderError, parse,
};

/// The same answer from every part that is long enough, whatever follows; and a text header says what it would say if
/// it were written anew.
pub fn introduction(data: &[u8]) {
    let whole = parse(data);
    for part in 0..data.len().min(MAX_V2) {
        match (parse(&data[..part]), whole) {
            (Ok(None), Ok(Some(header))) => assert!(part < header.len),
            (Ok(None), _) => {}
            (early, whole) => assert_eq!(early, whole, "after {part} bytes"),
        }
    }
    match whole {
        Ok(Some(header)) => one(data, header),
        // It is waited for: there must be an end to that.
        Ok(None) => assert!(data.len() < MAX_V2),
        Err(ProxyHeaderError::Missing) => {
            assert!(!data.starts_with(b"PROXY ") && !data.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
        }
        Err(why) => assert!(!why.reason().is_empty()),
    }
}

fn one(data: &[u8], header: ProxyHeader) {
    let bytes = &data[..header.len];
    let mut more = bytes.to_vec();
    more.extend_from_slice(b"\r\nPROXY ");
    assert_eq!(parse(&more), Ok(Some(header)));
    if !bytes.starts_with(b"PROXY ") {
        assert!(header.len <= MAX_V2);
        let said = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
        assert_eq!(header.len, 16 + said);
        return;
    }
    assert!(header.len <= MAX_V1);
    let line = bytes.strip_suffix(b"\r\n").expect("a whole line");
    assert!(!line.contains(&b'\n'));
    if let ProxiedSource::Client(source) = header.source {
        // The simplest reader there is.
        let line = std::str::from_utf8(line).expect("plain text");
        let words: Vec<_> = line.split_whitespace().collect();
        let address: IpAddr = words[2].parse().expect("an address");
        let port: u16 = words[4].parse().expect("a port");
        assert_eq!(source, SocketAddr::new(address, port));
        assert_eq!((words.len(), words[1] == "TCP6"), (6, source.is_ipv6()));
        assert_eq!(words.join(" "), line);
    }
}
