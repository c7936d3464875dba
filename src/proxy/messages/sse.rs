//! Event streams (`text/event-stream`): finds the end of an event, so that a stream can be ended between two events.
//!
//! WHATWG HTML §9.2.5: events are separated by an empty line; a line ends with LF, CR or CRLF. A stream that ends
//! there loses nothing: the browser reconnects and sends `Last-Event-ID`.

use serde::{Deserialize, Serialize};

/// Tracks the end of the data that was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EventTracker {
    /// The last bytes, oldest first; before its first byte, a stream counts as between two events.
    tail: [u8; 4],
}

impl Default for EventTracker {
    fn default() -> Self {
        Self { tail: *b"\n\n\n\n" }
    }
}

impl EventTracker {
    /// Processes data that was passed on.
    pub fn feed(&mut self, data: &[u8]) {
        for byte in &data[data.len().saturating_sub(4)..] {
            self.tail.rotate_left(1);
            self.tail[3] = *byte;
        }
    }

    /// Returns whether the data so far ends with a complete event.
    pub fn is_between_events(&self) -> bool {
        ends_event(&self.tail)
    }

    /// Returns where the last complete event in `data` ends, if there is one.
    pub fn last_end(&self, data: &[u8]) -> Option<usize> {
        (1..=data.len()).rev().find(|end| {
            let mut tracker = *self;
            tracker.feed(&data[..*end]);
            tracker.is_between_events()
        })
    }
}

fn ends_event(tail: &[u8; 4]) -> bool {
    tail.ends_with(b"\n\n") || tail.ends_with(b"\r\n\r\n") || tail.ends_with(b"\r\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(data: &[u8]) -> EventTracker {
        let mut tracker = EventTracker::default();
        tracker.feed(data);
        tracker
    }

    #[test]
    fn an_empty_stream_may_end() {
        assert!(EventTracker::default().is_between_events());
    }

    #[test]
    fn every_line_ending_of_the_standard_separates_events() {
        for (data, whole) in [
            (&b"data: 1\n\n"[..], true),
            (b"data: 1\r\n\r\n", true),
            (b"data: 1\r\r", true),
            (b"data: 1\n", false),
            (b"data: 1\r\n", false),
            (b"data: 1", false),
        ] {
            assert_eq!(after(data).is_between_events(), whole, "{data:?}");
        }
    }

    #[test]
    fn the_blank_line_may_come_in_pieces() {
        let mut tracker = after(b"data: 1\n");
        tracker.feed(b"\n");
        assert!(tracker.is_between_events());
    }

    #[test]
    fn finds_the_last_whole_event() {
        let tracker = EventTracker::default();
        assert_eq!(tracker.last_end(b"data: 1\n\ndata: 2\n\ndata:"), Some(18));
        assert_eq!(tracker.last_end(b"data: 1"), None);
        assert_eq!(after(b"data: 1\n").last_end(b"\ndata: 2"), Some(1));
    }
}
