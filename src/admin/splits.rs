//! `/v1/routes/{route}/split`: by which weights a route's requests go to its pools.

use axum::extract::State;

use super::AdminState;
use super::body::{JsonBody, PathParameters};
use super::problem::ProblemDocument;
use crate::registry::view::{SplitRequest, SplitView};

/// `GET /v1/splits`: those of all routes that have a name.
pub(super) async fn list(
    State(admin): State<AdminState>,
) -> Result<axum::Json<Vec<SplitView>>, ProblemDocument> {
    Ok(axum::Json(admin.registry.splits().await?))
}

/// `GET`: as it is.
pub(super) async fn split(
    State(admin): State<AdminState>,
    PathParameters(route): PathParameters<String>,
) -> Result<axum::Json<SplitView>, ProblemDocument> {
    Ok(axum::Json(admin.registry.split(&route).await?))
}

/// `PUT`: other weights.
pub(super) async fn move_split(
    State(admin): State<AdminState>,
    PathParameters(route): PathParameters<String>,
    JsonBody(request): JsonBody<SplitRequest>,
) -> Result<axum::Json<SplitView>, ProblemDocument> {
    Ok(axum::Json(
        admin.registry.move_split(&route, request).await?,
    ))
}

/// `DELETE`: the configuration's weights again.
pub(super) async fn reset_split(
    State(admin): State<AdminState>,
    PathParameters(route): PathParameters<String>,
) -> Result<axum::Json<SplitView>, ProblemDocument> {
    Ok(axum::Json(admin.registry.reset_split(&route).await?))
}
