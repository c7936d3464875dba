//! Finds where a stream may end: between two gRPC messages, two server-sent events, or two WebSocket frames.
//!
//! Each stream is tracked as its bytes pass; nothing is copied.

pub mod grpc;
pub mod sse;
pub mod websocket;
