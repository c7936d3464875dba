//! Reused memory of an attempt: the request's head for the backend, the response's head, and what the proxy writes
//! itself.

use std::cell::RefCell;

use super::events::RestingEvents;
use crate::proxy::h1::response::ResponseHead;

/// Kept per thread; attempts that overlap beyond that allocate.
const SPARE: usize = 64;

/// Vectors that grew beyond this are freed instead.
const LARGEST: usize = 16 * 1024;

thread_local! {
    #[allow(clippy::vec_box, reason = "the boxes move between a vector and a task: only the pointer is copied")]
    static SPARES: RefCell<Vec<Box<AttemptScratch>>> = const { RefCell::new(Vec::new()) };
}

/// What an attempt works with.
#[derive(Debug, Default)]
pub struct AttemptScratch {
    /// The request's head as the backend gets it.
    pub head: Vec<u8>,
    /// The response's head.
    pub response: ResponseHead,
    /// What we write to the client ourselves.
    pub outgoing: Vec<u8>,
    /// The stream of events that has come to a still point, see [`super::ForwardEnd::AtRest`].
    pub resting: Option<Box<RestingEvents>>,
}

impl AttemptScratch {
    /// From this thread's spares, or new.
    pub fn take() -> Box<Self> {
        SPARES.with_borrow_mut(Vec::pop).unwrap_or_default()
    }

    /// Back to this thread's spares.
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
