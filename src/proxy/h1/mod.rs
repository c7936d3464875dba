//! The HTTP/1 plane.

pub mod chunked;
pub mod connection;
pub mod fields;
pub mod framing;
pub mod method;
pub mod refusal;
pub mod request;
pub mod response;
pub mod span;
pub mod target;
