//! `type = "file"`: a list of backends in a file, which is read again when it changes.
//!
//! It is looked at once a second, as certificates are: directories that Kubernetes and network file systems fill tell of
//! their changes in too many ways, or in none. What can't be read, or isn't a whole list, changes nothing.

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

/// Between two looks.
const ROUND: Duration = Duration::from_secs(1);

/// Reads a file of backends.
///
/// # Errors
/// The file, where in it, and why.
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

/// A file of backends.
pub struct FileSource {
    path: PathBuf,
}

impl FileSource {
    /// The one at this path, which need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

/// What was seen of the file.
#[derive(Debug, Default)]
struct FileWatch {
    /// At the last look.
    seen: FileFingerprint,
    /// Of the version that was read last, for good or bad.
    read: FileFingerprint,
    /// It may have changed again without a trace.
    is_unsettled: bool,
    /// What was read.
    last: Option<SeenFile>,
}

/// What a look has shown.
type SeenFile = Result<DiscoveredSet<Address>, SourceError>;

impl FileWatch {
    /// Reads the file, if it is another one than at the last look. A file that is being written in its place is read when
    /// nothing has changed for a round: half of a list may be a list, too. Waits for the disk.
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
            // It was changed meanwhile: what was read may be of two versions.
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
            // A disk may be slow.
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
            clock::sleep(jittered_period(ROUND)).await;
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
        // In its place: it may be half of what is to come.
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
