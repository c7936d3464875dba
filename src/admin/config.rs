//! `/v1/config`: the effective configuration, and reloading it.

use axum::extract::State;
use serde_json::{Value, json};

use super::AdminState;
use super::problem::{ProblemDocument, ProblemKind};

/// `GET /v1/config`: returns every value, including defaults.
pub(super) async fn effective(State(admin): State<AdminState>) -> axum::Json<Value> {
    axum::Json(admin.process.config_json())
}

/// `POST /v1/config/reload`: applies the differences of a valid file; refuses an invalid file completely.
pub(super) async fn reload(
    State(admin): State<AdminState>,
) -> Result<axum::Json<Value>, ProblemDocument> {
    let process = admin.process.clone();
    // A separate task: a client that disconnects must not leave a reload half done.
    let reloading = tokio::spawn(async move { process.reload().await });
    match reloading.await {
        Ok(Ok(changes)) => Ok(axum::Json(json!({ "changes": changes }))),
        Ok(Err(diagnostics)) => Err(ProblemDocument::new(
            ProblemKind::ConfigRefused,
            diagnostics,
        )),
        Err(error) => {
            tracing::error!(%error, "the reload failed unexpectedly");
            let detail = "The reload failed unexpectedly; the log says more. The running configuration stays.";
            Err(ProblemDocument::new(ProblemKind::ConfigRefused, detail))
        }
    }
}
