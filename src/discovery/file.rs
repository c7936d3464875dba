//! Source `type = "file"`: a list of backends in a file, which is read again when it changes.
//!
//! The file is checked once a second, like certificates. Notifications would miss some changes: Kubernetes and network
//! file systems report changes of directories in different ways, or not at all. A file that can't be read, or is no
//! complete list, changes nothing.

mod parse;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

pub use parse::{MOST_BYTES, parse_backends};

use super::backoff::jittered_period;
use super::{DiscoverySource, SourceError, SourceReporter};
use crate::config::plain_file::read_lasting_file;
use crate::config::{Address, plain};
use crate::core::discovery::DiscoveredSet;
use crate::rt::clock;
use crate::tls::fingerprint::{FileFingerprint, fingerprint_file, is_fresh};

/// Time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Reads a file of backends.
///
/// # Errors
/// Name of the file, the line, and what is wrong.
pub fn read_backends(path: &Path) -> Result<DiscoveredSet<Address>, SourceError> {
    let name = path.display();
    let bytes = read_lasting_file(path, MOST_BYTES)
        .map_err(|error| SourceError::new(format!("can't read {name}: {}", plain(&error))))?;
    let is_toml = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => Some(true),
        Some("json") => Some(false),
        _ => None,
    };
    parse_backends(&bytes, is_toml).map_err(|problem| match problem.line {
        Some(line) => SourceError::new(format!("{name}:{line}: {}", problem.why)),
        None => SourceError::new(format!("{name}: {}", problem.why)),
    })
}

/// A file of backends as a source.
pub struct FileSource {
    path: PathBuf,
}

impl FileSource {
    /// A source for the file at this path, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

/// State of the watch on a file.
#[derive(Debug, Default)]
struct FileWatch {
    /// Fingerprint at the last check.
    seen: FileFingerprint,
    /// Fingerprint of the version that was read last, whether it was good or bad.
    read: FileFingerprint,
    /// Whether the file may have changed again without a trace in its times.
    is_unsettled: bool,
    /// Result of the last read.
    last: Option<SeenFile>,
}

/// Result of reading the file.
type SeenFile = Result<DiscoveredSet<Address>, SourceError>;

impl FileWatch {
    /// Reads the file if it has changed since the last check. A file that is rewritten in place is only read after a
    /// round without a change, because half of a list may be a valid list. Waits for the disk.
    fn read_if_changed(&mut self, path: &Path) -> Option<SeenFile> {
        let now = fingerprint_file(path);
        let before = std::mem::replace(&mut self.seen, now);
        if self.last.is_some() && now == self.read && !self.is_unsettled {
            return None;
        }
        let is_same_file = match (before, now) {
            (Some(before), Some(now)) => (before.0, before.1) == (now.0, now.1),
            _ => false,
        };
        if is_same_file && before != now {
            return None;
        }
        let read = read_backends(path);
        let after = fingerprint_file(path);
        if after != now {
            // The file changed during the read, so the result may mix two versions.
            self.seen = after;
            return None;
        }
        self.read = now;
        self.is_unsettled = is_fresh(&[now], SystemTime::now());
        if self.last.as_ref() == Some(&read) {
            return None;
        }
        self.last = Some(read.clone());
        Some(read)
    }
}

#[async_trait]
impl DiscoverySource for FileSource {
    async fn follow(&self, reports: &SourceReporter) -> SourceError {
        let mut watch = FileWatch::default();
        loop {
            let path = self.path.clone();
            let look = move || {
                let mut watch = watch;
                (watch.read_if_changed(&path), watch)
            };
            // The disk may be slow.
            let (seen, looked) = match tokio::task::spawn_blocking(look).await {
                Ok(both) => both,
                Err(error) => return SourceError::new(error),
            };
            watch = looked;
            match seen {
                Some(Ok(set)) => reports.answer(set).await,
                Some(Err(error)) => reports.fail(error).await,
                None => {}
            }
            clock::sleep(jittered_period(CHECK_INTERVAL)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> String {
        let one =
            |name: &&str| format!("{{\"name\": \"{name}\", \"address\": \"{name}.internal:80\"}}");
        let all: Vec<_> = names.iter().map(one).collect();
        format!("[{}]", all.join(",\n"))
    }

    fn names(seen: Option<SeenFile>) -> Vec<String> {
        let set = seen.unwrap().unwrap();
        set.iter().map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn replaced_file_is_read_at_once_and_a_rewritten_one_when_it_is_still() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backends.json");
        let mut watch = FileWatch::default();
        let error = watch
            .read_if_changed(&path)
            .unwrap()
            .unwrap_err()
            .to_string();
        assert!(error.contains("backends.json: no such file"), "{error}");
        assert!(watch.read_if_changed(&path).is_none(), "that was told");
        std::fs::write(&path, list(&["a", "b"])).unwrap();
        assert_eq!(names(watch.read_if_changed(&path)), ["a", "b"]);
        assert!(watch.read_if_changed(&path).is_none());
        let other = dir.path().join("new");
        std::fs::write(&other, list(&["c"])).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(names(watch.read_if_changed(&path)), ["c"]);
        // The file is rewritten in place, so its content may be incomplete.
        std::fs::write(&path, list(&["c", "d", "e"])).unwrap();
        assert!(watch.read_if_changed(&path).is_none());
        assert_eq!(names(watch.read_if_changed(&path)), ["c", "d", "e"]);
        std::fs::write(&path, "").unwrap();
        assert!(watch.read_if_changed(&path).is_none());
        let error = watch
            .read_if_changed(&path)
            .unwrap()
            .unwrap_err()
            .to_string();
        assert!(error.contains("backends.json:1: "), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(watch.read_if_changed(&path).unwrap().is_err());
    }
}
