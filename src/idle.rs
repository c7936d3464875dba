//! idle.
