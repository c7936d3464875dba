//! runit and s6: each process has a supervisor of its own, which writes its state to `supervise/status`, by rename.
//! inotify reports changes.
//!
//! - runit writes "TERM has been sent" at the signal, for `sv down`, `sv restart` and `sv term` alike.
//! - s6 writes "is not wanted up" at the signal, for `s6-svc -d`. About `s6-svc -r` and `-t` it writes nothing until
//!   the process has ended.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::{Mode, OFlags, inotify};
use tokio::io::unix::AsyncFd;
use tokio::time::{MissedTickBehavior, interval};

use super::{SupervisorError, SupervisorSource, WordListener};
use crate::config::plain_file::read_lasting_file;
use crate::core::Time;
use crate::core::supervisor_word::ProcessWord;
use crate::rt::clock;

/// Time between two checks whether the supervisors themselves run, which no file shows.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Most bytes that are read; longer than what runit and s6 write.
const MAX_STATUS_LENGTH: u64 = 4096;

/// State of a process in its status file, and its identity.
type Status = (ProcessWord, Option<String>);

/// Differences between runit and s6.
#[derive(Debug, Clone, Copy)]
struct ServiceDialect {
    /// Program that writes the files.
    program: &'static str,
    /// FIFO below `supervise/` that this program holds open for reading.
    held: &'static str,
    /// Function that parses the status file.
    read: fn(&[u8]) -> Option<Status>,
}

/// The services of one directory.
pub(super) struct ServiceFiles {
    root: PathBuf,
    dialect: ServiceDialect,
}

impl ServiceFiles {
    /// A source for runit, whose directory is usually `/etc/service`.
    pub(super) fn runit(address: Option<&str>) -> Self {
        Self {
            root: PathBuf::from(address.unwrap_or("/etc/service")),
            dialect: ServiceDialect {
                program: "runsv",
                held: "ok",
                read: read_runit,
            },
        }
    }

    /// A source for s6, whose directory is usually `/run/service`.
    pub(super) fn s6(address: Option<&str>) -> Self {
        Self {
            root: PathBuf::from(address.unwrap_or("/run/service")),
            dialect: ServiceDialect {
                program: "s6-supervise",
                held: "control",
                read: read_s6,
            },
        }
    }
}

#[async_trait]
impl SupervisorSource for ServiceFiles {
    async fn listen(&mut self, listener: &mut WordListener) -> Result<(), SupervisorError> {
        let place = self.root.display();
        if !self.root.is_dir() {
            return Err(SupervisorError::of(place, "no such directory"));
        }
        let failed = |error: io::Error| SupervisorError::of("inotify", error);
        let notify = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC);
        let notify = notify.map_err(|error| failed(error.into()))?;
        #[allow(
            deprecated,
            reason = "sound here: an OwnedFd is one open descriptor for as long as it lives; the other form is unsafe"
        )]
        let notify = AsyncFd::new(notify).map_err(failed)?;
        let mut services = WatchedServices {
            root: self.root.clone(),
            by_watch: HashMap::new(),
        };
        let all: BTreeSet<String> = listener.processes().into_iter().collect();
        let mut round = interval(CHECK_INTERVAL);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let touched = tokio::select! {
                biased;
                ready = notify.readable() => {
                    let mut ready = ready.map_err(failed)?;
                    let touched = services.read_events(&notify, &all).map_err(failed)?;
                    ready.clear_ready();
                    touched
                }
                _ = round.tick() => {
                    services.watch_missing(&notify, &all);
                    all.clone()
                }
            };
            self.report_services(listener, touched).await?;
            listener.catch_up();
        }
    }
}

impl ServiceFiles {
    /// Reads and reports the state of these services, on a thread that may wait for the disk.
    async fn report_services(
        &self,
        listener: &mut WordListener,
        processes: BTreeSet<String>,
    ) -> Result<(), SupervisorError> {
        if processes.is_empty() {
            return Ok(());
        }
        let (root, dialect) = (self.root.clone(), self.dialect);
        let at = clock::now();
        let looked = tokio::task::spawn_blocking(move || {
            let processes = processes.into_iter();
            let statuses = processes.map(|name| (dialect.status_of(&root.join(&name)), name));
            statuses.collect::<Vec<_>>()
        });
        let looked = looked.await;
        let looked = looked.map_err(|error| SupervisorError::of("reading status files", error))?;
        for (status, process) in looked {
            report_service_status(listener, &process, status, at);
        }
        Ok(())
    }
}

fn report_service_status(
    listener: &mut WordListener,
    process: &str,
    status: Result<Status, String>,
    at: Time,
) {
    match status {
        Ok((word, mark)) => listener.hear(process, word, mark, at),
        Err(why) => listener.silent(process, &why),
    }
}

impl ServiceDialect {
    /// State of the service in this directory, or why it is unknown.
    fn status_of(&self, service: &Path) -> Result<Status, String> {
        let supervise = service.join("supervise");
        // Opening a FIFO without a reader for writing fails: then no supervisor runs, and the file is from an earlier
        // one.
        let held = rustix::fs::open(
            supervise.join(self.held),
            OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        );
        held.map_err(|error| match error {
            rustix::io::Errno::NXIO | rustix::io::Errno::NOENT => {
                format!("no {} runs for {}", self.program, service.display())
            }
            error => format!("{}: {}", supervise.display(), io::Error::from(error)),
        })?;
        let file = supervise.join("status");
        let status = read_lasting_file(&file, MAX_STATUS_LENGTH);
        let status = status.map_err(|error| format!("{}: {error}", file.display()))?;
        let status = (self.read)(&status);
        status.ok_or_else(|| format!("{}: not as {} writes it", file.display(), self.program))
    }
}

