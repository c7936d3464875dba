//! `lameduck exec`: stands between a supervisor and an app, so that the app is drained before it is stopped.
//!
//! Read in this order: [`crate::core::launch`] decides; `launcher` carries out; `app` starts processes, `process_tree` finds
//! their listeners, and `guard` keeps them from outliving us; `links` holds the leases with all proxies, and `lease` one
//! of them, over [`blocking`](crate::client::blocking); [`parent`] speaks to the supervisor; `syscall` has the system calls. One thread, and a small one for the lease: no runtime, no pool.

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

/// The launcher's own failures, as shells and `env` count them.
const FAILED: u8 = 125;

/// What to launch, and how.
#[derive(Debug)]
pub struct ExecOptions {
    /// How each proxy is reached.
    pub remotes: Vec<AdminRemote>,
    /// The pool.
    pub pool: String,
    /// The instance's name; found out where it is absent.
    pub name: Option<String>,
    /// Its share.
    pub weight: Option<u32>,
    /// It gets requests only while no other is ready.
    pub backup: bool,
    /// Where it is.
    pub zone: Option<String>,
    /// The port; `None`: a free one.
    pub port: Option<u16>,
    /// The variable that tells the app its port.
    pub port_env: String,
    /// The host that the proxy is told.
    pub advertise: Option<String>,
    /// s6's notification descriptor.
    pub notify_fd: Option<RawFd>,
    /// What to decide by.
    pub plan: LaunchPlan,
    /// The drain's deadline is the default.
    pub default_timeout: bool,
    /// The app.
    pub command: Vec<OsString>,
}

/// Runs the app to its end; the launcher's exit code. Where a signal killed the app, this dies of it, too.
pub fn run_launcher(options: ExecOptions) -> u8 {
    match try_run(options) {
        Ok(ProcessExit::Code(code)) => u8::try_from(code).unwrap_or(FAILED),
        Ok(ProcessExit::Signal(signal)) => {
            crate::rt::output::finish(0);
            syscall::die_of(signal);
            // Process 1 can't die of a signal that it sends itself.
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

/// What is worth knowing before anything goes wrong.
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

/// A mistyped pool is better told now than by an app that runs and gets no request.
fn check_pool(options: &ExecOptions) -> Result<(), LaunchError> {
    let path = format!("/v1/pools/{}", segment(&options.pool));
    // At once: one that does not answer must not hold up the others' answers.
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
            // Where it refuses, asking for the lease will tell more.
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
