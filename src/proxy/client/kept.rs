//! The memory that an incomplete request uses, and what ends the request early.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::ClientConnection;
use super::upload::RequestUpload;
use crate::proxy::buffer::SMALL;
use crate::proxy::memory::{self, ConnectionShare, IncompletePlace};

impl ClientConnection {
    /// Returns whether the buffer may grow by this many bytes while the request is incomplete.
    pub fn may_grow(&mut self, growth: usize) -> bool {
        let whole = self.buffer.surplus().max(SMALL) + growth;
        let fits = |share: &mut ConnectionShare| share.set_with_body(whole);
        self.share.as_mut().is_none_or(fits) && memory::make_room(growth)
    }

    /// Returns whether the request, whose body is incomplete, is evicted to make room for others; `flat` is the
    /// memory that it uses besides its buffer, in bytes.
    pub fn poll_evicted(&mut self, cx: &mut Context<'_>, flat: usize) -> bool {
        let bytes = flat + self.buffer.surplus();
        let place = self
            .place
            .get_or_insert_with(|| IncompletePlace::take(flat));
        place.poll_evicted(cx.waker(), bytes)
    }

    /// Returns whether the request, whose head is incomplete, is evicted to make room for others.
    pub fn poll_head_evicted(&mut self, cx: &mut Context<'_>) -> bool {
        let bytes = self.buffer.surplus();
        if bytes == 0 {
            return false;
        }
        let place = self.place.get_or_insert_with(|| IncompletePlace::take(0));
        place.poll_head_evicted(cx.waker(), bytes)
    }

    /// Returns whether an HTTP/2 stream that has sent its whole request was reset while a backend connection was
    /// being made: a reset costs its sender next to nothing, so no avoidable work is done for it. HTTP/1 connections
    /// are not checked: a half-closed one gets its response.
    pub async fn has_reset(&mut self, upload: &mut RequestUpload) -> bool {
        self.share.is_some()
            && upload.is_complete()
            && poll_fn(|cx| Poll::Ready(self.poll_gone_unread(cx, upload))).await
    }
}
