//! Counters of compression for each content coding, and of responses that could not be compressed because of a limit.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one content coding.
#[derive(Debug, Default)]
pub struct CodingCounters {
    /// Number of compressed responses.
    pub answers: AtomicU64,
    /// Bytes of their bodies before compression.
    pub bytes_in: AtomicU64,
    /// Bytes of their bodies after compression.
    pub bytes_out: AtomicU64,
}

/// Reason why a response was not compressed although the client accepts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionRefusal {
    /// The limit `max_at_once` of `[compression]` was reached.
    TooMany,
    /// The limit `max_memory` of `[server]` was reached.
    Memory,
}

/// Counters of compression for all responses.
#[derive(Debug, Default)]
pub struct CompressionCounters {
    zstd: CodingCounters,
    brotli: CodingCounters,
    gzip: CodingCounters,
    too_many: AtomicU64,
    memory: AtomicU64,
}

impl CompressionCounters {
    /// Counters of the coding with this name; `None`: there is no such coding.
    pub fn coding(&self, name: &str) -> Option<&CodingCounters> {
        let mut all = self.codings().into_iter();
        all.find_map(|(own, counters)| (own == name).then_some(counters))
    }

    /// Counters of all codings, with their names in HTTP.
    pub(crate) fn codings(&self) -> [(&'static str, &CodingCounters); 3] {
        [
            ("zstd", &self.zstd),
            ("br", &self.brotli),
            ("gzip", &self.gzip),
        ]
    }

    /// Counts a response that was not compressed because of a limit.
    pub fn refused(&self, why: CompressionRefusal) {
        let count = match why {
            CompressionRefusal::TooMany => &self.too_many,
            CompressionRefusal::Memory => &self.memory,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts for each limit, named by its key.
    pub(crate) fn refusals(&self) -> [(&'static str, u64); 2] {
        [
            ("max_at_once", self.too_many.load(Ordering::Relaxed)),
            ("max_memory", self.memory.load(Ordering::Relaxed)),
        ]
    }
}
