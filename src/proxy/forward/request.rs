//! The direction to the backend: the request's head and body, and the check whether the client is still connected
//! when there is nothing left to read.

use std::task::{Context, Poll};

use super::super::buffer::LARGE;
use super::{Exchange, ForwardFailure, ResponseTruncation, Sending, is_reset, poll_write_both};
use crate::metrics::ServerLimit;
use crate::proxy::client::upload::UploadError;
use crate::rt::clock;

impl Exchange<'_> {
    /// Moves what can be moved of the request.
    pub(super) fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<(), ForwardFailure> {
        while self.sending == Sending::Active && self.turn > 0 {
            let head = &self.head[self.head_sent..];
            let body = self.upload.unsent(&self.client.buffer);
            if !head.is_empty() || !body.is_empty() {
                match poll_write_both(cx, &mut self.connection.stream, head, body) {
                    Poll::Ready(Ok(count)) if count > 0 => {
                        let of_head = count.min(head.len());
                        self.head_sent += of_head;
                        self.upload.advance(count - of_head);
                        self.tally.bytes_up += count as u64;
                        self.turn = self.turn.saturating_sub(count);
                        self.unflushed_up = true;
                        self.note_progress();
                    }
                    Poll::Ready(result) => {
                        self.sending = Sending::Refused;
                        self.reset |= result.is_err_and(|error| is_reset(&error));
                    }
                    Poll::Pending => {
                        self.stalled = true;
                        return Ok(());
                    }
                }
            } else if self.upload.is_complete() {
                self.sending = Sending::Done;
            } else {
                if self.begun {
                    self.upload.release(&mut self.client.buffer);
                } else {
                    self.upload.make_room(&mut self.client.buffer);
                }
                let most = self.client.buffer.len() + LARGE;
                match self.client.poll_read(cx, most) {
                    Poll::Ready(Ok(count)) if count > 0 => {
                        if let Err(error) = self.upload.absorb(&self.client.buffer) {
                            return Err(match error {
                                _ if !self.begun => ForwardFailure::BadBody(error),
                                UploadError::TooLarge => self.limited(ServerLimit::Body, 413),
                                UploadError::Malformed => {
                                    ForwardFailure::Truncated(ResponseTruncation::BadBody)
                                }
                            });
                        }
                        self.progress = clock::now();
                        self.pace_up.moved(self.progress);
                    }
                    Poll::Ready(_) => return Err(ForwardFailure::ClientGone),
                    Poll::Pending => return Ok(()),
                }
            }
        }
        Ok(())
    }

    /// Notices a client that has disconnected. A client that has only finished sending still expects its response.
    pub(super) fn watch_client(&mut self, cx: &mut Context<'_>) -> Result<(), ForwardFailure> {
        // While the body is arriving, `poll_up` reads from the client.
        while !self.client.finished
            && self.upload.is_complete()
            && self.client.buffer.has_room(LARGE)
        {
            match self.client.poll_read(cx, LARGE) {
                // A client that has half closed its connection doesn't read events from it: it has disconnected.
                Poll::Ready(Ok(0)) if self.begun && self.response.is_event_stream => {
                    return Err(ForwardFailure::ClientGone);
                }
                Poll::Ready(Ok(0)) => self.client.finished = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Err(ForwardFailure::ClientGone),
                Poll::Pending => break,
            }
        }
        // Reading stops while the body is refused, while the backend accepts no more of it, and when the client has
        // sent more requests than there is room for.
        self.is_deaf = match self.upload.is_complete() {
            true => !self.client.buffer.has_room(LARGE),
            false => self.stalled || self.sending == Sending::Refused,
        };
        match self.is_deaf && self.client.poll_gone_unread(cx, self.upload) {
            true => Err(ForwardFailure::ClientGone),
            false => Ok(()),
        }
    }
}
