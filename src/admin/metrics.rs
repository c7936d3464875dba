//! `GET /metrics`.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use tokio::time::Instant;

use super::AdminState;
use super::problem::ProblemDocument;
use crate::registry::RegistryError;

/// Prometheus' text format, version 0.0.4. With a thousand backends it takes a while to write, and registry and
/// probes must not wait for it. It is written once for all who ask at the same time: a flood of them costs no more
/// than one after the other, and keeps no text of its own for each.
pub(super) async fn scrape(
    State(admin): State<AdminState>,
) -> Result<impl IntoResponse, ProblemDocument> {
    let asked = Instant::now();
    let mut last = admin.scraped.clone().lock_owned().await;
    let text = match &*last {
        Some((begun, text)) if *begun >= asked => text.clone(),
        _ => {
            // The lock goes along: whoever hangs up meanwhile does not make the next one write beside this one.
            let writing = tokio::task::spawn_blocking(move || {
                let begun = Instant::now();
                let text = Bytes::from(admin.process.metrics());
                *last = Some((begun, text.clone()));
                text
            });
            writing.await.map_err(|_| RegistryError::Failed)?
        }
    };
    let form = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, form)], text))
}
