//! What an error looks like: `application/problem+json` (RFC 9457), made for people and scripts.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::registry::Refusal;

/// The kinds of problems. Their slugs are part of the API: `type` is `urn:lameduck:problem:SLUG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No such path.
    NoSuchPath,
    /// The path exists, the method doesn't.
    MethodNotAllowed,
    /// The body is over the limit.
    BodyTooLarge,
    /// The body didn't come in time.
    BodyTooSlow,
    /// The body isn't declared as JSON.
    NotJson,
    /// The body isn't JSON, or not the JSON that this path takes.
    BadJson,
    /// The query is not what this path takes.
    BadQuery,
    /// The path can't be decoded.
    BadPath,
    /// A bearer token is needed, or the one given is wrong.
    TokenRequired,
    /// Changes over TCP need a token, and none is configured.
    NoTokenConfigured,
    /// The request was meant for another host.
    ForeignHost,
    /// A web page of another site sent the request.
    ForeignOrigin,
    /// [`Refusal::NotYours`]: the socket for apps is for own instances.
    NotYours,
    /// [`Refusal::Full`]: there are as many as there may be.
    LimitReached,
    /// [`Refusal::UnknownPool`].
    UnknownPool,
    /// [`Refusal::UnknownBackend`].
    UnknownBackend,
    /// [`Refusal::UnknownLease`].
    UnknownLease,
    /// [`Refusal::Invalid`].
    InvalidValue,
    /// [`Refusal::Conflict`].
    Conflict,
    /// [`Refusal::NotReady`]: the change was made, the wait for its effect ran out.
    WaitRanOut,
    /// [`Refusal::ShuttingDown`].
    ShuttingDown,
    /// A readiness check says no.
    NotReady,
    /// The liveness check says no.
    NotAlive,
    /// The configuration on disk is wrong; the running one stays.
    ConfigRefused,
    /// Too many connections at once.
    TooManyConnections,
    /// Whatever else the HTTP stack refuses.
    Http(StatusCode),
}

impl Kind {
    /// Every kind with a slug of its own.
    pub const ALL: [Kind; 25] = [
        Kind::NoSuchPath,
        Kind::MethodNotAllowed,
        Kind::BodyTooLarge,
        Kind::BodyTooSlow,
        Kind::NotJson,
        Kind::BadJson,
        Kind::BadQuery,
        Kind::BadPath,
        Kind::TokenRequired,
        Kind::NoTokenConfigured,
        Kind::ForeignHost,
        Kind::ForeignOrigin,
        Kind::NotYours,
        Kind::LimitReached,
        Kind::UnknownPool,
        Kind::UnknownBackend,
        Kind::UnknownLease,
        Kind::InvalidValue,
        Kind::Conflict,
        Kind::WaitRanOut,
        Kind::ShuttingDown,
        Kind::NotReady,
        Kind::NotAlive,
        Kind::ConfigRefused,
        Kind::TooManyConnections,
    ];

