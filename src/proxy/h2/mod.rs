//! HTTP/2, presented as HTTP/1: each stream is a stream of bytes that speaks HTTP/1.1, so that everything which is
//! decided about a request exists once, in [`super::transaction`].
//!
//! - [`headers`]: heads and trailers from one protocol to the other, both ways.
//! - `translated`: how either stream is read and written as bytes.
//! - `outgoing`: a body of HTTP/1's framing as DATA frames, to either side.
//! - [`server_stream`]: a client's stream, and [`client_stream`]: one to a backend, as the rest of the plane sees them.
//!   Their connections are [`super::connection::http2`] and [`super::upstream::h2_session`].
//! - [`sieve`]: what a peer's heads say before the `h2` crate reads them, by [`hpack`]; [`carrier`]: what its types can't
//!   hold.
//! - [`wire`]: the bytes of a session.
//! - [`meter`]: what a client's frames cost. [`resets`]: streams that a peer ends early, or has us end; [`session_watch`]: the
//!   same of a session with a backend.

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
