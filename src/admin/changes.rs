//! `GET /v1/changes`: recent changes, and who made them.

use axum::extract::State;
use serde::Deserialize;

use super::AdminState;
use super::body::QueryParams;
use super::problem::ProblemDocument;
use crate::registry::live_figures::MOST_CHANGES;
use crate::registry::view::ChangeView;

/// Query of `GET /v1/changes`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesQuery {
    last: Option<u32>,
}

/// `GET /v1/changes[?last=]`: lists changes, oldest first.
pub(super) async fn list(
    State(admin): State<AdminState>,
    QueryParams(wanted): QueryParams<ChangesQuery>,
) -> Result<axum::Json<Vec<ChangeView>>, ProblemDocument> {
    let last = wanted.last.map_or(MOST_CHANGES, |last| last as usize);
    Ok(axum::Json(admin.registry.live_figures().changes(last)))
}
