//! Parser for PROXY headers of versions 1 and 2 (haproxy.org, `proxy-protocol.txt`); it also takes a header that has
//! only partly arrived.
//!
//! The parser is strict, because a lenient one could find the header's end in another place than its sender: one space
//! between two words, no leading zeros, no sign, and no family or transport that the specification doesn't know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 1, including its line end (section 2.1).
pub const MAX_V1: usize = 107;

/// Longest header of version 2 that is accepted. The format allows 64 KiB; a client certificate in a TLV takes about 2
/// KiB.
pub const MAX_V2: usize = 4096;

/// First bytes of every header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of the fixed part of version 2: signature, version and command, family, length.
const FIXED_LENGTH: usize = 16;

/// Type of the TLV with a checksum of the whole header.
const CRC32C: u8 = 0x03;

/// Client that the connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxiedSource {
    /// A client with this address.
    Client(SocketAddr),
    /// A client whose address the sender doesn't know or can't express (`UNKNOWN`, or a unix socket).
    Unknown,
    /// The sender itself (`LOCAL`), for a health check.
    Local,
}

/// A complete header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Length in bytes; the client's own bytes follow it.
    pub len: usize,
    /// Client that the connection is for.
    pub source: ProxiedSource,
}

/// Reason why something is no PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeaderError {
    /// It does not begin like one.
    Missing,
    /// It is longer than [`MAX_V1`] or [`MAX_V2`].
    TooLong,
    /// It begins like version 1, and is malformed.
    Text,
    /// It begins like version 2, and is malformed.
    Binary,
    /// Its checksum is wrong.
    Checksum,
}

impl ProxyHeaderError {
    /// Name in the log and in metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "no PROXY protocol header",
            Self::TooLong => "PROXY protocol header too long",
            Self::Text => "malformed PROXY protocol header (version 1)",
            Self::Binary => "malformed PROXY protocol header (version 2)",
            Self::Checksum => "wrong checksum in the PROXY protocol header",
        }
    }
}

/// Parses the header at the start of `bytes`; `None`: more bytes are needed.
///
/// # Errors
/// The bytes are no PROXY header.
pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    const TEXT: &[u8] = b"PROXY ";
    let begins = |with: &[u8]| {
        let here = bytes.len().min(with.len());
        bytes.get(..here) == with.get(..here)
    };
    if begins(&SIGNATURE) {
        parse_binary(bytes)
    } else if begins(TEXT) {
        parse_text(bytes)
    } else {
        Err(ProxyHeaderError::Missing)
    }
}

/// Parses version 1: `PROXY TCP4 source destination port port`, and CR LF.
fn parse_text(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let here = &bytes[..bytes.len().min(MAX_V1)];
    let Some(end) = memchr::memchr(b'\n', here) else {
        return match here.len() {
            MAX_V1 => Err(ProxyHeaderError::TooLong),
            _ => Ok(None),
        };
    };
    let line = here[..end]
        .strip_suffix(b"\r")
        .ok_or(ProxyHeaderError::Text)?;
    let source = line_source(line).ok_or(ProxyHeaderError::Text)?;
    Ok(Some(ProxyHeader {
        len: end + 1,
        source,
    }))
}

fn line_source(line: &[u8]) -> Option<ProxiedSource> {
    // What follows UNKNOWN has to be ignored (section 2.1).
    let mut words = line.splitn(3, |byte| *byte == b' ').skip(1);
    let family = words.next()?;
    if family == b"UNKNOWN" {
        return Some(ProxiedSource::Unknown);
    }
    let rest = std::str::from_utf8(words.next()?).ok()?;
    let mut words = rest.split(' ');
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            b"TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            b"TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, _) = (address()?, address()?);
    let (port, _) = (parse_port(words.next()?)?, parse_port(words.next()?)?);
    words
        .next()
        .is_none()
        .then_some(ProxiedSource::Client(SocketAddr::new(source, port)))
}

/// Parses a port in decimal, with neither sign nor leading zero.
fn parse_port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let padded = word.len() > 1 && word.starts_with('0');
    if plain && !padded {
        word.parse().ok()
    } else {
        None
    }
}

/// Parses version 2: signature, version and command, family and transport, length; then addresses and TLVs.
fn parse_binary(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let Some(fixed) = bytes.first_chunk::<FIXED_LENGTH>() else {
        return Ok(None);
    };
    let [.., version, family, high, low] = *fixed;
    let len = FIXED_LENGTH + usize::from(u16::from_be_bytes([high, low]));
    let local = match version {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyHeaderError::Binary),
    };
    if len > MAX_V2 {
        return Err(ProxyHeaderError::TooLong);
    }
    // The rest of a LOCAL header has to be ignored (section 2.2).
    let addresses = match family {
        _ if local => 0,
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Err(ProxyHeaderError::Binary),
    };
    if len < FIXED_LENGTH + addresses {
        return Err(ProxyHeaderError::Binary);
    }
    let Some(header) = bytes.get(..len) else {
        return Ok(None);
    };
    if local {
        let source = ProxiedSource::Local;
        return Ok(Some(ProxyHeader { len, source }));
    }
    let (block, _) = header[FIXED_LENGTH..].split_at(addresses);
    let source = match family {
        0x11 => stream_source::<4>(block),
        0x21 => stream_source::<16>(block),
        _ => Some(ProxiedSource::Unknown),
    };
    if family != 0x00 {
        check_tlvs(header, FIXED_LENGTH + addresses)?;
    }
    let source = source.ok_or(ProxyHeaderError::Binary)?;
    Ok(Some(ProxyHeader { len, source }))
}

/// Parses source address, destination address, source port and destination port.
fn stream_source<const N: usize>(block: &[u8]) -> Option<ProxiedSource>
where
    IpAddr: From<[u8; N]>,
{
    let address = *block.first_chunk::<N>()?;
    let port = *block.get(2 * N..)?.first_chunk::<2>()?;
    Some(ProxiedSource::Client(SocketAddr::new(
        IpAddr::from(address),
        u16::from_be_bytes(port),
    )))
}

/// Walks through the TLVs (type, length and value); only the checksum is used.
fn check_tlvs(header: &[u8], mut at: usize) -> Result<(), ProxyHeaderError> {
    let mut checked = false;
    while at < header.len() {
        let Some([kind, high, low]) = header[at..].first_chunk().copied() else {
            return Err(ProxyHeaderError::Binary);
        };
        let value = at + 3;
        at = value + usize::from(u16::from_be_bytes([high, low]));
        let Some(value) = header.get(value..at) else {
            return Err(ProxyHeaderError::Binary);
        };
        if kind != CRC32C {
            continue;
        }
        let said = value.try_into().map_err(|_| ProxyHeaderError::Binary)?;
        if std::mem::replace(&mut checked, true) {
            return Err(ProxyHeaderError::Binary);
        }
        let before = &header[..at - value.len()];
        // The checksum is that of the header with zeros in the checksum's own place.
        if crc32c([before, &[0; 4], &header[at..]]) != u32::from_be_bytes(said) {
            return Err(ProxyHeaderError::Checksum);
        }
    }
    Ok(())
}

/// CRC-32C (Castagnoli), bit by bit: headers with it are rare and short.
fn crc32c(pieces: [&[u8]; 3]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !pieces.into_iter().flatten().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests;
