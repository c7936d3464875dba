//! `GET /v1/access`: returns what the caller may do, so that the dashboard can show it in advance.

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;

use super::AdminState;
use super::auth::{AccessToken, judge_token};
use super::encrypted::ShownCertificate;

/// The caller's access rights.
#[derive(Debug, Serialize)]
pub(super) struct AccessView {
    /// Whether the caller may read.
    read: bool,
    /// Whether the caller may make changes.
    change: bool,
    /// The state of the caller's token.
    token: &'static str,
}

/// `GET /v1/access`. Needs no token on any listener: it reveals no more than a refusal would.
pub(super) async fn access(
    State(admin): State<AdminState>,
    shown: Option<Extension<ShownCertificate>>,
    headers: HeaderMap,
) -> axum::Json<AccessView> {
    let token = judge_token(&admin, &headers, shown.is_some()).await;
    let change = matches!(token, AccessToken::NotNeeded | AccessToken::Accepted);
    axum::Json(AccessView {
        read: change || admin.door.reads_freely(),
        change,
        token: token.as_str(),
    })
}
