//! What was compressed, and what wasn't for want of room: a count for each content coding.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one content coding.
#[derive(Debug, Default)]
pub struct CodingCounters {
    /// Answers that were given it.
    pub answers: AtomicU64,
    /// Bytes of their bodies before.
    pub bytes_in: AtomicU64,
    /// Bytes of their bodies after.
    pub bytes_out: AtomicU64,
}

/// Why an answer that a client could have read compressed went out as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionRefusal {
    /// `max_at_once` of `[compression]`.
    TooMany,
    /// `max_memory` of `[server]`.
    Memory,
}

/// What is counted of all answers.
#[derive(Debug, Default)]
pub struct CompressionCounters {
    zstd: CodingCounters,
    brotli: CodingCounters,
    gzip: CodingCounters,
    too_many: AtomicU64,
    memory: AtomicU64,
}

impl CompressionCounters {
    /// Those of the coding with this name; `None`: there is no such coding.
    pub fn coding(&self, name: &str) -> Option<&CodingCounters> {
        let mut all = self.codings().into_iter();
        all.find_map(|(own, counters)| (own == name).then_some(counters))
    }

    /// Every coding, by its name in HTTP.
    pub(crate) fn codings(&self) -> [(&'static str, &CodingCounters); 3] {
        [
            ("zstd", &self.zstd),
            ("br", &self.brotli),
            ("gzip", &self.gzip),
        ]
    }

    /// An answer went out uncompressed.
    pub fn refused(&self, why: CompressionRefusal) {
        let count = match why {
            CompressionRefusal::TooMany => &self.too_many,
            CompressionRefusal::Memory => &self.memory,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Each reason, as the key of the limit that was reached, with its count.
    pub(crate) fn refusals(&self) -> [(&'static str, u64); 2] {
        [
            ("max_at_once", self.too_many.load(Ordering::Relaxed)),
            ("max_memory", self.memory.load(Ordering::Relaxed)),
        ]
    }
}
