//! One body's encoder: bytes go in, in any pieces, and come out compressed.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::brotli::BrotliEncoder;
use super::gzip::{self, GzipEncoder};
use super::places::CompressionPlace;
use super::zstd::ZstdEncoder;
use crate::config::{CompressionAlgorithm, CompressionConfig};
use crate::metrics::PlaneCounters;

/// Encoders of each kind that a thread keeps for the next body. A new one of zstd costs as much as 4 KiB to compress, one
/// of gzip a tenth of that; brotli's can't be used again. At most 10 MiB a thread, which `max_memory` doesn't count.
const SPARE: usize = 4;

/// What an encoder may keep to itself before it writes: it compresses all that it has gathered in one go, and the
/// other tasks of the thread wait for that.
const MOST_GATHERED: usize = 64 * 1024;

thread_local! {
    static SPARE_GZIP: RefCell<Vec<GzipEncoder>> = const { RefCell::new(Vec::new()) };
    static SPARE_ZSTD: RefCell<Vec<ZstdEncoder>> = const { RefCell::new(Vec::new()) };
}

/// An encoder has failed, for lack of memory or by a defect. The body can't go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderError;

impl std::fmt::Display for EncoderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the encoder of the response's body failed")
    }
}

impl std::error::Error for EncoderError {}

#[derive(Debug)]
enum CodingEncoder {
    Gzip(GzipEncoder),
    Zstd(ZstdEncoder),
    /// 5 KiB, and one for each body.
    Brotli(Box<BrotliEncoder>),
}

impl CodingEncoder {
    fn new(
        config: &CompressionConfig,
        algorithm: CompressionAlgorithm,
        length: Option<u64>,
    ) -> Result<Self, EncoderError> {
        Ok(match algorithm {
            CompressionAlgorithm::Gzip => {
                let level = config.gzip_level;
                let spare = SPARE_GZIP.with_borrow_mut(Vec::pop);
                let spare = spare.and_then(|mut spare| spare.reuse(level).then_some(spare));
                Self::Gzip(spare.unwrap_or_else(|| GzipEncoder::new(level)))
            }
            CompressionAlgorithm::Zstd => {
                let level = config.zstd_level;
                let spare = SPARE_ZSTD.with_borrow_mut(Vec::pop);
                let spare = spare.and_then(|mut spare| spare.reuse(level).then_some(spare));
                let mut encoder = spare.map_or_else(|| ZstdEncoder::new(level), Ok)?;
                if let Some(length) = length {
                    encoder.expect_length(length)?;
                }
                Self::Zstd(encoder)
            }
            CompressionAlgorithm::Brotli => {
                Self::Brotli(Box::new(BrotliEncoder::new(config.br_level)))
            }
        })
    }

    fn memory(config: &CompressionConfig, algorithm: CompressionAlgorithm) -> usize {
        match algorithm {
            CompressionAlgorithm::Gzip => gzip::MEMORY,
            CompressionAlgorithm::Zstd => ZstdEncoder::memory(config.zstd_level),
            CompressionAlgorithm::Brotli => BrotliEncoder::memory(config.br_level),
        }
    }

    /// Back to this thread's spares.
    fn give_back(self) {
        match self {
            Self::Gzip(encoder) => SPARE_GZIP.with_borrow_mut(|spares| keep(spares, encoder)),
            Self::Zstd(encoder) => SPARE_ZSTD.with_borrow_mut(|spares| keep(spares, encoder)),
            Self::Brotli(_) => {}
        }
    }
}

fn keep<T>(spares: &mut Vec<T>, encoder: T) {
    if spares.len() < SPARE {
        spares.push(encoder);
    }
}

/// The encoder of one body. Dropped before [`BodyEncoder::finish`], it leaves a body that every decoder takes for cut.
#[derive(Debug)]
pub struct BodyEncoder {
    encoder: Option<CodingEncoder>,
    algorithm: CompressionAlgorithm,
    /// Bytes that were pushed since the last flush.
    gathered: usize,
    bytes_in: u64,
    bytes_out: u64,
    counters: Arc<PlaneCounters>,
    /// The encoder's place, held until the body is complete.
    place: Option<CompressionPlace>,
}

