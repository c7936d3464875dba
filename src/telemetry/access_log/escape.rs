//! Escaping of bytes from the network: a line stays one line, a string stays a string, and a terminal that shows the
//! log executes nothing from it.

use super::buffer::LineOutput;

/// A one in each byte of a word, and the high bit of each byte.
const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES << 7;

/// Bits that [`copy_judged`] sets if something needs an escape; it may set others, too.
pub(super) const FOUND: u64 = HIGH;

/// A word of spaces, which need no escape.
const SPACES: u64 = ONES * b' ' as u64;

/// Block size in bytes with which longer texts are copied and checked.
const BLOCK: usize = 16;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends the inside of a JSON string. Bytes that aren't UTF-8 become the text `\xHH`, so that the line is valid JSON
/// and shows what was sent. Control characters (including DEL and C1) become escapes.
pub(super) fn json<'a>(mut out: LineOutput<'a, true>, bytes: &[u8]) -> LineOutput<'a, true> {
    if !bytes.iter().any(|byte| is_special(*byte)) {
        out.put(bytes);
        return out;
    }
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.put(b"\\\""),
                '\\' => out.put(b"\\\\"),
                '\n' => out.put(b"\\n"),
                '\r' => out.put(b"\\r"),
                '\t' => out.put(b"\\t"),
                control if control.is_control() => {
                    // Every control character is below U+00A0.
                    out.put(b"\\u00");
                    hex(&mut out, control as u32 as u8);
                }
                other => out.put(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in chunk.invalid() {
            out.put(b"\\\\x");
            hex(&mut out, *byte);
        }
    }
    out
}

/// Appends the inside of a quoted field of the combined format, as Apache and nginx escape it: `\xHH` for everything
/// but printable ASCII, and for the quote and the backslash.
pub(super) fn combined<'a>(mut out: LineOutput<'a, true>, bytes: &[u8]) -> LineOutput<'a, true> {
    for byte in bytes {
        if !is_special(*byte) {
            out.put(&[*byte]);
        } else {
            out.put(b"\\x");
            hex(&mut out, *byte);
        }
    }
    out
}

fn hex(out: &mut LineOutput<'_, true>, byte: u8) {
    out.put(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

fn is_special(byte: u8) -> bool {
    !(b' '..0x7f).contains(&byte) || byte == b'"' || byte == b'\\'
}

/// Whether the result of [`copy_judged`], for one text or the union of several, means that nothing needs an escape.
#[inline(always)]
pub(super) fn is_plain(found: u64) -> bool {
    found & FOUND == 0
}

/// Copies `from` to `to`, which has the same length; [`is_plain`] tells from the result whether nothing needs an
/// escape. Two blocks that may overlap are cheaper than single bytes.
#[inline(always)]
pub(super) fn copy_judged(to: &mut [u8], from: &[u8]) -> u64 {
    match from.len() {
        16.. => copy_blocks(to, from),
        8.. => {
            let (first, last) = copy_ends::<8>(to, from);
            judge(u64::from_ne_bytes(first)) | judge(u64::from_ne_bytes(last))
        }
        4.. => {
            let (first, last) = copy_ends::<4>(to, from);
            let both = [u32::from_ne_bytes(first), u32::from_ne_bytes(last)].map(u64::from);
            judge(both[0] << 32 | both[1])
        }
        _ => {
            let mut found = 0;
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
                found |= judge(SPACES << 8 | u64::from(*from));
            }
            found
        }
    }
}

/// Copies the first and the last `N` bytes; returns spaces if there are fewer.
#[inline(always)]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) -> ([u8; N], [u8; N]) {
    let ends = (from.first_chunk(), from.last_chunk());
    let (first, last) = (ends.0.copied(), ends.1.copied());
    let (first, last) = (first.unwrap_or([b' '; N]), last.unwrap_or([b' '; N]));
    if let Some(to) = to.first_chunk_mut() {
        *to = first;
    }
    if let Some(to) = to.last_chunk_mut() {
        *to = last;
    }
    (first, last)
}

