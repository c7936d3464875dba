//! One HTTP/1 request and its answer on a connection that only the probe uses (RFC 9112).
//!
//! A thousand probes a second should cost almost nothing, so this code does no more than a probe needs. The request was
//! encoded once; of the answer only the status, the first bytes of the body and its end matter. Everything runs in the
//! prober's own task.

use std::io;
use std::mem::MaybeUninit;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::ProbeConnection;
use crate::tls;

/// Longest head, in bytes; a longer one counts as no answer.
const MAX_HEAD: usize = 64 << 10;
/// Most header fields; more count as no answer.
const MAX_FIELDS: usize = 128;
/// Longest body that is read to its end, in bytes; after a longer one, the connection is closed.
const MAX_BODY: usize = 64 << 10;
/// Bytes of the first read; most answers fit.
const FIRST_READ: usize = 1024;

/// Reason why there was no answer.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The connection ended before an answer had come.
    Closed,
    /// TLS with the backend failed; the text is for users.
    Refused(String),
    /// The answer was not HTTP/1.
    Garbled(httparse::Error),
}

impl From<io::Error> for ExchangeError {
    fn from(error: io::Error) -> Self {
        match tls::upstream::is_of_tls(&error) {
            true => Self::Refused(tls::upstream::explain(&error)),
            false => Self::Closed,
        }
    }
}

/// An answer whose head has arrived.
#[derive(Debug)]
pub(super) struct ResponseStart {
    /// Status code: 101, or 200 and above.
    pub(super) status: u16,
    connection: ProbeConnection,
    bytes: Vec<u8>,
    head: ProbeHead,
}

/// Parts of a head that a probe needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ProbeHead {
    /// Length in bytes, including the empty line.
    length: usize,
    status: u16,
    /// Whether it is HTTP/1.0.
    is_http10: bool,
    body: ProbeBody,
    keeps: bool,
}

/// End of the body (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProbeBody {
    Length(u64),
    Chunked,
    UntilClose,
}

/// Sends the request and reads the head of the answer. `bodiless`: the request was a HEAD.
pub(super) async fn ask(
    mut connection: ProbeConnection,
    request: &[u8],
    bodiless: bool,
) -> Result<ResponseStart, ExchangeError> {
    connection.write_all(request).await?;
    let mut bytes = Vec::with_capacity(FIRST_READ);
    loop {
        if connection.read_buf(&mut bytes).await? == 0 {
            return Err(ExchangeError::Closed);
        }
        while let Some(head) = parse(&bytes, bodiless).map_err(ExchangeError::Garbled)? {
            // After an interim response (1xx) the final one follows, except after 101, the last message in HTTP.
            if head.status >= 200 || head.status == 101 {
                let status = head.status;
                return Ok(ResponseStart {
                    status,
                    connection,
                    bytes,
                    head,
                });
            }
            bytes.drain(..head.length);
        }
        if bytes.len() > MAX_HEAD {
            return Err(ExchangeError::Garbled(httparse::Error::TooManyHeaders));
        }
    }
}

impl ResponseStart {
    /// Whether the server uses HTTP/1.0.
    pub(super) fn is_http10(&self) -> bool {
        self.head.is_http10
    }

    /// First bytes of the body: those that came with the head, and those read by [`Self::finish`].
    pub(super) fn body(&self) -> &[u8] {
        let body = &self.bytes[self.head.length..];
        match self.head.body {
            ProbeBody::Length(length) => {
                &body[..body.len().min(length.try_into().unwrap_or(MAX_BODY))]
            }
            ProbeBody::Chunked => match httparse::parse_chunk_size(body) {
                Ok(httparse::Status::Complete((start, size))) => {
                    let size = usize::try_from(size).unwrap_or(MAX_BODY);
                    let chunk = &body[start..];
                    &chunk[..chunk.len().min(size)]
                }
                _ => &[],
            },
            ProbeBody::UntilClose => body,
        }
    }

    /// Reads the rest of the body; returns whether the connection can take another request. The future may be dropped
    /// at any time.
    pub(super) async fn finish(&mut self) -> bool {
        let mut at = self.head.length;
        loop {
            match body_progress(&self.bytes, &mut at, self.head.body) {
                // Bytes after the end of the answer belong to no request.
                BodyProgress::End(end) => return self.head.keeps && end == self.bytes.len(),
                BodyProgress::Broken => return false,
                BodyProgress::Partial if self.bytes.len() - self.head.length > MAX_BODY => {
                    return false;
                }
                BodyProgress::Partial => {}
            }
            match self.connection.read_buf(&mut self.bytes).await {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
        }
    }

    /// The connection. It can be used again if [`Self::finish`] has returned `true`.
    pub(super) fn into_connection(self) -> ProbeConnection {
        self.connection
    }
}

/// How much of the body has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyProgress {
    Partial,
    /// All of it; it ends here.
    End(usize),
    /// It is too long, or malformed.
    Broken,
}

