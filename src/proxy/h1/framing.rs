//! Finds the end of a message body (RFC 9112 §6): strict parsing of `Content-Length` and `Transfer-Encoding`.
//!
//! A message that two readers could end at different places is refused, never repaired: request smuggling depends on
//! such messages. Feed every such header field of a head, then call [`FramingFields::verdict`].

use super::fields::elements;
use super::method::HttpVersion;

/// The framing header fields of one head.
#[derive(Debug, Clone, Default)]
pub struct FramingFields {
    length: Option<u64>,
    rewritten: bool,
    codings: Codings,
}

/// The transfer codings so far, in the order in which they were applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Codings {
    #[default]
    None,
    Chunked,
    Unknown,
    UnknownThenChunked,
}

/// The body that valid framing header fields describe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramedBody {
    /// Neither header field is present.
    Unframed,
    /// A body of this many bytes.
    Length(u64),
    /// A chunked body (RFC 9112 §7.1).
    Chunked,
}

/// Why the framing of a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FramingError {
    /// A `Content-Length` that isn't digits only, or that exceeds 2^63 - 1 (RFC 9110 §8.6).
    BadLength,
    /// Two different lengths (RFC 9112 §6.3).
    LengthsDiffer,
    /// Both header fields (RFC 9112 §6.1).
    LengthAndEncoding,
    /// A list with an empty element, no coding, or `chunked` twice or not last (RFC 9112 §6.1, §6.3).
    BadEncoding,
    /// Another coding before `chunked`, which the proxy would have to decode (RFC 9112 §6.1).
    UnknownCoding,
    /// `Transfer-Encoding` in an HTTP/1.0 message (RFC 9112 §6.1).
    EncodingIn10,
}

impl FramingError {
    /// Returns the reason in a few words that never change, the same for requests and responses.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadLength => "malformed Content-Length",
            Self::LengthsDiffer => "different Content-Length values",
            Self::LengthAndEncoding => "both Content-Length and Transfer-Encoding",
            Self::BadEncoding => "malformed Transfer-Encoding",
            Self::UnknownCoding => "unknown transfer coding",
            Self::EncodingIn10 => "Transfer-Encoding in HTTP/1.0",
        }
    }
}

impl FramingFields {
    /// Reads a `Content-Length`. A list of equal numbers is one number (RFC 9110 §8.6).
    ///
    /// # Errors
    /// If the value is not a length, or differs from an earlier one.
    pub fn content_length(&mut self, value: &[u8]) -> Result<(), FramingError> {
        // The usual case: one number.
        if let [b'1'..=b'9', ..] = value
            && self.length.is_none()
            && let Ok(length) = parse_length(value)
        {
            self.length = Some(length);
            return Ok(());
        }
        for element in elements(value) {
            let length = parse_length(element)?;
            if element.len() != value.len() || (element.len() > 1 && element[0] == b'0') {
                self.rewritten = true;
            }
            match self.length {
                Some(known) if known != length => return Err(FramingError::LengthsDiffer),
                _ => self.length = Some(length),
            }
        }
        Ok(())
    }

    /// Reads a `Transfer-Encoding`; several header fields form one list (RFC 9110 §5.3).
    ///
    /// # Errors
    /// If an element is empty, or something follows `chunked`.
    pub fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), FramingError> {
        for coding in elements(value) {
            if coding.is_empty() {
                return Err(FramingError::BadEncoding);
            }
            self.codings = match (self.codings, coding.eq_ignore_ascii_case(b"chunked")) {
                (Codings::None, true) => Codings::Chunked,
                (Codings::Unknown, true) => Codings::UnknownThenChunked,
                (Codings::None | Codings::Unknown, false) => Codings::Unknown,
                (Codings::Chunked | Codings::UnknownThenChunked, _) => {
                    return Err(FramingError::BadEncoding);
                }
            };
        }
        Ok(())
    }

    /// Returns the body that the header fields describe.
    ///
    /// # Errors
    /// If the body's end can't be determined: both header fields, a coding that isn't `chunked`, or a coding in
    /// HTTP/1.0.
    pub fn verdict(&self, version: HttpVersion) -> Result<FramedBody, FramingError> {
        match (self.codings, self.length) {
            (Codings::None, None) => Ok(FramedBody::Unframed),
            (Codings::None, Some(length)) => Ok(FramedBody::Length(length)),
            (_, Some(_)) => Err(FramingError::LengthAndEncoding),
            _ if version == HttpVersion::Http10 => Err(FramingError::EncodingIn10),
            (Codings::Chunked, None) => Ok(FramedBody::Chunked),
            (Codings::Unknown, None) => Err(FramingError::BadEncoding),
            (Codings::UnknownThenChunked, None) => Err(FramingError::UnknownCoding),
        }
    }

    /// Returns whether the length was written as a list or with leading zeros, and so must be written anew.
    pub fn length_needs_rewriting(&self) -> bool {
        self.rewritten
    }
}

