//! HTTP/2, presented as HTTP/1: each stream becomes a byte stream that speaks HTTP/1.1, so that all decisions about a
//! request are made in one place, [`super::transaction`].
//!
//! - [`headers`]: translates heads and trailers between the protocols, in both directions.
//! - `translated`: how both kinds of streams are read and written as bytes.
//! - `outgoing`: converts a body with HTTP/1 framing to DATA frames, towards clients and backends.
//! - [`server_stream`]: a client's stream, and [`client_stream`]: a stream to a backend, as the rest of the plane
//!   sees them. Their connections are [`super::connection::http2`] and [`super::upstream::h2_session`].
//! - [`sieve`]: checks a peer's heads before the `h2` crate reads them, using [`hpack`]; [`carrier`]: carries values
//!   that the crate's types can't hold.
//! - [`wire`]: the bytes of a session.
//! - [`meter`]: limits the cost of a client's frames. [`resets`]: counts streams that a peer ends early, or makes the
//!   proxy end; [`session_watch`]: does both for a session with a backend.

pub mod carrier;
pub mod client_stream;
pub mod frame_header;
pub mod headers;
pub mod hpack;
pub mod meter;
mod outgoing;
pub mod resets;
pub mod server_stream;
pub mod session_watch;
pub mod sieve;
mod translated;
pub mod wire;
