//! Upgrades, as seen by one process: [`taking_over`] is the start of the new process, [`handing_over`] the end of the
//! old one, and this file has the state that both share.

pub mod handing_over;
mod moving;
pub mod taking_over;

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::RunOptions;
use crate::admin::upgrade::{PredecessorView, UpgradeReport, UpgradeRequest, UpgradeView};
use crate::net::kept_socket::keeper_pid;
use crate::net::sd_notify::NOTIFY_SOCKET;
use crate::rt::clock;
use crate::upgrade::channel::ChannelSender;
use crate::upgrade::giving::TAKE_OVER;
use crate::upgrade::protocol::HandedParent;

/// The executable file that this process runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct RunningBinary {
    /// The path from which it was started: a different file may be there by now.
    path: PathBuf,
    /// Device, inode, size and time of the last change.
    identity: Option<(u64, u64, u64, i64)>,
}

impl RunningBinary {
    fn find() -> Self {
        let path = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("lameduck"));
        Self {
            identity: identity(&path),
            path,
        }
    }

    /// Returns whether a different file is at its path.
    fn has_changed(&self) -> bool {
        identity(&self.path) != self.identity
    }
}

fn identity(path: &Path) -> Option<(u64, u64, u64, i64)> {
    let file = path.metadata().ok()?;
    Some((file.dev(), file.ino(), file.size(), file.mtime()))
}

/// The state of upgrades in this process.
#[derive(Debug)]
pub struct UpgradeState {
    binary: RunningBinary,
    under_way: AtomicBool,
    predecessor: Mutex<Option<PredecessorView>>,
    failure: Mutex<Option<String>>,
    parent: Mutex<Option<HandedParent>>,
    /// The process that has taken over; 0: none has.
    successor: watch::Sender<u32>,
    /// The channel to the stand-in, which keeps the first process's id.
    stand_in: OnceLock<ChannelSender>,
}

impl Default for UpgradeState {
    fn default() -> Self {
        Self {
            binary: RunningBinary::find(),
            under_way: AtomicBool::new(false),
            predecessor: Mutex::default(),
            failure: Mutex::default(),
            parent: Mutex::default(),
            successor: watch::Sender::new(0),
            stand_in: OnceLock::new(),
        }
    }
}

impl UpgradeState {
    /// Begins an upgrade, unless one is in progress.
    ///
    /// # Errors
    /// Why it can't begin now.
    pub fn begin(&self) -> Result<(), String> {
        if self.successor() != 0 || self.under_way.swap(true, Ordering::AcqRel) {
            return Err(
                "an upgrade is under way: wait for its end (`lameduck status` says it)".to_owned(),
            );
        }
        Ok(())
    }

    /// Notes that the upgrade failed.
    pub fn failed(&self, why: &str) {
        let now = clock::rfc3339(clock::wall(clock::now()));
        *self.failure.lock() = Some(format!("{now}: {why}"));
        self.under_way.store(false, Ordering::Release);
    }

    /// Notes that nothing had to be done.
    pub fn ended(&self) {
        self.under_way.store(false, Ordering::Release);
    }

    /// Notes that this process has taken over; `parent`: which process id the supervisor watches.
    pub fn took_over(&self, parent: HandedParent) {
        *self.parent.lock() = Some(parent);
    }

    /// Sets the state of the process before this one; `None`: it has ended.
    pub fn set_predecessor(&self, view: Option<PredecessorView>) {
        *self.predecessor.lock() = view;
    }

    /// Returns whether the process before this one is still finishing.
    pub fn has_predecessor(&self) -> bool {
        self.predecessor.lock().is_some()
    }

    /// Notes that another process is now the lameduck of this machine.
    pub fn handed_to(&self, pid: u32) {
        self.successor.send_replace(pid);
    }

    /// Returns the process id of the successor; 0: there is none.
    pub fn successor(&self) -> u32 {
        *self.successor.borrow()
    }

    /// Waits until a successor has taken over.
    pub async fn is_handed_over(&self) {
        let mut successor = self.successor.subscribe();
        // The sender belongs to `self`, so it isn't closed.
        let _ = successor.wait_for(|pid| *pid != 0).await;
    }

    /// Sets the channel to the stand-in, which keeps the process id that a supervisor knows.
    pub fn set_stand_in(&self, channel: ChannelSender) {
        let _ = self.stand_in.set(channel);
    }

    /// Returns the channel to the stand-in.
    pub fn stand_in(&self) -> Option<ChannelSender> {
        self.stand_in.get().cloned()
    }

