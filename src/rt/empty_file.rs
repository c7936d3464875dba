//! An empty file, for code that needs a descriptor or a path and no content.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// Standard place of the null device. A container or chroot may lack it, or have a regular file there.
const NULL: &str = "/dev/null";

/// An open file that is always empty.
#[derive(Debug)]
pub struct EmptyFile {
    file: File,
    path: PathBuf,
}

impl EmptyFile {
    /// Opens `/dev/null`, or a file in memory where there is none.
    ///
    /// # Errors
    /// Those of open(2) and memfd_create(2).
    pub fn open() -> io::Result<Self> {
        Self::open_or_make(Path::new(NULL))
    }

    fn open_or_make(null: &Path) -> io::Result<Self> {
        // Checked before it is opened: opening a FIFO would wait for its other end.
        let kind = std::fs::metadata(null).map(|metadata| metadata.file_type());
        let opened = match kind {
            Ok(kind) if kind.is_char_device() => File::open(null),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        match opened {
            Ok(file) => Ok(Self {
                file,
                path: null.to_owned(),
            }),
            Err(_) => Self::in_memory(),
        }
    }

    #[cfg(target_os = "linux")]
    fn in_memory() -> io::Result<Self> {
        use std::os::fd::AsRawFd as _;

        use rustix::fs::{MemfdFlags, memfd_create};

        let file = File::from(memfd_create("empty", MemfdFlags::CLOEXEC)?);
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(Self { file, path })
    }

    #[cfg(not(target_os = "linux"))]
    fn in_memory() -> io::Result<Self> {
        Err(io::ErrorKind::NotFound.into())
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The file alone.
    pub fn into_file(self) -> File {
        self.file
    }

    /// A path to the file, valid while the file is open.
    ///
    /// # Errors
    /// There is no such path, because `/proc` is missing, too.
    pub fn path(&self) -> io::Result<&Path> {
        File::open(&self.path).map(|_| &*self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_empty_with_a_null_device_and_without() {
        let scratch = tempfile::tempdir().unwrap();
        let full = scratch.path().join("null");
        std::fs::write(&full, "somebody ran `cmd > /dev/null` without one").unwrap();
        let missing = scratch.path().join("missing");
        for (null, is_used) in [
            (Path::new(NULL), true),
            (&*missing, false),
            (&*full, false),
            (scratch.path(), false),
        ] {
            let empty = EmptyFile::open_or_make(null).unwrap();
            assert_eq!(empty.path().unwrap() == null, is_used, "{null:?}");
            assert_eq!(
                std::fs::read(empty.path().unwrap()).unwrap(),
                b"",
                "{null:?}"
            );
            assert_eq!(
                io::read_to_string(empty.into_file()).unwrap(),
                "",
                "{null:?}"
            );
        }
    }
}
