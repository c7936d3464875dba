//! The format of errors: `application/problem+json` (RFC 9457), for people and scripts.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::registry::RegistryError;

/// The kinds of problems. Their slugs are part of the API: `type` is `urn:lameduck:problem:SLUG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The path does not exist.
    NoSuchPath,
    /// The path exists, the method doesn't.
    MethodNotAllowed,
    /// The body exceeds the limit.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The body isn't declared as JSON.
    NotJson,
    /// The body isn't valid JSON, or not the JSON that this path expects.
    BadJson,
    /// The query has invalid parameters for this path.
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
    /// [`RegistryError::NotYours`]: through the socket for apps, only own instances can be managed.
    NotYours,
    /// [`RegistryError::Full`]: the maximum number is reached.
    LimitReached,
    /// [`RegistryError::UnknownPool`].
    UnknownPool,
    /// [`RegistryError::UnknownBackend`].
    UnknownBackend,
    /// [`RegistryError::UnknownLease`].
    UnknownLease,
    /// [`RegistryError::UnknownRoute`].
    UnknownRoute,
    /// [`RegistryError::UnknownPlan`].
    UnknownPlan,
    /// No restart with this id is recorded.
    UnknownRestart,
    /// [`RegistryError::Invalid`].
    InvalidValue,
    /// [`RegistryError::Conflict`].
    Conflict,
    /// [`RegistryError::NotReady`]: the change was made, but the wait for its effect timed out.
    /// [`RegistryError::NotCome`]: no backend of this name was added within the wait.
    WaitRanOut,
    /// [`RegistryError::ShuttingDown`], [`RegistryError::HandedOver`].
    ShuttingDown,
    /// The readiness check fails.
    NotReady,
    /// The liveness check fails.
    NotAlive,
    /// The configuration file is invalid; the running configuration stays in effect.
    ConfigRefused,
    /// No other process has taken over; this one continues.
    UpgradeFailed,
    /// The maximum number of concurrent connections is reached.
    TooManyConnections,
    /// Any other refusal of the HTTP stack.
    Http(StatusCode),
}

impl ProblemKind {
    /// Every kind with a slug of its own.
    pub const ALL: [ProblemKind; 29] = [
        ProblemKind::NoSuchPath,
        ProblemKind::MethodNotAllowed,
        ProblemKind::BodyTooLarge,
        ProblemKind::BodyTooSlow,
        ProblemKind::NotJson,
        ProblemKind::BadJson,
        ProblemKind::BadQuery,
        ProblemKind::BadPath,
        ProblemKind::TokenRequired,
        ProblemKind::NoTokenConfigured,
        ProblemKind::ForeignHost,
        ProblemKind::ForeignOrigin,
        ProblemKind::NotYours,
        ProblemKind::LimitReached,
        ProblemKind::UnknownPool,
        ProblemKind::UnknownBackend,
        ProblemKind::UnknownLease,
        ProblemKind::UnknownRoute,
        ProblemKind::UnknownPlan,
        ProblemKind::UnknownRestart,
        ProblemKind::InvalidValue,
        ProblemKind::Conflict,
        ProblemKind::WaitRanOut,
        ProblemKind::ShuttingDown,
        ProblemKind::NotReady,
        ProblemKind::NotAlive,
        ProblemKind::ConfigRefused,
        ProblemKind::UpgradeFailed,
        ProblemKind::TooManyConnections,
    ];

