//! Space for one line: a part of a buffer that exists already, so that a write is a bounds check and a copy. (A `Vec`
//! that may grow costs twice the instructions.)

use super::escape;

/// A cursor over free space. Text that doesn't fit is left out and marks the whole line as not fitting; it never
/// panics.
///
/// A line is first written as if none of its texts had anything to escape, and each text is checked while it is copied.
/// If one needs an escape, the whole line is written again with `ESCAPING`. So texts need no branch for a case that is
/// rare.
///
/// Functions take it by value and give it back. By reference it would have to be in memory, and every write would load
/// and store what otherwise stays in registers.
#[derive(Debug)]
pub(super) struct LineOutput<'a, const ESCAPING: bool> {
    /// Space that is left. It becomes empty once something didn't fit, so a line that fills it to the last byte also
    /// counts as not fitting.
    room: &'a mut [u8],
    /// Union of what [`escape::copy_judged`] has found in the texts so far.
    found: u64,
}

/// Result of writing a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LineOutcome {
    /// The line has this many bytes.
    Whole(usize),
    /// A text in it needs an escape.
    Unescaped,
    /// There was not enough space.
    Unfit,
}

impl<'a, const ESCAPING: bool> LineOutput<'a, ESCAPING> {
    #[inline(always)]
    pub(super) fn new(room: &'a mut [u8]) -> Self {
        Self { room, found: 0 }
    }

    /// Result of the line, if its space had this `size`.
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

    /// Appends bytes as they are. Meant for literals: a length known at compile time makes it a few moves.
    #[inline(always)]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        match self.room.split_off_mut(..bytes.len()) {
            Some(room) => room.copy_from_slice(bytes),
            None => self.room = &mut [],
        }
    }

    /// Appends a text of at most `limit` bytes as it is, and records whether it needs an escape.
    #[inline(always)]
    pub(super) fn put_judged(&mut self, bytes: &[u8], limit: usize) {
        if bytes.len() > limit {
            // Longer texts are cut when they are escaped, so this one only has to be marked.
            self.found = escape::FOUND;
            return;
        }
        match self.room.split_off_mut(..bytes.len()) {
            Some(room) => self.found |= escape::copy_judged(room, bytes),
            None => self.room = &mut [],
        }
    }

    /// Appends a text by an `escape` function; of a text longer than `limit` only its beginning, and `more`.
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

    /// Calls `write` with the space that is left.
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

    /// Appends three digits, with leading zeros.
    #[inline(always)]
    pub(super) fn three_digits(&mut self, value: u32) {
        self.put(&three_digits(value));
    }

    /// Appends a number of thousandths as a decimal with three digits after the point.
    #[inline(always)]
    pub(super) fn thousandths(&mut self, value: u64) {
        self.room = put_thousandths(std::mem::take(&mut self.room), value);
    }
}

/// Writes a number of more than one digit; most have no more than four.
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
    // Up to an hour in microseconds fits into 32 bits, whose divisions are faster.
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
