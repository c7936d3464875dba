//! hold.
