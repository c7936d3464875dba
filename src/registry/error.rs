//! Errors of requests to the registry.

use std::time::Duration;

use thiserror::Error;

/// Error with which the registry refuses a request. Each message says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// There is no such pool.
    #[error("there is no pool `{name}`; known pools: {known}")]
    UnknownPool {
        /// The name that was given.
        name: String,
        /// The existing ones, as text.
        known: String,
    },
    /// There is no such backend.
    #[error("pool `{pool}` has no backend `{name}`; known backends: {known}")]
    UnknownBackend {
        /// The pool.
        pool: String,
        /// The name that was given.
        name: String,
        /// The existing ones, as text.
        known: String,
        /// Whether it may still be added: launchers, sources or the API add backends to this pool.
        may_come: bool,
    },
    /// No backend of this name was added within the wait.
    #[error("no backend `{name}` has come to pool `{pool}` within {}; known backends: {known}", humantime::format_duration(*.waited))]
    NotCome {
        /// The pool.
        pool: String,
        /// The name that was given.
        name: String,
        /// The existing ones, as text.
        known: String,
        /// Time for which the caller waited.
        waited: Duration,
    },
    /// There is no such lease.
    #[error(
        "there is no lease `{0}`: its connection has ended, or this lameduck has started since"
    )]
    UnknownLease(String),
    /// There is no such route with a split.
    #[error("there is no route `{name}` with a split; those that have a name and a split: {known}")]
    UnknownRoute {
        /// The name that was given.
        name: String,
        /// The existing ones, as text.
        known: String,
    },
    /// No plan moves the split of this route.
    #[error("no plan moves the split of route `{0}`")]
    UnknownPlan(String),
    /// A value is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The request contradicts the configuration.
    #[error("{0}")]
    Conflict(String),
    /// The backend belongs to another owner.
    #[error("{0}")]
    NotYours(String),
    /// The limit is reached.
    #[error("{0}")]
    Full(String),
    /// The wait timed out.
    #[error("`{pool}/{name}` was not ready within {}: it is {state}", humantime::format_duration(*.waited))]
    NotReady {
        /// The pool.
        pool: String,
        /// The backend.
        name: String,
        /// Time for which the caller waited.
        waited: Duration,
        /// State of the backend instead.
        state: String,
    },
    /// An internal error: the request may be half done.
    #[error(
        "lameduck failed while it did this, and its log says how; see `status` for what is in force now"
    )]
    Failed,
    /// The proxy is exiting.
    #[error("lameduck is shutting down")]
    ShuttingDown,
    /// Another process has taken over. Changes, and the waits for their effects, belong to it now.
    #[error("another lameduck has taken over in the meantime")]
    HandedOver,
}

impl RegistryError {
    /// Whether the backend that is unknown may still be added.
    pub(super) fn may_come(&self) -> bool {
        matches!(self, Self::UnknownBackend { may_come: true, .. })
    }

    /// The error after a wait for an unknown backend.
    pub(super) fn not_come_within(self, waited: Duration) -> Self {
        match self {
            Self::UnknownBackend {
                pool, name, known, ..
            } => Self::NotCome {
                pool,
                name,
                known,
                waited,
            },
            other => other,
        }
    }
}
