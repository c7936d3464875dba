//! The header itself, versions 1 and 2 (haproxy.org, `proxy-protocol.txt`), read from whatever part of it is here.
//!
//! Strict, because a lenient reader could find the header's end in another place than its sender: one space between
//! two words, no leading zeros, no sign, no family or transport that the specification doesn't know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 1, its line's end included (§2.1).
pub const MAX_V1: usize = 107;

/// Longest header of version 2 that is taken. The format could say 64 KiB; a client certificate in a TLV is 2.
pub const MAX_V2: usize = 4096;

/// What every header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// A TLV with a checksum of the whole header in it.
const CRC32C: u8 = 0x03;

/// Whom the connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxiedSource {
    /// A client with this address.
    Client(SocketAddr),
    /// A client whose address the sender doesn't know or can't express (`UNKNOWN`, unix sockets).
    Unknown,
    /// The sender itself (`LOCAL`), which asks whether we are well.
    Local,
}

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its length: what follows is the client's.
    pub len: usize,
    /// Whom the connection is for.
    pub source: ProxiedSource,
}

/// Why something is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeaderError {
    /// It begins otherwise.
    Missing,
    /// Longer than [`MAX_V1`] or [`MAX_V2`].
    TooLong,
    /// It begins like one of version 1, and isn't one.
    Text,
    /// It begins like one of version 2, and isn't one.
    Binary,
    /// Its checksum is another one.
    Checksum,
}

impl ProxyHeaderError {
    /// For the log and the metrics.
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

/// Reads the header at the start of `bytes`; `None`: there is more to come.
///
/// # Errors
/// It is none.
pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    const TEXT: &[u8] = b"PROXY ";
    let begins = |with: &[u8]| {
        let here = bytes.len().min(with.len());
        bytes.get(..here) == with.get(..here)
    };
    if begins(&SIGNATURE) {
        binary(bytes)
    } else if begins(TEXT) {
        text(bytes)
    } else {
        Err(ProxyHeaderError::Missing)
    }
}

/// Version 1: `PROXY TCP4 source destination port port`, and CR LF.
fn text(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
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
    // What follows UNKNOWN is to be ignored, whatever it is.
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
    let (port, _) = (port(words.next()?)?, port(words.next()?)?);
    words
        .next()
        .is_none()
        .then_some(ProxiedSource::Client(SocketAddr::new(source, port)))
}

/// A port in decimal, with neither sign nor leading zero.
fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let padded = word.len() > 1 && word.starts_with('0');
    if plain && !padded {
        word.parse().ok()
    } else {
        None
    }
}

/// Version 2: signature, version and command, family and transport, length; then addresses and TLVs.
fn binary(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else {
        return Ok(None);
    };
    let [.., version, family, high, low] = *fixed;
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    let local = match version {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyHeaderError::Binary),
    };
    if len > MAX_V2 {
        return Err(ProxyHeaderError::TooLong);
    }
    // §2.2: what a LOCAL header has in it is none of our business.
    let addresses = match family {
        _ if local => 0,
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Err(ProxyHeaderError::Binary),
    };
    if len < FIXED + addresses {
        return Err(ProxyHeaderError::Binary);
    }
    let Some(header) = bytes.get(..len) else {
        return Ok(None);
    };
    if local {
        let source = ProxiedSource::Local;
        return Ok(Some(ProxyHeader { len, source }));
    }
    let (block, _) = header[FIXED..].split_at(addresses);
    let source = match family {
        0x11 => stream_source::<4>(block),
        0x21 => stream_source::<16>(block),
        _ => Some(ProxiedSource::Unknown),
    };
    if family != 0x00 {
        tlvs(header, FIXED + addresses)?;
    }
    let source = source.ok_or(ProxyHeaderError::Binary)?;
    Ok(Some(ProxyHeader { len, source }))
}

/// Source address, destination address, source port, destination port.
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

/// Type, length and value, one after the other: only the checksum means something to us.
fn tlvs(header: &[u8], mut at: usize) -> Result<(), ProxyHeaderError> {
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
        // Taken over the header with zeros where it stands itself.
        if crc32c([before, &[0; 4], &header[at..]]) != u32::from_be_bytes(said) {
            return Err(ProxyHeaderError::Checksum);
        }
    }
    Ok(())
}

/// CRC-32C (Castagnoli), bit by bit: it is rare and short.
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
