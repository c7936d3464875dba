//! HPACK (RFC 7541) as tests need it: writes every field as a literal that nobody keeps, reads what proxies write.
//! The client asks for a dynamic table of size 0, so that reading needs none.

use std::collections::HashMap;
use std::sync::LazyLock;

/// RFC 7541 appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// How many bits each byte has in RFC 7541's appendix B. The code is canonical: the lengths say all.
#[rustfmt::skip]
const BITS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// A name and its value.
pub type Field = (String, String);

/// The same, byte by byte.
pub type RawField = (Vec<u8>, Vec<u8>);

/// A dynamic table as a decoder has it, the newest entry last. What was evicted is never asked for, so all of it stays.
#[derive(Default)]
pub struct DynamicTable(Vec<RawField>);

impl DynamicTable {
    fn get(&self, index: usize) -> Option<RawField> {
        let from_newest = index - STATIC.len();
        let place = self.0.len().checked_sub(from_newest)?;
        self.0.get(place).cloned()
    }
}

/// An integer behind a prefix of so many bits, whose other bits are `first`.
pub fn integer(first: u8, prefix: u32, mut value: usize) -> Vec<u8> {
    let most = (1usize << prefix) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    let mut bytes = vec![first | most as u8];
    value -= most;
    while value >= 128 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A string that is not packed.
pub fn string(text: &[u8]) -> Vec<u8> {
    [integer(0, 7, text.len()), text.to_vec()].concat()
}

/// A literal field without indexing.
pub fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [vec![0], string(name), string(value)].concat()
}

/// A block of literals.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let literals = fields
        .iter()
        .map(|(name, value)| literal(name.as_bytes(), value.as_bytes()));
    literals.collect::<Vec<_>>().concat()
}

/// The fields of a block; `None` if it isn't one, or needs a dynamic table.
pub fn read(bytes: &[u8]) -> Option<Vec<Field>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = read_fields(bytes, None)?.into_iter();
    let fields = fields.map(|(name, value)| (text(&name), text(&value)));
    Some(fields.collect())
}

/// The fields of a block of a connection whose dynamic table this is.
pub fn read_raw(bytes: &[u8], table: &mut DynamicTable) -> Option<Vec<RawField>> {
    read_fields(bytes, Some(table))
}

fn read_fields(mut bytes: &[u8], mut table: Option<&mut DynamicTable>) -> Option<Vec<RawField>> {
    let mut fields = Vec::new();
    while let Some(first) = bytes.first().copied() {
        let (prefix, is_literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            // The table's size.
            0x20.. => {
                take_integer(&mut bytes, 5)?;
                continue;
            }
            _ => (4, true),
        };
        let index = take_integer(&mut bytes, prefix)?;
        let mut known = match index {
            0 => RawField::default(),
            1..=61 => {
                let (name, value) = STATIC[index - 1];
                (name.into(), value.into())
            }
            _ => table.as_ref()?.get(index)?,
        };
        if is_literal {
            if index == 0 {
                known.0 = take_string(&mut bytes)?;
            }
            known.1 = take_string(&mut bytes)?;
        }
        if prefix == 6
            && let Some(table) = &mut table
        {
            table.0.push(known.clone());
        }
        fields.push(known);
    }
    Some(fields)
}

fn take_integer(bytes: &mut &[u8], prefix: u32) -> Option<usize> {
    let most = (1usize << prefix) - 1;
    let (first, mut rest) = bytes.split_first()?;
    let mut value = usize::from(*first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (next, tail) = rest.split_first()?;
            rest = tail;
            value += usize::from(next & 127) << shift;
            shift += 7;
            if next & 128 == 0 {
                break;
            }
            if shift > 28 {
                return None;
            }
        }
    }
    *bytes = rest;
    Some(value)
}

fn take_string(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let is_huffman = bytes.first()? & 128 != 0;
    let length = take_integer(bytes, 7)?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    match is_huffman {
        true => unpack(text),
        false => Some(text.to_vec()),
    }
}

fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let (mut code, mut length) = (0u32, 0u8);
    for bit in packed
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
    {
        code = code << 1 | u32::from(bit);
        length += 1;
        if let Some(symbol) = SYMBOLS.get(&(length, code)) {
            text.push(*symbol);
            (code, length) = (0, 0);
        }
        if length > 30 {
            return None;
        }
    }
    Some(text)
}

/// The bytes by the lengths and values of their codes. Codes of a length are in the order of their bytes, behind those of
/// shorter ones.
static SYMBOLS: LazyLock<HashMap<(u8, u32), u8>> = LazyLock::new(|| {
    let mut symbols = HashMap::new();
    let mut code = 0u32;
    for length in 1..=30 {
        code <<= 1;
        for byte in (0..=255u8).filter(|byte| BITS[usize::from(*byte)] == length) {
            symbols.insert((length, code), byte);
            code += 1;
        }
    }
    symbols
});
