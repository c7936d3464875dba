//! Reads the header fields of a request or response head: each is classified, its line end is checked, and the
//! information in it is noted; after the last one, the names in `Connection` are applied to the others.

use super::connection_options::{self, ConnectionOptions, TooManyOptions};
use super::error::LineEndError;
use super::fields::{FieldKind, classify};
use super::framing::{FramingError, FramingFields};
use super::method::HttpVersion;
use super::span::{ByteSpan, HeaderField};

/// A head whose header fields are read.
pub(super) trait FieldReader {
    /// Information collected from the header fields.
    type Seen;
    /// Why the head is refused.
    type Error: From<LineEndError>;

    /// Returns the header fields so far, and the kinds that occur among them.
    fn fields(&mut self) -> (&mut Vec<HeaderField>, &mut u32);

    /// Notes the information in a header field that the proxy acts on; returns the kind under which the field is
    /// kept.
    fn act_on(
        &mut self,
        field: HeaderField,
        value: &[u8],
        seen: &mut Self::Seen,
    ) -> Result<FieldKind, Self::Error>;
}

/// Reads the header fields of a head of `len` bytes, which httparse has found in `buf`.
#[inline(always)]
pub(super) fn read_fields<H: FieldReader>(
    head: &mut H,
    buf: &[u8],
    len: usize,
    headers: &[httparse::Header<'_>],
    seen: &mut H::Seen,
) -> Result<(), H::Error> {
    let (fields, kinds) = head.fields();
    fields.clear();
    *kinds = 0;
    for header in headers {
        let (name, value) = (header.name.as_bytes(), header.value);
        let mut field = HeaderField {
            name: ByteSpan::within(buf, name),
            value: ByteSpan::within(buf, value),
            kind: classify(name),
        };
        check_line_end(buf, field.name.start as usize)?;
        if field.kind != FieldKind::Other {
            field.kind = head.act_on(field, value, seen)?;
            *head.fields().1 |= field.kind.bit();
        }
        head.fields().0.push(field);
    }
    // The last line; if the empty line is a bare LF, the offset is wrong by one, so that is noticed too.
    check_line_end(buf, len - 2)?;
    Ok(())
}

/// Refuses a bare LF, which httparse accepts as a line end; RFC 9112 §2.2 allows refusing it, and other readers treat
/// it differently.
#[inline]
fn check_line_end(buf: &[u8], at: usize) -> Result<(), LineEndError> {
    match at.checked_sub(2).and_then(|start| buf.get(start..at)) {
        Some(b"\r\n") => Ok(()),
        _ => Err(LineEndError),
    }
}

/// The header fields of a head that concern the body's end and the connection.
#[derive(Default)]
pub(super) struct HopFields {
    /// The framing of the body.
    pub(super) framing: FramingFields,
    /// The options of the connection.
    pub(super) options: ConnectionOptions,
}

impl HopFields {
    /// Notes a header field of this kind, if it concerns the hop; returns the kind under which it is kept. `kinds`:
    /// the kinds of the fields before it.
    #[inline(always)]
    pub(super) fn note<E: From<FramingError> + From<TooManyOptions>>(
        &mut self,
        kind: FieldKind,
        value: &[u8],
        kinds: u32,
    ) -> Result<FieldKind, E> {
        match kind {
            FieldKind::ContentLength => {
                self.framing.content_length(value)?;
                if kinds & FieldKind::ContentLength.bit() != 0 {
                    return Ok(FieldKind::Dropped);
                }
            }
            FieldKind::TransferEncoding => self.framing.transfer_encoding(value)?,
            FieldKind::Connection => self.options.read(value)?,
            _ => {}
        }
        Ok(kind)
    }

    /// Marks the header fields that `Connection` names as dropped.
    #[inline]
    pub(super) fn drop_nominated(
        &self,
        buf: &[u8],
        (fields, kinds): (&mut Vec<HeaderField>, &mut u32),
    ) {
        if self.options.nominations > 0 {
            connection_options::drop_nominated(buf, fields);
            *kinds |= FieldKind::Dropped.bit();
        }
    }

    /// Returns whether the connection may carry another message (RFC 9112 §9.3).
    #[inline]
    pub(super) fn keeps_alive(&self, version: HttpVersion) -> bool {
        match version {
            HttpVersion::Http11 => !self.options.close,
            HttpVersion::Http10 => self.options.keep_alive && !self.options.close,
        }
    }
}
