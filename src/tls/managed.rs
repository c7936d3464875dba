//! State of the certificates that lameduck orders itself. `acme` writes it; the admin API and the metrics read it.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// State of a certificate that lameduck orders and renews itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManagedState {
    /// It is valid, and its renewal is not due.
    Good,
    /// An order is under way.
    Ordering,
    /// An order is due, but waits for another order or another proxy.
    Waiting,
    /// The last order failed.
    Failing,
}

impl ManagedState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Good, Self::Ordering, Self::Waiting, Self::Failing];

    /// Its name in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Ordering => "ordering",
            Self::Waiting => "waiting",
            Self::Failing => "failing",
        }
    }
}

/// A certificate that lameduck orders and renews itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedStatus {
    /// Path of its file; [`Certificate::file`](super::certificate::Certificate::file) is the same.
    pub file: PathBuf,
    /// Names that it is ordered for.
    pub names: Vec<String>,
    /// URL of the authority's directory (RFC 8555, section 7.1.1).
    pub directory: String,
    /// Its state.
    pub state: ManagedState,
    /// Time of the next order, as Unix time in seconds.
    pub next_order: Option<i64>,
    /// Error of the last order, if it failed.
    pub last_error: Option<String>,
    /// Number of failed orders in a row.
    pub failures: u32,
    /// Orders of this process: how many succeeded, and how many failed.
    pub orders: (u64, u64),
}

/// State of all certificates that lameduck orders itself.
#[derive(Debug, Default)]
pub struct ManagedCertificates(ArcSwap<Vec<ManagedStatus>>);

impl ManagedCertificates {
    /// Replaces the state of all of them.
    pub fn set(&self, all: Vec<ManagedStatus>) {
        self.0.store(Arc::new(all));
    }

    /// State of all of them.
    pub fn all(&self) -> Arc<Vec<ManagedStatus>> {
        self.0.load_full()
    }
}
