//! What can be done to a backend: drain, resume, register, deregister.

use std::time::Duration;

use serde::Deserialize;

use super::apps::Registry;
use super::body::{Json, Params, Place};
use super::problem::{Kind, Problem};
use crate::registry::view::{
    BackendView, DrainRequest, DrainResponse, RegisterRequest, ResumeRequest,
};

/// Longest duration taken: beyond it nobody means what they say, and clocks overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Refuses a duration that no clock can add. What is not a duration at all is the registry's to refuse.
fn bounded(field: &str, text: Option<&String>) -> Result<(), Problem> {
    match text.map(|text| (text, humantime::parse_duration(text))) {
        Some((text, Ok(duration))) if duration > LONGEST => {
            let detail = format!("`{field}` is \"{text}\", longer than a year; use at most 1y.");
            Err(Problem::new(Kind::InvalidValue, detail))
        }
        _ => Ok(()),
    }
}

/// `POST …/{name}/drain`: blocks until the drain ended, unless asked not to. A client that hangs up takes
/// back nothing: the drain goes on.
pub(super) async fn drain(
    Registry(registry): Registry,
    Place((pool, name)): Place<(String, String)>,
    Json(request): Json<DrainRequest>,
) -> Result<axum::Json<DrainResponse>, Problem> {
    bounded("timeout", request.timeout.as_ref())?;
    bounded("expires", request.expires.as_ref())?;
    Ok(axum::Json(registry.drain(&pool, &name, request).await?))
}

/// `POST …/{name}/resume`.
pub(super) async fn resume(
    Registry(registry): Registry,
    Place((pool, name)): Place<(String, String)>,
    Json(request): Json<ResumeRequest>,
) -> Result<axum::Json<BackendView>, Problem> {
    bounded("wait", request.wait.as_ref())?;
    Ok(axum::Json(registry.resume(&pool, &name, request).await?))
}

/// `PUT …/{name}`: registers a backend, or moves it to another address.
pub(super) async fn register(
    Registry(registry): Registry,
    Place((pool, name)): Place<(String, String)>,
    Json(request): Json<RegisterRequest>,
) -> Result<axum::Json<BackendView>, Problem> {
    bounded("wait", request.wait.as_ref())?;
    Ok(axum::Json(registry.register(&pool, &name, request).await?))
}

/// Query of `DELETE …/{name}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Removal {
    timeout: Option<String>,
    reason: Option<String>,
    wait: Option<bool>,
}

/// `DELETE …/{name}?timeout=30s`: drains, then removes.
pub(super) async fn deregister(
    Registry(registry): Registry,
    Place((pool, name)): Place<(String, String)>,
    Params(removal): Params<Removal>,
) -> Result<axum::Json<DrainResponse>, Problem> {
    bounded("timeout", removal.timeout.as_ref())?;
    let request = DrainRequest {
        timeout: removal.timeout,
        reason: removal.reason,
        wait: removal.wait,
        ..DrainRequest::default()
    };
    Ok(axum::Json(
        registry.deregister(&pool, &name, request).await?,
    ))
}
