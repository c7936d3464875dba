//! The HTTP/1 codec: it knows bytes and nothing else.
//!
//! [`request`] and [`response`] parse heads in place (`head_fields` reads the fields of both), and [`error`] says what is refused, with its RFC section; [`framing`]
//! says where a body ends, and [`chunked`] decodes it. [`fields`], [`sections`] (which field may stand where),
//! [`connection_options`], [`method`], [`target`] and [`span`] are their parts.

pub mod chunked;
pub mod connection_options;
pub mod error;
pub mod fields;
pub mod framing;
mod head_fields;
pub mod method;
pub mod request;
pub mod response;
pub mod sections;
pub mod span;
pub mod target;
