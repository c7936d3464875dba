//! Where a line is written to: a piece of a buffer that is there already, so that a write is a bounds check
//! and a copy. (A `Vec` that may grow costs twice the instructions.)

use super::escape;

/// A cursor over free room. What doesn't fit is left out and marks the whole line as unfit: never a panic.
#[derive(Debug)]
pub(super) struct Out<'a> {
    room: &'a mut [u8],
    size: usize,
    overflowed: bool,
}

impl<'a> Out<'a> {
    pub(super) fn new(room: &'a mut [u8]) -> Self {
        Self {
            size: room.len(),
            room,
            overflowed: false,
        }
    }

    /// How much was written, if everything fitted.
    pub(super) fn written(&self) -> Option<usize> {
        (!self.overflowed).then_some(self.size - self.room.len())
    }

    /// Bytes as they are. Meant for literals: with a length known at compile time it is a few moves.
    #[inline(always)]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        match self.room.split_off_mut(..bytes.len()) {
            Some(room) => room.copy_from_slice(bytes),
            None => self.overflowed = true,
        }
    }

    /// Bytes as they are, if none of them needs an escape; says whether that was so.
    pub(super) fn put_plain(&mut self, bytes: &[u8]) -> bool {
        let Some(room) = self.room.get_mut(..bytes.len()) else {
            self.overflowed = true;
            return true;
        };
        let plain = escape::copy_plain(room, bytes);
        if plain {
            let _ = self.room.split_off_mut(..bytes.len());
        }
        plain
    }

    pub(super) fn number(&mut self, value: u64) {
        if value < 10 {
            self.put(&[b'0' + value as u8]);
        } else {
            self.put(itoa::Buffer::new().format(value).as_bytes());
        }
    }
}
