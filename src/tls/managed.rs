//! What is known of the certificates that lameduck orders itself, for people and monitors. `acme` writes it; the admin API
//! and the metrics read it.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// How it is with a certificate that is ordered and renewed by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManagedState {
    /// It is good, and not due.
    Good,
    /// It is being ordered.
    Ordering,
    /// It is to be ordered, and has to wait: for another order, or another proxy.
    Waiting,
    /// The last order has failed.
    Failing,
}

impl ManagedState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Good, Self::Ordering, Self::Waiting, Self::Failing];

    /// Its word in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Ordering => "ordering",
            Self::Waiting => "waiting",
            Self::Failing => "failing",
        }
    }
}

/// A certificate that is ordered and renewed by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedStatus {
    /// Its place; what is served has it as its file.
    pub file: PathBuf,
    /// The names that it is to have.
    pub names: Vec<String>,
    /// The URL of the authority's directory.
    pub directory: String,
    /// How it is.
    pub state: ManagedState,
    /// The next try to order it, as Unix time.
    pub next_order: Option<i64>,
    /// What went wrong at the last try, if it did.
    pub last_error: Option<String>,
    /// Tries in a row that have failed.
    pub failures: u32,
    /// Certificates that this process has ordered, and tries that have failed.
    pub orders: (u64, u64),
}

/// All of them.
#[derive(Debug, Default)]
pub struct ManagedCertificates(ArcSwap<Vec<ManagedStatus>>);

impl ManagedCertificates {
    /// Replaces what is known.
    pub fn set(&self, all: Vec<ManagedStatus>) {
        self.0.store(Arc::new(all));
    }

    /// What is known.
    pub fn all(&self) -> Arc<Vec<ManagedStatus>> {
        self.0.load_full()
    }
}
