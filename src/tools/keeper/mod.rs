//! `lameduck run --keeper`: a small process that keeps the proxy's listening sockets and starts the proxy again when
//! it is killed, so that no client is refused meanwhile. Meant for hosts without systemd, which does the same by
//! itself.
//!
//! For the proxy the keeper is a supervisor with a store of descriptors, like systemd; [`crate::net::kept_socket`] has
//! the proxy's part. [`crate::core::revival`] decides, `held` is the store, and `child` starts the process. The keeper
//! has one thread and no runtime, and keeps nothing but descriptors.

mod child;
mod family;
mod held;

use std::io;
use std::time::Duration;

use child::{ProxyCommand, reap_all};
use family::ProxyFamily;
use held::{HeldSockets, SupervisorMessage};

use rustix::event::{PollFd, PollFlags};

use super::exec::syscall::{self, LauncherSignals};
use crate::core::launch::{ProcessExit, signal_name};
use crate::core::revival::{AfterEnd, KeptProcess};
use crate::net::sd_notify::notify;
use crate::rt::clock;
use crate::rt::output::{self, complain};
use crate::rt::syscall::{kill, poll_for};

/// Exit code for the keeper's own failures, as shells and `env` use it.
const FAILED: u8 = 125;

/// Time for a process that was about to take over when the proxy died: by then it serves, or has ended.
const SUCCESSOR_TIMEOUT: Duration = Duration::from_millis(300);

/// Longest time between two checks.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Keeps the proxy that this command line starts without `--keeper`; returns its exit code. If a signal killed the
/// proxy for good, the keeper dies of the same one.
pub fn run_keeper() -> u8 {
    match keep_proxy() {
        Ok(ProcessExit::Code(code)) => u8::try_from(code).unwrap_or(FAILED),
        Ok(ProcessExit::Signal(signal)) => {
            output::finish(0);
            syscall::die_of(signal);
            // Process 1 can't kill itself with a signal.
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
        revival: KeptProcess::default(),
        family: ProxyFamily::default(),
        next: None,
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
    revival: KeptProcess,
    /// The proxy, and earlier processes after upgrades.
    family: ProxyFamily,
    /// Time of the next start.
    next: Option<NextStart>,
}

/// Time of the next start, unless a process that was about to take over reports that it serves.
#[derive(Clone, Copy)]
struct NextStart {
    /// Time if there is no such process…
    earliest: Duration,
    /// …and if there is one.
    latest: Duration,
}

impl NextStart {
    fn is_due(self, now: Duration) -> bool {
        self.latest <= now
    }

    fn may_be(self, now: Duration) -> bool {
        self.earliest <= now
    }

    fn wait(self, now: Duration) -> Duration {
        match self.may_be(now) {
            true => self.latest.saturating_sub(now),
            false => self.earliest.saturating_sub(now),
        }
    }
}

impl ProxyKeeper {
    fn start(&mut self) -> io::Result<()> {
        // A process that was about to take over from a proxy that has died would otherwise serve beside the new one.
        self.family.end_orphans();
        let pid = self.command.start(&self.held)?;
        self.family.follow(pid);
        self.revival.note_start(clock::now());
        Ok(())
    }

    /// Runs until the proxy has ended for good; returns how it ended.
    fn live(&mut self) -> io::Result<ProcessExit> {
        loop {
            let now = clock::now();
            let mut patience = MAX_WAIT;
            match self.next {
                _ if self.family.main().is_some() => self.next = None,
                Some(next)
                    if next.is_due(now) || next.may_be(now) && self.family.orphans().is_empty() =>
                {
                    self.next = None;
                    self.start()?;
                }
                Some(next) => patience = next.wait(now),
                None => {}
            }
            self.wait(patience);
            // Messages that it sent before it ended are handled first.
            while let Some(message) = self.held.receive() {
                self.apply_message(message);
            }
            while let Some(signal) = self.signals.read() {
                if signal != libc::SIGCHLD {
                    self.pass_on(signal);
                }
            }
            if self.revival.is_stopping() && self.family.main().is_none() {
                return Ok(ProcessExit::Code(0));
            }
            let mut ended = reap_all();
            if self.family.has_ended_elsewhere() {
                // Only the process before it knows its exit status.
                let pid = self.family.main().unwrap_or_default();
                ended.push((pid, ProcessExit::Signal(libc::SIGKILL)));
            }
            for (pid, end) in ended {
                if !self.family.forget(pid) {
                    continue;
                }
                if let AfterEnd::EndAlike = self.after(pid, end) {
                    return Ok(match self.revival.is_stopping() {
                        true if end == ProcessExit::Signal(libc::SIGKILL) => ProcessExit::Code(0),
                        _ => end,
                    });
                }
            }
        }
    }

    fn after(&mut self, pid: u32, end: ProcessExit) -> AfterEnd {
        let now = clock::now();
        let after = self.revival.after(end, now);
        if let AfterEnd::StartAgain(pause) = after {
            complain(&format!(
                "keeper: the proxy ({pid}) {}; its {} sockets stay open, and it starts again {}",
                describe(end),
                self.held.count(),
                match pause.is_zero() {
                    true => "now".to_owned(),
                    false => format!("in {pause:?}"),
                }
            ));
            self.next = Some(NextStart {
                earliest: now + pause,
                latest: now + pause.max(SUCCESSOR_TIMEOUT),
            });
        }
        after
    }

    fn wait(&self, patience: Duration) {
        let ends = self.family.main_end();
        let mut polled = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.held, PollFlags::IN),
        ];
        polled.extend(ends.iter().map(|end| PollFd::new(end, PollFlags::IN)));
        // An error (EINTR) only makes the loop check earlier.
        let _ = poll_for(&mut polled, Some(patience));
    }

    fn apply_message(&mut self, message: SupervisorMessage) {
        if message.ready {
            self.revival.note_serving();
        }
        // Another process has taken the proxy's place.
        if let Some(pid) = message.main {
            if self.family.main().is_none() {
                self.revival.note_start(clock::now());
            }
            self.family.follow(pid);
        }
        if !message.others.is_empty() {
            // The keeper goes on if its own supervisor has ended.
            let _ = notify(&message.others);
        }
    }

    fn pass_on(&mut self, signal: i32) {
        if matches!(signal, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT) {
            self.revival.note_stop();
        }
        if let Some(pid) = self.family.main() {
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
