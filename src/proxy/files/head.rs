//! The head of a response with a file: the status, the header fields, and the bytes of the file that follow.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::body::BodyPart;
use super::find::OpenedFile;
use crate::config::{CompressionAlgorithm, FilesAction};
use crate::core::files::pattern::fits_pattern;
use crate::core::files::range::{RequestedRanges, read_ranges};
use crate::core::files::validators::{FileValidators, PreconditionAnswer, Preconditions};
use crate::proxy::compression::{VARY, is_weak_form, weaken_etag};
use crate::proxy::h1::request::RequestHead;
use crate::rt::clock;

/// A response with a file, without the parts that concern the connection.
#[derive(Debug)]
pub struct FileAnswer {
    /// Its status: 200, 206, 304, 412 or 416.
    pub status: u16,
    /// Its header fields, as lines.
    pub fields: Vec<u8>,
    /// The body: bytes of the file, with the text before them if there are several parts.
    pub parts: Vec<BodyPart>,
    /// The text after the parts.
    pub after: Vec<u8>,
    /// The coding in which the whole file is sent, as chunks.
    pub coding: Option<CompressionAlgorithm>,
}

/// How files may be compressed while they are sent.
#[derive(Debug, Default, Clone, Copy)]
pub struct FileCompression {
    /// Whether some clients get this file compressed, so that its responses vary with `Accept-Encoding`.
    pub varies: bool,
    /// The coding for this client.
    pub coding: Option<CompressionAlgorithm>,
}

/// The header fields of a request that concern the file.
#[derive(Debug, Default)]
pub struct AskedOfFile<'a> {
    preconditions: Preconditions<'a>,
    range: Option<&'a [u8]>,
    if_range: Option<&'a [u8]>,
    /// `Accept-Encoding`.
    pub accepted: Option<&'a [u8]>,
}

impl<'a> AskedOfFile<'a> {
    /// Reads the header fields. If one occurs several times, the first counts; `Range` is ignored then.
    pub fn read(buffer: &'a [u8], head: &RequestHead) -> Self {
        let mut asked = Self::default();
        let mut ranges = 0;
        for field in &head.fields {
            let (name, value) = (field.name.of(buffer), field.value.of(buffer));
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            let first = |place: &mut Option<&'a [u8]>| {
                place.get_or_insert(value);
            };
            let date = |place: &mut Option<i64>| *place = place.or_else(|| read_date(value));
            match name.len() {
                5 if is("range") => {
                    ranges += 1;
                    asked.range = Some(value).filter(|_| ranges == 1);
                }
                8 if is("if-match") => first(&mut asked.preconditions.if_match),
                8 if is("if-range") => first(&mut asked.if_range),
                13 if is("if-none-match") => first(&mut asked.preconditions.if_none_match),
                15 if is("accept-encoding") => first(&mut asked.accepted),
                17 if is("if-modified-since") => date(&mut asked.preconditions.if_modified_since),
                19 if is("if-unmodified-since") => {
                    date(&mut asked.preconditions.if_unmodified_since)
                }
                _ => {}
            }
        }
        asked
    }
}