    /// Returns which process id the supervisor watches.
    pub fn parent(&self) -> HandedParent {
        self.parent.lock().unwrap_or_else(|| {
            let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
            // `SYSTEMD_EXEC_PID` is the process that systemd itself has started (since version 248): the other
            // variable may be inherited from further up.
            let elsewhere =
                set("SYSTEMD_EXEC_PID").is_some_and(|pid| pid != std::process::id().to_string());
            // A keeper notifies the supervisor itself, whoever has started it.
            let is_heard = keeper_pid().is_some() || !elsewhere;
            match set(NOTIFY_SOCKET).is_some() && is_heard {
                true => HandedParent::Systemd,
                false => HandedParent::StandIn,
            }
        })
    }

    /// Returns the state for `status`.
    pub fn view(&self) -> UpgradeView {
        UpgradeView {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            under_way: self.under_way.load(Ordering::Acquire),
            predecessor: self.predecessor.lock().clone(),
            last_failure: self.failure.lock().clone(),
        }
    }

    /// Returns whether a reload is all that has to be done.
    pub fn reload_is_enough(&self, request: &UpgradeRequest, options: &RunOptions) -> bool {
        let other = |path: &PathBuf| identity(path) != self.binary.identity;
        let is_other = match &request.binary {
            Some(binary) => other(binary),
            None => self.binary.has_changed(),
        };
        let same_config = request.config.is_none() || request.config == options.config;
        request.if_changed && !is_other && same_config
    }

    /// Returns the command that takes over: this process's own, with the requested changes.
    pub fn command(&self, request: &UpgradeRequest, options: &RunOptions) -> Command {
        let binary = request.binary.as_ref().unwrap_or(&self.binary.path);
        let mut command = Command::new(binary);
        command.args(arguments(request, options));
        if request.config.is_some() {
            for name in ["LAMEDUCK_BACKEND", "LAMEDUCK_HEALTH_PATH"] {
                command.env_remove(name);
            }
        }
        command
    }
}

/// Returns the report if the program was the same and only a reload was done.
pub fn reloaded(changes: Vec<String>) -> UpgradeReport {
    UpgradeReport {
        outcome: "reloaded".to_owned(),
        changes,
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..UpgradeReport::default()
    }
}

fn arguments(request: &UpgradeRequest, options: &RunOptions) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["run".into(), TAKE_OVER.into()];
    let mut add = |flag: &str, value: OsString| words.extend([flag.into(), value]);
    if let Some(config) = request.config.as_ref().or(options.config.as_ref()) {
        add("--config", config.into());
    }
    if let Some(listen) = &options.listen {
        add("--listen", listen.into());
    }
    // A configuration file that is named has its own backends.
    if request.config.is_none() {
        for backend in &options.backends {
            add("--backend", backend.into());
        }
        if let Some(path) = &options.health_path {
            add("--health-path", path.into());
        }
    }
    if let Some(socket) = &options.admin {
        add("--admin", socket.into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(request: &UpgradeRequest, options: &RunOptions) -> String {
        let all = arguments(request, options);
        let all: Vec<_> = all.iter().map(|word| word.to_string_lossy()).collect();
        all.join(" ")
    }

    #[test]
    fn new_process_gets_the_old_arguments_and_another_file_replaces_backends() {
        let options = RunOptions {
            listen: Some("127.0.0.1:1".into()),
            backends: vec!["a=127.0.0.1:2".into(), "127.0.0.1:3".into()],
            health_path: Some("/up".into()),
            admin: Some("/run/x.sock".into()),
            ..RunOptions::default()
        };
        assert_eq!(
            words(&UpgradeRequest::default(), &options),
            "run --take-over --listen 127.0.0.1:1 --backend a=127.0.0.1:2 --backend 127.0.0.1:3 --health-path /up \
             --admin /run/x.sock"
        );
        let named = UpgradeRequest {
            config: Some("/etc/new.toml".into()),
            ..UpgradeRequest::default()
        };
        assert_eq!(
            words(&named, &options),
            "run --take-over --config /etc/new.toml --listen 127.0.0.1:1 --admin /run/x.sock"
        );
    }

    #[test]
    fn second_upgrade_waits_for_the_first() {
        let state = UpgradeState::default();
        state.begin().unwrap();
        assert!(state.begin().unwrap_err().contains("under way"));
        state.failed("no");
        assert!(state.view().last_failure.unwrap().ends_with(": no"));
        state.begin().unwrap();
        state.handed_to(7);
        state.ended();
        assert!(state.begin().is_err());
    }

    #[test]
    fn unchanged_binary_needs_a_reload_only_where_that_was_asked_for() {
        let (state, options) = (UpgradeState::default(), RunOptions::default());
        let asked = UpgradeRequest {
            if_changed: true,
            ..UpgradeRequest::default()
        };
        assert!(state.reload_is_enough(&asked, &options));
        assert!(!state.reload_is_enough(&UpgradeRequest::default(), &options));
        let other = UpgradeRequest {
            binary: Some("/bin/sh".into()),
            ..asked
        };
        assert!(!state.reload_is_enough(&other, &options));
    }
}
