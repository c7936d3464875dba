//! How an attempt ends.

use crate::metrics::ServerLimit;
use crate::proxy::client::upload::UploadError;

/// Why a response that had begun could not be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseTruncation {
    /// The backend closed in the middle of it.
    UpstreamClosed,
    /// The backend sent what HTTP/2 does not allow.
    MalformedHttp2,
    /// The backend sent what HTTP/1 does not allow (stable reason).
    Malformed(&'static str),
    /// The backend sent nothing for `read_timeout`.
    Silent,
    /// An interim response had been passed on in part.
    InterimBroken,
    /// The client's own body was malformed.
    BadBody,
    /// The drain's deadline cut it.
    CutByDrain,
    /// The deadline of our own end cut it.
    CutByShutdown,
    /// The encoder of its body failed.
    EncoderFailed,
}

impl ResponseTruncation {
    /// For the access log.
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

/// How an attempt ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardEnd {
    /// The response was delivered whole.
    Complete {
        /// The upstream connection can carry another request.
        reusable: bool,
        /// The client's connection can.
        keep_alive: bool,
    },
    /// The client got nothing of it, and is to get an error page. The head is at the start of what was read.
    Intercepted {
        /// The upstream connection can carry another request.
        reusable: bool,
    },
    /// 101: both sides now speak another protocol.
    Upgraded,
    /// A stream of events has come to a still point, and may move to another process. What it goes on with is in the
    /// attempt's scratch.
    AtRest,
}

/// How an attempt failed. The first group left the client untouched, so another answer can still be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardFailure {
    /// The backend closed or reset before a byte of response.
    Died {
        /// It was a reset, with no close before it.
        reset: bool,
    },
    /// No byte of response within `read_timeout`.
    Timeout,
    /// The drain's deadline cut it before the response began.
    Cut,
    /// Our own shutdown's deadline came before a call's response began.
    ShutDown,
    /// The response could not be understood (stable reason).
    BadResponse(&'static str),
    /// The protocol to the backend has no words for the request: nothing was sent.
    Untranslatable,
    /// The body comes in chunks, and the backend speaks HTTP/1.0: nothing was sent.
    LengthRequired,
    /// The client's body could not be taken.
    BadBody(UploadError),
    /// A limit of `[server]` was reached.
    Limited {
        /// The limit, for the log and the metric.
        limit: ServerLimit,
        /// What the client can still be told; `None`: it is cut.
        answer: Option<u16>,
    },
    /// The client went away.
    ClientGone,
    /// The response had begun and could not be finished: the connection is cut, so that the client can tell.
    Truncated(ResponseTruncation),
}

impl ForwardFailure {
    /// Whether the client can still be given another answer.
    pub fn is_clean(self) -> bool {
        !matches!(
            self,
            ForwardFailure::ClientGone
                | ForwardFailure::Truncated(_)
                | ForwardFailure::Limited { answer: None, .. }
        )
    }
}