    /// Returns status, slug and title.
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            ProblemKind::NoSuchPath => (S::NOT_FOUND, "no-such-path", "No such path"),
            ProblemKind::MethodNotAllowed => (
                S::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "Method not allowed",
            ),
            ProblemKind::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "body-too-large", "Body too large"),
            ProblemKind::BodyTooSlow => (S::REQUEST_TIMEOUT, "body-too-slow", "Body too slow"),
            ProblemKind::NotJson => (S::UNSUPPORTED_MEDIA_TYPE, "not-json", "Body is not JSON"),
            ProblemKind::BadJson => (S::BAD_REQUEST, "bad-json", "Bad JSON"),
            ProblemKind::BadQuery => (S::BAD_REQUEST, "bad-query", "Bad query"),
            ProblemKind::BadPath => (S::BAD_REQUEST, "bad-path", "Bad path"),
            ProblemKind::TokenRequired => (S::UNAUTHORIZED, "token-required", "Token required"),
            ProblemKind::NoTokenConfigured => (
                S::FORBIDDEN,
                "no-token-configured",
                "Not allowed over TCP without a token",
            ),
            ProblemKind::ForeignHost => (
                S::MISDIRECTED_REQUEST,
                "foreign-host",
                "Meant for another host",
            ),
            ProblemKind::ForeignOrigin => {
                (S::FORBIDDEN, "foreign-origin", "Sent by a foreign page")
            }
            ProblemKind::NotYours => (S::FORBIDDEN, "not-yours", "Not yours to change"),
            ProblemKind::LimitReached => (S::TOO_MANY_REQUESTS, "limit-reached", "Limit reached"),
            ProblemKind::UnknownPool => (S::NOT_FOUND, "unknown-pool", "Unknown pool"),
            ProblemKind::UnknownBackend => (S::NOT_FOUND, "unknown-backend", "Unknown backend"),
            ProblemKind::UnknownLease => (S::NOT_FOUND, "unknown-lease", "Unknown lease"),
            ProblemKind::UnknownRoute => (S::NOT_FOUND, "unknown-route", "Unknown route"),
            ProblemKind::UnknownPlan => (S::NOT_FOUND, "unknown-plan", "Unknown plan"),
            ProblemKind::UnknownRestart => (S::NOT_FOUND, "unknown-restart", "Unknown restart"),
            ProblemKind::InvalidValue => {
                (S::UNPROCESSABLE_ENTITY, "invalid-value", "Invalid value")
            }
            ProblemKind::Conflict => (
                S::CONFLICT,
                "conflict",
                "In conflict with the configuration",
            ),
            ProblemKind::WaitRanOut => (S::GATEWAY_TIMEOUT, "wait-ran-out", "The wait ran out"),
            ProblemKind::ShuttingDown => (S::SERVICE_UNAVAILABLE, "shutting-down", "Shutting down"),
            ProblemKind::NotReady => (S::SERVICE_UNAVAILABLE, "not-ready", "Not ready"),
            ProblemKind::NotAlive => (S::SERVICE_UNAVAILABLE, "not-alive", "Not alive"),
            ProblemKind::UpgradeFailed => (
                S::CONFLICT,
                "upgrade-failed",
                "The running lameduck goes on",
            ),
            ProblemKind::ConfigRefused => (
                S::UNPROCESSABLE_ENTITY,
                "config-refused",
                "Configuration refused",
            ),
            ProblemKind::TooManyConnections => (
                S::SERVICE_UNAVAILABLE,
                "too-many-connections",
                "Too many admin connections",
            ),
            ProblemKind::Http(status) => (
                status,
                "http",
                status.canonical_reason().unwrap_or("HTTP error"),
            ),
        }
    }

    /// Returns the last part of `type`.
    pub fn slug(self) -> &'static str {
        self.parts().1
    }
}

/// One error, as it is sent to the client.
#[derive(Debug, Clone)]
pub struct ProblemDocument {
    kind: ProblemKind,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    members: Map<String, Value>,
}

