//! The data plane: a request's way from a listener to a backend and back.
//!
//! The stations, in a request's order; each knows those that come after it and none before it:
//! 1. [`accept`]: who the client is, and what it speaks.
//! 2. [`connection`]: one client connection, and its loop.
//! 3. [`transaction`]: one request: route, buffer, pick, attempts, log line.
//! 4. [`upstream`]: a connection to the backend that was picked.
//! 5. [`forward`]: one attempt on it, both directions live.
//!
//! Below them: [`client`] is the client's end, [`h1`] the HTTP/1 codec, [`h2`] presents HTTP/2 streams, of clients
//! and of backends, as HTTP/1, and [`messages`] finds where a stream may end. [`data_plane`] is what all connections
//! share; [`arrivals`] counts requests for those that watch them, [`compression`] compresses bodies, [`guard_state`]
//! is what routes remember of their clients across requests, [`memory`] bounds the memory of buffers, and
//! [`per_client`] the connections of one client. [`moving`] is how open connections go on in another process.

pub mod accept;
pub mod arrivals;
pub mod buffer;
pub mod client;
pub mod client_info;
pub mod compression;
pub mod connection;
pub mod data_plane;
pub mod error_pages;
pub mod error_response;
pub mod files;
pub mod forward;
pub mod guard_state;
pub mod h1;
pub mod h2;
pub mod memory;
pub mod messages;
pub mod moving;
pub mod per_client;
pub mod refusal;
pub mod transaction;
pub mod upstream;
