//! One client's connection, from its first request to its end.
//!
//! [`serve`] is the loop of HTTP/1: it reads one request head after the other and hands each to
//! [`super::transaction`]. [`http2`] is the loop of HTTP/2, `serve_one` serves each of its streams, `opening` reads a
//! stream's beginning, and [`flood_guard`] limits the cost of a client's frames. [`close`](mod@close) ends a
//! connection, and [`moved`] continues it in another process.

pub mod close;
pub mod flood_guard;
pub mod http2;
pub mod moved;
mod opening;
pub mod serve;
pub mod serve_one;
