//! Where a stream may end: between two messages of gRPC, two server-sent events, two frames of a WebSocket.
//!
//! Each is followed from outside, as its bytes pass; nothing is copied.

pub mod grpc;
pub mod sse;
pub mod websocket;