/// Parses digits only: no sign, no space, no overflow. The maximum is that of a signed 64-bit number, which many apps
/// use.
fn parse_length(digits: &[u8]) -> Result<u64, FramingError> {
    if digits.is_empty() {
        return Err(FramingError::BadLength);
    }
    let mut length = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(FramingError::BadLength);
        }
        length = length
            .checked_mul(10)
            .and_then(|n| n.checked_add(u64::from(digit - b'0')))
            .filter(|n| *n <= i64::MAX as u64)
            .ok_or(FramingError::BadLength)?;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(values: &[&str]) -> Result<FramedBody, FramingError> {
        let mut framing = FramingFields::default();
        for value in values {
            framing.content_length(value.as_bytes())?;
        }
        framing.verdict(HttpVersion::Http11)
    }

    fn codings(values: &[&str]) -> Result<FramedBody, FramingError> {
        let mut framing = FramingFields::default();
        for value in values {
            framing.transfer_encoding(value.as_bytes())?;
        }
        framing.verdict(HttpVersion::Http11)
    }

    /// RFC 9110 §8.6: `Content-Length = 1*DIGIT`.
    #[test]
    fn a_length_is_digits_only() {
        assert_eq!(lengths(&["0"]), Ok(FramedBody::Length(0)));
        assert_eq!(
            lengths(&["9223372036854775807"]),
            Ok(FramedBody::Length(i64::MAX as u64))
        );
        for bad in [
            "",
            "+5",
            "-5",
            "5 5",
            "5.0",
            "0x5",
            "5a",
            "9223372036854775808",
            "18446744073709551616",
            "99999999999999999999999",
            ",",
            "5,",
            ",5",
        ] {
            assert_eq!(lengths(&[bad]), Err(FramingError::BadLength), "{bad}");
        }
    }

    /// RFC 9112 §6.3: several lengths only if they are all the same.
    #[test]
    fn lengths_must_agree() {
        assert_eq!(lengths(&["5", "5"]), Ok(FramedBody::Length(5)));
        assert_eq!(lengths(&["5, 5"]), Ok(FramedBody::Length(5)));
        assert_eq!(lengths(&["5, 6"]), Err(FramingError::LengthsDiffer));
        assert_eq!(lengths(&["5", "6"]), Err(FramingError::LengthsDiffer));
        assert_eq!(lengths(&["5", "05"]), Ok(FramedBody::Length(5)));
    }

    #[test]
    fn unusual_length_is_written_anew() {
        for (value, rewritten) in [
            ("5", false),
            ("0", false),
            ("05", true),
            ("00", true),
            ("5,5", true),
            ("5, 5", true),
        ] {
            let mut framing = FramingFields::default();
            framing.content_length(value.as_bytes()).unwrap();
            assert_eq!(framing.length_needs_rewriting(), rewritten, "{value}");
        }
    }

    /// RFC 9112 §6.1 and §6.3: only `chunked`, once, last.
    #[test]
    fn only_chunked_is_understood() {
        assert_eq!(codings(&["chunked"]), Ok(FramedBody::Chunked));
        assert_eq!(codings(&["CHUNKED"]), Ok(FramedBody::Chunked));
        for bad in [
            "",
            "gzip",
            "identity",
            "chunked, gzip",
            "chunked, chunked",
            "chunked,",
            ",chunked",
            "chunked;q=1",
            "xchunked",
            "chunked\u{b}",
            "\"chunked\"",
        ] {
            assert_eq!(codings(&[bad]), Err(FramingError::BadEncoding), "{bad}");
        }
        assert_eq!(
            codings(&["chunked", "chunked"]),
            Err(FramingError::BadEncoding)
        );
        assert_eq!(
            codings(&["chunked", "identity"]),
            Err(FramingError::BadEncoding)
        );
        assert_eq!(
            codings(&["gzip, chunked"]),
            Err(FramingError::UnknownCoding)
        );
        assert_eq!(
            codings(&["gzip", "chunked"]),
            Err(FramingError::UnknownCoding)
        );
    }

    /// RFC 9112 §6.1: both fields, or an encoding in HTTP/1.0, are an attempt at smuggling or an error.
    #[test]
    fn both_fields_or_an_old_version_are_refused() {
        let mut framing = FramingFields::default();
        framing.transfer_encoding(b"chunked").unwrap();
        assert_eq!(
            framing.verdict(HttpVersion::Http10),
            Err(FramingError::EncodingIn10)
        );
        framing.content_length(b"0").unwrap();
        assert_eq!(
            framing.verdict(HttpVersion::Http11),
            Err(FramingError::LengthAndEncoding)
        );
        assert_eq!(
            framing.verdict(HttpVersion::Http10),
            Err(FramingError::LengthAndEncoding)
        );
    }
}
