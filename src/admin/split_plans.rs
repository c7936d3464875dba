//! `/v1/routes/{route}/split/plan`: moves weights in steps, with an automatic rollback.

use axum::extract::State;
use serde::Deserialize;

use super::AdminState;
use super::body::{JsonBody, PathParameters, QueryParams};
use super::problem::ProblemDocument;
use crate::registry::plan_view::{PlanRequest, PlanView};

/// `POST`: begins a plan.
pub(super) async fn begin(
    State(admin): State<AdminState>,
    PathParameters(route): PathParameters<String>,
    JsonBody(request): JsonBody<PlanRequest>,
) -> Result<axum::Json<PlanView>, ProblemDocument> {
    Ok(axum::Json(
        admin.registry.begin_plan(&route, request).await?,
    ))
}

/// `GET`: returns the current plan, or the last one.
pub(super) async fn show(
    State(admin): State<AdminState>,
    PathParameters(route): PathParameters<String>,
) -> Result<axum::Json<PlanView>, ProblemDocument> {
    Ok(axum::Json(admin.registry.plan(&route).await?))
}

/// Query of `DELETE`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanEnding {
    #[serde(default)]
    back: bool,
}

/// `DELETE`: ends the plan at its current weights, or restores the weights from before it.
pub(super) async fn end(
    State(admin): State<AdminState>,
    PathParameters(route): PathParameters<String>,
    QueryParams(ending): QueryParams<PlanEnding>,
) -> Result<axum::Json<PlanView>, ProblemDocument> {
    Ok(axum::Json(
        admin.registry.end_plan(&route, ending.back).await?,
    ))
}