impl BodyEncoder {
    /// An encoder for a body of this length, if it is known; then exactly so many bytes must be pushed. `lasts`: it is a
    /// stream that may stay open for long.
    ///
    /// `None`: as many answers are being compressed as may be, or there is no memory for another; the answer goes out as
    /// it is, and is counted.
    pub fn begin(
        config: &CompressionConfig,
        algorithm: CompressionAlgorithm,
        length: Option<u64>,
        lasts: bool,
        counters: &Arc<PlaneCounters>,
    ) -> Option<Self> {
        let bytes = CodingEncoder::memory(config, algorithm);
        let place = match CompressionPlace::take(config.max_at_once, bytes, lasts) {
            Ok(place) => place,
            Err(refusal) => {
                counters.compression.refused(refusal);
                return None;
            }
        };
        Some(Self {
            encoder: Some(CodingEncoder::new(config, algorithm, length).ok()?),
            algorithm,
            gathered: 0,
            bytes_in: 0,
            bytes_out: 0,
            counters: counters.clone(),
            place: Some(place),
        })
    }

    /// The coding, whose [name](CompressionAlgorithm::as_str) is that of HTTP.
    pub fn algorithm(&self) -> CompressionAlgorithm {
        self.algorithm
    }

    /// Takes the next bytes of the body; appends what is written of it, which may be nothing.
    ///
    /// # Errors
    /// The body can't go on.
    pub fn push(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), EncoderError> {
        // gzip works off what it gets as it comes.
        let gathers = self.algorithm != CompressionAlgorithm::Gzip;
        for data in data.chunks(MOST_GATHERED) {
            if gathers && self.gathered + data.len() > MOST_GATHERED {
                self.flush(out)?;
            }
            self.gathered += data.len();
            self.bytes_in += data.len() as u64;
            self.write(out, |encoder, out| match encoder {
                CodingEncoder::Gzip(encoder) => encoder.push(data, out),
                CodingEncoder::Zstd(encoder) => encoder.push(data, out),
                CodingEncoder::Brotli(encoder) => encoder.push(data, out),
            })?;
        }
        Ok(())
    }

    /// Whether something was pushed since the last flush.
    pub fn is_unflushed(&self) -> bool {
        self.gathered > 0
    }

    /// Appends the rest of all that was pushed, so that the client can read it. Costs a few bytes, and some of the
    /// compression.
    ///
    /// # Errors
    /// The body can't go on.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), EncoderError> {
        if std::mem::take(&mut self.gathered) == 0 {
            return Ok(());
        }
        self.write(out, |encoder, out| match encoder {
            CodingEncoder::Gzip(encoder) => encoder.flush(out),
            CodingEncoder::Zstd(encoder) => encoder.flush(out),
            CodingEncoder::Brotli(encoder) => encoder.flush(out),
        })
    }

    /// Appends the end of the body, which is complete. Only the first call does.
    ///
    /// # Errors
    /// The body can't be ended.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), EncoderError> {
        self.gathered = 0;
        self.write(out, |encoder, out| match encoder {
            CodingEncoder::Gzip(encoder) => encoder.finish(out),
            CodingEncoder::Zstd(encoder) => encoder.finish(out),
            CodingEncoder::Brotli(encoder) => encoder.finish(out),
        })?;
        if let Some(encoder) = self.encoder.take() {
            encoder.give_back();
        }
        self.place = None;
        Ok(())
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        step: impl FnOnce(&mut CodingEncoder, &mut Vec<u8>) -> Result<(), EncoderError>,
    ) -> Result<(), EncoderError> {
        let before = out.len();
        let Some(encoder) = &mut self.encoder else {
            return Ok(());
        };
        let written = step(encoder, out);
        self.bytes_out += (out.len() - before) as u64;
        if written.is_err() {
            self.encoder = None;
        }
        written
    }
}

impl Drop for BodyEncoder {
    fn drop(&mut self) {
        let counters = &self.counters.compression;
        if let Some(coding) = counters.coding(self.algorithm.as_str()) {
            coding.answers.fetch_add(1, Ordering::Relaxed);
            coding.bytes_in.fetch_add(self.bytes_in, Ordering::Relaxed);
            coding
                .bytes_out
                .fetch_add(self.bytes_out, Ordering::Relaxed);
        }
    }
}
