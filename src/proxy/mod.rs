//! The data plane: route → pick → permit → connection → forward → retry → log.
//!
//! [`front`] takes a connection from a listener; [`h1`] is the HTTP/1 plane; [`h2`] dresses HTTP/2 streams, of clients
//! and of backends, as HTTP/1. What is decided is in plain functions: [`route`], [`upstream`], [`hold`], [`headers`],
//! [`errors`], [`request_id`]. [`websocket`], [`sse`] and [`grpc`] know where a stream may end.
//! [`memory`] bounds what strangers make the process keep. [`plain`] and [`rewound`] are streams (`hang_up` hears their
//! end without reading); [`plane`] is what all connections share.

pub mod errors;
pub mod forwarded;
pub mod front;
pub mod grpc;
pub mod h1;
pub mod h2;
mod hang_up;
pub mod headers;
pub mod hold;
pub mod memory;
pub mod passes;
pub mod per_client;
pub mod plain;
pub mod plane;
mod redirect;
pub mod request_id;
pub mod rewound;
pub mod route;
pub mod sse;
pub mod upstream;
pub mod websocket;
