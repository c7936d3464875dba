//! The key with which this proxy signs sessions if none is configured: generated once, and kept beside the state.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::registry::sticky::{NoRandomBytesError, OwnKey};
use crate::rt::files;

/// Name of the file in `state_dir`.
const FILE: &str = "sticky.key";
/// Name under which the file is written before it is renamed.
const NEW: &str = "sticky.key.new";

/// Source of the key: a file, which is read or written when the key is first needed.
#[derive(Debug)]
pub struct OwnKeySource {
    /// Directory of the file; `None`: the key is not kept.
    dir: Option<PathBuf>,
    /// The key to use if there is none yet. Generated at the start, when an error can still be reported, and not when
    /// a reload first needs it.
    fresh: OwnKey,
    key: OnceLock<OwnKey>,
}

impl Default for OwnKeySource {
    /// A key for this process only.
    ///
    /// # Panics
    /// If [`OwnKeySource::new`] returns an error.
    fn default() -> Self {
        Self::new(None).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl OwnKeySource {
    /// Reads and writes the key in this directory; `None`: a key for this process only.
    ///
    /// # Errors
    /// The errors of [`OwnKey::random`].
    pub fn new(dir: Option<&Path>) -> Result<Self, NoRandomBytesError> {
        Ok(Self {
            dir: dir.map(Path::to_owned),
            fresh: OwnKey::random()?,
            key: OnceLock::new(),
        })
    }

    /// Uses the key that another process has given. The key is kept in the directory, if there is one, for a later
    /// start without a process to take over from.
    pub fn known(key: OwnKey, dir: Option<&Path>) -> Self {
        if let Some(dir) = dir {
            let is_kept =
                |kept: Option<OwnKey>| kept.is_some_and(|kept| kept.bytes() == key.bytes());
            let kept = match read(dir) {
                Ok(kept) if is_kept(kept.clone()) => Ok(()),
                _ => keep(dir, &key),
            };
            if let Err(error) = kept {
                warn_of(dir, &error);
            }
        }
        Self {
            dir: dir.map(Path::to_owned),
            fresh: key.clone(),
            key: OnceLock::from(key),
        }
    }

    /// Returns the key if it has been needed so far.
    pub fn made(&self) -> Option<&OwnKey> {
        self.key.get()
    }

    /// Returns the key. The first call reads or generates it.
    pub fn key(&self) -> &OwnKey {
        self.key.get_or_init(|| match &self.dir {
            Some(dir) => load_own_key(dir, &self.fresh),
            None => self.fresh.clone(),
        })
    }
}

/// Reads the key, or keeps the fresh one. If that fails, sessions end with the process, and a warning is logged.
fn load_own_key(dir: &Path, fresh: &OwnKey) -> OwnKey {
    let kept = match read(dir) {
        Ok(Some(key)) => return key,
        Ok(None) => keep(dir, fresh),
        Err(error) => Err(error),
    };
    if let Err(error) = kept {
        warn_of(dir, &error);
    }
    fresh.clone()
}

fn warn_of(dir: &Path, error: &io::Error) {
    tracing::warn!(
        "can't keep {}: {error}; sessions of sticky pools without `keys` start anew when lameduck restarts",
        dir.join(FILE).display()
    );
}

/// Returns `None` if there is no file, or if it does not contain a valid key.
fn read(dir: &Path) -> io::Result<Option<OwnKey>> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(dir.join(FILE));
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(33).read_to_end(&mut bytes)?;
    Ok(<[u8; 32]>::try_from(bytes).ok().map(OwnKey::new))
}

fn keep(dir: &Path, key: &OwnKey) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(dir)?;
    let directory = files::open_directory(dir)?;
    files::write_fresh(&directory, NEW, 0o600, &[key.bytes()])?;
    files::rename_within(&directory, NEW, FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn load(dir: &Path) -> OwnKey {
        load_own_key(dir, &OwnKey::random().unwrap())
    }

    #[test]
    fn own_key_is_the_same_in_the_next_run_and_nobody_elses_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let first = load(&state);
        assert_eq!(load(&state).bytes(), first.bytes());
        let mode = std::fs::metadata(state.join(FILE)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        std::fs::write(state.join(FILE), "short").unwrap();
        assert_ne!(load(&state).bytes(), first.bytes());
    }

    #[test]
    fn key_of_another_process_is_kept_and_takes_the_place_of_an_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        for handed in [[1; 32], [2; 32]] {
            let source = OwnKeySource::known(OwnKey::new(handed), Some(&state));
            assert_eq!(source.key().bytes(), &handed);
            assert_eq!(load(&state).bytes(), &handed);
            let mode = std::fs::metadata(state.join(FILE)).unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o600);
        }
        // If the key can't be kept, it is still the one in force.
        std::fs::write(dir.path().join("file"), "").unwrap();
        let source = OwnKeySource::known(OwnKey::new([3; 32]), Some(&dir.path().join("file")));
        assert_eq!(source.key().bytes(), &[3; 32]);
    }

    #[test]
    fn proxy_starts_where_the_key_can_not_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let key = load(&file);
        assert_ne!(key.bytes(), &[0; 32]);
    }
}
