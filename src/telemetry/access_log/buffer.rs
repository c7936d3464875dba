//! Where a line is written to: a piece of a buffer that is there already, so that a write is a bounds check
//! and a copy. (A `Vec` that may grow costs twice the instructions.)

use super::escape;

/// A cursor over free room. What doesn't fit is left out and marks the whole line as unfit: never a panic.
///
/// A line is first written as if no text in it had anything to escape, and its texts are judged as they are copied. One
/// that had is written once more, with `ESCAPING`. So a text has no branch of its own for what hardly ever comes.
///
/// Functions take it by value and give it back. By reference it would have to be in memory, and every write would load
/// and store what otherwise stays in registers.
#[derive(Debug)]
pub(super) struct LineOutput<'a, const ESCAPING: bool> {
    /// What is left. Nothing is left once something didn't fit; so a line that fills its room to the last byte counts as
    /// one that didn't.
    room: &'a mut [u8],
    /// What [`escape::copy_judged`] has found in the texts so far.
    found: u64,
}

/// What became of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LineOutcome {
    /// It has so many bytes.
    Whole(usize),
    /// Some text of it needs an escape.
    Unescaped,
    /// There was not enough room.
    Unfit,
}

impl<'a, const ESCAPING: bool> LineOutput<'a, ESCAPING> {
    #[inline(always)]
    pub(super) fn new(room: &'a mut [u8]) -> Self {
        Self { room, found: 0 }
    }

    /// What became of a line in a room of this `size`.
    #[inline(always)]
    pub(super) fn written(self, size: usize) -> LineOutcome {
        if self.room.is_empty() {
            LineOutcome::Unfit
        } else if escape::is_plain(self.found) {
            LineOutcome::Whole(size - self.room.len())
        } else {
            LineOutcome::Unescaped
        }
    }

    /// Bytes as they are. Meant for literals: with a length known at compile time it is a few moves.
    #[inline(always)]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        match self.room.split_off_mut(..bytes.len()) {
            Some(room) => room.copy_from_slice(bytes),
            None => self.room = &mut [],
        }
    }

    /// A text of at most `limit` bytes as it is, if that will do.
    #[inline(always)]
    pub(super) fn put_judged(&mut self, bytes: &[u8], limit: usize) {
        if bytes.len() > limit {
            // It is cut where it is escaped. Of this room it takes nothing, which is for what is left of it.
            self.found = escape::FOUND;
            return;
        }
        match self.room.split_off_mut(..bytes.len()) {
            Some(room) => self.found |= escape::copy_judged(room, bytes),
            None => self.room = &mut [],
        }
    }

    /// A text by an `escape`; of a longer one than `limit`, its beginning, and `more`.
    #[inline(never)]
    pub(super) fn escape(
        &mut self,
        bytes: &[u8],
        limit: usize,
        escape: fn(LineOutput<'a, true>, &[u8]) -> LineOutput<'a, true>,
        more: &[u8],
    ) {
        let out = LineOutput::new(std::mem::take(&mut self.room));
        self.room = escape(out, &bytes[..bytes.len().min(limit)]).room;
        if bytes.len() > limit {
            self.put(more);
        }
    }

    /// Has `write` go on with what is left.
    #[inline(always)]
    pub(super) fn pass(&mut self, write: impl FnOnce(Self) -> Self) {
        let room = std::mem::take(&mut self.room);
        let found = self.found;
        *self = write(Self { room, found });
    }

    #[inline(always)]
    pub(super) fn number(&mut self, value: u64) {
        if value < 10 {
            self.put(&[b'0' + value as u8]);
        } else {
            self.room = put_number(std::mem::take(&mut self.room), value);
        }
    }

    /// Three digits, with leading zeros.
    #[inline(always)]
    pub(super) fn three_digits(&mut self, value: u32) {
        self.put(&three_digits(value));
    }

    /// A number with three digits behind its point, of a thousandth of its unit.
    #[inline(always)]
    pub(super) fn thousandths(&mut self, value: u64) {
        self.room = put_thousandths(std::mem::take(&mut self.room), value);
    }
}

/// A number of more than one digit. Most have no more than four.
#[inline(never)]
fn put_number(room: &mut [u8], value: u64) -> &mut [u8] {
    let mut out = LineOutput::<true>::new(room);
    match value {
        10..100 => out.put(&two_digits(value as u32)),
        100..1000 => out.put(&three_digits(value as u32)),
        1000..10_000 => {
            out.put(&two_digits(value as u32 / 100));
            out.put(&two_digits(value as u32 % 100));
        }
        _ => out.put(itoa::Buffer::new().format(value).as_bytes()),
    }
    out.room
}

#[inline(never)]
fn put_thousandths(room: &mut [u8], value: u64) -> &mut [u8] {
    let mut out = LineOutput::<true>::new(room);
    // In 32 bits, whose divisions take less, for all that is shorter than an hour in microseconds.
    if let Ok(value) = u32::try_from(value) {
        out.number((value / 1000).into());
        out.put(b".");
        out.three_digits(value % 1000);
    } else {
        out.number(value / 1000);
        out.put(b".");
        out.three_digits((value % 1000) as u32);
    }
    out.room
}

#[inline(always)]
fn two_digits(value: u32) -> [u8; 2] {
    [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]
}

#[inline(always)]
fn three_digits(value: u32) -> [u8; 3] {
    let [tens, ones] = two_digits(value % 100);
    [b'0' + (value / 100) as u8, tens, ones]
}
