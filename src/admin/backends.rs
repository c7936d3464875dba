//! Actions on a backend: drain, resume, register, deregister.

use serde::Deserialize;

use super::apps::CallersRegistry;
use super::body::{JsonBody, PathParameters, QueryParams};
use super::problem::ProblemDocument;
use crate::registry::view::{
    BackendView, DrainRequest, DrainResponse, RegisterRequest, ResumeRequest,
};

/// `POST …/{name}/drain`: waits until the drain has ended, unless asked not to. If the client disconnects, the drain
/// continues.
pub(super) async fn drain(
    CallersRegistry(registry): CallersRegistry,
    PathParameters((pool, name)): PathParameters<(String, String)>,
    JsonBody(request): JsonBody<DrainRequest>,
) -> Result<axum::Json<DrainResponse>, ProblemDocument> {
    Ok(axum::Json(registry.drain(&pool, &name, request).await?))
}

/// `POST …/{name}/resume`.
pub(super) async fn resume(
    CallersRegistry(registry): CallersRegistry,
    PathParameters((pool, name)): PathParameters<(String, String)>,
    JsonBody(request): JsonBody<ResumeRequest>,
) -> Result<axum::Json<BackendView>, ProblemDocument> {
    Ok(axum::Json(registry.resume(&pool, &name, request).await?))
}

/// `PUT …/{name}`: registers a backend, or moves it to another address.
pub(super) async fn register(
    CallersRegistry(registry): CallersRegistry,
    PathParameters((pool, name)): PathParameters<(String, String)>,
    JsonBody(request): JsonBody<RegisterRequest>,
) -> Result<axum::Json<BackendView>, ProblemDocument> {
    Ok(axum::Json(registry.register(&pool, &name, request).await?))
}

/// Query of `DELETE …/{name}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackendRemoval {
    timeout: Option<String>,
    reason: Option<String>,
    wait: Option<bool>,
}

/// `DELETE …/{name}?timeout=30s`: drains, then removes.
pub(super) async fn deregister(
    CallersRegistry(registry): CallersRegistry,
    PathParameters((pool, name)): PathParameters<(String, String)>,
    QueryParams(removal): QueryParams<BackendRemoval>,
) -> Result<axum::Json<DrainResponse>, ProblemDocument> {
    let request = DrainRequest {
        timeout: removal.timeout,
        reason: removal.reason,
        wait: removal.wait,
        ..DrainRequest::default()
    };
    Ok(axum::Json(
        registry.deregister(&pool, &name, request).await?,
    ))
}
