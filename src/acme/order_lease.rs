//! Which of several proxies may order: one at a time for each account.
//!
//! The lease is a file with a kernel lock, which ends with its holder, even if that is killed. The text in the file is
//! for cases in which the lock has no effect: a proxy on another machine, with a file system whose locks are local, or
//! a holder that hangs. It has an expiry time, which the holder extends while it works.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Name of the lease file.
const LOCK: &str = "lock";
/// Name of the lock that a process holds for a moment while it takes the lease of a hanging holder.
const STEAL: &str = "lock.steal";

/// Duration of a lease in seconds, unless it is extended.
pub(super) const LEASE_TIME: i64 = 60;

/// The right to order, held until it is dropped.
#[derive(Debug)]
pub(super) struct OrderLease {
    file: File,
    path: PathBuf,
    holder: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct LeaseText {
    /// Identity of the holder: a random number of its process.
    holder: String,
    /// Boot id of the holder's machine.
    boot: String,
    /// Expiry time, as Unix time in seconds.
    until: i64,
}

impl OrderLease {
    /// Takes the lease of this directory; `None`: another proxy has it. May wait for the disk.
    pub(super) fn take(dir: &Path, holder: &str, now: i64) -> io::Result<Option<Self>> {
        let path = dir.join(LOCK);
        for _ in 0..3 {
            let mut file = open(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let stands_still = read_text(&mut file)
                        .is_some_and(|text| text.until.saturating_add(LEASE_TIME) < now);
                    if stands_still && displace_holder(dir, &path, now)? {
                        continue;
                    }
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
            // Another process has replaced the file meanwhile.
            if !is_at(&file, &path) {
                continue;
            }
            let elsewhere = read_text(&mut file).filter(|text| text.boot != read_boot_id());
            if elsewhere.is_some_and(|text| text.until > now) {
                return Ok(None);
            }
            let mut lease = Self {
                file,
                path,
                holder: holder.to_owned(),
            };
            lease.write_text(now)?;
            return Ok(Some(lease));
        }
        Ok(None)
    }

    /// Extends the lease. `false`: another proxy has it now, and this one must stop.
    pub(super) fn extend(&mut self, now: i64) -> io::Result<bool> {
        let own = read_text(&mut self.file).is_some_and(|text| text.holder == self.holder);
        if !own || !is_at(&self.file, &self.path) {
            return Ok(false);
        }
        self.write_text(now)?;
        Ok(true)
    }

    fn write_text(&mut self, now: i64) -> io::Result<()> {
        let text = serde_json::to_vec(&LeaseText {
            holder: self.holder.clone(),
            boot: read_boot_id(),
            until: now.saturating_add(LEASE_TIME),
        })?;
        self.file.seek(io::SeekFrom::Start(0))?;
        self.file.write_all(&text)?;
        self.file.set_len(text.len() as u64)?;
        self.file.sync_data()
    }
}

impl Drop for OrderLease {
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) {
            // A lease without text has no holder, on other machines too.
            let _ = self.file.set_len(0);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(path)
}

fn read_text(file: &mut File) -> Option<LeaseText> {
    let mut text = Vec::new();
    file.seek(io::SeekFrom::Start(0)).ok()?;
    file.take(4096).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(own), Ok(there)) => (own.dev(), own.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Removes the lease of a hanging holder. Only one process at a time may do this, so that none removes a lease that
/// another has just taken.
fn displace_holder(dir: &Path, path: &Path, now: i64) -> io::Result<bool> {
    let guard = open(&dir.join(STEAL))?;
    if flock(&guard, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    let text = open(path).ok().and_then(|mut file| read_text(&mut file));
    let stands_still = text.is_some_and(|text| text.until.saturating_add(LEASE_TIME) < now);
    if stands_still {
        std::fs::remove_file(path)?;
    }
    Ok(stands_still)
}

/// Boot id of this machine; empty if it has none, so that only the locks count.
fn read_boot_id() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn take(dir: &Path, holder: &str, now: i64) -> Option<OrderLease> {
        OrderLease::take(dir, holder, now).unwrap()
    }

    #[test]
    fn lease_is_one_proxys_at_a_time_and_free_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = take(dir.path(), "a", NOW).unwrap();
        assert!(take(dir.path(), "b", NOW).is_none());
        // The holder continues to work.
        assert!(first.extend(NOW + 50).unwrap());
        assert!(take(dir.path(), "b", NOW + 100).is_none());
        drop(first);
        let second = take(dir.path(), "b", NOW + 100).unwrap();
        // As after a crash: the text stays, and the kernel's lock is gone.
        let OrderLease { file, .. } = &second;
        flock(file, FlockOperation::Unlock).unwrap();
        assert!(take(dir.path(), "c", NOW + 101).is_some());
    }

    #[test]
    fn holder_that_stands_still_is_displaced_and_notices() {
        let dir = tempfile::tempdir().unwrap();
        let mut stopped = take(dir.path(), "a", NOW).unwrap();
        assert!(take(dir.path(), "b", NOW + LEASE_TIME + 1).is_none());
        let late = NOW + 2 * LEASE_TIME + 1;
        let mut other = take(dir.path(), "b", late).unwrap();
        assert!(take(dir.path(), "c", late).is_none());
        assert!(!stopped.extend(late).unwrap());
        drop(stopped);
        assert!(other.extend(late + 1).unwrap(), "it is still the other's");
    }

    #[test]
    fn lease_of_another_machine_counts_until_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let text = LeaseText {
            holder: "far".to_owned(),
            boot: "another".to_owned(),
            until: NOW + 10,
        };
        std::fs::write(dir.path().join(LOCK), serde_json::to_vec(&text).unwrap()).unwrap();
        assert!(take(dir.path(), "a", NOW).is_none());
        assert!(take(dir.path(), "a", NOW + 11).is_some());
        // Part of a text, as a crash may leave it.
        std::fs::write(dir.path().join(LOCK), "{\"holder").unwrap();
        assert!(take(dir.path(), "a", NOW).is_some());
    }

    #[test]
    fn concurrent_holders_never_have_the_lease_together() {
        let dir = tempfile::tempdir().unwrap();
        let held = std::sync::atomic::AtomicU32::new(0);
        let taken = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for holder in 0..8 {
                let (dir, held, taken) = (dir.path(), &held, &taken);
                scope.spawn(move || {
                    use std::sync::atomic::Ordering::SeqCst;
                    for _ in 0..50 {
                        if let Some(lease) = take(dir, &holder.to_string(), NOW) {
                            assert_eq!(held.fetch_add(1, SeqCst), 0);
                            taken.fetch_add(1, SeqCst);
                            held.fetch_sub(1, SeqCst);
                            drop(lease);
                        }
                    }
                });
            }
        });
        assert!(taken.into_inner() > 0);
    }
}
