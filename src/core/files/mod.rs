//! What a request for a file asks for, decided from its fields alone: which file below a root, which bytes of it, in which
//! encoding, and whether the client has it already.
//!
//! [`path`] turns a request's path into one below a root, [`range`] reads `Range`, [`validators`] has `ETag` and the
//! preconditions, [`pattern`] fits files to patterns.

pub mod path;
pub mod pattern;
pub mod range;
pub mod validators;
