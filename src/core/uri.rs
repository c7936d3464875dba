//! Percent-encoding: which bytes stand in a URI as they are, and how the others are written and read (RFC 3986 §2.1).

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// Whether a byte is one of the unreserved characters, which need no encoding anywhere (RFC 3986 §2.3).
pub fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether a byte needs no encoding in a segment of a path: `pchar` of RFC 3986 §3.3.
pub fn is_segment(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte)
}

/// A byte in its encoded form.
pub fn percent_encoded(byte: u8) -> [u8; 3] {
    let digit = |half: u8| DIGITS[usize::from(half & 15)];
    [b'%', digit(byte >> 4), digit(byte)]
}

/// Appends a value; bytes for which `stays` is false are encoded.
pub fn append_encoded(out: &mut Vec<u8>, value: &[u8], stays: impl Fn(u8) -> bool) {
    for byte in value {
        match stays(*byte) {
            true => out.push(*byte),
            false => out.extend_from_slice(&percent_encoded(*byte)),
        }
    }
}

/// A text in which the bytes for which `stays` is false are encoded, and all that are not ASCII.
pub fn encoded(text: &str, stays: impl Fn(u8) -> bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    append_encoded(&mut out, text.as_bytes(), |byte| {
        byte.is_ascii() && stays(byte)
    });
    out.into_iter().map(char::from).collect()
}

/// A text with its percent-encoded bytes decoded, once. Bytes that aren't UTF-8 then are replaced.
pub fn decoded_lossy(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, after @ ..] = rest {
        let encoded = (*first == b'%').then(|| hex_byte(after.get(..2))).flatten();
        bytes.push(encoded.unwrap_or(*first));
        rest = if encoded.is_some() {
            &after[2..]
        } else {
            after
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The byte that two hexadecimal digits stand for; `None`: they are no two such digits.
#[inline]
pub fn hex_byte(digits: Option<&[u8]>) -> Option<u8> {
    let &[high, low] = digits? else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Whether each percent sign has its two digits behind it.
pub fn is_well_encoded(text: &[u8]) -> bool {
    let mut behind_percent = text.split(|byte| *byte == b'%').skip(1);
    behind_percent.all(|behind| hex_byte(behind.get(..2)).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_encoded_by_the_place_that_they_stand_in() {
        assert_eq!(
            encoded("a-._~/b:@ %ü", is_unreserved),
            "a-._~%2Fb%3A%40%20%25%C3%BC"
        );
        assert_eq!(
            encoded("a-._~/b:@ %ü?#", |byte| is_segment(byte) || byte == b'/'),
            "a-._~/b:@%20%25%C3%BC%3F%23"
        );
    }

    #[test]
    fn text_is_decoded_once() {
        assert_eq!(decoded_lossy("%c3%BC%2525 %zz%4"), "ü%25 %zz%4");
        assert_eq!(decoded_lossy("a%C3"), "a\u{FFFD}");
    }

    #[test]
    fn percent_sign_has_two_digits_behind_it() {
        for good in ["", "a", "%20", "%c3%A9b", "%2525"] {
            assert!(is_well_encoded(good.as_bytes()), "{good}");
        }
        for bad in ["%", "%2", "%zz", "%+1", "a%%20", "%20%", "%2é"] {
            assert!(!is_well_encoded(bad.as_bytes()), "{bad}");
        }
    }
}
