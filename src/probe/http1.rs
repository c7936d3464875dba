//! One HTTP/1 request and its answer, on a connection that only the probe uses (RFC 9112).
//!
//! A thousand probes a second should cost next to nothing, so this does no more than a probe needs: the request is
//! bytes that were made once, and of the answer the status counts, the first bytes of the body, and where it ends. All of it
//! happens in the prober's own task.

use std::io;
use std::mem::MaybeUninit;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::ProbeConnection;
use crate::tls;

/// A longer head is no answer.
const MAX_HEAD: usize = 64 << 10;
/// A head with more fields is none, either.
const MAX_FIELDS: usize = 128;
/// A longer body is not read to its end, and its connection not kept.
const MAX_BODY: usize = 64 << 10;
/// Most answers fit.
const FIRST_READ: usize = 1024;

/// Why there was no answer.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The connection ended before.
    Closed,
    /// The other side does not want us (for people).
    Refused(String),
    /// What came was not HTTP/1.
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

/// An answer whose head has come.
#[derive(Debug)]
pub(super) struct ResponseStart {
    /// The status, 101 or 200 and above.
    pub(super) status: u16,
    connection: ProbeConnection,
    bytes: Vec<u8>,
    head: ProbeHead,
}

/// What a head says, as far as a probe wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ProbeHead {
    /// Its bytes, with the blank line.
    length: usize,
    status: u16,
    /// It is of HTTP/1.0.
    is_http10: bool,
    body: ProbeBody,
    keeps: bool,
}

/// Where the body ends (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProbeBody {
    Length(u64),
    Chunked,
    UntilClose,
}

/// Sends the request and reads the answer's head. `bodiless`: it was a HEAD.
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
            // A 1xx is not the answer yet; a 101 is the last that is HTTP.
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
    /// Whether the server speaks HTTP/1.0.
    pub(super) fn is_http10(&self) -> bool {
        self.head.is_http10
    }

    /// The first bytes of the body: what of it has come with the head, or since in [`Self::finish`].
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

    /// Reads the rest of the body; says whether the connection can take another request. May be dropped half-way.
    pub(super) async fn finish(&mut self) -> bool {
        let mut at = self.head.length;
        loop {
            match progress(&self.bytes, &mut at, self.head.body) {
                // Bytes after the end, which no request asked for.
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

    /// The connection, after [`Self::finish`] has said that it can be used again.
    pub(super) fn into_connection(self) -> ProbeConnection {
        self.connection
    }
}

/// How much of a body is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyProgress {
    Partial,
    /// All of it, up to here.
    End(usize),
    /// It is too long to be read, or can't be told where it ends.
    Broken,
}

/// Looks for the end of the body. `at` is where to look on for the next chunk.
fn progress(bytes: &[u8], at: &mut usize, body: ProbeBody) -> BodyProgress {
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
                return match trailers(&rest[start..]) {
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

/// The length of the trailer section with its blank line, if all of it is there.
fn trailers(rest: &[u8]) -> Option<usize> {
    if rest.starts_with(b"\r\n") {
        return Some(2);
    }
    let end = rest.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(end + 4)
}

/// The head that `bytes` begin with; `None` while it is not complete.
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
            close |= elements(field.value).any(|option| option.eq_ignore_ascii_case(b"close"));
            keep |= elements(field.value).any(|option| option.eq_ignore_ascii_case(b"keep-alive"));
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            // The last coding of the last field decides.
            let last = elements(field.value).last();
            chunked = last.map(|coding| coding.eq_ignore_ascii_case(b"chunked"));
        } else if field.name.eq_ignore_ascii_case("content-length") {
            for element in elements(field.value) {
                let number = number(element).ok_or(httparse::Error::HeaderValue)?;
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

/// The elements of a list.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// A number of digits only.
fn number(digits: &[u8]) -> Option<u64> {
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
                found = progress(&chunks.as_bytes()[..length], &mut at, ProbeBody::Chunked);
            }
            let whole = BodyProgress::End(chunks.len());
            assert_eq!(found, expected.unwrap_or(whole), "{chunks:?}");
        }
    }
}
