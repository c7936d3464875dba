//! The stand-in: what is left of a process that has handed over to another one, where a supervisor watches its
//! process id (PM2, supervisord, a container's runtime). It passes signals on to the process that serves, and ends as
//! that one does.

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

use crate::rt::process_signals::{self, STEERING};
use crate::rt::syscall;
use crate::upgrade::channel::{ChannelReceiver, open_channel};
use crate::upgrade::protocol::UpgradeFrame;

/// The hidden command.
pub const STAND_IN: &str = "stand-in";

/// For what the process that serves has said before it ended: it is in the socket by then.
const LAST_WORD: Duration = Duration::from_millis(100);

/// Ends that are remembered: as process 1, this one sees those of others, too.
const MOST_REMEMBERED: usize = 64;

/// After the last lameduck has let go of the channel, for its exit status to arrive.
const LAST_STATUS: Duration = Duration::from_secs(2);

/// Puts a stand-in in the place of this process, under its id: memory and descriptors are given back. Signals are
/// blocked in all threads by now, and not read any more: those that come while the program is exchanged wait for the
/// stand-in. Returns only where that fails.
pub fn become_stand_in(pid: u32, channel: &OwnedFd) -> io::Error {
    if let Err(error) = rustix::stdio::dup2_stdin(channel.as_fd()) {
        return error.into();
    }
    // The very file that runs here, whatever stands in its place by now.
    Command::new("/proc/self/exe")
        .arg0(OsStr::new("lameduck"))
        .arg(STAND_IN)
        .arg(pid.to_string())
        .exec()
}

/// Stands in for the process `pid`; returns the exit code.
///
/// # Errors
/// When standard input is no channel, or a signal can't be caught.
pub async fn stand_in(pid: u32) -> io::Result<u8> {
    syscall::adopt_orphans()?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (outgoing, mut incoming) = open_channel(socket)?;
    let mut children = signal(SignalKind::child())?;
    let (pass_on, mut passed_on) = mpsc::unbounded_channel();
    for passed in STEERING {
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
    // From now on, a signal to this process is one to that which serves.
    let _ = outgoing
        .send(&UpgradeFrame::Farewell { stand_in: true })
        .await;
    let mut family = WatchedFamily {
        serving: pid,
        ended: HashMap::new(),
    };
    loop {
        if let Some(code) = family.reap() {
            // What it said before it ended comes first: another one may serve.
            let news = tokio::time::timeout(LAST_WORD, next_successor(&mut incoming)).await;
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
    // No process serves any more. How it ended may be known in a moment.
    let deadline = tokio::time::Instant::now() + LAST_STATUS;
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

/// The next process that has taken over; `None`: there is none any more. Safe to drop and call again.
async fn next_successor(incoming: &mut ChannelReceiver) -> Option<u32> {
    while let Ok(received) = incoming.receive().await {
        if let UpgradeFrame::Successor { pid } = received.frame {
            return Some(pid);
        }
    }
    None
}

/// The process that serves, and how its relatives ended.
struct WatchedFamily {
    serving: u32,
    /// For a process that ends soon after it has taken over, the exit code comes later than its end is noticed.
    ended: HashMap<u32, u8>,
}

impl WatchedFamily {
    /// Takes all exit statuses there are; that of the process that serves.
    fn reap(&mut self) -> Option<u8> {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if self.ended.len() >= MOST_REMEMBERED {
                self.ended.retain(|pid, _| *pid == self.serving);
            }
            let pid = pid.as_raw_nonzero().get().unsigned_abs();
            self.ended.insert(pid, code(status));
        }
        self.ended.get(&self.serving).copied()
    }

    /// Another process serves.
    fn follow(&mut self, successor: u32) {
        self.serving = successor;
        // Another process may have had its id before.
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
