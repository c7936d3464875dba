//! Targets and authorities that the `http` crate's types can't hold, carried past them.
//!
//! `/<x>`, a backtick, a query in quotes: HTTP/1 and HTTP/2 carry them, and apps serve them. The crate refuses them, and
//! with it the `h2` crate, on either side. So between this code and the `h2` crate such a head has stand-ins for
//! `:path` and `:authority`, and what they stand for in fields of its own. The names are made anew by each process from
//! random bytes, and never leave it: nobody outside can write such a field.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Uri, request};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::hpack::{
    BlockPiece, BlockReader, FieldBuffer, FieldTable, coded_length, put_literal, put_string,
};

/// The index of `:authority` and `:path` in HPACK's static table.
const AUTHORITY: u8 = 1;
const PATH: u8 = 4;

/// `:scheme http` and `:scheme https`, by their indexes.
const SCHEME_HTTP: u8 = 0x86;
const SCHEME_HTTPS: u8 = 0x87;

/// A field that no table may keep, its name spelled out.
const NEVER_INDEXED: u8 = 0x10;

/// Paths that are longer may be too long for the `http` crate.
const LONG_PATH: usize = 32 * 1024;

/// What stands for what.
struct Carrier {
    authority: String,
    path: String,
    /// Bytes of `path` in HPACK, as the `h2` crate writes it.
    coded: usize,
    authority_field: HeaderName,
    path_field: HeaderName,
}

static CARRIER: LazyLock<Carrier> = LazyLock::new(|| {
    let mut random = [0u8; 16];
    // Where the system has no random bytes, TLS would not have started, either.
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

/// Whether the `http` crate can hold this `:path`, and the `h2` crate thus take it.
pub fn can_hold_path(path: &[u8]) -> bool {
    // The crate is asked where that isn't plain: it copies what it looks at.
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
        // A fragment the crate would cut off: another target than the client's, which HTTP/1 refuses.
        || (memchr::memchr(b'#', path).is_none() && PathAndQuery::try_from(path).is_ok())
}

/// Whether the `http` crate can hold this `:authority`.
pub fn can_hold_authority(authority: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if !authority.is_empty() && authority.iter().all(is_plain) {
        return true;
    }
    Authority::try_from(authority).is_ok()
}

/// What to give the `h2` crate for a `:path`: at once, and behind all that is a pseudo-header field.
pub fn cover_path(block: &mut Vec<u8>, behind: &mut Vec<u8>, path: &[u8]) {
    put_literal(block, b":path", CARRIER.path.as_bytes());
    put_literal(behind, CARRIER.path_field.as_str().as_bytes(), path);
}

/// As above, for an `:authority`.
pub fn cover_authority(block: &mut Vec<u8>, behind: &mut Vec<u8>, authority: &[u8]) {
    put_literal(block, b":authority", CARRIER.authority.as_bytes());
    put_literal(
        behind,
        CARRIER.authority_field.as_str().as_bytes(),
        authority,
    );
}

/// The `:path` of a request that has come, if it was covered.
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

/// As above, for `:authority`.
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

/// Whether a field is one of those that carry something.
pub fn is_carrier(name: &HeaderName) -> bool {
    *name == CARRIER.path_field || *name == CARRIER.authority_field
}

/// The address of a request that is to go out, and what it has to carry besides. `authority`: `None`, there is none.
///
/// # Errors
/// A byte that no field can have.
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
            // So that the encoder keeps it out of its table.
            value.set_sensitive(true);
            value
        })
    };
    fields.try_insert(&CARRIER.path_field, value(path)?)?;
    // The scheme has to be said, too: an address without an authority has none.
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

/// Where the stand-in for `:path` is in a block that the `h2` crate has written, and where `:scheme http`.
fn find_cover(
    block: &[u8],
    reader: &mut BlockReader<'_>,
    field: &mut FieldBuffer,
) -> Option<(usize, Option<usize>)> {
    let mut scheme = None;
    // Sizes, then `:method`, `:scheme`, `:authority`, `:path`.
    for _ in 0..6 {
        let begin = reader.position();
        match *block.get(begin)? {
            // Nearly every other path has another length.
            PATH if block.get(begin + 1) != Some(&(CARRIER.coded as u8 | 0x80)) => return None,
            PATH => {
                // Only the static table is asked for anything here.
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

/// Whether a block that the `h2` crate has written, or the beginning of one, carries something.
pub fn is_covered(block: &[u8]) -> bool {
    find_cover(
        block,
        &mut BlockReader::new(block),
        &mut FieldBuffer::default(),
    )
    .is_some()
}

/// Puts what a request carries to where it belongs, in a block that the `h2` crate has written. False: it carries
/// nothing, and `out` is as before.
///
/// The crate's encoder never keeps a `:path` or a sensitive field in its table, so the backend's table stays as the
/// crate believes it to be. (It says `:scheme http` of such a request by its index, and no `:authority`.)
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