impl ProblemDocument {
    /// Creates a problem; `detail` says what is wrong, why, and what to do.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            headers: Vec::new(),
            members: Map::new(),
        }
    }

    /// Returns the last part of its `type`.
    pub fn slug(&self) -> &'static str {
        self.kind.slug()
    }

    /// Adds a header field.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds a member for scripts.
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Returns the document; `instance` is the requested path.
    pub fn document(&self, instance: Option<&str>) -> Value {
        let (status, slug, title) = self.kind.parts();
        let mut document = json!({
            "type": match self.kind {
                ProblemKind::Http(_) => "about:blank".to_owned(),
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

impl IntoResponse for ProblemDocument {
    fn into_response(self) -> Response {
        let mut response = self.response(None);
        // Used by `complete`, which knows the path.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<RegistryError> for ProblemDocument {
    fn from(refusal: RegistryError) -> Self {
        let text = refusal.to_string();
        match refusal {
            RegistryError::UnknownPool { .. } => ProblemDocument::new(
                ProblemKind::UnknownPool,
                format!("{text}. GET /v1/pools lists them."),
            ),
            RegistryError::UnknownBackend { ref pool, .. } => {
                let detail = format!(
                    "{text}. GET /v1/pools/{pool} lists them; PUT registers one that runs already."
                );
                ProblemDocument::new(ProblemKind::UnknownBackend, detail)
            }
            RegistryError::NotCome { .. } => ProblemDocument::new(
                ProblemKind::WaitRanOut,
                format!("{text}. Nothing was changed; does it run, and register under this name?"),
            ),
            RegistryError::UnknownLease(_) => {
                ProblemDocument::new(ProblemKind::UnknownLease, format!("{text}. Ask for a new one."))
            }
            RegistryError::UnknownRoute { .. } => ProblemDocument::new(
                ProblemKind::UnknownRoute,
                format!("{text}. A route gets a name by `name = \"…\"` in its [[route]]."),
            ),
            RegistryError::UnknownPlan(ref route) => ProblemDocument::new(
                ProblemKind::UnknownPlan,
                format!("{text}; `lameduck split {route} POOL --to 100 --in 10m` begins one."),
            ),
            RegistryError::NotYours(_) => ProblemDocument::new(ProblemKind::NotYours, text),
            RegistryError::Full(_) => ProblemDocument::new(ProblemKind::LimitReached, text),
            RegistryError::Invalid(_) => ProblemDocument::new(ProblemKind::InvalidValue, text),
            RegistryError::Conflict(_) => ProblemDocument::new(ProblemKind::Conflict, text),
            RegistryError::NotReady { ref state, .. } => ProblemDocument::new(
                ProblemKind::WaitRanOut,
                format!(
                    "{text}. The change was made all the same; its `last_probe` says what the app answers."
                ),
            )
            .member("state", state.as_str()),
            RegistryError::Failed => ProblemDocument::new(ProblemKind::Http(StatusCode::INTERNAL_SERVER_ERROR), text),
            RegistryError::ShuttingDown => ProblemDocument::new(
                ProblemKind::ShuttingDown,
                format!("{text}; nothing can be changed any more. Ask again when it is back."),
            ),
            RegistryError::HandedOver => ProblemDocument::new(
                ProblemKind::ShuttingDown,
                format!("{text}. Ask again: it answers at the same address."),
            ),
        }
    }
}

/// The outermost layer: adds the path to each problem, and converts bare errors of the HTTP stack to problems.
pub(super) async fn complete(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = response.status();
    if let Some(problem) = response.extensions().get::<ProblemDocument>() {
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
    ProblemDocument::new(ProblemKind::Http(status), detail).response(Some(&path))
}

fn method_not_allowed(allow: Option<HeaderValue>) -> ProblemDocument {
    let allow = allow.unwrap_or(HeaderValue::from_static(""));
    let detail = format!(
        "This path exists, but not with this method. It takes: {}.",
        allow.to_str().unwrap_or_default().replace(',', ", ")
    );
    ProblemDocument::new(ProblemKind::MethodNotAllowed, detail).header(header::ALLOW, allow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_unique_and_documented() {
        let docs = include_str!("../../docs/admin-api.md");
        let mut seen = std::collections::BTreeSet::new();
        for kind in ProblemKind::ALL {
            assert!(seen.insert(kind.slug()), "{} twice", kind.slug());
            let row = format!("| {} | `{}` |", kind.parts().0.as_u16(), kind.slug());
            assert!(docs.contains(&row), "docs/admin-api.md lacks the row {row}");
        }
    }

    #[test]
    fn a_document_has_every_member() {
        let problem = ProblemDocument::new(ProblemKind::BadJson, "expected `}`. Close the object.")
            .member("line", 3);
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
                RegistryError::UnknownPool {
                    name: "x".into(),
                    known: "a".into(),
                },
                404,
            ),
            (
                RegistryError::UnknownBackend {
                    pool: "a".into(),
                    name: "x".into(),
                    known: "none".into(),
                    may_come: false,
                },
                404,
            ),
            (
                RegistryError::NotCome {
                    pool: "a".into(),
                    name: "x".into(),
                    known: "none".into(),
                    waited: std::time::Duration::from_secs(1),
                },
                504,
            ),
            (RegistryError::Invalid("bad".into()), 422),
            (RegistryError::NotYours("theirs".into()), 403),
            (RegistryError::Full("full".into()), 429),
            (RegistryError::Conflict("no".into()), 409),
            (
                RegistryError::NotReady {
                    pool: "a".into(),
                    name: "x".into(),
                    waited: std::time::Duration::from_secs(1),
                    state: "starting".into(),
                },
                504,
            ),
            (RegistryError::Failed, 500),
            (RegistryError::ShuttingDown, 503),
            (RegistryError::HandedOver, 503),
        ];
        for (refusal, status) in refusals {
            let text = refusal.to_string();
            let document = ProblemDocument::from(refusal).document(None);
            assert_eq!(document["status"], status, "{text}");
            let detail = document["detail"].as_str().unwrap_or_default();
            assert!(detail.contains(&text), "{detail}");
        }
    }
}
