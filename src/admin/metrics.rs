//! `GET /metrics`.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::Admin;
use super::problem::Problem;
use crate::registry::Refusal;

/// Prometheus' text format, version 0.0.4. With a thousand backends it takes a while to write, and registry and
/// probes must not wait for it.
pub(super) async fn scrape(State(admin): State<Admin>) -> Result<impl IntoResponse, Problem> {
    let text = tokio::task::spawn_blocking(move || admin.process.metrics());
    let text = text.await.map_err(|_| Refusal::Failed)?;
    let form = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, form)], text))
}
