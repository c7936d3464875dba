//! `GET /metrics`.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::AdminState;
use super::problem::ProblemDocument;
use crate::registry::RegistryError;

/// Returns the metrics in Prometheus' text format, version 0.0.4. With a thousand backends this takes a while, and
/// registry and probes must not wait for it.
pub(super) async fn scrape(
    State(admin): State<AdminState>,
) -> Result<impl IntoResponse, ProblemDocument> {
    let process = admin.process;
    let write = async move {
        let writing = tokio::task::spawn_blocking(move || process.metrics().into_bytes());
        Ok(writing.await.map_err(|_| RegistryError::Failed)?)
    };
    let text = admin.scraped.get(write).await?;
    let form = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, form)], text))
}