    /// Status, slug and title.
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Kind::NoSuchPath => (S::NOT_FOUND, "no-such-path", "No such path"),
            Kind::MethodNotAllowed => (
                S::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "Method not allowed",
            ),
            Kind::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "body-too-large", "Body too large"),
            Kind::BodyTooSlow => (S::REQUEST_TIMEOUT, "body-too-slow", "Body too slow"),
            Kind::NotJson => (S::UNSUPPORTED_MEDIA_TYPE, "not-json", "Body is not JSON"),
            Kind::BadJson => (S::BAD_REQUEST, "bad-json", "Bad JSON"),
            Kind::BadQuery => (S::BAD_REQUEST, "bad-query", "Bad query"),
            Kind::BadPath => (S::BAD_REQUEST, "bad-path", "Bad path"),
            Kind::TokenRequired => (S::UNAUTHORIZED, "token-required", "Token required"),
            Kind::NoTokenConfigured => (
                S::FORBIDDEN,
                "no-token-configured",
                "Not allowed over TCP without a token",
            ),
            Kind::ForeignHost => (
                S::MISDIRECTED_REQUEST,
                "foreign-host",
                "Meant for another host",
            ),
            Kind::ForeignOrigin => (S::FORBIDDEN, "foreign-origin", "Sent by a foreign page"),
            Kind::NotYours => (S::FORBIDDEN, "not-yours", "Not yours to change"),
            Kind::LimitReached => (S::TOO_MANY_REQUESTS, "limit-reached", "Limit reached"),
            Kind::UnknownPool => (S::NOT_FOUND, "unknown-pool", "Unknown pool"),
            Kind::UnknownBackend => (S::NOT_FOUND, "unknown-backend", "Unknown backend"),
            Kind::UnknownLease => (S::NOT_FOUND, "unknown-lease", "Unknown lease"),
            Kind::InvalidValue => (S::UNPROCESSABLE_ENTITY, "invalid-value", "Invalid value"),
            Kind::Conflict => (
                S::CONFLICT,
                "conflict",
                "In conflict with the configuration",
            ),
            Kind::WaitRanOut => (S::GATEWAY_TIMEOUT, "wait-ran-out", "The wait ran out"),
            Kind::ShuttingDown => (S::SERVICE_UNAVAILABLE, "shutting-down", "Shutting down"),
            Kind::NotReady => (S::SERVICE_UNAVAILABLE, "not-ready", "Not ready"),
            Kind::NotAlive => (S::SERVICE_UNAVAILABLE, "not-alive", "Not alive"),
            Kind::ConfigRefused => (
                S::UNPROCESSABLE_ENTITY,
                "config-refused",
                "Configuration refused",
            ),
            Kind::TooManyConnections => (
                S::SERVICE_UNAVAILABLE,
                "too-many-connections",
                "Too many admin connections",
            ),
            Kind::Http(status) => (
                status,
                "http",
                status.canonical_reason().unwrap_or("HTTP error"),
            ),
        }
    }

    /// The last part of `type`.
    pub fn slug(self) -> &'static str {
        self.parts().1
    }
}

/// One error, as the client gets it.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    members: Map<String, Value>,
}

impl Problem {
    /// A problem; `detail` says what, why and what to do now.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            headers: Vec::new(),
            members: Map::new(),
        }
    }

    /// The last part of its `type`.
    pub fn slug(&self) -> &'static str {
        self.kind.slug()
    }

    /// With a header field.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With a member of its own, for scripts.
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// The document; `instance` is the path that was asked for.
    pub fn document(&self, instance: Option<&str>) -> Value {
        let (status, slug, title) = self.kind.parts();
        let mut document = json!({
            "type": match self.kind {
                Kind::Http(_) => "about:blank".to_owned(),
                _ => format!("urn:lameduck:problem:{slug}"),
            },
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
        });
        if let Some(members) = document.as_object_mut() {
            if let Some(instance) = instance {
                members.insert("instance".to_owned(), instance.into());
            }
            members.extend(self.members.clone());
        }
        document
    }

    fn response(&self, instance: Option<&str>) -> Response {
        let mut response = Response::new(Body::from(self.document(instance).to_string()));
        *response.status_mut() = self.kind.parts().0;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.response(None);
        // For `complete`, which knows the path.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::UnknownPool { .. } => Problem::new(
                Kind::UnknownPool,
                format!("{text}. GET /v1/pools lists them."),
            ),
            Refusal::UnknownBackend { ref pool, .. } => {
                let detail = format!(
                    "{text}. GET /v1/pools/{pool} lists them; PUT registers one that runs already."
                );
                Problem::new(Kind::UnknownBackend, detail)
            }
            Refusal::UnknownLease(_) => {
                Problem::new(Kind::UnknownLease, format!("{text}. Ask for a new one."))
            }
            Refusal::NotYours(_) => Problem::new(Kind::NotYours, text),
            Refusal::Full(_) => Problem::new(Kind::LimitReached, text),
            Refusal::Invalid(_) => Problem::new(Kind::InvalidValue, text),
            Refusal::Conflict(_) => Problem::new(Kind::Conflict, text),
            Refusal::NotReady { ref state, .. } => Problem::new(
                Kind::WaitRanOut,
                format!(
                    "{text}. The change was made all the same; its `last_probe` says what the app answers."
                ),
            )
            .member("state", state.as_str()),
            Refusal::Failed => Problem::new(Kind::Http(StatusCode::INTERNAL_SERVER_ERROR), text),
            Refusal::ShuttingDown => Problem::new(
                Kind::ShuttingDown,
                format!("{text}; nothing can be changed any more. Ask again when it is back."),
            ),
        }
    }
}

