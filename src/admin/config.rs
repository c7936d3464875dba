//! `/v1/config`: the effective configuration, and reading it again.

use axum::extract::State;
use serde_json::{Value, json};

use super::Admin;
use super::problem::{Kind, Problem};

/// `GET /v1/config`: every value, defaults too.
pub(super) async fn effective(State(admin): State<Admin>) -> axum::Json<Value> {
    axum::Json(admin.process.config_json())
}

/// `POST /v1/config/reload`: takes a good file as a difference, refuses a bad one whole.
pub(super) async fn reload(State(admin): State<Admin>) -> Result<axum::Json<Value>, Problem> {
    let process = admin.process.clone();
    // A task of its own: a client that hangs up must not leave a reload half done.
    let reloading = tokio::spawn(async move { process.reload().await });
    match reloading.await {
        Ok(Ok(changes)) => Ok(axum::Json(json!({ "changes": changes }))),
        Ok(Err(diagnostics)) => Err(Problem::new(Kind::ConfigRefused, diagnostics)),
        Err(error) => {
            tracing::error!(%error, "the reload failed unexpectedly");
            let detail = "The reload failed unexpectedly; the log says more. The running configuration stays.";
            Err(Problem::new(Kind::ConfigRefused, detail))
        }
    }
}
