//! A stream that first returns bytes which were already read from it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pingora::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use crate::net::stream::{ReplayedBytes, stands_on, writes_to};

/// Bytes to return first, and the stream that they were read from.
#[derive(Debug)]
struct Rewound {
    seen: ReplayedBytes,
    stream: Stream,
}

/// Wraps `stream` so that `seen` is read first.
pub fn rewound(stream: Stream, seen: &[u8]) -> Stream {
    match seen.is_empty() {
        true => stream,
        false => Box::new(Rewound {
            seen: ReplayedBytes::new(seen.to_vec()),
            stream,
        }),
    }
}

/// Stream below a rewound one, or `None` while there are bytes left to replay; any other stream is returned unchanged.
/// There may be several layers: the protocol is detected in the same way after a PROXY header, for example.
pub fn stream_below(stream: &Stream) -> Option<&Stream> {
    match stream.as_any().downcast_ref::<Rewound>() {
        None => Some(stream),
        Some(rewound) if rewound.seen.left().is_empty() => stream_below(&rewound.stream),
        Some(_) => None,
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match space.remaining() > 0 && self.seen.read(space) {
            true => Poll::Ready(Ok(())),
            false => Pin::new(&mut *self.stream).poll_read(cx, space),
        }
    }
}

writes_to!(Rewound, stream);
stands_on!(Rewound, |this| this.stream);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn stream_below_is_found_once_all_was_read_that_stands_above_it() {
        let (_peer, ours) = tokio::io::duplex(64);
        let mut stream = rewound(rewound(Box::new(ours), b"x"), b"y");
        let mut one = [0];
        for seen in [b'y', b'x'] {
            assert!(stream_below(&stream).is_none());
            stream.read_exact(&mut one).await.unwrap();
            assert_eq!(one[0], seen);
        }
        let found = stream_below(&stream).unwrap();
        assert!(found.as_any().is::<tokio::io::DuplexStream>());
    }

    #[tokio::test]
    async fn rewound_stream_replays_seen_bytes_and_continues() {
        let (mut near, far) = tokio::io::duplex(64);
        near.write_all(b"def").await.unwrap();
        let mut stream = rewound(Box::new(far), b"abc");
        let mut piece = [0; 2];
        stream.read_exact(&mut piece).await.unwrap();
        assert_eq!(&piece, b"ab");
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"cdef");
        stream.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        near.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
    }
}
