//! Bytes from the network, made harmless: a line stays one line, a string stays a string, and a terminal
//! that shows the log obeys nothing in it.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends the inside of a JSON string. Bytes that aren't UTF-8 become the text `\xHH`, so the line is always
/// valid JSON and says what was sent. Control characters (DEL and C1 too) become escapes.
pub(super) fn json(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
    } else {
        json_slowly(out, bytes);
    }
}

#[cold]
fn json_slowly(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                control if control.is_control() => {
                    // Every control character is below U+00A0.
                    out.extend_from_slice(b"\\u00");
                    hex(out, control as u32 as u8);
                }
                other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(b"\\\\x");
            hex(out, *byte);
        }
    }
}

/// Appends the inside of a quoted field of the combined format, as Apache and nginx escape it: `\xHH` for
/// whatever isn't printable ASCII, and for the quote and the backslash.
pub(super) fn combined(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    for byte in bytes {
        if is_plain_byte(*byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(b"\\x");
            hex(out, *byte);
        }
    }
}

fn hex(out: &mut Vec<u8>, byte: u8) {
    out.push(HEX[usize::from(byte >> 4)]);
    out.push(HEX[usize::from(byte & 15)]);
}

/// Printable ASCII but for the quote and the backslash.
fn is_plain_byte(byte: u8) -> bool {
    (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\'
}

/// Whether no byte needs an escape: sixteen at a time, without a branch, so that the compiler uses vectors.
fn is_plain(bytes: &[u8]) -> bool {
    fn all(bytes: &[u8]) -> bool {
        bytes
            .iter()
            .fold(true, |plain, byte| plain & is_plain_byte(*byte))
    }
    let (blocks, rest) = bytes.as_chunks::<16>();
    if !blocks.iter().all(|block| all(block)) {
        return false;
    }
    match bytes.last_chunk::<16>() {
        // The last block overlaps the one before: cheaper than byte by byte.
        Some(last) if !rest.is_empty() => all(last),
        Some(_) => true,
        None => rest.iter().all(|byte| is_plain_byte(*byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_json(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        json(&mut out, bytes);
        String::from_utf8(out).expect("valid UTF-8")
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
                    assert!(!is_plain(&bytes), "{bad:#x} at {at} of {length}");
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
        let mut out = Vec::new();
        combined(&mut out, "a\"b\\c\né".as_bytes());
        assert_eq!(out, br"a\x22b\x5cc\x0a\xc3\xa9");
    }
}
