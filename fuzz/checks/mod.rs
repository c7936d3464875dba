//! What the fuzz targets check, on any bytes. `tests/codec.rs` runs the same on the seeds and on mutations of them.
//!
//! A parser of hostile bytes must not panic; must give the same answer however the bytes were split into
//! reads; must let nothing pass that a simpler reader would read differently; and what the proxy writes
//! must be read in the same way again.
//!
//! [`introductions`] is about what stands before the first request. [`parsers`] checks each parser against itself. [`requests`] and [`responses`] check it against others: a strict
//! reader that knows nothing but the RFCs' grammar ([`strict`]), and hyper ([`peer`]).

pub mod introductions;
pub mod parsers;
mod peer;
pub mod requests;
pub mod responses;
mod strict;

use lameduck::proxy::h1::chunked::ChunkDecoder;

/// A body as lameduck read it.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    /// The content, and the length with its framing.
    Whole(Vec<u8>, usize),
    /// More bytes are needed.
    Partial,
    /// Its framing is broken.
    Refused,
}

impl Content {
    /// A body of this length.
    fn of_length(bytes: &[u8], length: u64) -> Self {
        let whole = usize::try_from(length)
            .ok()
            .and_then(|length| bytes.get(..length));
        whole.map_or(Self::Partial, |whole| {
            Self::Whole(whole.to_vec(), whole.len())
        })
    }

    /// A chunked body, which the strict reader must read alike.
    fn of_chunks(bytes: &[u8]) -> Self {
        let mut content = Vec::new();
        match ChunkDecoder::new(512).decode(bytes, &mut content) {
            Ok((length, true)) => {
                assert_eq!(strict::chunked(bytes), Some((content.clone(), length)));
                Self::Whole(content, length)
            }
            Ok(_) => {
                // It would be waited for to no end.
                assert_eq!(strict::chunked(bytes), None);
                Self::Partial
            }
            Err(_) => Self::Refused,
        }
    }

    /// The length with its framing, where it is known.
    fn len(&self) -> Option<usize> {
        match self {
            Self::Whole(_, length) => Some(*length),
            _ => None,
        }
    }

    /// What another reader found, or nothing where it refused the body or waits for more of it.
    fn agrees(&self, seen: Option<&Vec<u8>>) {
        match (self, seen) {
            (Self::Whole(ours, _), Some(seen)) => assert_eq!(ours, seen),
            (Self::Partial, Some(_)) => panic!("another reader finds an end of the body"),
            _ => {}
        }
    }
}

/// Fields by name, those of one name in order; without `Content-Length`, of which hyper keeps one.
fn by_name(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<&(Vec<u8>, Vec<u8>)> {
    let fields = fields.iter().filter(|(name, _)| name != b"content-length");
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by_key(|(name, _)| name);
    fields
}

/// A name as CGI and WSGI apps see it, who can't tell `_` from `-`.
fn fold(name: &[u8]) -> Vec<u8> {
    name.iter()
        .map(|byte| {
            if *byte == b'_' {
                b'-'
            } else {
                byte.to_ascii_lowercase()
            }
        })
        .collect()
}
