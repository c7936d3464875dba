//! The field lines of a head, a request's and a response's alike: each is classified, its line's end is looked at, and
//! what it says is noted; behind the last one, what `Connection` says of the others.

use super::connection_options::{self, ConnectionOptions, TooManyOptions};
use super::error::LineEndError;
use super::fields::{FieldKind, classify};
use super::framing::{FramingError, FramingFields};
use super::method::HttpVersion;
use super::span::{ByteSpan, HeaderField};

/// A head whose fields are read.
pub(super) trait FieldReader {
    /// What is collected while going over the fields.
    type Seen;
    /// Why the head is refused.
    type Error: From<LineEndError>;

    /// The fields so far, and the kinds that occur among them.
    fn fields(&mut self) -> (&mut Vec<HeaderField>, &mut u32);

    /// Notes what a field says that the proxy acts on; returns the kind to keep it as.
    fn act_on(
        &mut self,
        field: HeaderField,
        value: &[u8],
        seen: &mut Self::Seen,
    ) -> Result<FieldKind, Self::Error>;
}

/// Reads the fields of a head of `len` bytes, which httparse has found in `buf`.
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
    // The last line; a blank line that is a bare LF moves this by one, so it is noticed too.
    check_line_end(buf, len - 2)?;
    Ok(())
}

/// httparse takes a bare LF for a line's end; RFC 9112 §2.2 lets us refuse it, and other readers differ on it.
#[inline]
fn check_line_end(buf: &[u8], at: usize) -> Result<(), LineEndError> {
    match at.checked_sub(2).and_then(|start| buf.get(start..at)) {
        Some(b"\r\n") => Ok(()),
        _ => Err(LineEndError),
    }
}

/// What the fields of any head say of its body's end and of its connection.
#[derive(Default)]
pub(super) struct HopFields {
    /// Of the body's end.
    pub(super) framing: FramingFields,
    /// Of the connection.
    pub(super) options: ConnectionOptions,
}

impl HopFields {
    /// Notes what a field of this kind says, if it is one of them; returns the kind to keep it as. `kinds`: those before
    /// it.
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

    /// Marks the fields that `Connection` names as dropped.
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

    /// Whether the connection may carry another message (RFC 9112 §9.3).
    #[inline]
    pub(super) fn keeps_alive(&self, version: HttpVersion) -> bool {
        match version {
            HttpVersion::Http11 => !self.options.close,
            HttpVersion::Http10 => self.options.keep_alive && !self.options.close,
        }
    }
}
