//! The client's end of a request: its stream and what was read of it.

pub(crate) mod heard;
mod kept;
pub mod timer;
pub mod upload;
