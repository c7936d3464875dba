//! What the data plane reads: pools and their eligible backends, replaced as a whole.

use std::sync::Arc;

use super::endpoint::Endpoint;
use crate::config;

/// The world at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// By the index that routes give.
    pub pools: Vec<Arc<Pool>>,
}

/// One pool at one moment.
#[derive(Debug)]
pub struct Pool {
    /// Its name.
    pub name: Arc<str>,
    /// Its settings.
    pub config: Arc<config::Pool>,
    /// Every backend, for status, metrics and fail-open.
    pub backends: Vec<Arc<Endpoint>>,
    /// The eligible ones.
    pub ready: Vec<Arc<Endpoint>>,
}
