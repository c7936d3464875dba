//! Limits the number of responses that are compressed concurrently in the whole process, and their memory.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::CompressionRefusal;
use crate::proxy::memory::{self, MemoryCharge};

/// Number of responses that are being compressed.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// A place among the responses that are being compressed, given back on drop.
#[derive(Debug)]
pub(super) struct CompressionPlace {
    _memory: MemoryCharge,
}

impl CompressionPlace {
    /// Takes a place among `most`, for an encoder with this much memory in bytes. A body that `lasts`, such as an
    /// event stream, may only use half of the places and of the memory, so that many of them leave some to other
    /// responses.
    pub(super) fn take(most: usize, bytes: usize, lasts: bool) -> Result<Self, CompressionRefusal> {
        let (most, parts) = match lasts {
            true => ((most / 2).max(1), 4),
            false => (most, 2),
        };
        if !memory::fits_part(bytes, parts) {
            return Err(CompressionRefusal::Memory);
        }
        let taken = TAKEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            (taken < most).then_some(taken + 1)
        });
        match taken {
            Ok(_) => {
                let mut charge = MemoryCharge::default();
                charge.set(bytes);
                Ok(Self { _memory: charge })
            }
            Err(_) => Err(CompressionRefusal::TooMany),
        }
    }
}

impl Drop for CompressionPlace {
    fn drop(&mut self) {
        TAKEN.fetch_sub(1, Ordering::Relaxed);
    }
}
