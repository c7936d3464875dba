//! Where lines end up: standard output or a file that can be opened anew.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::config::LogSink;

/// Why there is no access log.
#[derive(Debug, Error)]
pub enum Error {
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
pub(super) struct Sink {
    file: File,
    path: Option<PathBuf>,
    /// The last write stopped within a line: the next one begins with an end of line.
    torn: bool,
}

impl Sink {
    /// `None` where nothing is to be logged.
    pub(super) fn open(sink: &LogSink) -> Result<Option<Self>, Error> {
        let (file, path) = match sink {
            LogSink::Off => return Ok(None),
            LogSink::Stdout => {
                let descriptor = io::stdout()
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(Error::Stdout)?;
                (File::from(descriptor), None)
            }
            LogSink::File(path) => {
                let file = append_to(path).map_err(|error| Error::Open {
                    path: path.clone(),
                    error,
                })?;
                (file, Some(path.clone()))
            }
        };
        Ok(Some(Self {
            file,
            path,
            torn: false,
        }))
    }

    /// A sink of a test's choosing.
    #[cfg(test)]
    pub(super) fn from_file(file: File) -> Self {
        Self {
            file,
            path: None,
            torn: false,
        }
    }

    /// Opens the file anew; without a file there is nothing to do.
    pub(super) fn reopen(&mut self) -> Result<(), Error> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        self.file = append_to(path).map_err(|error| Error::Open {
            path: path.clone(),
            error,
        })?;
        self.torn = false;
        Ok(())
    }

    /// Writes whole lines. `give_up` is asked now and then while a non-blocking sink takes no more.
    pub(super) fn write(&mut self, mut lines: &[u8], give_up: impl Fn() -> bool) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        let whole = lines.len();
        while !lines.is_empty() {
            match self.file.write(lines) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    lines = &lines[written..];
                    self.torn = !lines.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody made a shared standard output non-blocking. No readiness to wait for that would
                // be worth a reactor: this thread has nothing else to do.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !give_up() => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error),
            }
        }
        debug_assert!(whole == 0 || !self.torn);
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    // Requests carry personal data: not for everybody's eyes by default.
    File::options()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}
