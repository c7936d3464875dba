//! The HTTP/1 plane.
