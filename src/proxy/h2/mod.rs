//! HTTP/2, dressed as HTTP/1: each stream is a stream of bytes that speaks HTTP/1.1, so that everything which is
//! decided about a request exists once, in [`super::h1`].
//!
//! - [`heads`]: heads and trailers from one protocol to the other, both ways.
//! - `opening`: what of a request's body is here with its head.
//! - `outgoing`: a body of HTTP/1's framing as DATA frames, to either side.
//! - [`preface`]: which of the two a client speaks that comes without TLS.
//! - [`server`]: a client's connection; [`server_stream`]: one of its streams, as the HTTP/1 plane sees it.
//! - [`session`]: a connection to a backend; [`client_stream`]: one of its streams, again as the HTTP/1 plane sees it.
//! - [`sieve`]: what a peer's heads say before the `h2` crate reads them, by [`hpack`]; [`carrier`]: what its types can't
//!   hold.
//! - [`wire`]: the bytes of a session.
//! - [`watch`]: what a client's frames cost, as counted by [`meter`].
//! - [`resets`]: streams that a peer ends early, or has us end; [`session_watch`]: the same of a session with a backend.

pub mod carrier;
pub mod client_stream;
pub mod frame_header;
pub mod heads;
pub mod hpack;
pub mod meter;
mod opening;
mod outgoing;
pub mod preface;
pub mod resets;
pub mod server;
pub mod server_stream;
pub mod session;
pub mod session_watch;
pub mod sieve;
pub mod watch;
pub mod wire;
