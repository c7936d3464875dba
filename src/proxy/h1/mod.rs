//! The HTTP/1 plane: our own codec and forward loop on Pingora's streams.
//!
//! From the outside in:
//! - [`client`]: a client's connection, one request head after the other; [`mod@close`] is its end.
//! - [`transaction`]: one request: route, pick, permit, attempts, log line ([`account`]).
//! - [`exchange`]: one attempt on one upstream connection, both directions live; [`upload`] is the request's body.
//! - [`tunnel`]: what follows a 101.
//!
//! The codec knows bytes and nothing else: [`request`], [`response`], [`framing`], [`chunked`], [`fields`],
//! [`sections`], [`connection`], [`method`], [`target`], [`span`]. Memory that is reused: [`buffer`], [`scratch`]. One lazy
//! [`timer`] per connection.

pub mod account;
pub mod buffer;
pub mod chunked;
pub mod client;
pub mod close;
pub mod connection;
pub mod exchange;
pub mod fields;
pub mod framing;
pub mod method;
pub mod pace;
pub mod refusal;
pub mod request;
pub mod response;
pub mod scratch;
pub mod sections;
pub mod socket;
pub mod span;
pub mod target;
pub mod timer;
pub mod transaction;
pub mod tunnel;
pub mod upload;
