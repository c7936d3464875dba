//! The data plane: a request's way from a listener to a backend and back.
//!
//! The steps of a request, in order; each knows the ones after it and none before it:
//! 1. [`accept`]: who the client is, and which protocol it uses.
//! 2. [`connection`]: one client connection, and its loop.
//! 3. [`transaction`]: one request: route, buffer, pick, attempts, log line.
//! 4. [`upstream`]: a connection to the backend that was picked.
//! 5. [`forward`]: one attempt on that connection, with both directions live.
//!
//! Shared by the steps: [`client`] is the client's side, [`h1`] the HTTP/1 codec, [`h2`] presents HTTP/2 streams, of
//! clients and of backends, as HTTP/1, and [`messages`] finds where a stream may end. [`data_plane`] is the state
//! that all connections share; [`arrivals`] counts requests, [`compression`] compresses bodies, [`guard_state`] is
//! what routes remember about their clients across requests, [`memory`] limits the memory of buffers, and
//! [`per_client`] the connections of one client. [`moving`] lets open connections continue in another process.

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
