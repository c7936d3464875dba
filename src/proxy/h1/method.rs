//! Request methods (RFC 9110 §9) and protocol versions.

/// A request method. Methods are case-sensitive (RFC 9110 §9.1): `get` is [`Method::Other`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET.
    #[default]
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// OPTIONS.
    Options,
    /// PATCH (RFC 5789).
    Patch,
    /// TRACE.
    Trace,
    /// CONNECT: always refused, because this is not a forward proxy.
    Connect,
    /// Any other token; its text is in the head's `method_span`.
    Other,
}

impl Method {
    /// Parses the token in the request line.
    #[inline]
    pub fn from_bytes(token: &[u8]) -> Self {
        match token {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// Returns the method's token; `OTHER` for [`Method::Other`], which limits the number of metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
            Self::Other => "OTHER",
        }
    }

    /// Returns [`Method::as_str`] as bytes.
    pub fn as_bytes(self) -> &'static [u8] {
        self.as_str().as_bytes()
    }

    /// Returns whether the method is safe, i.e. requests no change (RFC 9110 §9.2.1).
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Returns whether repeating the request has the same effect as sending it once (RFC 9110 §9.2.2): safe methods,
    /// PUT and DELETE.
    pub fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}

/// The minor version of HTTP/1. Every other version is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpVersion {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

impl HttpVersion {
    /// Returns `HTTP/1.0` or `HTTP/1.1`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// The protocol that an `Upgrade` header field leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpgradeProtocol {
    /// `websocket` (RFC 6455).
    WebSocket,
    /// Another protocol: a tunnel without further inspection after the 101.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_token_round_trips() {
        for token in [
            "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT",
        ] {
            let method = Method::from_bytes(token.as_bytes());
            assert_eq!(method.as_str(), token);
            assert_eq!(method.as_bytes(), token.as_bytes());
        }
        assert_eq!(Method::from_bytes(b"get"), Method::Other);
        assert_eq!(Method::from_bytes(b"PURGE"), Method::Other);
    }

    #[test]
    fn safe_methods_put_and_delete_are_idempotent() {
        assert!(Method::Put.is_idempotent() && !Method::Put.is_safe());
        assert!(Method::Delete.is_idempotent() && Method::Get.is_idempotent());
        for unsafe_one in [Method::Post, Method::Patch, Method::Connect, Method::Other] {
            assert!(!unsafe_one.is_idempotent() && !unsafe_one.is_safe());
        }
    }
}