/// Directories that inotify watches.
struct WatchedServices {
    root: PathBuf,
    by_watch: HashMap<i32, String>,
}

impl WatchedServices {
    /// Watches directories that are not watched yet: their supervisors may have been started since.
    fn watch_missing(&mut self, notify: &AsyncFd<OwnedFd>, all: &BTreeSet<String>) {
        let watched: BTreeSet<String> = self.by_watch.values().cloned().collect();
        for process in all.difference(&watched) {
            let dir = self.root.join(process).join("supervise");
            let flags = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::ONLYDIR;
            // If a service can't be watched, that is reported when its state is read.
            if let Ok(number) = inotify::add_watch(notify.get_ref(), &dir, flags) {
                self.by_watch.insert(number, process.clone());
            }
        }
    }

    /// Names of the services whose status was written.
    fn read_events(
        &mut self,
        notify: &AsyncFd<OwnedFd>,
        all: &BTreeSet<String>,
    ) -> io::Result<BTreeSet<String>> {
        let mut touched = BTreeSet::new();
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut reader = inotify::Reader::new(notify.get_ref(), &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::AGAIN) => return Ok(touched),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                touched.extend(all.iter().cloned());
            }
            let process = self.by_watch.get(&event.wd());
            if event.events().contains(inotify::ReadFlags::IGNORED) {
                // The directory was removed; another one may be created.
                self.by_watch.remove(&event.wd());
            } else if event.file_name().is_some_and(|name| name == c"status") {
                touched.extend(process.cloned());
            }
        }
    }
}

/// Format of runit, 20 bytes: start time (12), process id (4, little endian), paused, wanted state, whether TERM was
/// sent, and 0 (down), 1 (runs) or 2 (`finish` runs).
fn read_runit(status: &[u8]) -> Option<Status> {
    let status: &[u8; 20] = status.try_into().ok()?;
    let pid = u32::from_le_bytes(status[12..16].try_into().ok()?);
    let term_was_sent = status[18] == 1;
    let mark = (pid != 0).then(|| process_mark(pid.into(), &status[..12]));
    Some(match (pid, status[19]) {
        (0, _) | (_, 0 | 2) => (ProcessWord::Ended, None),
        _ if term_was_sent => (ProcessWord::Stopping, mark),
        _ => (ProcessWord::Running, mark),
    })
}

/// Format of s6, 35 bytes, or 43 since 2.13: start time (12), time of readiness (12), process id (8, big endian), in
/// later versions the process group (8), exit status (2), and flags: paused, `finish` runs, wanted up, ready.
fn read_s6(status: &[u8]) -> Option<Status> {
    if status.len() != 35 && status.len() != 43 {
        return None;
    }
    let pid = u64::from_be_bytes(status[24..32].try_into().ok()?);
    let flags = *status.last()?;
    let (finishes, wanted_up) = (flags & 2 != 0, flags & 4 != 0);
    let mark = (pid != 0).then(|| process_mark(pid, &status[..12]));
    Some(match pid {
        0 => (ProcessWord::Ended, None),
        _ if finishes => (ProcessWord::Ended, None),
        _ if !wanted_up => (ProcessWord::Stopping, mark),
        _ => (ProcessWord::Running, mark),
    })
}

/// Identity of a process: its id and its start time.
fn process_mark(pid: u64, since: &[u8]) -> String {
    let since: String = since.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{pid}@{since}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().collect();
        let pairs = digits.chunks(2);
        pairs
            .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
            .collect()
    }

    /// Recorded from runit 2.1.2.
    #[test]
    fn status_of_runit_says_when_term_was_sent() {
        let word = |hex: &str| read_runit(&bytes(hex)).unwrap();
        let running = word("400000006b0c4eb03b752b243d4d000000750001");
        assert_eq!(running.0, ProcessWord::Running);
        for stopping in [
            "400000006b0c4eb03b752b243d4d000000640101",
            "400000006b0c4eb03b752b243d4d000000750101",
        ] {
            assert_eq!(word(stopping), (ProcessWord::Stopping, running.1.clone()));
        }
        let down = word("400000006b0c4eb22d8e50bc0000000000640000");
        assert_eq!(down, (ProcessWord::Ended, None));
        let finish = word("400000006b0c4eb03b752b243d4d000000750002");
        assert_eq!(finish.0, ProcessWord::Ended);
        assert_eq!(read_runit(&[0; 18]), None);
    }

    /// Recorded from s6 2.11.
    #[test]
    fn status_of_s6_says_that_it_is_not_wanted_up() {
        let word = |hex: &str| read_s6(&bytes(hex)).unwrap();
        let running =
            word("400000006b0c4ea316871d14400000006b0c4ea2162775130000000000004902000004");
        let stopping =
            word("400000006b0c4ea316871d14400000006b0c4ea2162775130000000000004902000000");
        assert_eq!(running.0, ProcessWord::Running);
        assert_eq!(stopping, (ProcessWord::Stopping, running.1));
        let down = word("400000006b0c4e9f31565897400000006b0c4e9f3178c2a1000000000000000000000c");
        assert_eq!(down, (ProcessWord::Ended, None));
        let finishes =
            word("400000006b0c4ea5345aa42e400000006b0c4ea216277513000000000000492d000002");
        assert_eq!(finishes.0, ProcessWord::Ended);
        assert_eq!(read_s6(&[0; 18]), None);
    }
}
