//! `lameduck run --keeper`: a small process that keeps the proxy's listening sockets and starts the proxy again when it is
//! killed, so that nobody is refused meanwhile. For where there is no systemd, which does the same by itself.
//!
//! To the proxy it is a supervisor with a store of descriptors, as systemd is one: [`crate::net::kept_socket`] has that side.
//! [`crate::core::revival`] decides; `held` is the store; `child` starts the process. One thread, no runtime, and nothing
//! kept but descriptors.

mod child;
mod held;

use std::io;
use std::time::Duration;

use child::{ProxyCommand, reap_all};
use held::{HeldSockets, SupervisorMessage};

use super::exec::syscall::{self, LauncherSignals};
use crate::core::launch::{ProcessExit, signal_name};
use crate::core::revival::{AfterEnd, Revival};
use crate::net::sd_notify::notify;
use crate::rt::clock;
use crate::rt::output::{self, complain};
use crate::rt::syscall::kill;

/// The keeper's own failures, as shells and `env` count them.
const FAILED: u8 = 125;

/// What is looked for at the latest.
const LOOK: Duration = Duration::from_secs(3600);

/// Keeps the proxy that this command line starts without `--keeper`; returns its exit code. Where a signal killed it for
/// good, this dies of it, too.
pub fn run_keeper() -> u8 {
    match keep_proxy() {
        Ok(ProcessExit::Code(code)) => u8::try_from(code).unwrap_or(FAILED),
        Ok(ProcessExit::Signal(signal)) => {
            output::finish(0);
            syscall::die_of(signal);
            // Process 1 can't die of a signal that it sends itself.
            128u8.saturating_add(u8::try_from(signal).unwrap_or_default())
        }
        Ok(ProcessExit::GivenUp) => FAILED,
        Err(error) => {
            complain(&format!(
                "keeper: {error}; start lameduck without --keeper, and it is its own process"
            ));
            FAILED
        }
    }
}

fn keep_proxy() -> io::Result<ProcessExit> {
    let mut keeper = ProxyKeeper {
        signals: LauncherSignals::take()?,
        held: HeldSockets::open()?,
        command: ProxyCommand::of_this_process()?,
        revival: Revival::default(),
        main: None,
    };
    syscall::adopt_orphans();
    keeper.start()?;
    super::exec::footprint::shed_code();
    keeper.live()
}

struct ProxyKeeper {
    signals: LauncherSignals,
    held: HeldSockets,
    command: ProxyCommand,
    revival: Revival,
    /// The proxy, while there is one.
    main: Option<u32>,
}

impl ProxyKeeper {
    fn start(&mut self) -> io::Result<()> {
        self.main = Some(self.command.start(&self.held)?);
        self.revival.note_start(clock::now());
        Ok(())
    }

    /// Until the proxy ends for good; how it did.
    fn live(&mut self) -> io::Result<ProcessExit> {
        let mut start_at = None;
        loop {
            let now = clock::now();
            if start_at.is_some_and(|at| at <= now) {
                start_at = None;
                self.start()?;
            }
            let patience = start_at.map_or(LOOK, |at: Duration| at.saturating_sub(now));
            syscall::wait(&self.signals, &self.held, Some(patience));
            // What it said before it ended comes first.
            while let Some(message) = self.held.receive() {
                self.heed(message);
            }
            while let Some(signal) = self.signals.read() {
                if signal != libc::SIGCHLD {
                    self.pass_on(signal);
                }
            }
            if self.revival.is_stopping() && self.main.is_none() {
                return Ok(ProcessExit::Code(0));
            }
            for (pid, end) in reap_all() {
                if self.main != Some(pid) {
                    continue;
                }
                self.main = None;
                let now = clock::now();
                match self.revival.after(end, now) {
                    AfterEnd::EndAlike => return Ok(end),
                    AfterEnd::StartAgain(pause) => {
                        complain(&format!(
                            "keeper: the proxy ({pid}) {}; its {} sockets stay open, and it starts again {}",
                            describe(end),
                            self.held.count(),
                            match pause.is_zero() {
                                true => "now".to_owned(),
                                false => format!("in {pause:?}"),
                            }
                        ));
                        start_at = Some(now + pause);
                    }
                }
            }
        }
    }

    fn heed(&mut self, message: SupervisorMessage) {
        if message.ready {
            self.revival.note_serving();
        }
        // Another process has taken its place.
        if let Some(pid) = message.main {
            self.main = Some(pid);
        }
        if !message.others.is_empty() {
            // A supervisor above that has gone is no reason to end.
            let _ = notify(&message.others);
        }
    }

    fn pass_on(&mut self, signal: i32) {
        if matches!(signal, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT) {
            self.revival.note_stop();
        }
        if let Some(pid) = self.main {
            let _ = kill(pid, signal);
        }
    }
}

fn describe(end: ProcessExit) -> String {
    match end {
        ProcessExit::Code(code) => format!("ended with exit code {code}"),
        ProcessExit::Signal(signal) => format!("was killed by {}", signal_name(signal)),
        ProcessExit::GivenUp => "could not be stopped".to_owned(),
    }
}
