//! A launcher whose standard streams are closed, broken, full or never read.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::time::timeout;

use crate::rig::{PATIENCE, Rig, exe};
use lameduck_rig::broken_streams::{KINDS, Stream, fit};

/// The app is registered, drained and stopped, and its exit code told, whatever becomes of what the launcher says.
#[lameduck_rig::test]
async fn launcher_goes_on_whatever_its_streams_are() {
    let mut rig = Rig::start().await;
    for kind in KINDS {
        let Some((out, err)) = Stream::new(kind).zip(Stream::new(kind)) else {
            // No right to mount a small disk; tests/e2e says so.
            continue;
        };
        let name = format!("{kind:?}").to_lowercase();
        let script = "exec \"$EXE\" demo-app --port $PORT >/dev/null 2>&1";
        let options = ["--pool", "app", "--name", &name, "--drain-timeout", "5s"];
        let mut command = rig.exec(&options, &["sh", "-c", script]);
        command.env("EXE", exe()).stdin(Stdio::null());
        fit(&mut command, &out, &err);
        let mut launcher = Command::from(command).kill_on_drop(true).spawn().unwrap();
        rig.ready(&name).await;
        if kind.is_unread() {
            // It has much to say now: more than it keeps.
            rig.proxy.stop(PATIENCE).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            rig.proxy_again().await;
            rig.ready(&name).await;
        }
        let begun = Instant::now();
        lameduck::rt::syscall::kill(launcher.id().unwrap(), libc::SIGTERM).unwrap();
        let status = timeout(PATIENCE, launcher.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("{kind:?}: it still runs"));
        assert!(status.unwrap().success(), "{kind:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{kind:?}");
        rig.gone(&name).await;
    }
}

/// What can't be started is told by the exit code, at once.
#[lameduck_rig::test]
async fn failure_of_the_launcher_is_told_by_its_code() {
    for kind in KINDS {
        let Some((out, err)) = Stream::new(kind).zip(Stream::new(kind)) else {
            continue;
        };
        let mut command = std::process::Command::new(exe());
        command.args(["exec", "--no-port", "--", "/nonexistent/app"]);
        fit(&mut command, &out, &err);
        let mut launcher = Command::from(command).kill_on_drop(true).spawn().unwrap();
        let status = timeout(PATIENCE, launcher.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("{kind:?}: it still runs"));
        assert_eq!(status.unwrap().code(), Some(127), "{kind:?}");
    }
}