/// Looks for the end of the body. `at` is the position of the next chunk.
fn body_progress(bytes: &[u8], at: &mut usize, body: ProbeBody) -> BodyProgress {
    match body {
        ProbeBody::Length(length) if length > MAX_BODY as u64 => BodyProgress::Broken,
        ProbeBody::Length(length) => match *at + length as usize {
            end if end <= bytes.len() => BodyProgress::End(end),
            _ => BodyProgress::Partial,
        },
        ProbeBody::UntilClose => BodyProgress::Partial,
        ProbeBody::Chunked => loop {
            let Some(rest) = bytes.get(*at..) else {
                return BodyProgress::Partial;
            };
            let (start, size) = match httparse::parse_chunk_size(rest) {
                Ok(httparse::Status::Complete(found)) => found,
                Ok(httparse::Status::Partial) => return BodyProgress::Partial,
                Err(_) => return BodyProgress::Broken,
            };
            if size == 0 {
                return match trailer_length(&rest[start..]) {
                    Some(length) => BodyProgress::End(*at + start + length),
                    None => BodyProgress::Partial,
                };
            }
            if size > MAX_BODY as u64 {
                return BodyProgress::Broken;
            }
            *at += start + size as usize + 2;
        },
    }
}

/// Length of the trailer section with its empty line, if all of it has arrived.
fn trailer_length(rest: &[u8]) -> Option<usize> {
    if rest.starts_with(b"\r\n") {
        return Some(2);
    }
    let end = rest.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(end + 4)
}

/// Parses the head at the start of `bytes`; `None` if it is incomplete.
fn parse(bytes: &[u8], bodiless: bool) -> Result<Option<ProbeHead>, httparse::Error> {
    let mut storage = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let outcome = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        bytes,
        &mut storage,
    )?;
    let httparse::Status::Complete(length) = outcome else {
        return Ok(None);
    };
    let status = parsed.code.unwrap_or_default();
    if status < 100 {
        return Err(httparse::Error::Status);
    }
    let (mut close, mut keep, mut chunked, mut announced) = (false, false, None, None);
    for field in parsed.headers.iter() {
        if field.name.eq_ignore_ascii_case("connection") {
            close |= list_elements(field.value).any(|option| option.eq_ignore_ascii_case(b"close"));
            keep |=
                list_elements(field.value).any(|option| option.eq_ignore_ascii_case(b"keep-alive"));
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            // The last transfer coding decides (RFC 9112, section 6.1).
            let last = list_elements(field.value).last();
            chunked = last.map(|coding| coding.eq_ignore_ascii_case(b"chunked"));
        } else if field.name.eq_ignore_ascii_case("content-length") {
            for element in list_elements(field.value) {
                let number = parse_number(element).ok_or(httparse::Error::HeaderValue)?;
                if announced.is_some_and(|known| known != number) {
                    return Err(httparse::Error::HeaderValue);
                }
                announced = Some(number);
            }
        }
    }
    let old = parsed.version == Some(0);
    let body = match (chunked, announced) {
        _ if bodiless || status < 200 || matches!(status, 204 | 304) => ProbeBody::Length(0),
        (Some(true), _) if !old => ProbeBody::Chunked,
        (Some(_), _) | (None, None) => ProbeBody::UntilClose,
        (None, Some(length)) => ProbeBody::Length(length),
    };
    let keeps = !close && (!old || keep) && status != 101;
    Ok(Some(ProbeHead {
        length,
        status,
        is_http10: old,
        body,
        keeps,
    }))
}

/// Elements of a comma-separated list.
fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Parses a number that has only digits.
fn parse_number(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    plain
        .then(|| std::str::from_utf8(digits).ok()?.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<(ProbeBody, bool)>, httparse::Error> {
        parse(text.as_bytes(), false).map(|head| head.map(|head| (head.body, head.keeps)))
    }

    #[test]
    fn where_the_body_ends_and_whether_the_connection_stays() {
        let cases = [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
                ProbeBody::Length(2),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n",
                ProbeBody::Length(2),
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", ProbeBody::UntilClose, true),
            (
                "HTTP/1.1 204 No Content\r\n\r\n",
                ProbeBody::Length(0),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                ProbeBody::Chunked,
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                ProbeBody::Chunked,
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                ProbeBody::UntilClose,
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n",
                ProbeBody::UntilClose,
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
                ProbeBody::Length(0),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
                ProbeBody::Length(0),
                true,
            ),
            (
                "HTTP/1.1 101 Switching Protocols\r\n\r\n",
                ProbeBody::Length(0),
                false,
            ),
        ];
        for (text, body, keeps) in cases {
            assert_eq!(read(text), Ok(Some((body, keeps))), "{text}");
            assert_eq!(read(&text[..text.len() - 1]), Ok(None), "{text}");
        }
        let head = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true);
        assert_eq!(
            head.unwrap().unwrap().body,
            ProbeBody::Length(0),
            "to a HEAD"
        );
        for broken in [
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: -1",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{broken}\r\n\r\n");
            assert!(read(&text).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_body_in_chunks_ends_at_its_last_byte_and_not_before() {
        for (chunks, expected) in [
            ("0\r\n\r\n", None),
            ("2\r\nok\r\n0\r\n\r\n", None),
            ("2;x=y\r\nok\r\n3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n", None),
            ("fffffffffffffff\r\nok", Some(BodyProgress::Broken)),
            ("2\r\nok\r\nzz\r\n", Some(BodyProgress::Broken)),
            ("9\r\nok", Some(BodyProgress::Partial)),
        ] {
            let (mut at, mut found) = (0, BodyProgress::Partial);
            for length in 0..=chunks.len() {
                assert!(
                    !matches!(found, BodyProgress::End(_)),
                    "{chunks:?} ended before {length}"
                );
                found = body_progress(&chunks.as_bytes()[..length], &mut at, ProbeBody::Chunked);
            }
            let whole = BodyProgress::End(chunks.len());
            assert_eq!(found, expected.unwrap_or(whole), "{chunks:?}");
        }
    }
}
