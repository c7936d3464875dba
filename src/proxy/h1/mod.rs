//! The HTTP/1 codec. It only works on bytes.
//!
//! [`request`] and [`response`] parse heads in place (`head_fields` reads the header fields of both), and [`error`]
//! lists what is refused, and why; [`framing`] finds the end of a body, and [`chunked`] decodes it. They use
//! [`fields`], [`sections`] (which field is allowed where), [`connection_options`], [`method`], [`target`] and
//! [`span`].

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
