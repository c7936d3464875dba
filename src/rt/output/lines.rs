//! Writes whole lines to a descriptor that may be slow, full or closed.

use std::io::{self, Write};
use std::time::Duration;

/// Time between two attempts at a descriptor that another process made non-blocking and that is full.
const RETRY: Duration = Duration::from_millis(5);

/// Writer of whole lines, which remembers if a write stopped in the middle of one.
#[derive(Debug)]
pub struct LineWriter<W> {
    out: W,
    /// Whether the last write stopped within a line; the next one then begins with a line end.
    torn: bool,
}

impl<W: Write> LineWriter<W> {
    /// Lines to `out`.
    pub fn new(out: W) -> Self {
        Self { out, torn: false }
    }

    /// Writes whole lines. `give_up` is called now and then while a non-blocking descriptor is full.
    ///
    /// # Errors
    /// Those of write(2); some of the lines may have been written.
    pub fn write(&mut self, mut lines: &[u8], give_up: impl Fn() -> bool) -> io::Result<()> {
        if self.torn {
            self.write_some(b"\n", &give_up)?;
            self.torn = false;
        }
        while !lines.is_empty() {
            let written = self.write_some(lines, &give_up)?;
            lines = &lines[written..];
            self.torn = !lines.is_empty();
        }
        Ok(())
    }

    /// Writes at least one byte.
    fn write_some(&mut self, bytes: &[u8], give_up: &impl Fn() -> bool) -> io::Result<usize> {
        loop {
            match self.out.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => return Ok(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process made the shared standard output non-blocking. This thread has nothing else to do,
                // so it sleeps and tries again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !give_up() => {
                    std::thread::sleep(RETRY);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with space for a few bytes.
    #[derive(Default)]
    struct Disk {
        room: usize,
        text: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = bytes.len().min(self.room);
            if length == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= length;
            self.text.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn line_after_a_torn_one_begins_on_its_own() {
        let mut lines = LineWriter::new(Disk {
            room: 3,
            text: Vec::new(),
        });
        assert!(lines.write(b"first\n", || false).is_err());
        lines.out.room = 100;
        lines.write(b"second\n", || false).unwrap();
        lines.write(b"third\n", || false).unwrap();
        assert_eq!(lines.out.text, b"fir\nsecond\nthird\n");
    }
}
