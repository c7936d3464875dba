//! Limits the lines in answers of an API server: a watch has a line for each event, a list is one line, and kube reads
//! lines of any length.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tower::BoxError;

/// Longest line in bytes: a page of a list has at most a hundred slices with a thousand endpoints each.
pub(super) const MAX_LINE_LENGTH: usize = 64 << 20;

/// A body whose lines are limited.
#[derive(Debug)]
pub(super) struct BoundedLines<B> {
    body: B,
    /// Bytes since the last line end.
    since_end: usize,
}

impl<B> BoundedLines<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, since_end: 0 }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for BoundedLines<B>
where
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        if let Some(data) = frame.data_ref() {
            self.since_end = match data.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => data.len() - end - 1,
                None => self.since_end + data.len(),
            };
        }
        if self.since_end > MAX_LINE_LENGTH {
            let why = format!("a line of more than {MAX_LINE_LENGTH} bytes");
            let error = io::Error::new(io::ErrorKind::InvalidData, why);
            return Poll::Ready(Some(Err(error.into())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::{BodyExt as _, StreamBody};

    /// Number of bytes that are read from this many such frames, and whether there was no error.
    async fn read(frame: Vec<u8>, count: usize) -> (usize, bool) {
        let frame = Bytes::from(frame);
        let frames = (0..count).map(move |_| Ok::<_, io::Error>(Frame::data(frame.clone())));
        let mut body = BoundedLines::new(StreamBody::new(stream::iter(frames)));
        let mut length = 0;
        while let Some(read) = body.frame().await {
            match read {
                Ok(frame) => length += frame.data_ref().map_or(0, Bytes::len),
                Err(_) => return (length, false),
            }
        }
        (length, true)
    }

    #[tokio::test]
    async fn line_without_end_is_an_error_and_lines_are_not_counted_together() {
        let mut lines = vec![b'x'; 1 << 20];
        let endless = read(lines.clone(), 100).await;
        assert_eq!(endless, (MAX_LINE_LENGTH, false));
        lines[77] = b'\n';
        assert_eq!(read(lines, 100).await, (100 << 20, true));
    }
}
