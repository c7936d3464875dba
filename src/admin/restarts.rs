//! `GET /v1/restarts`: what the last restarts were, and what they cost.

use axum::extract::State;
use ring::digest;
use serde::Deserialize;

use super::AdminState;
use super::body::{Params, PathParameters};
use super::problem::{ProblemDocument, ProblemKind};
use crate::metrics::restart_meter::{process_id, process_start};
use crate::registry::restart_board::MOST_RESTARTS;
use crate::registry::restart_view::{ProxyIdentity, RestartList, RestartView};
use crate::rt::clock;

/// Query of `GET /v1/restarts`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RestartQuery {
    limit: Option<u32>,
}

/// `GET /v1/restarts[?limit=]`: the newest, the oldest of them first.
pub(super) async fn list(
    State(admin): State<AdminState>,
    Params(query): Params<RestartQuery>,
) -> Result<axum::Json<RestartList>, ProblemDocument> {
    let limit = query.limit.map_or(MOST_RESTARTS, |limit| limit as usize);
    Ok(axum::Json(RestartList {
        proxy: identity(&admin),
        restarts: admin.registry.restarts().list(limit),
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
            "No restart `{id}` is remembered. The last {MOST_RESTARTS} of this process are: GET /v1/restarts lists them."
        );
        ProblemDocument::new(ProblemKind::UnknownRestart, detail)
    })
}

fn identity(admin: &AdminState) -> ProxyIdentity {
    let config = admin.process.config_json().to_string();
    let digest = digest::digest(&digest::SHA256, config.as_bytes());
    let hexadecimal = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    ProxyIdentity {
        id: process_id().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: clock::rfc3339(process_start()),
        config_digest: hexadecimal.collect(),
    }
}
