//! Wrappers that pass no signal on: a terminal's Ctrl-C tells their whole group, and so does the launcher.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::rig::{Rig, runs};

/// What a wrapper runs: the demo app below a shell that stays, because it has something to do afterwards.
const APP: &str = "\"$EXE\" demo-app --name wrapped --port $PORT --log \"$LOG\"; true";

/// Stops the app under `wrapper` with SIGINT: it has to end soon, by the handler that the app has for it.
async fn stops_on_interrupt(wrapper: &[&str], set: impl FnOnce(&mut Command)) {
    let mut rig = Rig::start().await;
    let log = rig.scratch.path().join("wrapped.journal");
    let mut command = rig.exec(&["--pool", "app", "--name", "wrapped"], wrapper);
    command.env("EXE", crate::rig::exe()).env("LOG", &log);
    command.env("HOME", rig.scratch.path());
    command.env("npm_config_update_notifier", "false");
    set(&mut command);
    let mut launched = rig.spawn(command);
    rig.ready("wrapped").await;
    let first = launched.app();
    let began = Instant::now();
    launched.process.signal(libc::SIGINT).unwrap();
    launched.exited().await;
    // Left alone, the app runs on until somebody kills it.
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(15),
        "{wrapper:?}: {took:?}\n{}",
        launched.said()
    );
    assert!(!runs(first));
    let journal = std::fs::read_to_string(&log).unwrap();
    assert!(journal.contains("\"signalled\""), "{wrapper:?}: {journal}");
    assert!(journal.contains("\"exit\""), "{wrapper:?}: {journal}");
}

#[lameduck_rig::test]
async fn shell_that_stays_around_its_app_stops_on_interrupt() {
    stops_on_interrupt(&["sh", "-c", APP], |_| {}).await;
}

#[lameduck_rig::test]
async fn npm_and_npx_stop_on_interrupt() {
    let found = |tool| Command::new(tool).arg("--version").output().is_ok();
    if !found("npm") || !found("npx") {
        crate::rig::figure("npm is not installed: nothing was tried");
        return;
    }
    let package = tempfile::tempdir().unwrap();
    let script =
        serde_json::json!({"name": "wrapped", "version": "1.0.0", "scripts": {"start": APP}});
    std::fs::write(package.path().join("package.json"), script.to_string()).unwrap();
    let here = |command: &mut Command| {
        command.current_dir(package.path());
    };
    stops_on_interrupt(&["npm", "start"], here).await;
    stops_on_interrupt(&["npx", "--offline", "-c", APP], here).await;
}
