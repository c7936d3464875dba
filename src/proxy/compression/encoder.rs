//! The encoder of one body: takes bytes in slices of any size, and appends the compressed output.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::brotli::BrotliEncoder;
use super::gzip::{self, GzipEncoder};
use super::places::CompressionPlace;
use super::zstd::ZstdEncoder;
use crate::config::{CompressionAlgorithm, CompressionConfig};
use crate::metrics::{CompressionRefusal, PlaneCounters};

/// Maximum number of encoders of each kind that a thread keeps for reuse. Creating a zstd encoder costs as much as
/// compressing 4 KiB, a gzip encoder a tenth of that; brotli encoders can't be reused. At most 10 MiB per thread,
/// which `max_memory` doesn't count.
const SPARE: usize = 4;

/// Maximum number of bytes that an encoder may gather before it writes: it compresses all of them in one go, and the
/// other tasks of the thread have to wait for that.
const MOST_GATHERED: usize = 64 * 1024;

thread_local! {
    static SPARE_GZIP: RefCell<Vec<GzipEncoder>> = const { RefCell::new(Vec::new()) };
    static SPARE_ZSTD: RefCell<Vec<ZstdEncoder>> = const { RefCell::new(Vec::new()) };
}

/// The error of an encoder, for lack of memory or because of a defect. The body can't be continued.
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
    /// Boxed: it has 5 KiB, and there is one for each body.
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

    /// Returns the encoder to this thread's spares.
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

/// The encoder of one body. If dropped before [`BodyEncoder::finish`], it leaves a body that every decoder recognizes
/// as truncated.
#[derive(Debug)]
pub struct BodyEncoder {
    encoder: Option<CodingEncoder>,
    algorithm: CompressionAlgorithm,
    /// Bytes pushed since the last flush.
    gathered: usize,
    bytes_in: u64,
    bytes_out: u64,
    counters: Arc<PlaneCounters>,
    /// The encoder's place among the concurrent ones, held until the body is complete.
    place: Option<CompressionPlace>,
}

impl BodyEncoder {
    /// Creates an encoder for a body. If `length` is known, exactly that many bytes must be pushed. `lasts`: the body
    /// is a stream that may stay open for long.
    ///
    /// `None`: the maximum number of responses is being compressed, or there is no memory for another encoder; the
    /// response is sent uncompressed, and counted as such.
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
        let Ok(encoder) = CodingEncoder::new(config, algorithm, length) else {
            counters.compression.refused(CompressionRefusal::Memory);
            return None;
        };
        Some(Self {
            encoder: Some(encoder),
            algorithm,
            gathered: 0,
            bytes_in: 0,
            bytes_out: 0,
            counters: counters.clone(),
            place: Some(place),
        })
    }

    /// Returns the coding, whose [name](CompressionAlgorithm::as_str) is the one used in HTTP.
    pub fn algorithm(&self) -> CompressionAlgorithm {
        self.algorithm
    }

    /// Takes the next bytes of the body, and appends the output so far, which may be empty.
    ///
    /// # Errors
    /// If the body can't be continued.
    pub fn push(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), EncoderError> {
        // gzip processes its input immediately.
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

    /// Returns whether anything was pushed since the last flush.
    pub fn is_unflushed(&self) -> bool {
        self.gathered > 0
    }

    /// Appends the rest of everything that was pushed, so that the client can read it. Costs a few bytes, and reduces
    /// the compression.
    ///
    /// # Errors
    /// If the body can't be continued.
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

    /// Appends the end of the complete body. Only the first call has an effect.
    ///
    /// # Errors
    /// If the body can't be ended.
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
