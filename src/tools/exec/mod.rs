//! `lameduck exec`: stands between a supervisor and an app, so that the app is drained before it is stopped.
//!
//! In reading order: [`crate::core::launch`] decides, and `launcher` carries out. `app` starts processes,
//! `process_tree` finds their listeners, and `guard` keeps them from outliving the launcher. `links` holds the leases
//! with all proxies, and `lease` one of them, over [`blocking`](crate::client::blocking). [`parent`] communicates with
//! the supervisor, and `syscall` has the system calls. There is one thread, a small one for each lease, and no runtime.

mod app;
pub mod footprint;
mod guard;
mod launcher;
mod lease;
mod links;
mod mailbox;
pub mod parent;
mod process_tree;
pub(super) mod syscall;

use std::ffi::OsString;
use std::os::fd::RawFd;

use crate::client::blocking::{AdminCallError, AdminRemote};
use app::{LaunchError, RunningApp};
use launcher::Launcher;
use mailbox::open_mailbox;
use parent::ParentSupervisor;
use syscall::LauncherSignals;

use crate::client::names::segment;
use crate::core::launch::{LaunchPlan, ProcessExit};
use crate::rt::output::complain;

/// Exit code for the launcher's own failures, as shells and `env` use it.
const FAILED: u8 = 125;

/// Options of a launch.
#[derive(Debug)]
pub struct ExecOptions {
    /// Clients of the proxies.
    pub remotes: Vec<AdminRemote>,
    /// Name of the pool.
    pub pool: String,
    /// Name of the instance; if absent, it is derived from the supervisor.
    pub name: Option<String>,
    /// Weight of the backend.
    pub weight: Option<u32>,
    /// Whether the backend gets requests only while no other one is ready.
    pub backup: bool,
    /// Zone of the backend.
    pub zone: Option<String>,
    /// Port of the app; `None`: a free one.
    pub port: Option<u16>,
    /// Variable that tells the app its port.
    pub port_env: String,
    /// Host that is reported to the proxy.
    pub advertise: Option<String>,
    /// Notification descriptor of s6.
    pub notify_fd: Option<RawFd>,
    /// Settings for [`crate::core::launch`].
    pub plan: LaunchPlan,
    /// Whether the drain's deadline is the default.
    pub default_timeout: bool,
    /// Command of the app.
    pub command: Vec<OsString>,
}

/// Runs the app to its end; returns the launcher's exit code. If a signal killed the app, the launcher dies of the same
/// one.
pub fn run_launcher(options: ExecOptions) -> u8 {
    match try_run(options) {
        Ok(ProcessExit::Code(code)) => u8::try_from(code).unwrap_or(FAILED),
        Ok(ProcessExit::Signal(signal)) => {
            crate::rt::output::finish(0);
            syscall::die_of(signal);
            // Process 1 can't kill itself with a signal.
            128u8.saturating_add(u8::try_from(signal).unwrap_or_default())
        }
        Ok(ProcessExit::GivenUp) => FAILED,
        Err(unable) => {
            complain(&format!("exec: {}", unable.message));
            unable.code
        }
    }
}

fn try_run(options: ExecOptions) -> Result<ProcessExit, LaunchError> {
    let signals = LauncherSignals::take()
        .map_err(|error| LaunchError::own(format!("can't take signals: {error}")))?;
    syscall::adopt_orphans();
    let above = ParentSupervisor::take(options.notify_fd).map_err(LaunchError::own)?;
    advise(&options);
    if options.plan.port {
        check_pool(&options)?;
    }
    let (post, letterbox) = open_mailbox()
        .map_err(|error| LaunchError::own(format!("can't make a socket pair: {error}")))?;
    let app = RunningApp::start(
        &options.command,
        options
            .plan
            .port
            .then_some((options.port, &*options.port_env)),
    )?;
    Ok(Launcher::new(options, app, above, signals, post, letterbox).live())
}

/// Prints hints about the settings before anything goes wrong.
fn advise(options: &ExecOptions) {
    if !options.plan.port {
        return;
    }
    let drain = options.plan.drain_timeout;
    if options.default_timeout {
        complain(&format!(
            "exec: at a stop, requests in flight get {drain:?}, because Oxmgr, PM2, Docker and Nomad kill after 5 to \
             10 s. To give them more, set --drain-timeout and the supervisor's own timeout above it"
        ));
    }
    for warning in parent::warnings(drain + options.plan.lame_duck) {
        complain(&format!("exec: {warning}"));
    }
}

/// Checks the pool's name: a mistake is better reported now than after the app runs and gets no requests.
fn check_pool(options: &ExecOptions) -> Result<(), LaunchError> {
    let path = format!("/v1/pools/{}", segment(&options.pool));
    // In parallel, because a proxy that does not answer must not delay the answers of others.
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asked = options.remotes.iter();
        let asked = asked.map(|remote| scope.spawn(|| remote.call("GET", &path, None)));
        let asked: Vec<_> = asked.collect();
        asked.into_iter().map(|one| one.join()).collect()
    });
    let mut unknown = None;
    let mut is_known = false;
    for (remote, answer) in options.remotes.iter().zip(answers) {
        match answer {
            Ok(Err(AdminCallError::Refused { slug, detail, .. })) if slug == "unknown-pool" => {
                let text = format!(
                    "{} Put the pool into lameduck's configuration and `lameduck reload`, or correct --pool.",
                    detail.replace("GET /v1/pools lists them.", "")
                );
                if let Some((remote, text)) = unknown.replace((remote, text)) {
                    complain(&format!("exec: the proxy at {}: {text}", remote.name()));
                }
            }
            Ok(Err(AdminCallError::Unreachable(why))) => complain(&format!(
                "exec: {why} Starting the app anyway; it is registered as soon as the proxy answers."
            )),
            // If the proxy refuses this, the request for the lease will explain more.
            Ok(Ok(_) | Err(AdminCallError::Refused { .. })) | Err(_) => is_known = true,
        }
    }
    match unknown {
        None => Ok(()),
        Some((_, text)) if !is_known => Err(LaunchError::own(text)),
        Some((remote, text)) => {
            complain(&format!("exec: the proxy at {}: {text}", remote.name()));
            Ok(())
        }
    }
}
