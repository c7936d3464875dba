//! The data plane: route → pick → permit → connection → forward → retry → log.
//!
//! [`front`] takes a connection from a listener; [`h1`] is the HTTP/1 plane. What it decides with is here, in plain functions that another protocol's plane
//! can call: [`route`], [`upstream`], [`hold`], [`headers`], [`errors`], [`request_id`], [`websocket`].

pub mod errors;
pub mod forwarded;
pub mod front;
pub mod grpc;
pub mod h1;
pub mod h2;
pub mod headers;
pub mod hold;
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
