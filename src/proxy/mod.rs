//! The data plane: a request's way from a listener to a backend and back.
//!
//! The stations, in a request's order; each knows those that come after it and none before it:
//! 1. [`accept`]: who the client is, and what it speaks.
//! 2. [`connection`]: one client connection, and its loop.
//! 3. [`transaction`]: one request: route, buffer, pick, attempts, log line.
//! 4. [`upstream`]: a connection to the backend that was picked.
//! 5. [`forward`]: one attempt on it, both directions live.
//!
//! Below them: [`client`] is the client's end, [`h1`] the HTTP/1 codec, [`h2`] dresses HTTP/2 streams, of clients and of
//! backends, as HTTP/1, and [`messages`] knows where a stream may end. [`data_plane`] is what all connections share;
//! [`arrivals`] counts what comes where somebody listens for silence,
//! [`compression`] makes bodies smaller for clients that can read that, [`guard_state`] is what routes know of their clients
//! across requests, [`memory`] bounds what strangers make the process keep, and [`per_client`] what one of them may have.
//! [`moving`] is how open connections go on in another process.

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
