//! What goes into [`AppLaunch::step`](super::AppLaunch::step) and what comes out of it.

use crate::core::Time;
use crate::core::drain::DrainOutcome;

/// The drain's deadline where nobody chooses one, as people write it: Oxmgr, PM2, Docker and Nomad kill after 5 to
/// 10 s.
pub const DEFAULT_DRAIN: &str = "4s";

/// The longest lame duck that lasts until nothing new comes, where nobody chooses another; as the proxy's own default.
pub const LONGEST_LAME_DUCK: &str = "20s";

/// What was asked for on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchPlan {
    /// It listens on a port, and is registered under a lease.
    pub port: bool,
    /// The drain's deadline.
    pub drain_timeout: Time,
    /// How long the proxy is lame duck before the drain…
    pub lame_duck: Time,
    /// …at most: only until nothing new comes there.
    pub until_quiet: bool,
    /// An app that is not ready by then has failed.
    pub ready_timeout: Option<Time>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessExit {
    /// It exited.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
    /// The launcher gave it up.
    GivenUp,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchEvent {
    /// The app's process runs.
    Started,
    /// A listener of the app's was found on its port.
    Listening,
    /// The lease is held.
    Registered,
    /// The proxy sends it requests, or no longer does.
    Ready(bool),
    /// Nothing new comes to the proxy any more.
    Quiet,
    /// The drain of the lease ended.
    Drained(DrainOutcome),
    /// The drain could not be asked for.
    DrainRefused(String),
    /// The lease broke.
    LeaseLost,
    /// A signal came.
    Signal(i32),
    /// The app exited; `leftovers`: some of its processes still run.
    Exited {
        /// How.
        fate: ProcessExit,
        /// Whether something is left.
        leftovers: bool,
    },
    /// The last of its processes is gone.
    NobodyLeft,
    /// Time passed.
    Tick,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchEffect {
    /// Ask for a lease, and again whenever it breaks.
    Register,
    /// No longer ask for one.
    StopRegistering,
    /// End the lease.
    DropLease,
    /// Tell the supervisor that it is ready.
    TellReady,
    /// Tell the supervisor that it stops, which takes up to this long.
    TellStopping(Time),
    /// Ask the proxy to be lame duck; with `until_quiet`, and to say when nothing new comes any more.
    AskLameDuck {
        /// Whether it is to say that.
        until_quiet: bool,
    },
    /// Ask the proxy to drain the lease.
    AskDrain(Time),
    /// Send the app's first process a signal.
    Send(i32),
    /// Send the app's process group a signal.
    SendGroup(i32),
    /// Send all of the app's processes a signal.
    SendAll(i32),
    /// Say something on standard error.
    Say(String),
    /// Say why it is not ready.
    Explain {
        /// Since the start.
        after: Time,
    },
    /// End like this.
    End(ProcessExit),
}

/// The names that people know.
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

/// So many requests, for people.
pub(super) fn requests(n: u32) -> String {
    match n {
        1 => "1 request".to_owned(),
        n => format!("{n} requests"),
    }
}
