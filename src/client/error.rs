//! Why a running proxy did not do what it was asked.

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientErrorKind {
    /// The proxy refuses, or what was asked can't be said.
    Failed,
    /// A deadline ran out.
    Late,
    /// The proxy can't be reached, or is gone.
    Unreachable,
    /// It is not done, or nobody says so: the connection ended before the answer was there, or the proxy is ending. It may
    /// have stopped, or another process is in its place.
    Broken,
}

/// A call to a running proxy that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ClientError {
    /// Of what kind.
    pub kind: ClientErrorKind,
    /// What happened and what to do, for people.
    pub message: String,
}

impl ClientError {
    /// There is no proxy to ask, or none any more.
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
