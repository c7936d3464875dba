//! `GET /metrics`.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::Admin;

/// Prometheus' text format, version 0.0.4.
pub(super) async fn scrape(State(admin): State<Admin>) -> impl IntoResponse {
    let form = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, form)], admin.process.metrics())
}
