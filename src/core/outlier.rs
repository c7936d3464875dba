//! Which backend does so much worse than the others that it is better left out for a while.

mod figures;

pub use figures::{AttemptError, LATENCY_STEPS, OutcomeCounts, latency_step};
