//! Zstandard encoder, by the reference implementation.

use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective, SafeResult};

use super::EncoderError;

/// Window of 256 KiB: larger ones use memory on both sides, and only help with bodies that repeat themselves over
/// long distances.
const WINDOW_LOG: u32 = 18;

/// Minimum room for output in each call, in bytes.
const ROOM: usize = 4 * 1024;

pub(super) struct ZstdEncoder {
    context: CCtx<'static>,
    level: i32,
}

impl ZstdEncoder {
    pub(super) fn new(level: i32) -> Result<Self, EncoderError> {
        let mut context = CCtx::try_create().ok_or(EncoderError)?;
        done(context.set_parameter(CParameter::CompressionLevel(level)))?;
        done(context.set_parameter(CParameter::WindowLog(WINDOW_LOG)))?;
        Ok(Self { context, level })
    }

    /// Returns the memory of an encoder of this level in bytes: tables that grow with the level, the window, and one
    /// block each of input and output.
    pub(super) const fn memory(level: i32) -> usize {
        match level {
            ..=2 => 3 << 19,
            3 => 2 << 20,
            4..=6 => 4 << 20,
            7..=8 => 7 << 20,
            _ => 12 << 20,
        }
    }

    /// Prepares the encoder for another body; returns false if it is for another level.
    pub(super) fn reuse(&mut self, level: i32) -> bool {
        self.level == level && self.context.reset(ResetDirective::SessionOnly).is_ok()
    }

    /// Sets the length of the body in bytes.
    pub(super) fn expect_length(&mut self, length: u64) -> Result<(), EncoderError> {
        done(self.context.set_pledged_src_size(Some(length)))
    }

    pub(super) fn push(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), EncoderError> {
        let mut input = InBuffer::around(data);
        while input.pos() < data.len() {
            self.write(out, |context, output| {
                context.compress_stream(output, &mut input)
            })?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), EncoderError> {
        while self.write(out, |context, output| context.flush_stream(output))? > 0 {}
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), EncoderError> {
        while self.write(out, |context, output| context.end_stream(output))? > 0 {}
        Ok(())
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        step: impl FnOnce(&mut CCtx<'static>, &mut OutBuffer<'_, Vec<u8>>) -> SafeResult,
    ) -> Result<usize, EncoderError> {
        out.reserve(ROOM);
        let behind = out.len();
        let mut output = OutBuffer::around_pos(out, behind);
        step(&mut self.context, &mut output).map_err(|_| EncoderError)
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.context.sizeof()
    }
}

impl std::fmt::Debug for ZstdEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZstdEncoder")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

fn done(result: SafeResult) -> Result<(), EncoderError> {
    result.map(|_| ()).map_err(|_| EncoderError)
}
