//! Why a head is refused, and the status for the response.
//!
//! Each variant is one rule of the parsers; the RFC section is noted in the code that applies it.

use super::connection_options::TooManyOptions;
use super::framing::FramingError;

/// The error for a line that does not end in CR LF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineEndError;

/// Why a request is refused. The connection can't be used any more, because the request's end is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "`reason` says what each one means")]
pub enum RequestError {
    BadRequestLine,
    BadVersion,
    BadTarget,
    TargetTooLong,
    HeadTooLarge,
    TooManyFields,
    BadFieldName,
    BadFieldValue,
    BadLineEnd,
    NoHost,
    ManyHosts,
    BadHost,
    Framing(FramingError),
    ConnectMethod,
    BadExpectation,
    TooManyOptions,
    FramingImitation,
}

impl RequestError {
    /// Returns the status of the response.
    pub fn status(&self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::BadExpectation => 417,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::Framing(FramingError::UnknownCoding) | Self::ConnectMethod => 501,
            Self::BadVersion => 505,
            _ => 400,
        }
    }

    /// Returns the reason in a few words that never change: for the log, a metric's label and the response body.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadRequestLine => "malformed request line",
            Self::BadVersion => "HTTP version not supported",
            Self::BadTarget => "malformed request target",
            Self::TargetTooLong => "request target too long",
            Self::HeadTooLarge => "request header too large",
            Self::TooManyFields => "too many header fields",
            Self::BadFieldName => "malformed header field name",
            Self::BadFieldValue => "malformed header field value",
            Self::BadLineEnd => "line not ended by CR LF",
            Self::NoHost => "Host missing",
            Self::ManyHosts => "more than one Host",
            Self::BadHost => "malformed Host",
            Self::Framing(error) => error.reason(),
            Self::ConnectMethod => "CONNECT not supported",
            Self::BadExpectation => "unknown expectation",
            Self::TooManyOptions => "too many Connection options",
            Self::FramingImitation => "header field name imitates a framing field",
        }
    }
}

impl std::fmt::Display for RequestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for RequestError {}

impl From<FramingError> for RequestError {
    fn from(error: FramingError) -> Self {
        Self::Framing(error)
    }
}

impl From<TooManyOptions> for RequestError {
    fn from(_: TooManyOptions) -> Self {
        Self::TooManyOptions
    }
}

impl From<LineEndError> for RequestError {
    fn from(_: LineEndError) -> Self {
        Self::BadLineEnd
    }
}

/// Why a response is refused: the client always gets a 502.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "`reason` says what each one means")]
pub enum ResponseError {
    BadStatusLine,
    BadVersion,
    HeadTooLarge,
    TooManyFields,
    BadFieldName,
    BadFieldValue,
    BadLineEnd,
    Framing(FramingError),
    TooManyOptions,
    UnaskedUpgrade,
}

impl ResponseError {
    /// Returns the status for the client: always 502.
    pub fn status(&self) -> u16 {
        502
    }

    /// Returns the reason in a few words that never change: for the log, a metric's label and the response body.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadStatusLine => "malformed status line",
            Self::BadVersion => "HTTP version not supported",
            Self::HeadTooLarge => "response header too large",
            Self::TooManyFields => "too many header fields",
            Self::BadFieldName => "malformed header field name",
            Self::BadFieldValue => "malformed header field value",
            Self::BadLineEnd => "line not ended by CR LF",
            Self::Framing(error) => error.reason(),
            Self::TooManyOptions => "too many Connection options",
            Self::UnaskedUpgrade => "101 without an upgrade that was asked for",
        }
    }
}

impl std::fmt::Display for ResponseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ResponseError {}

impl From<FramingError> for ResponseError {
    fn from(error: FramingError) -> Self {
        Self::Framing(error)
    }
}

impl From<TooManyOptions> for ResponseError {
    fn from(_: TooManyOptions) -> Self {
        Self::TooManyOptions
    }
}

impl From<LineEndError> for ResponseError {
    fn from(_: LineEndError) -> Self {
        Self::BadLineEnd
    }
}
