//! Errors of requests to a running proxy.

/// Kind of a failure; it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientErrorKind {
    /// The proxy refuses, or the request is invalid.
    Failed,
    /// A deadline has passed.
    Late,
    /// The proxy can't be reached, or has stopped.
    Unreachable,
    /// The connection ended before the answer, or the proxy is shutting down: it may have stopped, or another process
    /// has taken its place. Whether the request had an effect is unknown.
    Broken,
}

/// A call to a running proxy that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ClientError {
    /// Kind of the failure.
    pub kind: ClientErrorKind,
    /// What happened and what to do, for users.
    pub message: String,
}

impl ClientError {
    /// Whether no proxy answers.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self.kind,
            ClientErrorKind::Unreachable | ClientErrorKind::Broken
        )
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        let (kind, message) = (ClientErrorKind::Failed, message.into());
        Self { kind, message }
    }

    pub(super) fn late(message: impl Into<String>) -> Self {
        let (kind, message) = (ClientErrorKind::Late, message.into());
        Self { kind, message }
    }

    pub(super) fn broken(message: impl Into<String>) -> Self {
        let (kind, message) = (ClientErrorKind::Broken, message.into());
        Self { kind, message }
    }

    pub(super) fn unreachable(message: impl Into<String>) -> Self {
        let (kind, message) = (ClientErrorKind::Unreachable, message.into());
        Self { kind, message }
    }
}
