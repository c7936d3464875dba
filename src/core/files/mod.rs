//! Requests for files, judged by their header fields alone: which file below a root, which bytes of it, in which
//! encoding, and whether the client has it already.
//!
//! [`path`] turns a request's path into one below a root, [`range`] parses `Range`, [`validators`] has `ETag` and the
//! preconditions, [`pattern`] matches files with patterns.

pub mod path;
pub mod pattern;
pub mod range;
pub mod validators;
