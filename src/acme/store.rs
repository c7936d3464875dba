//! Directory of an account. Files are replaced as a whole, are on the disk when a write returns, and can only be read
//! by lameduck's user, because most of them hold keys.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::config::plain_file::read_file;
use crate::rt::files;

/// Longest file that is read, in bytes.
const MAX_FILE_LENGTH: u64 = 4 << 20;

/// Permissions for lameduck's user only.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Directory of an account.
#[derive(Debug, Clone)]
pub(super) struct AccountStore {
    dir: PathBuf,
}

impl AccountStore {
    /// Opens the directory, and creates it if it does not exist.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// A directory that may not exist.
    pub(super) fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// Opens the subdirectory with this name, and creates it if it does not exist.
    pub(super) fn below(&self, name: &str) -> io::Result<Self> {
        Self::open(&self.dir.join(name))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Content of a file; `None`: it does not exist.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match read_file(&self.path(name), MAX_FILE_LENGTH) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Content of a JSON file; `None`: it does not exist or is damaged. A damaged file is logged and moved aside, and
    /// its content starts anew.
    pub(super) fn read_json<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let Some(bytes) = self.read(name)? else {
            return Ok(None);
        };
        match serde_json::from_slice(&bytes) {
            Ok(read) => Ok(Some(read)),
            Err(error) => {
                self.set_aside(name, &error.to_string());
                Ok(None)
            }
        }
    }

    /// Logs a damaged file, and moves it aside.
    pub(super) fn set_aside(&self, name: &str, why: &str) {
        let bad = format!("{name}.bad");
        let moved = std::fs::rename(self.path(name), self.path(&bad));
        let file = self.path(name);
        warn!(
            "{}: {why}; {}",
            file.display(),
            match moved {
                Ok(()) => format!("it is begun anew, and the old one is {bad} beside it"),
                Err(error) => format!("it can't be moved aside ({})", crate::config::plain(&error)),
            }
        );
    }

    /// Replaces a file.
    pub(super) fn write(&self, name: &str, contents: &[&[u8]]) -> io::Result<()> {
        self.write_as(name, contents, |_| Ok(()))
    }

    /// Replaces a file if its new content passes a check first.
    pub(super) fn write_as<E: From<io::Error>>(
        &self,
        name: &str,
        contents: &[&[u8]],
        judge: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let directory = File::from(files::open_directory(&self.dir)?);
        let new = format!("{name}.new");
        files::write_fresh(&directory, &new, FILE_MODE, contents)?;
        if let Err(error) = judge(&self.path(&new)) {
            let _ = std::fs::remove_file(self.path(&new));
            return Err(error);
        }
        files::rename_within(&directory, &new, name)?;
        Ok(directory.sync_all()?)
    }

    pub(super) fn write_json(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.write(name, &[&serde_json::to_vec(value)?])
    }

    /// Removes a file if it exists.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Names of the files in the directory; empty if it does not exist.
    pub(super) fn list(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn files_are_private_whole_and_moved_aside_when_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let store = AccountStore::open(&dir.path().join("a/b")).unwrap();
        store.write_json("x.json", &vec![1, 2]).unwrap();
        assert_eq!(store.read_json("x.json").unwrap(), Some(vec![1, 2]));
        let mode = std::fs::metadata(store.path("x.json"))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let mode = std::fs::metadata(store.dir()).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o700);
        // A damaged file: half of its content.
        std::fs::write(store.path("x.json"), "[1,").unwrap();
        assert_eq!(store.read_json::<Vec<u8>>("x.json").unwrap(), None);
        assert_eq!(store.list(), ["x.json.bad"]);
        assert_eq!(store.read_json::<Vec<u8>>("x.json").unwrap(), None);
        // Content that fails the check changes nothing.
        store.write("y", &[b"old"]).unwrap();
        let judged = store.write_as("y", &[b"new"], |_| Err(io::Error::other("no")));
        assert!(judged.is_err());
        assert_eq!(store.read("y").unwrap().unwrap(), b"old");
    }
}
