//! Dates in text form. The text of a second is made once and reused.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::buffer::LineOutput;
use crate::core::Time;
use crate::rt::clock;

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Text of the second that was asked for last.
#[derive(Debug)]
pub(super) struct TimestampText {
    /// Difference to add to [`clock`] times to get the wall clock's. It is read again for each new second, so that
    /// lines follow a clock that is corrected while the proxy runs.
    offset: Duration,
    second: u64,
    /// `2026-07-29T12:34:56Z`
    iso: [u8; 20],
    /// `29/Jul/2026:12:34:56 +0000`
    combined: [u8; 26],
}

impl Default for TimestampText {
    fn default() -> Self {
        Self {
            offset: Duration::ZERO,
            // No clock ever shows this second, so the first use makes the text.
            second: u64::MAX,
            iso: [0; 20],
            combined: [0; 26],
        }
    }
}

impl TimestampText {
    /// `2026-07-29T12:34:56.789Z`
    #[inline(always)]
    pub(super) fn iso<const E: bool>(&mut self, out: &mut LineOutput<'_, E>, time: Time) {
        let millis = self.at(time);
        out.put(&self.iso[..19]);
        out.put(b".");
        out.three_digits(millis);
        out.put(b"Z");
    }

    /// `29/Jul/2026:12:34:56 +0000`
    #[inline(always)]
    pub(super) fn combined<const E: bool>(&mut self, out: &mut LineOutput<'_, E>, time: Time) {
        self.at(time);
        out.put(&self.combined);
    }

    /// Updates the texts to the second of this moment; returns the milliseconds within it.
    fn at(&mut self, time: Time) -> u32 {
        let mut wall = self.offset.saturating_add(time);
        if wall.as_secs() != self.second {
            self.offset = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .saturating_sub(clock::now());
            wall = self.offset.saturating_add(time);
            self.second = wall.as_secs();
            self.render();
        }
        wall.subsec_millis()
    }

    #[cold]
    #[inline(never)]
    fn render(&mut self) {
        // RFC 3339 ends with the year 9999: later times are shown as its last second.
        let second = self.second.min(253_402_300_799);
        let at = UNIX_EPOCH + Duration::from_secs(second);
        let mut rest = &mut self.iso[..];
        // Neither write can fail, because the arrays have the texts' length.
        let _ = write!(rest, "{}", humantime::format_rfc3339_seconds(at));
        let iso = &self.iso;
        let month = usize::from((iso[5] - b'0') * 10 + (iso[6] - b'0'));
        let mut rest = &mut self.combined[..];
        for part in [
            &iso[8..10],
            b"/",
            MONTHS[month.clamp(1, 12) - 1],
            b"/",
            &iso[0..4],
            b":",
            &iso[11..19],
            b" +0000",
        ] {
            let _ = rest.write_all(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> TimestampText {
        let mut stamp = TimestampText {
            second,
            ..TimestampText::default()
        };
        stamp.render();
        stamp
    }

    #[test]
    fn texts_of_a_known_second() {
        let stamp = at(1_785_328_496);
        assert_eq!(&stamp.iso, b"2026-07-29T12:34:56Z");
        assert_eq!(&stamp.combined, b"29/Jul/2026:12:34:56 +0000");
    }

    #[test]
    fn the_end_of_time_does_not_panic() {
        assert_eq!(&at(u64::MAX).iso, b"9999-12-31T23:59:59Z");
    }

    #[test]
    fn milliseconds_follow_the_time() {
        let mut stamp = TimestampText::default();
        let now = clock::now();
        for millis in [0, 7, 450, 999, 1_000, 5_250, 0] {
            let mut room = [0; 24];
            let time = now + Duration::from_millis(millis);
            stamp.iso(&mut LineOutput::<true>::new(&mut room), time);
            let text = std::str::from_utf8(&room).expect("ASCII");
            let parsed = humantime::parse_rfc3339(text).expect("RFC 3339");
            let wanted = clock::wall(time);
            let apart = wanted
                .duration_since(parsed)
                .unwrap_or_else(|error| error.duration());
            assert!(apart < Duration::from_millis(50), "{text}: {apart:?}");
        }
    }
}
