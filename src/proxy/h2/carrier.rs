//! Carries targets and authorities past the `http` crate, whose types can't hold all of them.
//!
//! `/<x>`, a backtick, a query in quotes: HTTP/1 and HTTP/2 allow them, and apps use them. The `http` crate refuses
//! them, and so does the `h2` crate, on both sides. Therefore, between this code and the `h2` crate, such a head has
//! placeholders in `:path` and `:authority`, and the real values in extra header fields. Each process generates the
//! names of those fields from random bytes and never reveals them: nobody outside can send such a field.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Uri, request};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::hpack::{
    BlockPiece, BlockReader, FieldBuffer, FieldTable, coded_length, put_literal, put_string,
};

/// Indexes of `:authority` and `:path` in HPACK's static table.
const AUTHORITY: u8 = 1;
const PATH: u8 = 4;

/// `:scheme http` and `:scheme https`, as indexed fields.
const SCHEME_HTTP: u8 = 0x86;
const SCHEME_HTTPS: u8 = 0x87;

/// A literal field that is never added to a table, with a literal name.
const NEVER_INDEXED: u8 = 0x10;

/// Longer paths may be too long for the `http` crate, in bytes.
const LONG_PATH: usize = 32 * 1024;

/// The placeholders, and the names of the fields that carry the real values.
struct Carrier {
    authority: String,
    path: String,
    /// Length of `path` in HPACK, as the `h2` crate encodes it, in bytes.
    coded: usize,
    authority_field: HeaderName,
    path_field: HeaderName,
}

static CARRIER: LazyLock<Carrier> = LazyLock::new(|| {
    let mut random = [0u8; 16];
    // A system without random bytes could not have started TLS either.
    let _ = SystemRandom::new().fill(&mut random);
    let word = format!("carried-{:032x}", u128::from_be_bytes(random));
    let name = |part: &str| {
        HeaderName::from_bytes(format!("{word}-{part}").as_bytes()).unwrap_or(http::header::WARNING)
    };
    let path = format!("/{word}");
    Carrier {
        authority_field: name("authority"),
        path_field: name("path"),
        coded: coded_length(path.as_bytes()),
        path,
        authority: word,
    }
});

/// Returns whether the `http` crate can hold this `:path`, so that the `h2` crate accepts it.
pub fn can_hold_path(path: &[u8]) -> bool {
    // The crate is only called if the answer isn't obvious: it copies its input.
    let is_plain = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'=' | b'&' | b'%')
    };
    let (path_only, query) = match memchr::memchr(b'?', path) {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, &[][..]),
    };
    (path.len() < LONG_PATH
        && path.first() == Some(&b'/')
        && path_only.iter().chain(query).all(is_plain))
        // The crate would cut off a fragment: the target would differ from the client's, which HTTP/1 refuses.
        || (memchr::memchr(b'#', path).is_none() && PathAndQuery::try_from(path).is_ok())
}

/// Returns whether the `http` crate can hold this `:authority`.
pub fn can_hold_authority(authority: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if !authority.is_empty() && authority.iter().all(is_plain) {
        return true;
    }
    Authority::try_from(authority).is_ok()
}

/// Writes the placeholder for a `:path` to `block`, and the field that carries the real value to `behind`, which
/// follows all pseudo-header fields.
pub fn cover_path(block: &mut Vec<u8>, behind: &mut Vec<u8>, path: &[u8]) {
    put_literal(block, b":path", CARRIER.path.as_bytes());
    put_literal(behind, CARRIER.path_field.as_str().as_bytes(), path);
}

/// The same for an `:authority`.
pub fn cover_authority(block: &mut Vec<u8>, behind: &mut Vec<u8>, authority: &[u8]) {
    put_literal(block, b":authority", CARRIER.authority.as_bytes());
    put_literal(
        behind,
        CARRIER.authority_field.as_str().as_bytes(),
        authority,
    );
}

/// Returns the real `:path` of a received request, if it was replaced by a placeholder.
pub fn covered_path(parts: &request::Parts) -> Option<&[u8]> {
    let path = parts.uri.path_and_query()?.as_str();
    if path.len() != CARRIER.path.len() || path != CARRIER.path {
        return None;
    }
    parts
        .headers
        .get(&CARRIER.path_field)
        .map(HeaderValue::as_bytes)
}

/// The same for `:authority`.
pub fn covered_authority(parts: &request::Parts) -> Option<&[u8]> {
    let authority = parts.uri.authority()?.as_str();
    if authority.len() != CARRIER.authority.len() || authority != CARRIER.authority {
        return None;
    }
    parts
        .headers
        .get(&CARRIER.authority_field)
        .map(HeaderValue::as_bytes)
}

/// Returns whether a header field carries a real value.
pub fn is_carrier(name: &HeaderName) -> bool {
    *name == CARRIER.path_field || *name == CARRIER.authority_field
}

