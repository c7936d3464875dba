//! Reused memory of an attempt: the request head for the backend, the response head, and output that the proxy writes
//! itself.

use std::cell::RefCell;

use super::events::RestingEvents;
use crate::proxy::h1::response::ResponseHead;

/// Maximum memory of the space of [`take_written`] that is kept between two uses, in bytes.
const LARGEST_WRITTEN: usize = 128 * 1024;

/// Maximum number of scratches kept per thread; concurrent attempts beyond that allocate.
const SPARE: usize = 64;

/// Vectors larger than this are freed instead of kept, in bytes, and count towards `max_memory`.
pub(super) const LARGEST: usize = 16 * 1024;

thread_local! {
    #[allow(clippy::vec_box, reason = "the boxes move between a vector and a task: only the pointer is copied")]
    static SPARES: RefCell<Vec<Box<AttemptScratch>>> = const { RefCell::new(Vec::new()) };
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Takes this thread's space for one chunk's content, whose length is not known before it is written.
pub(super) fn take_written() -> Vec<u8> {
    WRITTEN.take()
}

/// Returns that space to the thread.
pub(super) fn give_back_written(mut written: Vec<u8>) {
    written.clear();
    written.shrink_to(LARGEST_WRITTEN);
    WRITTEN.set(written);
}

/// The buffers of an attempt.
#[derive(Debug, Default)]
pub struct AttemptScratch {
    /// The request head for the backend.
    pub head: Vec<u8>,
    /// The response head.
    pub response: ResponseHead,
    /// Output for the client that the proxy writes itself.
    pub outgoing: Vec<u8>,
    /// The paused event stream, see [`super::ForwardEnd::AtRest`].
    pub resting: Option<Box<RestingEvents>>,
}

impl AttemptScratch {
    /// Takes a scratch from this thread's spares, or creates one.
    pub fn take() -> Box<Self> {
        SPARES.with_borrow_mut(Vec::pop).unwrap_or_default()
    }

    /// Returns the scratch to this thread's spares.
    pub fn give_back(self: Box<Self>) {
        if self.outgoing.capacity() <= LARGEST && self.head.capacity() <= LARGEST {
            SPARES.with_borrow_mut(|spares| {
                if spares.len() < SPARE {
                    spares.push(self);
                }
            });
        }
    }
}
