//! The data plane.

pub mod errors;
pub mod h1;
pub mod headers;
pub mod websocket;
