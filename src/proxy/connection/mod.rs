//! One client's connection, from its first request to its end.
//!
//! [`serve`] is the loop of HTTP/1: one request head after the other, each handed to [`super::transaction`]. [`http2`] is the
//! loop of HTTP/2, `serve_one` each of its streams, `opening` how a stream begins, and [`flood_guard`] what a client's
//! frames cost. [`close`](mod@close) is how a connection ends, and [`moved`] how it goes on in another process.

pub mod close;
pub mod flood_guard;
pub mod http2;
pub mod moved;
mod opening;
pub mod serve;
pub mod serve_one;
