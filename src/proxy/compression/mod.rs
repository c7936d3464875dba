//! Compression of responses: which ones, with which coding, and the encoders.
//!
//! For a backend's response, [`crate::proxy::forward`] does all of it. Responses that lameduck generates follow the
//! same steps:
//!
//! 1. [`choose_coding`] reads the request's `Accept-Encoding`. It is called for a response that may be compressed at
//!    all ([`is_worthwhile`]: media type, size). Whatever the result, such a response has [`VARY`], since other
//!    clients get a different body.
//! 2. [`BodyEncoder::begin`] takes a place among the concurrent encoders. `None`: there is none, and the response is
//!    sent uncompressed.
//! 3. The head gets `Content-Encoding` with the algorithm's name, no `Content-Length` of the plain body, no
//!    `Accept-Ranges`, and a weak `ETag` ([`weaken_etag`]).
//! 4. [`BodyEncoder::push`] takes the body in slices of any size, of at most [`STEP`] bytes if other tasks wait for
//!    the thread. [`BodyEncoder::flush`] makes everything that was pushed readable for the client: call it when there
//!    is nothing more to push for now. [`BodyEncoder::finish`] ends the body; without it, every decoder can tell that
//!    the body was truncated, so it is never called for one that broke off.
//!
//! [`compress_whole`] compresses a body that is complete in memory.
//!
//! Each encoder's memory counts towards `max_memory` of `[server]`, and compression uses at most half of it. Windows
//! are small (256 KiB; gzip: 32 KiB): every browser supports 8 MiB, but each stream would need that much.

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

/// The header line that says that the body depends on `Accept-Encoding`.
pub const VARY: &[u8] = b"Vary: Accept-Encoding\r\n";

/// Maximum number of bytes pushed at a time, so that one large body doesn't delay the others on its thread: about a
/// tenth of a millisecond.
pub const STEP: usize = 8 * 1024;

/// Returns whether compressing a response of this type and length is worthwhile; `None`: the length isn't known.
pub fn is_worthwhile(config: &CompressionConfig, content_type: &[u8], length: Option<u64>) -> bool {
    length.is_none_or(|length| length >= config.min_size.max(1)) && config.covers(content_type)
}

/// Compresses a body that is complete in memory. `None`: it is sent uncompressed. Other tasks of the thread run
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