/// Parses an HTTP date; returns seconds since 1970.
fn read_date(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let date = httpdate::parse_http_date(text).ok()?;
    let since = date.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

/// Writes seconds since 1970 as an HTTP date; times before 1970 or after 9999 become the nearest date.
fn write_date(out: &mut Vec<u8>, seconds: i64) {
    let seconds = u64::try_from(seconds).unwrap_or(0).min(LAST_DATE);
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    out.extend_from_slice(date.as_bytes());
}

/// The end of the year 9999, in seconds since 1970.
const LAST_DATE: u64 = 253_402_300_799;

/// Decides about the response for a file that was found.
///
/// Ranges are always sent uncompressed: the bytes of a body that is compressed while it is sent are not known in
/// advance. Such a body has a weak ETag, and its date is not a strong validator either, since the plain file has the
/// same (RFC 9110, section 8.8).
pub fn answer_with(
    found: &OpenedFile,
    files: &FilesAction,
    asked: &AskedOfFile<'_>,
    compression: FileCompression,
) -> FileAnswer {
    let now = clock::unix_seconds(SystemTime::now());
    let size = found.state.size;
    let validators = FileValidators {
        modified: found.state.modified,
        nanos: found.state.nanos,
        size,
        suffix: found.coding.map_or("", |coding| coding.extension),
        now,
    };
    let mut fields = Vec::with_capacity(384);
    put(&mut fields, &[b"Date: "]);
    write_date(&mut fields, now);
    put(&mut fields, &[b"\r\n"]);
    let empty = |status, fields| FileAnswer {
        status,
        fields,
        parts: Vec::new(),
        after: Vec::new(),
        coding: None,
    };
    let state = FileState {
        found,
        files,
        validators: &validators,
        varies: files.precompressed || compression.varies,
    };
    match validators.judge(&asked.preconditions) {
        PreconditionAnswer::Serve => {}
        PreconditionAnswer::Failed => {
            put(&mut fields, &[b"Content-Length: 0\r\n"]);
            return empty(412, fields);
        }
        PreconditionAnswer::NotModified => {
            // In the form that the client has stored (RFC 9111, section 4.3.4).
            let is_encoded = match asked.preconditions.if_none_match {
                _ if !compression.varies => false,
                Some(tags) => is_weak_form(tags, validators.tag().as_bytes()),
                None => compression.coding.is_some(),
            };
            state.write(&mut fields, is_encoded);
            return empty(304, fields);
        }
    }
    let holds = |value: &&[u8]| {
        asked.if_range.is_none_or(|state| {
            let date = read_date(state).filter(|_| compression.coding.is_none());
            validators.is_current(state, date)
        }) && !value.is_empty()
    };
    let ranges = match asked.range.filter(holds) {
        Some(value) => read_ranges(value, size),
        None => RequestedRanges::Whole,
    };
    let media_type = media_type(&found.relative);
    let length = |fields: &mut Vec<u8>, length: u64| {
        put(
            fields,
            &[
                b"Content-Length: ",
                itoa::Buffer::new().format(length).as_bytes(),
                b"\r\n",
            ],
        );
    };
    let part = |range: Range<u64>| BodyPart {
        before: Vec::new(),
        range,
    };
    let (status, parts, after) = match ranges {
        RequestedRanges::Unsatisfiable => {
            let size = itoa::Buffer::new().format(size).to_owned();
            put(
                &mut fields,
                &[
                    b"Content-Range: bytes */",
                    size.as_bytes(),
                    b"\r\nContent-Length: 0\r\n",
                ],
            );
            return empty(416, fields);
        }
        RequestedRanges::Whole => {
            put(
                &mut fields,
                &[b"Content-Type: ", media_type.as_bytes(), b"\r\n"],
            );
            match compression.coding {
                Some(coding) => {
                    let coding = coding.as_str().as_bytes();
                    put(
                        &mut fields,
                        &[
                            b"Content-Encoding: ",
                            coding,
                            b"\r\nTransfer-Encoding: chunked\r\n",
                        ],
                    );
                    state.write(&mut fields, true);
                    return FileAnswer {
                        status: 200,
                        fields,
                        parts: vec![part(0..size)],
                        after: Vec::new(),
                        coding: compression.coding,
                    };
                }
                None => length(&mut fields, size),
            }
            (200, vec![part(0..size)], Vec::new())
        }
        RequestedRanges::Parts(ranges) => match <[_; 1]>::try_from(ranges) {
            Ok([range]) => {
                put(
                    &mut fields,
                    &[b"Content-Type: ", media_type.as_bytes(), b"\r\n"],
                );
                put(
                    &mut fields,
                    &[content_range(&range, size).as_bytes(), b"\r\n"],
                );
                length(&mut fields, range.end - range.start);
                (206, vec![part(range)], Vec::new())
            }
            Err(ranges) => {
                let boundary = format!("{:020}", fastrand::u64(..));
                let (parts, after) = many_parts(ranges, size, &media_type, &boundary);
                put(
                    &mut fields,
                    &[
                        b"Content-Type: multipart/byteranges; boundary=",
                        boundary.as_bytes(),
                        b"\r\n",
                    ],
                );
                let of_part =
                    |part: &BodyPart| part.before.len() as u64 + part.range.end - part.range.start;
                length(
                    &mut fields,
                    parts.iter().map(of_part).sum::<u64>() + after.len() as u64,
                );
                (206, parts, after)
            }
        },
    };
    state.write(&mut fields, false);
    put(&mut fields, &[b"Accept-Ranges: bytes\r\n"]);
    FileAnswer {
        status,
        fields,
        parts,
        after,
        coding: None,
    }
}

/// The state of the file, its coding, and how long it may be cached.
struct FileState<'a> {
    found: &'a OpenedFile,
    files: &'a FilesAction,
    validators: &'a FileValidators,
    varies: bool,
}

