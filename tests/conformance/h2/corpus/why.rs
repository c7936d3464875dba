//! Why nginx or HAProxy does something else with a case than lameduck does.

/// A sentence, and the names of the cases that it explains.
pub type Why = (&'static str, &'static [&'static str]);

pub const WHY: &[Why] = &[];