/// Returns the URI of an outgoing request, and adds the fields that carry its real values, if needed. `authority`:
/// `None` if there is none.
///
/// # Errors
/// If a byte is not allowed in any header field.
pub fn write_address(
    fields: &mut HeaderMap,
    scheme: &http::uri::Scheme,
    authority: Option<&[u8]>,
    path: &[u8],
) -> Result<Uri, http::Error> {
    let held = authority.and_then(|authority| Authority::try_from(authority).ok());
    if let Some(held) = held
        && let Ok(path) = PathAndQuery::try_from(path)
    {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(scheme.clone());
        parts.authority = Some(held);
        parts.path_and_query = Some(path);
        return Ok(Uri::from_parts(parts)?);
    }
    let value = |bytes: &[u8]| {
        HeaderValue::from_bytes(bytes).map(|mut value| {
            // Keeps the value out of the encoder's table.
            value.set_sensitive(true);
            value
        })
    };
    fields.try_insert(&CARRIER.path_field, value(path)?)?;
    // The scheme must be carried as well: a URI without an authority has none.
    let authority = [
        scheme.as_str().as_bytes(),
        b" ",
        authority.unwrap_or_default(),
    ]
    .concat();
    fields.try_insert(&CARRIER.authority_field, value(&authority)?)?;
    let path = Bytes::from_static(CARRIER.path.as_bytes());
    Ok(Uri::from(PathAndQuery::from_maybe_shared(path)?))
}

/// Returns the positions of the placeholder for `:path` and of `:scheme http` in a block that the `h2` crate has
/// encoded.
fn find_cover(
    block: &[u8],
    reader: &mut BlockReader<'_>,
    field: &mut FieldBuffer,
) -> Option<(usize, Option<usize>)> {
    let mut scheme = None;
    // Table size updates, then `:method`, `:scheme`, `:authority`, `:path`.
    for _ in 0..6 {
        let begin = reader.position();
        match *block.get(begin)? {
            // Nearly every other path has a different length.
            PATH if block.get(begin + 1) != Some(&(CARRIER.coded as u8 | 0x80)) => return None,
            PATH => {
                // Only the static table is needed here.
                let read = reader.next_piece(&mut FieldTable::default(), field);
                let is_cover = read == Ok(Some(BlockPiece::Literal))
                    && field.parts().1 == CARRIER.path.as_bytes();
                return is_cover.then_some((begin, scheme));
            }
            // `/` or `/index.html`.
            0x84 | 0x85 => return None,
            first => {
                if first == SCHEME_HTTP {
                    scheme = Some(begin);
                }
                reader.skip_piece().ok()?;
            }
        }
    }
    None
}

/// Returns whether a block that the `h2` crate has encoded, or the beginning of one, carries a real value.
pub fn is_covered(block: &[u8]) -> bool {
    find_cover(
        block,
        &mut BlockReader::new(block),
        &mut FieldBuffer::default(),
    )
    .is_some()
}

/// Moves the carried values of a request to their places, in a block that the `h2` crate has encoded. Returns false
/// if there are none, and then leaves `out` unchanged.
///
/// The crate's encoder never adds a `:path` or a sensitive field to its table, so the backend's table stays as the
/// crate expects it. (For such a request it encodes `:scheme http` by its index, and no `:authority`.)
pub fn uncover(block: &[u8], out: &mut Vec<u8>) -> bool {
    let (mut reader, mut field) = (BlockReader::new(block), FieldBuffer::default());
    let mut table = FieldTable::default();
    let Some((begin, scheme)) = find_cover(block, &mut reader, &mut field) else {
        return false;
    };
    let (mut path, mut address) = (None, None);
    let mut behind = Vec::with_capacity(block.len());
    while reader.position() < block.len() {
        let start = reader.position();
        if block[start] == NEVER_INDEXED {
            if reader.next_piece(&mut table, &mut field).is_err() {
                return false;
            }
            let (name, value) = field.parts();
            if name == CARRIER.path_field.as_str().as_bytes() {
                path = Some(value.to_vec());
                continue;
            }
            if name == CARRIER.authority_field.as_str().as_bytes() {
                address = Some(value.to_vec());
                continue;
            }
        } else if reader.skip_piece().is_err() {
            return false;
        }
        behind.extend_from_slice(&block[start..reader.position()]);
    }
    let (Some(path), Some(address)) = (path, address) else {
        return false;
    };
    let before = out.len();
    out.extend_from_slice(&block[..begin]);
    let authority = match (address.strip_prefix(b"https "), scheme) {
        (Some(authority), Some(scheme)) => {
            out[before + scheme] = SCHEME_HTTPS;
            authority
        }
        _ => address.strip_prefix(b"http ").unwrap_or_default(),
    };
    if !authority.is_empty() {
        out.push(AUTHORITY);
        put_string(out, authority);
    }
    out.push(PATH);
    put_string(out, &path);
    out.extend_from_slice(&behind);
    true
}