impl FileState<'_> {
    /// Writes the header fields. `is_encoded`: the file is compressed while it is sent.
    fn write(&self, out: &mut Vec<u8>, is_encoded: bool) {
        put(out, &[b"Last-Modified: "]);
        write_date(out, self.validators.modified);
        let tag = self.validators.tag();
        put(out, &[b"\r\n"]);
        match is_encoded {
            true => weaken_etag(out, tag.as_bytes()),
            false => put(out, &[b"ETag: ", tag.as_bytes(), b"\r\n"]),
        }
        let rule = self
            .files
            .cache
            .iter()
            .find(|rule| fits_pattern(rule.pattern.as_bytes(), &self.found.relative));
        if let Some(rule) = rule.filter(|rule| !rule.field.is_empty()) {
            put(out, &[b"Cache-Control: ", rule.field.as_bytes(), b"\r\n"]);
        }
        if let Some(coding) = self.found.coding {
            put(
                out,
                &[b"Content-Encoding: ", coding.name.as_bytes(), b"\r\n"],
            );
        }
        if self.varies {
            put(out, &[VARY]);
        }
    }
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!(
        "Content-Range: bytes {}-{}/{size}",
        range.start,
        range.end - 1
    )
}

/// Returns the parts of a `multipart/byteranges` body (RFC 9110, section 14.6), each with its head, and the end.
fn many_parts(
    ranges: Vec<Range<u64>>,
    size: u64,
    media_type: &str,
    boundary: &str,
) -> (Vec<BodyPart>, Vec<u8>) {
    let part = |range: Range<u64>| BodyPart {
        before: format!(
            "\r\n--{boundary}\r\nContent-Type: {media_type}\r\n{}\r\n\r\n",
            content_range(&range, size)
        )
        .into_bytes(),
        range,
    };
    let parts = ranges.into_iter().map(part).collect();
    (parts, format!("\r\n--{boundary}--\r\n").into_bytes())
}

/// Returns a file's media type, by the extension of its name. Text types are UTF-8.
pub fn media_type(path: &[u8]) -> String {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let extension = match name.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if dot > 0 => std::str::from_utf8(&name[dot + 1..]).unwrap_or_default(),
        _ => "",
    };
    // RFC 9239 has one type for all scripts, including modules.
    let is_module = ["mjs", "cjs"]
        .iter()
        .any(|module| extension.eq_ignore_ascii_case(module));
    let known = match is_module {
        true => Some("text/javascript"),
        false => mime_guess::from_ext(extension).first_raw(),
    };
    match known {
        None => "application/octet-stream".into(),
        Some(text) if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        Some(other) => other.into(),
    }
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_depend_on_the_extension_and_texts_are_utf_8() {
        for (path, expected) in [
            ("a/index.html", "text/html; charset=utf-8"),
            ("a.b/style.CSS", "text/css; charset=utf-8"),
            ("app.mjs", "text/javascript; charset=utf-8"),
            ("app.js", "text/javascript; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.svg", "image/svg+xml"),
            ("a.wasm", "application/wasm"),
            ("a.woff2", "font/woff2"),
            ("a.tar.gz", "application/gzip"),
            ("README", "application/octet-stream"),
            (".html", "application/octet-stream"),
            ("a.", "application/octet-stream"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.webp", "image/webp"),
            ("a.avif", "image/avif"),
        ] {
            assert_eq!(media_type(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn dates_before_1970_and_beyond_9999_are_written_as_the_nearest() {
        let written = |seconds| {
            let mut out = Vec::new();
            write_date(&mut out, seconds);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(-5), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(written(i64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(read_date(b"Thu, 01 Jan 1970 00:04:16 GMT"), Some(256));
        assert_eq!(read_date(b"yesterday"), None);
    }
}