#[inline(never)]
fn copy_blocks(to: &mut [u8], from: &[u8]) -> u64 {
    let mut plain = true;
    if let (Some(to), Some(from)) = (to.last_chunk_mut(), from.last_chunk()) {
        *to = *from;
        plain &= is_plain_block(from);
    }
    // A block that the last one covers completely is not copied again.
    let before = from.len().saturating_sub(1);
    let blocks = from[..before].as_chunks().0.iter();
    for (to, from) in to.as_chunks_mut().0.iter_mut().zip(blocks) {
        *to = *from;
        plain &= is_plain_block(from);
    }
    if plain { 0 } else { FOUND }
}

/// Checks a block byte by byte, without a branch and as a function of its own: so the compiler vectorises it, which it
/// doesn't do inside a larger function.
#[inline(never)]
fn is_plain_block(block: &[u8; BLOCK]) -> bool {
    let mut special = 0;
    for byte in block {
        special |= u8::from(byte.wrapping_sub(b' ') >= 0x5f);
        special |= u8::from(*byte == b'"') | u8::from(*byte == b'\\');
    }
    special == 0
}

/// Checks eight bytes in one word: the high bit of some byte is set if one of them is special.
#[inline(always)]
fn judge(word: u64) -> u64 {
    // The subtraction sets the high bit of a byte that is less. It sets that of others only where they borrow, which is
    // where there is such a byte below; and where it was set before, which makes the byte special in any case.
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * 0x22)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
    // 0x7f and above: adding one reaches the high bit, or it was there.
    control | quote | backslash | word.wrapping_add(ONES) | word
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::access_log::buffer::LineOutcome;

    fn written(write: impl FnOnce(LineOutput<'_, true>) -> LineOutput<'_, true>) -> String {
        let mut room = [0; 1024];
        let size = room.len();
        let LineOutcome::Whole(length) = write(LineOutput::new(&mut room)).written(size) else {
            panic!("it fits");
        };
        String::from_utf8(room[..length].to_vec()).expect("valid UTF-8")
    }

    fn as_json(bytes: &[u8]) -> String {
        written(|out| json(out, bytes))
    }

    #[test]
    fn plain_text_stays_as_it_is() {
        for length in 0..70 {
            let text = "abcdefghijklmnopqrstuvwxyz 0123456789/?&=;:-_.~!".repeat(2);
            assert_eq!(as_json(&text.as_bytes()[..length]), text[..length]);
            let mut room = vec![0; length];
            let found = copy_judged(&mut room, &text.as_bytes()[..length]);
            assert!(is_plain(found) && room == text.as_bytes()[..length]);
        }
    }

    #[test]
    fn one_bad_byte_is_found_at_any_place() {
        for length in 1..50 {
            for at in 0..length {
                for bad in [b'"', b'\\', 0, 0x1f, 0x7f, 0x80, 0xff] {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = bad;
                    let found = copy_judged(&mut vec![0; length], &bytes);
                    assert!(!is_plain(found), "{bad:#x} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn hostile_bytes_become_escapes() {
        assert_eq!(as_json(b"\"\\\n\r\t"), r#"\"\\\n\r\t"#);
        assert_eq!(as_json(b"\x00\x1b[2J\x7f"), r"\u0000\u001b[2J\u007f");
        assert_eq!(as_json("é\u{9b}€".as_bytes()), "é\\u009b€");
        assert_eq!(as_json(b"a\xff\xc3z"), r"a\\xff\\xc3z");
    }

    #[test]
    fn combined_format_escapes_all_but_printable_ascii() {
        let out = written(|out| combined(out, "a\"b\\c\né".as_bytes()));
        assert_eq!(out, r"a\x22b\x5cc\x0a\xc3\xa9");
    }
}
