//! `/v1/routes/{route}/split`: the weights by which a route's requests are split among its pools.

use axum::extract::State;

use super::AdminState;
use super::body::{JsonBody, PathParameters};
use super::problem::ProblemDocument;
use crate::registry::view::{SplitRequest, SplitView};

/// `GET /v1/splits`: lists the splits of all routes that have a name.
pub(super) async fn list(
    State(admin): State<AdminState>,
) -> Result<axum::Json<Vec<SplitView>>, ProblemDocument> {
    Ok(axum::Json(admin.registry.splits().await?))
}

/// `GET`: returns the current split.
pub(super) async fn split(
    State(admin): State<AdminState>,
    PathParameters(route): PathParameters<String>,
) -> Result<axum::Json<SplitView>, ProblemDocument> {
    Ok(axum::Json(admin.registry.split(&route).await?))
}

/// `PUT`: sets other weights.
pub(super) async fn move_split(
    State(admin): State<AdminState>,
    PathParameters(route): PathParameters<String>,
    JsonBody(request): JsonBody<SplitRequest>,
) -> Result<axum::Json<SplitView>, ProblemDocument> {
    Ok(axum::Json(
        admin.registry.move_split(&route, request).await?,
    ))
}

/// `DELETE`: restores the configuration's weights.
pub(super) async fn reset_split(
    State(admin): State<AdminState>,
    PathParameters(route): PathParameters<String>,
) -> Result<axum::Json<SplitView>, ProblemDocument> {
    Ok(axum::Json(admin.registry.reset_split(&route).await?))
}
