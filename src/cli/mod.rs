//! cli.
pub mod demo;
