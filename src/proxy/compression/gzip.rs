//! gzip encoder, by zlib-ng.

use flate2::{Compress, Compression, FlushCompress, Status};

use super::EncoderError;

/// Minimum room for output in each call, in bytes: more than a flush marker, or zlib would write the marker again and
/// again.
const ROOM: usize = 4 * 1024;

/// Memory of an encoder in bytes: the window and its chains, and pending output.
pub(super) const MEMORY: usize = 384 << 10;

#[derive(Debug)]
pub(super) struct GzipEncoder {
    compress: Compress,
    level: u32,
}

impl GzipEncoder {
    pub(super) fn new(level: u32) -> Self {
        Self {
            compress: Compress::new_gzip(Compression::new(level), 15),
            level,
        }
    }

    /// Prepares the encoder for another body; returns false if it is for another level.
    pub(super) fn reuse(&mut self, level: u32) -> bool {
        if self.level != level {
            return false;
        }
        self.compress.reset();
        true
    }

    pub(super) fn push(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), EncoderError> {
        self.run(data, FlushCompress::None, out)
    }

    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), EncoderError> {
        self.run(&[], FlushCompress::Sync, out)
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), EncoderError> {
        self.run(&[], FlushCompress::Finish, out)
    }

    fn run(
        &mut self,
        mut data: &[u8],
        mode: FlushCompress,
        out: &mut Vec<u8>,
    ) -> Result<(), EncoderError> {
        loop {
            out.reserve(ROOM);
            let before = self.compress.total_in();
            let status = self.compress.compress_vec(data, out, mode);
            let status = status.map_err(|_| EncoderError)?;
            data = &data[(self.compress.total_in() - before) as usize..];
            let has_room = out.len() < out.capacity();
            if match mode {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => data.is_empty() && has_room,
            } {
                return Ok(());
            }
        }
    }
}
