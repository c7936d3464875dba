//! Reads access logs: several, rotated, and compressed ones.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

/// Longest line that is read, in bytes; lameduck writes none that is longer.
const MAX_LINE_LENGTH: u64 = 1 << 20;

/// Completeness of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    /// The line is complete.
    Whole,
    /// The file ends within the line.
    Torn,
    /// The line is longer than any that lameduck writes, and was not read.
    TooLong,
}

/// Reads each line of a log, with its number from 1; `-` is standard input. gzip and zstd are recognised by their first
/// bytes, whatever the file's name.
///
/// # Errors
/// The file can't be read, or is damaged.
pub fn read_lines(path: &Path, mut line: impl FnMut(u64, &[u8], LineEnd)) -> io::Result<()> {
    let file: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path)?),
    };
    let mut file = BufReader::new(file);
    let first = file.fill_buf()?;
    let plain: Box<dyn Read> = match first {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::new(file)?),
        _ => Box::new(file),
    };
    let mut plain = BufReader::new(plain);
    let mut number = 0;
    let mut text = Vec::new();
    loop {
        text.clear();
        number += 1;
        (&mut plain)
            .take(MAX_LINE_LENGTH)
            .read_until(b'\n', &mut text)?;
        match text.last() {
            None => return Ok(()),
            Some(b'\n') => {
                text.pop();
                line(number, &text, LineEnd::Whole);
            }
            Some(_) if (text.len() as u64) < MAX_LINE_LENGTH => line(number, &text, LineEnd::Torn),
            Some(_) => {
                line(number, &[], LineEnd::TooLong);
                plain.skip_until(b'\n')?;
            }
        }
    }
}
