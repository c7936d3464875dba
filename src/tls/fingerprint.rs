//! Change detection for files that are checked again and again. It also remembers whether a bad file was reported
//! already.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::rt::clock;

/// Age below which a change is not final: the file may still be being written, and a second change within the
/// resolution of its times would leave no trace.
const SETTLED: Duration = Duration::from_secs(2);

/// Identity of one version of a file: device, inode, size, and the time of its last status change (ctime). The
/// modification time would not do, because copying tools may set it to any value. `None`: there is no file.
pub type FileFingerprint = Option<(u64, u64, u64, i64, i64)>;

/// Files that belong together, such as a certificate and its key.
#[derive(Debug)]
pub struct FileSet {
    paths: Vec<PathBuf>,
    fingerprints: Vec<FileFingerprint>,
    /// Whether to read again even if the fingerprints stay the same.
    unsettled: bool,
    /// What was wrong at the last check, and whether it was reported.
    failing: Option<(String, bool)>,
}

impl FileSet {
    /// Takes the fingerprints of the files as they are now. They may have changed since they were read, so the first
    /// check always reports a change.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let fingerprints = paths.iter().map(|path| fingerprint_file(path)).collect();
        Self {
            paths,
            fingerprints,
            unsettled: true,
            failing: None,
        }
    }

    /// Whether the files may have changed since the last check. May wait for the disk.
    pub fn have_changed(&mut self) -> bool {
        let fingerprints: Vec<_> = self
            .paths
            .iter()
            .map(|path| fingerprint_file(path))
            .collect();
        if fingerprints == self.fingerprints && !self.unsettled {
            return false;
        }
        self.fingerprints = fingerprints;
        true
    }

    /// Records that the files were read and are good. Returns whether they had been reported as bad.
    pub fn are_good(&mut self) -> bool {
        self.unsettled = is_fresh(&self.fingerprints, SystemTime::now());
        matches!(self.failing.take(), Some((_, true)))
    }

    /// Records that the files were read and are bad. Returns whether to report it: only at the second check in a row,
    /// because a certificate and its key are seldom written in one step.
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

/// Fingerprint of the file as it is now. May wait for the disk.
pub fn fingerprint_file(file: &Path) -> FileFingerprint {
    // Symbolic links are followed: Kubernetes and certbot replace the link, and not the file.
    let data = std::fs::metadata(file).ok()?;
    Some((
        data.dev(),
        data.ino(),
        data.size(),
        data.ctime(),
        data.ctime_nsec(),
    ))
}

/// Whether a file changed so recently that a further change may leave no trace in its times.
pub fn is_fresh(fingerprints: &[FileFingerprint], now: SystemTime) -> bool {
    let now = clock::since_1970(now);
    fingerprints.iter().flatten().any(|(_, _, _, seconds, _)| {
        let changed = Duration::from_secs(u64::try_from(*seconds).unwrap_or(0));
        changed + SETTLED > now
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_stay_bad_are_reported_once() {
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
        // The file was written a moment ago, so it counts as fresh.
        assert!(files.have_changed());
    }
}
