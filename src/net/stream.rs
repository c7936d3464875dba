//! Implementations of Pingora's stream traits, written once for types that wrap another stream and for those without a
//! socket of their own; and helpers for bytes that several of them share.
//!
//! A read into an empty buffer, which other streams answer at once, has a meaning here: it asks whether the client is
//! still there, and leaves its bytes unread. It is pending while the client is there, ready when the client has
//! finished sending, and an error when the connection is broken. (Pingora's stream trait has no method for it; and a
//! wrapper can pass a read on.)

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncWrite, ReadBuf};

/// Bytes that were read already, and will be read once more.
#[derive(Debug, Default)]
pub(crate) struct ReplayedBytes {
    bytes: Vec<u8>,
    /// Number of bytes that have been read again.
    at: usize,
}

impl ReplayedBytes {
    /// A replay of these bytes.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes that have not been read again.
    pub(crate) fn left(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Copies as many bytes as there is room for; `false` if none are left.
    pub(crate) fn read(&mut self, space: &mut ReadBuf<'_>) -> bool {
        if self.left().is_empty() {
            return false;
        }
        let count = self.left().len().min(space.remaining());
        space.put_slice(&self.left()[..count]);
        self.at += count;
        if self.left().is_empty() {
            *self = Self::default();
        }
        true
    }
}

/// Writes the pieces one by one, as long as each is taken whole; for streams that copy what they take.
pub(crate) fn poll_write_pieces<S: AsyncWrite>(
    mut stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut taken = 0;
    for piece in pieces {
        match stream.as_mut().poll_write(cx, piece) {
            Poll::Ready(Ok(count)) => {
                taken += count;
                if count < piece.len() {
                    break;
                }
            }
            _ if taken > 0 => break,
            other => return other,
        }
    }
    Poll::Ready(Ok(taken))
}

/// Parts of these pieces that a stream has taken, if it took `count` bytes in all.
pub(crate) fn taken_of<'a>(
    count: usize,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> impl Iterator<Item = &'a [u8]> {
    pieces.scan(count, |left, piece| {
        let taken = piece.get(..*left).unwrap_or(piece);
        *left -= taken.len();
        (!taken.is_empty() || *left > 0).then_some(taken)
    })
}

/// Implements `AsyncWrite` by forwarding to a field. The method, if one is named, is called with the number of bytes
/// taken.
macro_rules! writes_to {
    ($type:ty, $field:tt $(, $took:ident)?) => {
        impl tokio::io::AsyncWrite for $type {
            fn poll_write(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bytes: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let result = std::pin::Pin::new(&mut self.$field).poll_write(cx, bytes);
                $(if let std::task::Poll::Ready(Ok(count)) = result {
                    self.$took(count);
                })?
                result
            }

            fn poll_write_vectored(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                pieces: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let result = std::pin::Pin::new(&mut self.$field).poll_write_vectored(cx, pieces);
                $(if let std::task::Poll::Ready(Ok(count)) = result {
                    self.$took(count);
                })?
                result
            }

            fn is_write_vectored(&self) -> bool {
                self.$field.is_write_vectored()
            }

            fn poll_flush(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::pin::Pin::new(&mut self.$field).poll_flush(cx)
            }

            fn poll_shutdown(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::pin::Pin::new(&mut self.$field).poll_shutdown(cx)
            }
        }
    };
}

/// Implements Pingora's traits by the descriptor and digests of the stream below.
macro_rules! stands_on {
    ($type:ty, |$this:ident| $below:expr) => {
        #[async_trait::async_trait]
        impl pingora::protocols::Shutdown for $type {
            async fn shutdown(&mut self) {
                let _ = tokio::io::AsyncWriteExt::shutdown(self).await;
            }
        }

        impl pingora::protocols::UniqueID for $type {
            /// Descriptor of the stream below.
            fn id(&self) -> pingora::protocols::UniqueIDType {
                let $this = self;
                $below.id()
            }
        }

        impl pingora::protocols::GetTimingDigest for $type {
            fn get_timing_digest(&self) -> Vec<Option<pingora::protocols::TimingDigest>> {
                let $this = self;
                $below.get_timing_digest()
            }
        }

        impl pingora::protocols::GetProxyDigest for $type {
            fn get_proxy_digest(
                &self,
            ) -> Option<std::sync::Arc<pingora::protocols::raw_connect::ProxyDigest>> {
                let $this = self;
                $below.get_proxy_digest()
            }
        }

        impl pingora::protocols::GetSocketDigest for $type {
            fn get_socket_digest(
                &self,
            ) -> Option<std::sync::Arc<pingora::protocols::SocketDigest>> {
                let $this = self;
                $below.get_socket_digest()
            }
        }

        impl pingora::protocols::Ssl for $type {}
        impl pingora::protocols::Peek for $type {}
    };
}

/// Implements Pingora's traits for a stream that shares its connection with others, and so has no descriptor of its
/// own.
macro_rules! has_no_socket {
    ($type:ty) => {
        #[async_trait::async_trait]
        impl pingora::protocols::Shutdown for $type {
            async fn shutdown(&mut self) {}
        }

        impl pingora::protocols::UniqueID for $type {
            fn id(&self) -> pingora::protocols::UniqueIDType {
                -1
            }
        }

        impl pingora::protocols::GetTimingDigest for $type {
            fn get_timing_digest(&self) -> Vec<Option<pingora::protocols::TimingDigest>> {
                Vec::new()
            }
        }

        impl pingora::protocols::GetProxyDigest for $type {
            fn get_proxy_digest(
                &self,
            ) -> Option<std::sync::Arc<pingora::protocols::raw_connect::ProxyDigest>> {
                None
            }
        }

        impl pingora::protocols::GetSocketDigest for $type {
            fn get_socket_digest(
                &self,
            ) -> Option<std::sync::Arc<pingora::protocols::SocketDigest>> {
                None
            }
        }

        impl pingora::protocols::Ssl for $type {}
        impl pingora::protocols::Peek for $type {}
    };
}

pub(crate) use {has_no_socket, stands_on, writes_to};

#[cfg(test)]
mod tests {
    use super::taken_of;

    #[test]
    fn taken_pieces_end_where_the_stream_stopped() {
        let pieces: [&[u8]; 4] = [b"abc", b"", b"de", b"f"];
        for count in 0..=6 {
            let taken: Vec<u8> = taken_of(count, pieces.into_iter())
                .flatten()
                .copied()
                .collect();
            assert_eq!(taken, &b"abcdef"[..count]);
        }
        assert_eq!(taken_of(3, pieces.into_iter()).count(), 1);
    }
}
