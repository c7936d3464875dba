//! Why the registry did not do what it was asked.

use std::time::Duration;

use thiserror::Error;

/// Why the registry refused. Each message says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// No such pool.
    #[error("there is no pool `{name}`; known pools: {known}")]
    UnknownPool {
        /// What was asked for.
        name: String,
        /// Those that exist, for people.
        known: String,
    },
    /// No such backend.
    #[error("pool `{pool}` has no backend `{name}`; known backends: {known}")]
    UnknownBackend {
        /// The pool.
        pool: String,
        /// What was asked for.
        name: String,
        /// Those that exist, for people.
        known: String,
        /// It may still come by itself: launchers, sources or the API add backends to this pool.
        may_come: bool,
    },
    /// None of this name has come.
    #[error("no backend `{name}` has come to pool `{pool}` within {}; known backends: {known}", humantime::format_duration(*.waited))]
    NotCome {
        /// The pool.
        pool: String,
        /// What was asked for.
        name: String,
        /// Those that exist, for people.
        known: String,
        /// How long the caller waited.
        waited: Duration,
    },
    /// No such lease.
    #[error(
        "there is no lease `{0}`: its connection has ended, or this lameduck has started since"
    )]
    UnknownLease(String),
    /// No such route.
    #[error("there is no route `{name}` with a split; those that have a name and a split: {known}")]
    UnknownRoute {
        /// What was asked for.
        name: String,
        /// Those that exist, for people.
        known: String,
    },
    /// No plan moves the split of this route.
    #[error("no plan moves the split of route `{0}`")]
    UnknownPlan(String),
    /// A value that can't be taken.
    #[error("{0}")]
    Invalid(String),
    /// It would contradict the configuration.
    #[error("{0}")]
    Conflict(String),
    /// It belongs to another owner.
    #[error("{0}")]
    NotYours(String),
    /// There are as many as there may be.
    #[error("{0}")]
    Full(String),
    /// The wait ran out.
    #[error("`{pool}/{name}` was not ready within {}: it is {state}", humantime::format_duration(*.waited))]
    NotReady {
        /// The pool.
        pool: String,
        /// The backend.
        name: String,
        /// How long the caller waited.
        waited: Duration,
        /// What it is instead.
        state: String,
    },
    /// A fault of ours: it may be half done.
    #[error(
        "lameduck failed while it did this, and its log says how; see `status` for what is in force now"
    )]
    Failed,
    /// The proxy is exiting.
    #[error("lameduck is shutting down")]
    ShuttingDown,
    /// Changes belong to the process that has taken over, and so does what they wait for.
    #[error("another lameduck has taken over in the meantime")]
    HandedOver,
}

impl RegistryError {
    /// Whether a backend of that name may still come by itself.
    pub(super) fn may_come(&self) -> bool {
        matches!(self, Self::UnknownBackend { may_come: true, .. })
    }

    /// The same for a caller who has waited for that.
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
