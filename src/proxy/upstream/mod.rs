//! From a pool to a connection.
//!
//! - [`pick`] chooses a backend and enters its gate.
//! - [`reuse`] takes one of its kept connections, if one is still good.
//! - [`connect`] opens a new one, and `handshake` does what comes before its first request: PROXY header and TLS.
//! - [`h2_session`] has streams of HTTP/2 sessions instead, kept and new.
//! - [`moved`] hands connections to another process, and takes them from one.
//! - [`outcome`] reports what an attempt says about its backend, to pools that judge their backends by it.
//! - [`delivery`] says whether a request on a connection that failed surely never reached the backend.

pub mod connect;
pub mod delivery;
pub mod h2_session;
mod handshake;
pub mod moved;
pub mod outcome;
pub mod pick;
pub mod reuse;

pub use handshake::{Established, ProxiedAddrs, note_refusal, note_shortage, note_written};
