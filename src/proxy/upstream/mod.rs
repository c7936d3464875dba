//! Gets a connection from a pool.
//!
//! - [`pick`] chooses a backend and enters its gate.
//! - [`reuse`] takes one of its idle connections, if one is still usable.
//! - [`connect`] opens a new one, and `handshake` does the steps before its first request: PROXY header and TLS.
//! - [`h2_session`] provides streams of HTTP/2 sessions instead, existing and new.
//! - [`moved`] hands connections to another process, and takes them over from one.
//! - [`outcome`] reports what an attempt says about its backend, to pools that judge their backends by attempts.
//! - [`delivery`] decides whether a request on a failed connection certainly never reached the backend.

pub mod connect;
pub mod delivery;
pub mod h2_session;
mod handshake;
pub mod moved;
pub mod outcome;
pub mod pick;
pub mod reuse;

pub use handshake::{Established, ProxiedAddrs, note_refusal, note_shortage, note_written};
