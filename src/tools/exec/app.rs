//! The app's process: its port, and its start.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::process::Command;

use super::{process_tree, syscall};
use crate::rt::syscall::{kill, kill_group};

/// Failure of the launcher.
#[derive(Debug)]
pub(super) struct LaunchError {
    /// Exit code: 125, 126 or 127.
    pub code: u8,
    /// What failed and why, and what to do.
    pub message: String,
}

impl LaunchError {
    /// A failure of the launcher itself.
    pub(super) fn own(message: impl Into<String>) -> Self {
        Self {
            code: super::FAILED,
            message: message.into(),
        }
    }
}

/// A running app.
#[derive(Debug)]
pub(super) struct RunningApp {
    pid: u32,
    port: Option<u16>,
}

impl RunningApp {
    /// Starts the app. `port` is the wanted port (`None`: a free one), and the variable that tells the app.
    ///
    /// # Errors
    /// No port is free, or the command can't be run.
    pub(super) fn start(
        command: &[OsString],
        port: Option<(Option<u16>, &str)>,
    ) -> Result<Self, LaunchError> {
        let port = match port {
            None => None,
            Some((wanted, variable)) => {
                let port = match wanted {
                    Some(port) => port,
                    None => find_free_port()
                        .map_err(|error| LaunchError::own(format!("no port is free: {error}")))?,
                };
                #[allow(unsafe_code, reason = "it changes the environment")]
                // SAFETY: the launcher's second thread, which holds the lease, is only started when the app listens.
                unsafe {
                    syscall::set_variable(variable, Some(&port.to_string()));
                }
                Some(port)
            }
        };
        let Some((program, arguments)) = command.split_first() else {
            return Err(LaunchError::own("no command is given"));
        };
        let mut command = Command::new(program);
        let pid = syscall::start(command.args(arguments)).map_err(|error| {
            let program = program.to_string_lossy();
            match error.kind() {
                io::ErrorKind::NotFound => LaunchError {
                    code: 127,
                    message: format!(
                        "`{program}` is not found: write its path, or add its directory to PATH"
                    ),
                },
                _ => LaunchError {
                    code: 126,
                    message: format!("`{program}` can't be run: {error}"),
                },
            }
        })?;
        Ok(Self { pid, port })
    }

    /// Process id of the app, which leads a session and a process group of its own.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Port at which it should listen.
    pub(super) fn port(&self) -> Option<u16> {
        self.port
    }

    /// Signals its process group, and processes that have left the group.
    pub(super) fn signal_all(&self, signal: i32) {
        let _ = kill_group(self.pid, signal);
        for process in process_tree::descendants() {
            // The app's own group has the signal already; a second one may mean "at once" to it. The guard process
            // blocks every signal that can be blocked.
            if process_tree::group(process) != Some(self.pid) {
                let _ = kill(process, signal);
            }
        }
    }
}

/// A port that is free on every address of this host. Another process may take it before the app does.
fn find_free_port() -> io::Result<u16> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..16 {
        let port = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?
            .local_addr()?
            .port();
        match is_taken(port) {
            false => return Ok(port),
            true => last = io::ErrorKind::AddrInUse.into(),
        }
    }
    Err(last)
}

/// Whether another process keeps the app from listening at this port.
pub(super) fn is_taken(port: u16) -> bool {
    let taken = |bound: io::Result<TcpListener>| {
        bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    };
    taken(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
        || taken(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_free_and_a_taken_one_is_not() {
        assert!(!is_taken(find_free_port().unwrap()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(is_taken(listener.local_addr().unwrap().port()));
    }
}
