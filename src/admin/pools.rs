//! `/v1/pools` and what can be read below it.

use axum::extract::State;

use super::AdminState;
use super::apps::Registry;
use super::body::PathParameters;
use super::problem::ProblemDocument;
use crate::registry::view::{BackendView, PoolView};

/// `GET /v1/pools`.
pub(super) async fn list(
    State(admin): State<AdminState>,
) -> Result<axum::Json<Vec<PoolView>>, ProblemDocument> {
    Ok(axum::Json(admin.registry.pools().await?))
}

/// `GET /v1/pools/{pool}`.
pub(super) async fn one(
    Registry(registry): Registry,
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
    Registry(registry): Registry,
    PathParameters((pool, name)): PathParameters<(String, String)>,
) -> Result<axum::Json<BackendView>, ProblemDocument> {
    let mut found = registry.backends(&pool, &name).await?;
    // The handle never answers with an empty list; if it did, it would be on its way out.
    let newest = found
        .pop()
        .ok_or(crate::registry::RegistryError::ShuttingDown)?;
    Ok(axum::Json(newest))
}
