//! HTTP/2, dressed as HTTP/1: each stream is a stream of bytes that speaks HTTP/1.1, so that everything which is
//! decided about a request exists once, in [`super::h1`].
//!
//! - [`heads`]: heads and trailers from one protocol to the other, both ways.
//! - `outgoing`: a body of HTTP/1's framing as DATA frames, to either side.
//! - [`preface`]: which of the two a client speaks that comes without TLS.
//! - [`server`]: a client's connection; [`server_stream`]: one of its streams, as the HTTP/1 plane sees it.
//! - [`session`]: a connection to a backend; [`client_stream`]: one of its streams, again as the HTTP/1 plane sees it.
//! - [`watch`]: what a client's frames cost, as counted by [`meter`].

pub mod client_stream;
pub mod heads;
pub mod meter;
mod outgoing;
pub mod preface;
pub mod server;
pub mod server_stream;
pub mod session;
pub mod watch;
