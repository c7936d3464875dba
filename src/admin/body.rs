//! Request bodies and parameters: read completely, within limits, before a handler runs.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, Error, IgnoredAny};

use super::problem::{ProblemDocument, ProblemKind};

/// Maximum size of a body, in bytes. Every valid body of this API is smaller than 1 KiB.
const LIMIT: usize = 64 * 1024;
/// Maximum number of further bytes of a too large body that are read and discarded, so that the client receives the
/// response (closing with unread data resets the connection).
const DISCARD: usize = 8 * 1024 * 1024;
/// Timeout for receiving a complete body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the body before any handler runs, so that no handler has to deal with slow or endless bodies.
pub(super) async fn intake(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match read(&parts.headers, body).await {
        Ok(bytes) => {
            next.run(Request::from_parts(parts, Body::from(bytes)))
                .await
        }
        Err(problem) => problem
            .header(header::CONNECTION, HeaderValue::from_static("close"))
            .into_response(),
    }
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, ProblemDocument> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    // If a client waits for `100 Continue`, nothing of the body needs to be read.
    let announced = body.size_hint().lower();
    if headers.contains_key(header::EXPECT) && announced > LIMIT as u64 {
        return Err(too_large());
    }
    tokio::time::timeout(BODY_TIMEOUT, collect(body))
        .await
        .unwrap_or_else(|_elapsed| {
            let detail =
                format!("The body was not complete within {BODY_TIMEOUT:?}. Send it at once.");
            Err(ProblemDocument::new(ProblemKind::BodyTooSlow, detail))
        })
}

async fn collect(mut body: Body) -> Result<Bytes, ProblemDocument> {
    let mut read = Vec::new();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let detail = format!("The body can't be read: {error}. Check its framing.");
            ProblemDocument::new(
                ProblemKind::Http(axum::http::StatusCode::BAD_REQUEST),
                detail,
            )
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        total += data.len();
        if total > LIMIT + DISCARD {
            break;
        }
        if total <= LIMIT {
            read.extend_from_slice(&data);
        }
    }
    if total > LIMIT {
        return Err(too_large());
    }
    Ok(read.into())
}

fn too_large() -> ProblemDocument {
    let detail = format!("Bodies may have up to {LIMIT} bytes; none of this API's needs 1,024.");
    ProblemDocument::new(ProblemKind::BodyTooLarge, detail).member("limit", LIMIT)
}

/// A JSON body. An empty body is the type's default.
pub(super) struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ProblemDocument;

    async fn from_request(request: Request, _: &S) -> Result<Self, ProblemDocument> {
        let (parts, body) = request.into_parts();
        let bytes = collect(body).await?;
        if bytes.is_empty() {
            return parse(b"{}").map(Self);
        }
        if !is_json(&parts.headers) {
            let detail = "The body must come with `Content-Type: application/json` (curl: \
                          -H 'content-type: application/json').";
            return Err(ProblemDocument::new(ProblemKind::NotJson, detail)
                .header(header::ACCEPT, HeaderValue::from_static("application/json")));
        }
        parse(&bytes).map(Self)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ProblemDocument> {
    // serde accepts an array for a struct too: `[]` would be a drain with all defaults.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| bad_json(&error))?;
        let error = serde_json::Error::custom("expected an object, such as {}");
        return Err(bad_json(&error));
    }
    serde_json::from_slice(bytes).map_err(|error| bad_json(&error))
}

fn bad_json(error: &serde_json::Error) -> ProblemDocument {
    let detail = format!("{error}. GET /v1/openapi.json describes what this path takes.");
    let problem = ProblemDocument::new(ProblemKind::BadJson, detail);
    match error.line() {
        0 => problem,
        line => problem
            .member("line", line)
            .member("column", error.column()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    value.is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    })
}

/// Parameters in the path.
pub(super) struct PathParameters<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParameters<T> {
    type Rejection = ProblemDocument;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ProblemDocument> {
        let read: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        read.map(|Path(value)| Self(value)).map_err(|error| {
            let detail = format!("{}. Names are UTF-8, percent-encoded.", error.body_text());
            ProblemDocument::new(ProblemKind::BadPath, detail)
        })
    }
}

/// Parameters in the query.
pub(super) struct QueryParams<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = ProblemDocument;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ProblemDocument> {
        let read: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        read.map(|Query(value)| Self(value)).map_err(|error| {
            let detail = format!(
                "{}. GET /v1/openapi.json describes what this path takes.",
                error.body_text()
            );
            ProblemDocument::new(ProblemKind::BadQuery, detail)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::view::DrainRequest;

    fn refused(problem: ProblemDocument) -> serde_json::Value {
        problem.document(None)
    }

    #[tokio::test]
    async fn large_bodies_are_refused_whatever_their_form() {
        let body = Body::from(vec![b' '; LIMIT]);
        assert_eq!(read(&HeaderMap::new(), body).await.unwrap().len(), LIMIT);
        let body = Body::from(vec![b' '; LIMIT + 1]);
        let problem = refused(read(&HeaderMap::new(), body).await.unwrap_err());
        assert_eq!(problem["status"], 413);
        let endless = futures_util::stream::repeat_with(|| {
            Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 4096]))
        });
        let problem = refused(
            read(&HeaderMap::new(), Body::from_stream(endless))
                .await
                .unwrap_err(),
        );
        assert_eq!(problem["status"], 413);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let stuck = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let problem = refused(
            read(&HeaderMap::new(), Body::from_stream(stuck))
                .await
                .unwrap_err(),
        );
        assert_eq!(problem["status"], 408);
    }

    #[test]
    fn bad_json_names_line_and_column() {
        let problem = refused(parse::<DrainRequest>(b"{\n  \"timeout\": }").unwrap_err());
        assert_eq!(
            (&problem["line"], &problem["column"]),
            (&2.into(), &14.into())
        );
        let problem = refused(parse::<DrainRequest>(b"{\"tiemout\": \"30s\"}").unwrap_err());
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.starts_with("unknown field `tiemout`, expected one of `timeout`"),
            "{detail}"
        );
    }

    #[test]
    fn json_is_told_by_its_media_type() {
        let json = |value: &'static str| {
            is_json(&HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                HeaderValue::from_static(value),
            )]))
        };
        assert!(json("application/json"));
        assert!(json("Application/JSON; charset=utf-8"));
        assert!(!json("application/x-www-form-urlencoded"));
        assert!(!is_json(&HeaderMap::new()));
    }
}
