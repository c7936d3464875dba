//! Where lines end up: standard output, a file that can be opened anew, or a daemon.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::remote::RemoteSink;
use crate::config::LogSink;
use crate::rt::files::append_to;
use crate::rt::output::{self, LineWriter};

/// Why there is no access log.
#[derive(Debug, Error)]
pub enum AccessLogError {
    /// The file can't be opened.
    #[error(
        "can't open the access log {}: {error}; make the directory writable for this user, or set another \
         `path` in [access_log] (\"stdout\" and \"off\" work too)",
        path.display()
    )]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Standard output is closed.
    #[error(
        "can't use standard output for the access log: {0}; set `path` in [access_log] to a file or to \"off\""
    )]
    Stdout(io::Error),
    /// No thread for it.
    #[error(
        "can't start the access log's thread: {0}; raise the limit on threads (ulimit -u, TasksMax)"
    )]
    Thread(io::Error),
}

/// An open sink.
#[derive(Debug)]
pub(super) enum AccessLogSink {
    /// Standard output, or a file.
    Lines {
        /// What writes.
        lines: LineWriter<File>,
        /// The file.
        path: Option<PathBuf>,
    },
    /// Syslog, or the journal.
    Remote(RemoteSink),
}

/// Lines that were not written.
#[derive(Debug)]
pub(super) struct SinkLoss {
    /// How many; `None`: some or all of them.
    pub(super) lines: Option<u64>,
    /// Why.
    pub(super) error: io::Error,
}

impl AccessLogSink {
    /// `None` where nothing is to be logged.
    pub(super) fn open(sink: &LogSink) -> Result<Option<Self>, AccessLogError> {
        let (file, path) = match sink {
            LogSink::Off => return Ok(None),
            LogSink::Stdout => {
                let file = output::duplicate_stdout().map_err(AccessLogError::Stdout)?;
                (file, None)
            }
            LogSink::File(path) => {
                let file = append_to(path, MODE).map_err(|error| AccessLogError::Open {
                    path: path.clone(),
                    error,
                })?;
                (file, Some(path.clone()))
            }
            // What listens there may come later, and go: nothing waits for it.
            LogSink::Syslog(target) => {
                return Ok(Some(Self::Remote(RemoteSink::syslog(target.clone()))));
            }
            LogSink::Journald(socket) => {
                return Ok(Some(Self::Remote(RemoteSink::journal(socket.clone()))));
            }
        };
        Ok(Some(Self::Lines {
            lines: LineWriter::new(file),
            path,
        }))
    }

    /// A sink of a test's choosing.
    #[cfg(test)]
    pub(super) fn from_file(file: File) -> Self {
        Self::Lines {
            lines: LineWriter::new(file),
            path: None,
        }
    }

    /// How much should wait before it is written, in bytes.
    pub(super) fn lot(&self) -> usize {
        match self {
            Self::Lines { path: Some(_), .. } => FILE_LOT,
            Self::Lines { path: None, .. } | Self::Remote(_) => LOT,
        }
    }

    /// Opens the file anew; without a file there is nothing to do.
    pub(super) fn reopen(&mut self) -> Result<(), AccessLogError> {
        let (lines, path) = match self {
            Self::Lines {
                lines,
                path: Some(path),
            } => (lines, path),
            Self::Lines { .. } => return Ok(()),
            Self::Remote(remote) => {
                remote.close();
                return Ok(());
            }
        };
        let file = append_to(path, MODE).map_err(|error| AccessLogError::Open {
            path: path.clone(),
            error,
        })?;
        *lines = LineWriter::new(file);
        Ok(())
    }

    /// Writes whole lines. `give_up` is asked now and then while a non-blocking sink takes no more.
    pub(super) fn write(
        &mut self,
        text: &[u8],
        give_up: impl Fn() -> bool,
    ) -> Result<(), SinkLoss> {
        match self {
            Self::Lines { lines, .. } => lines
                .write(text, give_up)
                .map_err(|error| SinkLoss { lines: None, error }),
            Self::Remote(remote) => remote.send_lines(text, give_up),
        }
    }
}

/// A pipe holds 64 KiB, and a server of syslog some hundred datagrams: no more at once than half of it.
const LOT: usize = 32 << 10;

/// To a file. Each write wakes a thread, and has the kernel find pages for what it is given: with [`LOT`], a line takes
/// the log's thread nearly twice the time.
const FILE_LOT: usize = 128 << 10;

/// Log lines contain personal data: not readable for all users by default.
const MODE: u32 = 0o640;
