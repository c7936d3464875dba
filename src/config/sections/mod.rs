//! The sections of the file, each declared in a file of its own.

mod hold;
mod retry;

pub use hold::{Hold, OnEmpty};
pub use retry::Retry;
