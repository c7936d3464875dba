//! `/v1/pools` and what can be read below it.

use axum::extract::State;

use super::AdminState;
use super::apps::CallersRegistry;
use super::body::{Json, PathParameters};
use super::problem::ProblemDocument;
use crate::registry::view::{BackendView, PauseRequest, PauseResponse, PoolView};

/// `GET /v1/pools`.
pub(super) async fn list(
    State(admin): State<AdminState>,
) -> Result<axum::Json<Vec<PoolView>>, ProblemDocument> {
    Ok(axum::Json(admin.registry.pools().await?))
}

/// `GET /v1/pools/{pool}`.
pub(super) async fn one(
    CallersRegistry(registry): CallersRegistry,
    PathParameters(pool): PathParameters<String>,
) -> Result<axum::Json<PoolView>, ProblemDocument> {
    Ok(axum::Json(registry.pool(&pool).await?))
}

/// `GET /v1/pools/{pool}/backends`.
pub(super) async fn backends(
    State(admin): State<AdminState>,
    PathParameters(pool): PathParameters<String>,
) -> Result<axum::Json<Vec<BackendView>>, ProblemDocument> {
    Ok(axum::Json(admin.registry.pool(&pool).await?.backends))
}

/// `GET /v1/pools/{pool}/backends/{name}`: the newest of that name.
pub(super) async fn backend(
    CallersRegistry(registry): CallersRegistry,
    PathParameters((pool, name)): PathParameters<(String, String)>,
) -> Result<axum::Json<BackendView>, ProblemDocument> {
    let mut found = registry.backends(&pool, &name).await?;
    // The handle never answers with an empty list; if it did, it would be on its way out.
    let newest = found
        .pop()
        .ok_or(crate::registry::RegistryError::ShuttingDown)?;
    Ok(axum::Json(newest))
}

/// `POST /v1/pools/{pool}/pause`: what comes to it is held, or answered with a page.
pub(super) async fn pause(
    State(admin): State<AdminState>,
    PathParameters(pool): PathParameters<String>,
    Json(request): Json<PauseRequest>,
) -> Result<axum::Json<PauseResponse>, ProblemDocument> {
    Ok(axum::Json(admin.registry.pause(&pool, request).await?))
}

/// `DELETE /v1/pools/{pool}/pause`: ends the pause, if there is one.
pub(super) async fn end_pause(
    State(admin): State<AdminState>,
    PathParameters(pool): PathParameters<String>,
) -> Result<axum::Json<PauseResponse>, ProblemDocument> {
    Ok(axum::Json(admin.registry.end_pause(&pool).await?))
}
