//! `/v1/routes/{route}/split/plan`: weights that are moved in steps, and go back by themselves.

use axum::extract::State;
use serde::Deserialize;

use super::AdminState;
use super::body::{JsonBody, PathParameters, QueryParams};
use super::problem::ProblemDocument;
use crate::registry::plan_view::{PlanRequest, PlanView};

/// `POST`: a plan begins.
pub(super) async fn begin(
    State(admin): State<AdminState>,
    PathParameters(route): PathParameters<String>,
    JsonBody(request): JsonBody<PlanRequest>,
) -> Result<axum::Json<PlanView>, ProblemDocument> {
    Ok(axum::Json(
        admin.registry.begin_plan(&route, request).await?,
    ))
}

/// `GET`: the plan under way, or the last one.
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

/// `DELETE`: the plan ends where it is, or with the weights from before it.
pub(super) async fn end(
    State(admin): State<AdminState>,
    PathParameters(route): PathParameters<String>,
    QueryParams(ending): QueryParams<PlanEnding>,
) -> Result<axum::Json<PlanView>, ProblemDocument> {
    Ok(axum::Json(
        admin.registry.end_plan(&route, ending.back).await?,
    ))
}
