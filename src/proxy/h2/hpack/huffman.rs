//! HPACK's Huffman code (RFC 7541, appendix B). It is canonical: the lengths of the codes define it completely.

use super::HpackError;

/// Number of symbols: all bytes, and the end of a string, which is never written.
const SYMBOLS: usize = 257;
const END: usize = 256;

/// Lengths of the codes in bits, by symbol.
#[rustfmt::skip]
static LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// Codes of at most this many bits are looked up in one step: those of nearly all text.
const SHORT: u32 = 10;
const LONGEST: usize = 30;

/// A symbol and the length of its code in bits; 0: the code is longer than [`SHORT`].
type ShortCode = (u8, u8);

/// The decoder's tables, computed at compile time.
struct CodeTable {
    short: [ShortCode; 1 << SHORT],
    /// The first code of each length.
    first: [u32; LONGEST + 1],
    /// The number of codes of each length.
    count: [u32; LONGEST + 1],
    /// The position in `symbols` of each length's first symbol.
    offset: [u32; LONGEST + 1],
    symbols: [u16; SYMBOLS],
}

static CODES: CodeTable = build_table();

const fn build_table() -> CodeTable {
    let mut table = CodeTable {
        short: [(0, 0); 1 << SHORT],
        first: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        offset: [0; LONGEST + 1],
        symbols: [0; SYMBOLS],
    };
    let (mut code, mut next, mut length) = (0u32, 0usize, 1usize);
    while length <= LONGEST {
        table.first[length] = code;
        table.offset[length] = next as u32;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                table.symbols[next] = symbol as u16;
                next += 1;
                if length <= SHORT as usize {
                    let spare = SHORT as usize - length;
                    let mut fill = 0;
                    while fill < 1 << spare {
                        let at = ((code as usize) << spare) | fill;
                        table.short[at] = (symbol as u8, length as u8);
                        fill += 1;
                    }
                }
                code += 1;
            }
            symbol += 1;
        }
        table.count[length] = code - table.first[length];
        code <<= 1;
        length += 1;
    }
    table
}

/// Decodes a string, and appends it.
///
/// # Errors
/// If the string ends in the middle of a code, or its padding is invalid (RFC 7541 §5.2).
pub(super) fn decode(source: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    let mut source = source.iter();
    // The bits read so far, from the highest bit on.
    let (mut bits, mut here) = (0u64, 0u32);
    loop {
        while here <= 56
            && let Some(byte) = source.next()
        {
            bits |= u64::from(*byte) << (56 - here);
            here += 8;
        }
        let (symbol, length) = CODES.short[(bits >> (64 - SHORT)) as usize];
        if length > 0 && u32::from(length) <= here {
            out.push(symbol);
            bits <<= length;
            here -= u32::from(length);
            continue;
        }
        if here < 8 && bits == !(u64::MAX >> here) {
            return Ok(());
        }
        let (symbol, length) = find_long(bits).ok_or(HpackError::Malformed)?;
        if length > here || symbol as usize == END {
            return Err(HpackError::Malformed);
        }
        out.push(symbol as u8);
        bits <<= length;
        here -= length;
    }
}

/// Finds a code of more than [`SHORT`] bits at the beginning of `bits`.
fn find_long(bits: u64) -> Option<(u16, u32)> {
    (SHORT + 1..=LONGEST as u32).find_map(|length| {
        let code = (bits >> (64 - length)) as u32;
        let at = code.checked_sub(CODES.first[length as usize])?;
        let symbol = (at < CODES.count[length as usize])
            .then(|| CODES.symbols[(CODES.offset[length as usize] + at) as usize])?;
        Some((symbol, length))
    })
}

/// Returns the length of a string in Huffman code, in bytes.
pub(super) fn coded_length(text: &[u8]) -> usize {
    let bits = text
        .iter()
        .map(|byte| usize::from(LENGTHS[usize::from(*byte)]));
    bits.sum::<usize>().div_ceil(8)
}

/// Encodes a string.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let (mut out, mut bits, mut here) = (Vec::new(), 0u64, 0u32);
    for byte in text {
        let length = LENGTHS[usize::from(*byte)];
        let rank = (0..usize::from(*byte))
            .filter(|symbol| LENGTHS[*symbol] == length)
            .count();
        let code = CODES.first[usize::from(length)] + rank as u32;
        bits = bits << length | u64::from(code);
        here += u32::from(length);
        while here >= 8 {
            here -= 8;
            out.push((bits >> here) as u8);
        }
    }
    if here > 0 {
        out.push((bits << (8 - here)) as u8 | (0xff >> here));
    }
    out
}
