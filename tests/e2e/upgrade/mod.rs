//! One lameduck takes over from another: `lameduck upgrade`, USR2, and what happens where that fails.

mod beside;
mod fails;
mod held;
mod in_a_row;
mod known;
mod mixed;
mod restarts;
mod signals;
mod state;
mod traces;
mod waits;
mod watched;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use lameduck::admin::upgrade::UpgradeView;
use lameduck::rt::syscall;
use lameduck::tools::demo::admin;
use lameduck::tools::demo::load::Load;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use serde_json::Value;

use crate::harness::apps::App;
use crate::harness::{Bench, exe, until};
use lameduck_rig::ports::free_address;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// `lameduck upgrade` with these words.
pub async fn upgrade(socket: &Path, words: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(exe());
    command
        .arg("upgrade")
        .args(words)
        .env("LAMEDUCK_ADMIN", socket)
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(80), command.output()).await;
    output.unwrap().unwrap()
}

/// One that has to go well; what it printed.
pub async fn upgraded(socket: &Path) -> Value {
    let output = upgrade(socket, &["--json"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// One that has to fail with 1; what it said.
pub async fn refused(socket: &Path, words: &[&str]) -> String {
    let output = upgrade(socket, words).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
    said
}

pub async fn view(socket: &Path) -> UpgradeView {
    let view = admin::call(socket, "GET", "/v1/upgrade", None)
        .await
        .unwrap();
    serde_json::from_value(view).unwrap()
}

pub async fn metric(socket: &Path, name: &str) -> u64 {
    let (_, text) = admin::request(socket, "GET", "/metrics", None)
        .await
        .unwrap();
    admin::metric(&String::from_utf8_lossy(&text), name).unwrap_or(0)
}

/// More requests of every kind have been sent, and none is lost.
pub async fn goes_on(load: &Load, more: u64) {
    let enough = load.progress().sent + more;
    until("requests to be sent", PATIENCE, async || {
        load.progress().sent >= enough
    })
    .await;
    assert_eq!(load.progress().lost, 0);
}

pub fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The program, once a file is there that says go.
pub fn waiting(dir: &Path, go: &Path) -> PathBuf {
    let (go, exe) = (go.display(), exe().display());
    script(
        dir,
        "waiting",
        &format!("while [ ! -e {go} ]; do sleep 0.02; done; exec {exe} \"$@\""),
    )
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A bench of three, a proxy before it, and the settings that it has.
pub async fn begin(test: &str) -> (Bench, DemoProxy) {
    let bench = Bench::start(test, App::BuiltIn, 3).await.unwrap();
    let settings = ProxySettings {
        listen: free_address(),
        // Its default address may be another test's.
        admin: "http = \"\"".to_owned(),
        server: format!(
            "lame_duck = \"1s\"\ndeadline = \"10s\"\nstate_dir = {:?}",
            bench.scratch.path().join("state")
        ),
        ..ProxySettings::default()
    };
    let dir = bench.scratch.path();
    let proxy = DemoProxy::start(exe(), "proxy", dir, &settings, &bench.instances)
        .await
        .unwrap();
    (bench, proxy)
}

/// A process that nobody else would end.
pub struct EndOnDrop(pub u32);

impl EndOnDrop {
    /// The process that has taken over.
    pub fn of(report: &Value) -> Self {
        Self(report["pid"].as_u64().unwrap() as u32)
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let _ = syscall::kill(self.0, libc::SIGKILL);
    }
}
