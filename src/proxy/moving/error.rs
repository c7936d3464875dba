//! Why a connection can't go on in this process.

use std::io;

use thiserror::Error;

use super::state::{MovedBackend, VERSION};

/// Why a connection can't go on here. It stays where it was.
#[derive(Debug, Error)]
pub enum AdoptError {
    /// A later release has written it.
    #[error("it is of version {0}, and this lameduck reads versions up to {VERSION}")]
    Version(u32),
    /// The descriptors aren't those of such a connection.
    #[error("it came with {0} descriptors")]
    Descriptors(usize),
    /// The backend isn't known here, or isn't spoken to in that way any more.
    #[error("backend {backend} of pool {pool} is not known here, or is spoken to in another way")]
    Backend {
        /// The pool's name.
        pool: String,
        /// The backend's.
        backend: String,
    },
    /// What was carried of it can't be what was sent.
    #[error("{0}")]
    Malformed(&'static str),
    /// A socket can't be used.
    #[error("its socket can't be used: {0}")]
    Socket(#[from] io::Error),
}

impl AdoptError {
    /// This backend isn't known.
    pub(crate) fn unknown(moved: &MovedBackend) -> Self {
        Self::Backend {
            pool: moved.pool.clone(),
            backend: moved.backend.clone(),
        }
    }
}
