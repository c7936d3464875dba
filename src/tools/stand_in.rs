//! The stand-in: the rest of a process that has handed over to another one, for a supervisor that watches its process
//! id (PM2, supervisord, a container's runtime). It passes signals on to the process that serves, and ends in the same
//! way as that one.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use rustix::process::{WaitOptions, WaitStatus};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::rt::process_signals::{self, CONTROL_SIGNALS};
use crate::rt::syscall;
use crate::upgrade::channel::{ChannelReceiver, open_channel};
use crate::upgrade::protocol::UpgradeFrame;

/// Name of the hidden command.
pub const STAND_IN: &str = "stand-in";

/// Time for the last messages of a process that has ended, which are in the socket already.
const LAST_MESSAGE_TIME: Duration = Duration::from_millis(100);

/// Most exit statuses that are remembered; as process 1, the stand-in also sees those of other processes.
const MAX_REMEMBERED: usize = 64;

/// Time for the exit status to arrive after the last lameduck has closed the channel.
const LAST_STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Replaces this process by a stand-in with the same process id, which frees its memory and descriptors. All threads
/// have blocked signals by now and do not read them any more: signals during the exchange wait for the stand-in.
/// Returns only after an error.
pub fn become_stand_in(pid: u32, channel: &OwnedFd) -> io::Error {
    if let Err(error) = rustix::stdio::dup2_stdin(channel.as_fd()) {
        return error.into();
    }
    // The file of this running program, even if another one has its path now.
    Command::new("/proc/self/exe")
        .arg0(OsStr::new("lameduck"))
        .arg(STAND_IN)
        .arg(pid.to_string())
        .exec()
}

/// Stands in for the process `pid`; returns the exit code.
///
/// # Errors
/// Standard input is no channel, or a signal can't be handled.
pub async fn stand_in(pid: u32) -> io::Result<u8> {
    syscall::adopt_orphans()?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (outgoing, mut incoming) = open_channel(socket)?;
    let mut children = signal(SignalKind::child())?;
    let (pass_on, mut passed_on) = mpsc::unbounded_channel();
    for passed in CONTROL_SIGNALS {
        let kind = SignalKind::from_raw(passed as i32);
        let mut caught = signal(kind)?;
        let pass_on = pass_on.clone();
        tokio::spawn(async move {
            while caught.recv().await.is_some() {
                let _ = pass_on.send(kind.as_raw_value());
            }
        });
    }
    process_signals::unblock()?;
    // From now on, a signal for this process is passed on.
    let _ = outgoing
        .send(&UpgradeFrame::Farewell { stand_in: true })
        .await;
    let mut family = WatchedFamily {
        serving: pid,
        ended: HashMap::new(),
    };
    loop {
        if let Some(code) = family.reap() {
            // Messages from before the end are handled first: another process may serve.
            let news = tokio::time::timeout(LAST_MESSAGE_TIME, next_successor(&mut incoming)).await;
            match news {
                Ok(Some(successor)) => family.follow(successor),
                Ok(None) | Err(_) => return Ok(code),
            }
            continue;
        }
        tokio::select! {
            _ = children.recv() => {}
            Some(signal) = passed_on.recv() => drop(syscall::kill(family.serving, signal)),
            heard = next_successor(&mut incoming) => match heard {
                Some(successor) => family.follow(successor),
                None => break,
            },
        }
    }
    // No process serves any more. Its exit status may arrive in a moment.
    let deadline = tokio::time::Instant::now() + LAST_STATUS_TIMEOUT;
    loop {
        if let Some(code) = family.reap() {
            return Ok(code);
        }
        tokio::select! {
            _ = children.recv() => {}
            () = tokio::time::sleep_until(deadline) => return Ok(1),
        }
    }
}

/// The next process that takes over; `None`: there will be none. Cancel-safe.
async fn next_successor(incoming: &mut ChannelReceiver) -> Option<u32> {
    while let Ok(received) = incoming.receive().await {
        if let UpgradeFrame::Successor { pid } = received.frame {
            return Some(pid);
        }
    }
    None
}

/// The process that serves, and exit statuses of related processes.
struct WatchedFamily {
    serving: u32,
    /// If a process ends soon after it has taken over, its exit status arrives after its end is noticed.
    ended: HashMap<u32, u8>,
}

impl WatchedFamily {
    /// Takes all available exit statuses; returns that of the serving process.
    fn reap(&mut self) -> Option<u8> {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if self.ended.len() >= MAX_REMEMBERED {
                self.ended.retain(|pid, _| *pid == self.serving);
            }
            let pid = pid.as_raw_nonzero().get().unsigned_abs();
            self.ended.insert(pid, code(status));
        }
        self.ended.get(&self.serving).copied()
    }

    /// Follows another process that serves from now on.
    fn follow(&mut self, successor: u32) {
        self.serving = successor;
        // An earlier process may have had the same id.
        if syscall::kill(successor, 0).is_ok() {
            self.ended.remove(&successor);
        }
    }
}

fn code(status: WaitStatus) -> u8 {
    let code = status.exit_status().unwrap_or_else(|| {
        let signal = status.terminating_signal().unwrap_or_default();
        128 + signal
    });
    u8::try_from(code).unwrap_or(1)
}
