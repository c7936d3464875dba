//! TLS, spoken by rustls directly.

pub mod client;
