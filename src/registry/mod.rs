//! The registry: the one writer.
pub mod view;
