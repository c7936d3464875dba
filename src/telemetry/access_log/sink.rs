//! Destination of lines: standard output, a file that can be opened again, or a daemon.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::remote::RemoteSink;
use crate::config::LogSink;
use crate::rt::files::append_to;
use crate::rt::output::{self, LineWriter};

/// Reason why the access log can't be opened.
#[derive(Debug, Error)]
pub enum AccessLogError {
    /// The file can't be opened.
    #[error(
        "can't open the access log {}: {error}; make the directory writable for this user, or set another \
         `path` in [access_log] (\"stdout\" and \"off\" work too)",
        path.display()
    )]
    Open {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// Standard output is closed.
    #[error(
        "can't use standard output for the access log: {0}; set `path` in [access_log] to a file or to \"off\""
    )]
    Stdout(io::Error),
    /// The system can't start another thread.
    #[error(
        "can't start the access log's thread: {0}; raise the limit on threads (ulimit -u, TasksMax)"
    )]
    Thread(io::Error),
}

/// An open destination.
#[derive(Debug)]
pub(super) enum AccessLogSink {
    /// Standard output, or a file.
    Lines {
        /// Writer for the descriptor.
        lines: LineWriter<File>,
        /// Path of the file; `None`: standard output.
        path: Option<PathBuf>,
    },
    /// Syslog, or the journal.
    Remote(RemoteSink),
}

/// Lines that were not written.
#[derive(Debug)]
pub(super) struct SinkLoss {
    /// Number of lines; `None`: some or all of them.
    pub(super) lines: Option<u64>,
    /// Error of the system.
    pub(super) error: io::Error,
}

impl AccessLogSink {
    /// Opens the destination; `None` if nothing is to be logged.
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
            // Whatever listens there may start later and stop again, so nothing is connected yet.
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

    /// Writes to this file, for tests.
    #[cfg(test)]
    pub(super) fn from_file(file: File) -> Self {
        Self::Lines {
            lines: LineWriter::new(file),
            path: None,
        }
    }

    /// Number of bytes that should be collected before they are written.
    pub(super) fn lot(&self) -> usize {
        match self {
            Self::Lines { path: Some(_), .. } => FILE_LOT,
            Self::Lines { path: None, .. } | Self::Remote(_) => LOT,
        }
    }

    /// Opens the file again; does nothing without a file.
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

    /// Writes whole lines. `give_up` is called now and then while a non-blocking destination is full.
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

/// Bytes for one write to a pipe or daemon: no more than half of what it holds. A pipe holds 64 KiB, and the socket of
/// a syslog server a few hundred datagrams.
const LOT: usize = 32 << 10;

/// Bytes for one write to a file. Each write wakes a thread, and has the kernel find pages; with [`LOT`], the log's
/// thread would take nearly twice as long for a line.
const FILE_LOT: usize = 128 << 10;

/// Permissions of the file: log lines contain personal data, so not all users may read them.
const MODE: u32 = 0o640;
