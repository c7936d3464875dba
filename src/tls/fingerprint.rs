//! Files that are checked again and again: whether they have changed, and whether a bad one was reported already.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::rt::clock;

/// A file that changed so short a time ago may be in the middle of being written, and a second change may leave no trace
/// in its times.
const SETTLED: Duration = Duration::from_secs(2);

/// What tells one version of a file from another: number, size and time of the last change. The change time and not
/// the modification time, which copying tools may set to any value.
pub type FileFingerprint = Option<(u64, u64, u64, i64, i64)>;

/// Some files that belong together.
#[derive(Debug)]
pub struct FileSet {
    paths: Vec<PathBuf>,
    stamps: Vec<FileFingerprint>,
    /// Look again though the stamps are the same.
    unsettled: bool,
    /// What was wrong at the last look, and whether it was told.
    failing: Option<(String, bool)>,
}

impl FileSet {
    /// As they are now. They may have changed since they were read, so the first check always reports a change.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let stamps = paths.iter().map(|path| fingerprint_file(path)).collect();
        Self {
            paths,
            stamps,
            unsettled: true,
            failing: None,
        }
    }

    /// Whether they are worth reading. May wait for the disk.
    pub fn have_changed(&mut self) -> bool {
        let stamps: Vec<_> = self
            .paths
            .iter()
            .map(|path| fingerprint_file(path))
            .collect();
        if stamps == self.stamps && !self.unsettled {
            return false;
        }
        self.stamps = stamps;
        true
    }

    /// They were read and are good. Says whether people were told that they are bad.
    pub fn are_good(&mut self) -> bool {
        self.unsettled = is_fresh(&self.stamps, SystemTime::now());
        matches!(self.failing.take(), Some((_, true)))
    }

    /// They were read and are bad. Says whether people are to be told: a pair is seldom written in one step, and what is
    /// wrong at one look only is none of their business.
    pub fn are_bad(&mut self, why: String) -> bool {
        self.unsettled = true;
        match &mut self.failing {
            Some((same, told)) if *same == why => !std::mem::replace(told, true),
            failing => {
                *failing = Some((why, false));
                false
            }
        }
    }
}

/// The version of a file that is there now; `None`: there is none. May wait for the disk.
pub fn fingerprint_file(file: &Path) -> FileFingerprint {
    // Follows links: Kubernetes and certbot change where they lead to.
    let data = std::fs::metadata(file).ok()?;
    Some((
        data.dev(),
        data.ino(),
        data.size(),
        data.ctime(),
        data.ctime_nsec(),
    ))
}

/// Whether one of them may have changed again without a trace in its times.
pub fn is_fresh(stamps: &[FileFingerprint], now: SystemTime) -> bool {
    let now = clock::since_1970(now);
    stamps.iter().flatten().any(|(_, _, _, seconds, _)| {
        let changed = Duration::from_secs(u64::try_from(*seconds).unwrap_or(0));
        changed + SETTLED > now
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bad_twice_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut files = FileSet::new(vec![path.clone(), dir.path().join("missing")]);
        assert!(files.have_changed(), "nobody has looked yet");
        assert!(!files.are_good());
        assert!(!files.have_changed());
        std::fs::write(&path, "half").unwrap();
        assert!(files.have_changed());
        assert!(!files.are_bad("half".to_owned()));
        assert!(files.have_changed(), "it is still bad");
        assert!(files.are_bad("half".to_owned()));
        assert!(!files.are_bad("half".to_owned()), "that was told");
        assert!(!files.are_bad("another".to_owned()));
        assert!(files.are_bad("another".to_owned()));
        assert!(files.are_good());
        // It has only just been written.
        assert!(files.have_changed());
    }
}
