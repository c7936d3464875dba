//! Brotli encoder.

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{
    BrotliEncoderCompressStream, BrotliEncoderCreateInstance, BrotliEncoderHasMoreOutput,
    BrotliEncoderIsFinished, BrotliEncoderOperation, BrotliEncoderParameter,
    BrotliEncoderSetParameter, BrotliEncoderStateStruct,
};
use std::cell::RefCell;

use super::EncoderError;

/// Window of 256 KiB. Larger ones use memory on both sides; with smaller ones this encoder uses a different, far
/// larger hash table from level 5 on.
const WINDOW_LOG: u32 = 18;

/// Size of the pieces in which output is taken, in bytes.
const PIECE: usize = 4 * 1024;

thread_local! {
    static OUTPUT: RefCell<[u8; PIECE]> = const { RefCell::new([0; PIECE]) };
}

pub(super) struct BrotliEncoder(BrotliEncoderStateStruct<StandardAlloc>);

impl BrotliEncoder {
    pub(super) fn new(level: u32) -> Self {
        let mut state = BrotliEncoderCreateInstance(StandardAlloc::default());
        let settings = [
            (BrotliEncoderParameter::BROTLI_PARAM_QUALITY, level),
            (BrotliEncoderParameter::BROTLI_PARAM_LGWIN, WINDOW_LOG),
        ];
        for (setting, value) in settings {
            BrotliEncoderSetParameter(&mut state, setting, value);
        }
        Self(state)
    }

    /// Returns the memory of an encoder of this level in bytes, as measured: twice the window, hash tables that grow
    /// with the level, and the state of the current block.
    pub(super) const fn memory(level: u32) -> usize {
        match level {
            ..=1 => 1 << 19,
            2..=3 => 3 << 19,
            4 => 5 << 19,
            5 => 3 << 20,
            _ => 4 << 20,
        }
    }

    pub(super) fn push(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), EncoderError> {
        self.run(data, BrotliEncoderOperation::BROTLI_OPERATION_PROCESS, out)
    }

    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), EncoderError> {
        self.run(&[], BrotliEncoderOperation::BROTLI_OPERATION_FLUSH, out)
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), EncoderError> {
        self.run(&[], BrotliEncoderOperation::BROTLI_OPERATION_FINISH, out)
    }

    fn run(
        &mut self,
        data: &[u8],
        operation: BrotliEncoderOperation,
        out: &mut Vec<u8>,
    ) -> Result<(), EncoderError> {
        let is_finishing = matches!(operation, BrotliEncoderOperation::BROTLI_OPERATION_FINISH);
        let (mut left, mut at) = (data.len(), 0);
        OUTPUT.with_borrow_mut(|piece| {
            loop {
                let (mut room, mut written) = (PIECE, 0);
                let is_well = BrotliEncoderCompressStream(
                    &mut self.0,
                    operation,
                    &mut left,
                    data,
                    &mut at,
                    &mut room,
                    piece,
                    &mut written,
                    &mut None,
                    &mut |_, _, _, _| (),
                );
                out.extend_from_slice(&piece[..written]);
                if is_well <= 0 {
                    return Err(EncoderError);
                }
                let has_more = left > 0
                    || BrotliEncoderHasMoreOutput(&self.0) != 0
                    || (is_finishing && BrotliEncoderIsFinished(&self.0) == 0);
                if !has_more {
                    return Ok(());
                }
            }
        })
    }
}

impl std::fmt::Debug for BrotliEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrotliEncoder").finish_non_exhaustive()
    }
}
