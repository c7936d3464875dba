//! Why a connection can't continue in this process.

use std::io;

use thiserror::Error;

use super::state::{MovedBackend, VERSION};

/// Why a connection can't continue in this process. It stays in the other process.
#[derive(Debug, Error)]
pub enum AdoptError {
    /// A later release has written its state.
    #[error("it is of version {0}, and this lameduck reads versions up to {VERSION}")]
    Version(u32),
    /// The number of descriptors is wrong for such a connection.
    #[error("it came with {0} descriptors")]
    Descriptors(usize),
    /// The backend isn't known here, or is now used with another protocol or transport.
    #[error("backend {backend} of pool {pool} is not known here, or is spoken to in another way")]
    Backend {
        /// The pool's name.
        pool: String,
        /// The backend's name.
        backend: String,
    },
    /// The received state can't be valid.
    #[error("{0}")]
    Malformed(&'static str),
    /// A socket can't be used.
    #[error("its socket can't be used: {0}")]
    Socket(#[from] io::Error),
}

impl AdoptError {
    /// Returns the error for an unknown backend.
    pub(crate) fn unknown(moved: &MovedBackend) -> Self {
        Self::Backend {
            pool: moved.pool.clone(),
            backend: moved.backend.clone(),
        }
    }
}
