//! The ways in which an attempt ends.

use crate::metrics::ServerLimit;
use crate::proxy::client::upload::UploadError;

/// Why a response that had begun could not be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseTruncation {
    /// The backend closed the connection in the middle of it.
    UpstreamClosed,
    /// The backend sent something that HTTP/2 does not allow.
    MalformedHttp2,
    /// The backend sent something that HTTP/1 does not allow (stable reason).
    Malformed(&'static str),
    /// The backend sent nothing for `read_timeout`.
    Silent,
    /// An interim response had been passed on in part.
    InterimBroken,
    /// The client's own body was malformed.
    BadBody,
    /// It was cut at the drain's deadline.
    CutByDrain,
    /// It was cut at the deadline of the proxy's own shutdown.
    CutByShutdown,
    /// The encoder of its body failed.
    EncoderFailed,
}

impl ResponseTruncation {
    /// Returns the cause for the access log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpstreamClosed => "upstream closed in mid-response",
            Self::MalformedHttp2 => "malformed HTTP/2 response",
            Self::Malformed(reason) => reason,
            Self::Silent => "upstream sent nothing for too long",
            Self::InterimBroken => "an interim response broke off",
            Self::BadBody => "the request's body went wrong in mid-response",
            Self::CutByDrain => "cut by the drain's deadline",
            Self::CutByShutdown => "cut by the shutdown's deadline",
            Self::EncoderFailed => "the encoder of the response's body failed",
        }
    }
}

/// How an attempt ended without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardEnd {
    /// The response was delivered completely.
    Complete {
        /// Whether the upstream connection can carry another request.
        reusable: bool,
        /// Whether the client's connection can carry another request.
        keep_alive: bool,
    },
    /// Nothing of the response was sent to the client, which gets an error page. The head is at the start of the read
    /// bytes.
    Intercepted {
        /// Whether the upstream connection can carry another request.
        reusable: bool,
    },
    /// Status 101: both sides now speak another protocol.
    Upgraded,
    /// An event stream waits for bytes; it is paused, and may move to another process. The state to continue from is
    /// in the attempt's scratch.
    AtRest,
}

/// How an attempt failed. After most failures, another response can still be sent to the client: see
/// [`ForwardFailure::is_clean`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardFailure {
    /// The backend closed or reset the connection before the first byte of a response.
    Died {
        /// Whether it was a reset, with no close before it.
        reset: bool,
    },
    /// No byte of a response within `read_timeout`.
    Timeout,
    /// The attempt was cut at the drain's deadline before the response began.
    Cut,
    /// The deadline of the proxy's own shutdown passed before a call's response began.
    ShutDown,
    /// The response was invalid (stable reason).
    BadResponse(&'static str),
    /// The request can't be expressed in the backend's protocol: nothing was sent.
    Untranslatable,
    /// The body is chunked, and the backend speaks HTTP/1.0: nothing was sent.
    LengthRequired,
    /// The client's body could not be read.
    BadBody(UploadError),
    /// A limit of `[server]` was exceeded.
    Limited {
        /// The limit, for the log and the metric.
        limit: ServerLimit,
        /// The status that the client can still be sent; `None`: it is cut off.
        answer: Option<u16>,
    },
    /// The client disconnected.
    ClientGone,
    /// The response had begun and could not be completed: the connection is cut, so that the client can tell.
    Truncated(ResponseTruncation),
}

impl ForwardFailure {
    /// Returns whether the client can still be sent another response.
    pub fn is_clean(self) -> bool {
        !matches!(
            self,
            ForwardFailure::ClientGone
                | ForwardFailure::Truncated(_)
                | ForwardFailure::Limited { answer: None, .. }
        )
    }
}
