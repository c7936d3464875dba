//! Bytes from the network, made harmless: a line stays one line, a string stays a string, and a terminal
//! that shows the log obeys nothing in it.

use super::buffer::Out;

/// One in each byte of a word, and the high bit of each.
const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES << 7;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends the inside of a JSON string. Bytes that aren't UTF-8 become the text `\xHH`, so the line is always
/// valid JSON and says what was sent. Control characters (DEL and C1 too) become escapes.
pub(super) fn json(out: &mut Out<'_>, bytes: &[u8]) {
    if !out.put_plain(bytes) {
        json_slowly(out, bytes);
    }
}

#[cold]
fn json_slowly(out: &mut Out<'_>, bytes: &[u8]) {
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
                    hex(out, control as u32 as u8);
                }
                other => out.put(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in chunk.invalid() {
            out.put(b"\\\\x");
            hex(out, *byte);
        }
    }
}

/// Appends the inside of a quoted field of the combined format, as Apache and nginx escape it: `\xHH` for
/// whatever isn't printable ASCII, and for the quote and the backslash.
pub(super) fn combined(out: &mut Out<'_>, bytes: &[u8]) {
    if out.put_plain(bytes) {
        return;
    }
    for byte in bytes {
        if !is_special(*byte) {
            out.put(&[*byte]);
        } else {
            out.put(b"\\x");
            hex(out, *byte);
        }
    }
}

fn hex(out: &mut Out<'_>, byte: u8) {
    out.put(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

fn is_special(byte: u8) -> bool {
    !(b' '..0x7f).contains(&byte) || byte == b'"' || byte == b'\\'
}

/// Copies `from` to `to` (of the same length) and says whether no byte needs an escape; where one does, the
/// copy is of no use. Eight or sixteen bytes at a time; the last block overlaps the one before, which is
/// cheaper than byte by byte.
#[inline(always)]
pub(super) fn copy_plain(to: &mut [u8], from: &[u8]) -> bool {
    match from.len() {
        16.. => copy_long(to, from),
        8.. => copy_ends::<8>(to, from),
        4.. => copy_ends::<4>(to, from),
        _ => copy_few(to, from),
    }
}

fn copy_long(to: &mut [u8], from: &[u8]) -> bool {
    to.copy_from_slice(from);
    from.last_chunk().is_none_or(is_plain_block) && from.as_chunks().0.iter().all(is_plain_block)
}

/// In bytes, without a branch: the compiler makes vectors of it.
#[inline(always)]
fn is_plain_block(block: &[u8; 16]) -> bool {
    let mut special = 0;
    for byte in block {
        special |= u8::from(byte.wrapping_sub(b' ') >= 0x5f);
        special |= u8::from(*byte == b'"') | u8::from(*byte == b'\\');
    }
    special == 0
}

/// From `N` to `2 * N` bytes, as two blocks that may overlap.
#[inline(always)]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) -> bool {
    let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else {
        return false;
    };
    if let Some(to) = to.first_chunk_mut::<N>() {
        *to = *first;
    }
    if let Some(to) = to.last_chunk_mut::<N>() {
        *to = *last;
    }
    special_of(word(first)) | special_of(word(last)) == 0
}

/// Up to eight bytes as a word, filled up with spaces.
#[inline(always)]
fn word<const N: usize>(bytes: &[u8; N]) -> u64 {
    let mut word = [b' '; 8];
    word[..N].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

/// Up to three.
#[inline(always)]
fn copy_few(to: &mut [u8], from: &[u8]) -> bool {
    let [first, .., last] = from else {
        let Some(only) = from.first() else {
            return true;
        };
        to[0] = *only;
        return !is_special(*only);
    };
    let middle = from[from.len() / 2];
    to[0] = *first;
    to[from.len() / 2] = middle;
    to[from.len() - 1] = *last;
    special_of(word(&[*first, middle, *last])) == 0
}

/// The same for eight bytes in one word: not zero if any of them is special.
#[inline(always)]
fn special_of(word: u64) -> u64 {
    // A byte below `n` has its high bit set by the subtraction, and had it clear before.
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word;
    let quote = below(word ^ (ONES * 0x22), 1);
    let backslash = below(word ^ (ONES * 0x5c), 1);
    // 0x7f and above: adding one reaches the high bit, or it was there.
    let beyond = word.wrapping_add(ONES) | word;
    (below(word, 0x20) | quote | backslash | beyond) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Out<'_>)) -> String {
        let mut room = [0; 1024];
        let mut out = Out::new(&mut room);
        write(&mut out);
        let length = out.written().expect("it fits");
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
        }
    }

    #[test]
    fn one_bad_byte_is_found_at_any_place() {
        for length in 1..50 {
            for at in 0..length {
                for bad in [b'"', b'\\', 0, 0x1f, 0x7f, 0x80, 0xff] {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = bad;
                    assert!(
                        !copy_plain(&mut vec![0; length], &bytes),
                        "{bad:#x} at {at} of {length}"
                    );
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
    fn combined_escapes_whatever_is_not_printable_ascii() {
        let out = written(|out| combined(out, "a\"b\\c\né".as_bytes()));
        assert_eq!(out, r"a\x22b\x5cc\x0a\xc3\xa9");
    }
}
