//! `/v1/upgrade`: lets another lameduck take over from this one.

use std::path::PathBuf;

use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::body::JsonBody;
use super::problem::{ProblemDocument, ProblemKind};
use super::{AdminDoor, AdminState};

/// The options of an upgrade.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpgradeRequest {
    /// The program; `None`: the file from which this process was started, with its present content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary: Option<PathBuf>,
    /// The configuration file; `None`: the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// Whether to upgrade only if the program's file differs from the running one; otherwise the configuration is
    /// reloaded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub if_changed: bool,
    /// Maximum time for each step of the new process, in milliseconds; `None`: 30 s, and 10 s to begin to accept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// The result of an upgrade.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpgradeReport {
    /// `upgraded`, or `reloaded`.
    pub outcome: String,
    /// The changes made by a reload.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// The new process's release.
    pub version: String,
    /// The id of the new process.
    pub pid: u32,
    /// The id of the old process.
    pub old_pid: u32,
    /// Public addresses handed over.
    pub listeners: usize,
    /// Sockets of the admin API handed over.
    pub admin_sockets: usize,
    /// Client connections handed over.
    pub moved: u32,
    /// Number of client connections that the old process finishes.
    pub left: u32,
    /// Time at which the remaining ones are cut; RFC 3339.
    pub until: String,
    /// How the process id that a supervisor knows is kept: `systemd` is told the new one, or a `stand_in` process
    /// keeps it.
    pub parent: String,
}

/// The state of upgrades.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpgradeView {
    /// The id of this process.
    pub pid: u32,
    /// Its release.
    pub version: String,
    /// Whether another process is about to take over.
    pub under_way: bool,
    /// The process before this one, while it finishes what it could not hand over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<PredecessorView>,
    /// Why the last upgrade failed, with its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

/// A process that finishes its remaining work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PredecessorView {
    /// Its id.
    pub pid: u32,
    /// Its release.
    pub version: String,
    /// Client connections that it still has.
    pub connections: u32,
    /// Time at which the remaining connections are cut; RFC 3339.
    pub until: String,
}

/// `GET /v1/upgrade`.
pub(super) async fn show(State(admin): State<AdminState>) -> axum::Json<UpgradeView> {
    axum::Json(admin.process.upgrade_view())
}

/// `POST /v1/upgrade`: answers when the new process serves, or with the reason why it doesn't.
pub(super) async fn begin(
    State(admin): State<AdminState>,
    JsonBody(request): JsonBody<UpgradeRequest>,
) -> Result<axum::Json<UpgradeReport>, ProblemDocument> {
    if admin.door != AdminDoor::Unix {
        let detail =
            "Over TCP nobody may name a program that this machine then runs: use the admin socket.";
        return Err(ProblemDocument::new(ProblemKind::UpgradeFailed, detail));
    }
    let process = admin.process.clone();
    // A separate task: a client that disconnects must not leave the upgrade half done.
    let upgrading = tokio::spawn(async move { process.upgrade(request).await });
    match upgrading.await {
        Ok(Ok(report)) => Ok(axum::Json(report)),
        Ok(Err(why)) => Err(ProblemDocument::new(ProblemKind::UpgradeFailed, why)),
        Err(error) => {
            tracing::error!(%error, "the upgrade failed unexpectedly");
            let detail = "The upgrade failed unexpectedly; the log says more.";
            Err(ProblemDocument::new(ProblemKind::UpgradeFailed, detail))
        }
    }
}