/// The outermost layer: puts the path into each problem, and turns whatever bare error comes from the HTTP
/// stack into one.
pub(super) async fn complete(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = response.status();
    if let Some(problem) = response.extensions().get::<Problem>() {
        return problem.response(Some(&path));
    }
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allow = response.headers().get(header::ALLOW).cloned();
        return method_not_allowed(allow).response(Some(&path));
    }
    let detail = "The request was refused before it reached the API.";
    Problem::new(Kind::Http(status), detail).response(Some(&path))
}

fn method_not_allowed(allow: Option<HeaderValue>) -> Problem {
    let allow = allow.unwrap_or(HeaderValue::from_static(""));
    let detail = format!(
        "This path exists, but not with this method. It takes: {}.",
        allow.to_str().unwrap_or_default().replace(',', ", ")
    );
    Problem::new(Kind::MethodNotAllowed, detail).header(header::ALLOW, allow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_unique_and_documented() {
        let docs = include_str!("../../docs/admin-api.md");
        let mut seen = std::collections::BTreeSet::new();
        for kind in Kind::ALL {
            assert!(seen.insert(kind.slug()), "{} twice", kind.slug());
            let row = format!("| {} | `{}` |", kind.parts().0.as_u16(), kind.slug());
            assert!(docs.contains(&row), "docs/admin-api.md lacks the row {row}");
        }
    }

    #[test]
    fn a_document_has_every_member() {
        let problem =
            Problem::new(Kind::BadJson, "expected `}`. Close the object.").member("line", 3);
        let document = problem.document(Some("/v1/pools"));
        assert_eq!(document["type"], "urn:lameduck:problem:bad-json");
        assert_eq!(document["title"], "Bad JSON");
        assert_eq!(document["status"], 400);
        assert_eq!(document["detail"], "expected `}`. Close the object.");
        assert_eq!(document["instance"], "/v1/pools");
        assert_eq!(document["line"], 3);
    }

    #[test]
    fn refusals_have_their_statuses() {
        let refusals = [
            (
                Refusal::UnknownPool {
                    name: "x".into(),
                    known: "a".into(),
                },
                404,
            ),
            (
                Refusal::UnknownBackend {
                    pool: "a".into(),
                    name: "x".into(),
                    known: "none".into(),
                },
                404,
            ),
            (Refusal::Invalid("bad".into()), 422),
            (Refusal::NotYours("theirs".into()), 403),
            (Refusal::Full("full".into()), 429),
            (Refusal::Conflict("no".into()), 409),
            (
                Refusal::NotReady {
                    pool: "a".into(),
                    name: "x".into(),
                    waited: std::time::Duration::from_secs(1),
                    state: "starting".into(),
                },
                504,
            ),
            (Refusal::Failed, 500),
            (Refusal::ShuttingDown, 503),
        ];
        for (refusal, status) in refusals {
            let text = refusal.to_string();
            let document = Problem::from(refusal).document(None);
            assert_eq!(document["status"], status, "{text}");
            let detail = document["detail"].as_str().unwrap_or_default();
            assert!(detail.contains(&text), "{detail}");
        }
    }
}
