//! HTTP/2, dressed as HTTP/1: each stream is a stream of bytes that speaks HTTP/1.1, so that everything which is
//! decided about a request exists once, in [`super::h1`].
//!
//! - [`heads`]: heads and trailers from one protocol to the other, both ways.

pub mod heads;
