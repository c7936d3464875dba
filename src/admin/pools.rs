//! `/v1/pools`, and the data below it.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::AdminState;
use super::apps::CallersRegistry;
use super::body::{JsonBody, PathParameters};
use super::problem::ProblemDocument;
use crate::registry::RegistryError;
use crate::registry::view::{BackendView, PauseRequest, PauseResponse, PoolView};

/// `GET /v1/pools`. With many backends the response takes a while to write, and the registry must not wait for it.
pub(super) async fn list(
    State(admin): State<AdminState>,
) -> Result<impl IntoResponse, ProblemDocument> {
    let registry = admin.registry;
    let write = async move {
        let pools = registry.pools().await?;
        let writing = move || serde_json::to_vec(&pools).map_err(|_| RegistryError::Failed);
        let written = tokio::task::spawn_blocking(writing).await;
        Ok(written.map_err(|_| RegistryError::Failed)??)
    };
    let text = admin.listed.get(write).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text))
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

/// `GET /v1/pools/{pool}/backends/{name}`: returns the newest backend with that name.
pub(super) async fn backend(
    CallersRegistry(registry): CallersRegistry,
    PathParameters((pool, name)): PathParameters<(String, String)>,
) -> Result<axum::Json<BackendView>, ProblemDocument> {
    let mut found = registry.backends(&pool, &name).await?;
    // The handle never returns an empty list; if it did, the backend would be about to go.
    let newest = found
        .pop()
        .ok_or(crate::registry::RegistryError::ShuttingDown)?;
    Ok(axum::Json(newest))
}

/// `POST /v1/pools/{pool}/pause`: holds the pool's requests, or answers them with a page.
pub(super) async fn pause(
    State(admin): State<AdminState>,
    PathParameters(pool): PathParameters<String>,
    JsonBody(request): JsonBody<PauseRequest>,
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
