//! `GET /v1/restarts`: the last restarts, and their effects on requests.

use axum::extract::State;
use serde::Deserialize;

use super::AdminState;
use super::body::{PathParameters, QueryParams};
use super::problem::{ProblemDocument, ProblemKind};
use crate::registry::restart_board::MOST_RESTARTS;
use crate::registry::restart_view::{ProxyIdentity, RestartList, RestartView};

/// Query of `GET /v1/restarts`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RestartQuery {
    limit: Option<u32>,
}

/// `GET /v1/restarts[?limit=]`: lists the newest restarts, the oldest of them first.
pub(super) async fn list(
    State(admin): State<AdminState>,
    QueryParams(query): QueryParams<RestartQuery>,
) -> Result<axum::Json<RestartList>, ProblemDocument> {
    let limit = query.limit.map_or(MOST_RESTARTS, |limit| limit as usize);
    let board = admin.registry.restarts();
    let restarts = board.list(limit);
    Ok(axum::Json(RestartList {
        proxy: ProxyIdentity::own(&admin.process.config_json()),
        predecessors: board.predecessors(&restarts),
        restarts,
    }))
}

/// `GET /v1/restarts/{id}`.
pub(super) async fn one(
    State(admin): State<AdminState>,
    PathParameters(id): PathParameters<String>,
) -> Result<axum::Json<RestartView>, ProblemDocument> {
    let found = admin.registry.restarts().find(&id);
    found.map(axum::Json).ok_or_else(|| {
        let detail = format!(
            "No restart `{id}` is remembered. The last {MOST_RESTARTS} are: GET /v1/restarts lists them."
        );
        ProblemDocument::new(ProblemKind::UnknownRestart, detail)
    })
}
