//! `/v1/pools` and what can be read below it.

use axum::extract::State;

use super::Admin;
use super::apps::Registry;
use super::body::Place;
use super::problem::Problem;
use crate::registry::view::{BackendView, PoolView};

/// `GET /v1/pools`.
pub(super) async fn list(State(admin): State<Admin>) -> Result<axum::Json<Vec<PoolView>>, Problem> {
    Ok(axum::Json(admin.registry.pools().await?))
}

/// `GET /v1/pools/{pool}`.
pub(super) async fn one(
    Registry(registry): Registry,
    Place(pool): Place<String>,
) -> Result<axum::Json<PoolView>, Problem> {
    Ok(axum::Json(registry.pool(&pool).await?))
}

/// `GET /v1/pools/{pool}/backends`.
pub(super) async fn backends(
    State(admin): State<Admin>,
    Place(pool): Place<String>,
) -> Result<axum::Json<Vec<BackendView>>, Problem> {
    Ok(axum::Json(admin.registry.pool(&pool).await?.backends))
}

/// `GET /v1/pools/{pool}/backends/{name}`: the newest of that name.
pub(super) async fn backend(
    Registry(registry): Registry,
    Place((pool, name)): Place<(String, String)>,
) -> Result<axum::Json<BackendView>, Problem> {
    let mut found = registry.backends(&pool, &name).await?;
    // The handle never answers with an empty list; if it did, it would be on its way out.
    let newest = found.pop().ok_or(crate::registry::Refusal::ShuttingDown)?;
    Ok(axum::Json(newest))
}
