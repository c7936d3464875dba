//! Compression of answers: which ones, in which coding, and the encoders.
//!
//! For an answer of a backend, [`crate::proxy::forward`] does all of it. What lameduck answers by itself goes the same way:
//!
//! 1. [`choose_coding`] reads the request's `Accept-Encoding`. It is asked for an answer that may be compressed at all
//!    ([`is_worthwhile`]: media type, size). Whatever it says, such an answer has [`VARY`], since another client gets
//!    another body.
//! 2. [`BodyEncoder::begin`] takes a place among those that are compressed at once. `None`: there is none, and the answer
//!    goes out as it is.
//! 3. The head has `Content-Encoding` with the algorithm's name, no `Content-Length` of the plain body, no
//!    `Accept-Ranges`, and a weak `ETag` ([`weaken_etag`]).
//! 4. [`BodyEncoder::push`] takes the body in any pieces, of [`STEP`] bytes at most where others wait for the thread.
//!    [`BodyEncoder::flush`] makes all that was pushed readable for the client: call it when there is nothing more to
//!    push for now. [`BodyEncoder::finish`] ends the body; without it, every decoder can tell that the body was cut,
//!    so it is never called for one that broke off.
//!
//! A body that is there as a whole is compressed by [`compress_whole`].
//!
//! Each encoder's memory is counted in `max_memory` of `[server]`, and compression as a whole uses no more than a half of
//! it. Windows are small (256 KiB; gzip: 32 KiB): every browser takes 8 MiB, but each stream would cost that.

mod accept;
mod brotli;
mod encoder;
mod gzip;
mod judge;
mod places;
mod zstd;

pub use accept::choose_coding;
pub use encoder::{BodyEncoder, EncoderError};
pub use judge::{AnswerTraits, is_weak_form, weaken_etag};
pub(super) use judge::{forbids_transforming, is_of_plain_body};

use std::sync::Arc;

use crate::config::{CompressionAlgorithm, CompressionConfig};
use crate::metrics::PlaneCounters;

/// The field that says that the body depends on `Accept-Encoding`, as a line.
pub const VARY: &[u8] = b"Vary: Accept-Encoding\r\n";

/// What is pushed at a time at most, so that one large body doesn't hold up the others on its thread: about a tenth of a
/// millisecond.
pub const STEP: usize = 8 * 1024;

/// Whether an answer of this type and length is worth it; `None`: the length isn't known.
pub fn is_worthwhile(config: &CompressionConfig, content_type: &[u8], length: Option<u64>) -> bool {
    length.is_none_or(|length| length >= config.min_size.max(1)) && config.covers(content_type)
}

/// Compresses a body that lameduck has as a whole. `None`: it is sent uncompressed. Other tasks of the thread run
/// between steps.
pub async fn compress_whole(
    config: &CompressionConfig,
    algorithm: CompressionAlgorithm,
    counters: &Arc<PlaneCounters>,
    body: &[u8],
) -> Option<Vec<u8>> {
    let length = Some(body.len() as u64);
    let mut encoder = BodyEncoder::begin(config, algorithm, length, false, counters)?;
    let mut out = Vec::with_capacity(body.len() / 2);
    let mut pieces = body.chunks(STEP).peekable();
    while let Some(piece) = pieces.next() {
        encoder.push(piece, &mut out).ok()?;
        if pieces.peek().is_some() {
            tokio::task::yield_now().await;
        }
    }
    encoder.finish(&mut out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests;
