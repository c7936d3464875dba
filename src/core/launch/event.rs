//! Input and output of [`AppLaunch::step`](super::AppLaunch::step).

use crate::core::Time;
use crate::core::drain::DrainOutcome;

/// Default drain timeout, as users write it: Oxmgr, PM2, Docker and Nomad kill after 5 to 10 s.
pub const DEFAULT_DRAIN: &str = "4s";

/// Default limit of a lame duck that lasts until no new requests come, the same as the proxy's own default.
pub const LONGEST_LAME_DUCK: &str = "20s";

/// Settings from the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchPlan {
    /// Whether the app listens on a port, and is registered under a lease.
    pub port: bool,
    /// Drain timeout.
    pub drain_timeout: Time,
    /// Time for which the proxy is a lame duck before the drain.
    pub lame_duck: Time,
    /// Whether the lame duck ends earlier, when no new requests come.
    pub until_quiet: bool,
    /// Time after which an app that is not ready has failed.
    pub ready_timeout: Option<Time>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessExit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// The launcher gave it up.
    GivenUp,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchEvent {
    /// The app's process has started.
    Started,
    /// A listening socket of the app was found on its port.
    Listening,
    /// The lease has been granted.
    Registered,
    /// The proxy sends requests to the app, or no longer does.
    Ready(bool),
    /// No new requests come to the proxy any more.
    Quiet,
    /// The drain of the lease ended.
    Drained(DrainOutcome),
    /// The drain request failed.
    DrainRefused(String),
    /// The connection of the lease is closed, and the proxy does not grant the lease again.
    LeaseLost,
    /// The launcher got a signal.
    Signal(i32),
    /// The app exited; with `leftovers`, some of its processes still run.
    Exited {
        /// How it ended.
        fate: ProcessExit,
        /// Whether processes are left.
        leftovers: bool,
    },
    /// The last of the app's processes is gone.
    NobodyLeft,
    /// Time has passed.
    Tick,
}

/// An effect to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchEffect {
    /// Request a lease, and again whenever it ends.
    Register,
    /// No longer request a lease.
    StopRegistering,
    /// End the lease.
    DropLease,
    /// Tell the supervisor that the app is ready.
    TellReady,
    /// Tell the supervisor that the app stops, which takes up to this long.
    TellStopping(Time),
    /// Ask the proxy to be a lame duck; with `until_quiet`, also to report when no new requests come any more.
    AskLameDuck {
        /// Whether the proxy is to report that.
        until_quiet: bool,
    },
    /// Ask the proxy to drain the lease, with this timeout.
    AskDrain(Time),
    /// Send a signal to the app's first process.
    Send(i32),
    /// Send a signal to the app's process group.
    SendGroup(i32),
    /// Send a signal to all of the app's processes.
    SendAll(i32),
    /// Write a message to standard error.
    Say(String),
    /// Write why the app is not ready.
    Explain {
        /// Time since the start.
        after: Time,
    },
    /// End with this exit.
    End(ProcessExit),
}

/// Returns the name of a signal.
pub fn signal_name(signal: i32) -> String {
    match signal {
        1 => "SIGHUP".to_owned(),
        2 => "SIGINT".to_owned(),
        3 => "SIGQUIT".to_owned(),
        6 => "SIGABRT".to_owned(),
        9 => "SIGKILL".to_owned(),
        11 => "SIGSEGV".to_owned(),
        15 => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    }
}

impl std::fmt::Display for ProcessExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => f.write_str(&signal_name(*signal)),
            Self::GivenUp => f.write_str("given up"),
        }
    }
}

/// Returns a number of requests as text.
pub(super) fn requests(n: u32) -> String {
    match n {
        1 => "1 request".to_owned(),
        n => format!("{n} requests"),
    }
}
