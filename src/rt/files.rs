//! Files that lameduck creates or changes in places where another user could have put a link or another file.
//!
//! lameduck is often started by root, who may open files that the owner of a link may not. So a link in the last
//! component of a path is only followed after a check of its owner. Everything after a check is done through a
//! descriptor of the directory or the file, and so concerns what was checked, even if the path leads elsewhere by then.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags};

/// Most links that are followed one after another; the kernel's own limit is higher.
const MAX_LINKS: usize = 8;

/// Place of a file: the directory, held open, and the name in it.
#[derive(Debug)]
pub struct FilePlace {
    directory: OwnedFd,
    name: std::ffi::OsString,
}

/// A file's identity: its device and inode.
pub type FileIdentity = (u64, u64);

impl FilePlace {
    /// Opens the directory of `path`.
    ///
    /// # Errors
    /// The directory does not exist, or `path` has no last component.
    pub fn of(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            directory: open_directory(directory_of(path))?,
            name: name.to_owned(),
        })
    }

    /// Identity of the file if it is a socket, `None` if it is anything else. A link is not followed.
    ///
    /// # Errors
    /// It isn't there.
    pub fn socket(&self) -> io::Result<Option<FileIdentity>> {
        let found = rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_socket = FileType::from_raw_mode(found.st_mode) == FileType::Socket;
        Ok(is_socket.then_some(identity(&found)))
    }

    /// Removes the file. A link is removed itself, and not its target.
    ///
    /// # Errors
    /// It isn't there, or the directory may not be written.
    pub fn remove(&self) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(
            &self.directory,
            &self.name,
            AtFlags::empty(),
        )?)
    }

    /// Gives the socket with this identity to a group, and then sets its mode. A file that has taken its place is left
    /// unchanged.
    ///
    /// # Errors
    /// The file is another one now, or this user may not change it.
    #[cfg(target_os = "linux")]
    pub fn set_access(
        &self,
        socket: FileIdentity,
        group: Option<u32>,
        mode: u32,
    ) -> Result<(), SocketAccessError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &self.name, flags, Mode::empty());
        let file = file.map_err(|error| SocketAccessError::Replaced(error.into()))?;
        let found =
            rustix::fs::fstat(&file).map_err(|error| SocketAccessError::Replaced(error.into()))?;
        if identity(&found) != socket {
            return Err(SocketAccessError::Replaced(
                io::ErrorKind::AlreadyExists.into(),
            ));
        }
        if let Some(group) = group {
            let group = Some(Gid::from_raw(group));
            rustix::fs::chownat(&file, "", None, group, AtFlags::EMPTY_PATH)
                .map_err(|error| SocketAccessError::Group(error.into()))?;
        }
        // A descriptor opened with O_PATH does not support fchmod(2), but its path in `/proc` does.
        let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
        std::fs::set_permissions(itself, PermissionsExt::from_mode(mode))
            .map_err(SocketAccessError::Mode)
    }

    /// The same for systems that can't open a socket's file.
    #[cfg(not(target_os = "linux"))]
    pub fn set_access(
        &self,
        socket: FileIdentity,
        group: Option<u32>,
        mode: u32,
    ) -> Result<(), SocketAccessError> {
        if self.socket().map_err(SocketAccessError::Replaced)? != Some(socket) {
            return Err(SocketAccessError::Replaced(
                io::ErrorKind::AlreadyExists.into(),
            ));
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if let Some(group) = group {
            let group = Some(Gid::from_raw(group));
            rustix::fs::chownat(&self.directory, &self.name, None, group, flags)
                .map_err(|error| SocketAccessError::Group(error.into()))?;
        }
        let mode = mode_of(mode);
        rustix::fs::chmodat(&self.directory, &self.name, mode, flags)
            .map_err(|error| SocketAccessError::Mode(error.into()))
    }
}

/// Step of [`FilePlace::set_access`] that failed.
#[derive(Debug)]
pub enum SocketAccessError {
    /// Something else is in the socket's place.
    Replaced(io::Error),
    /// It can't be given to the group.
    Group(io::Error),
    /// Its mode can't be set.
    Mode(io::Error),
}

/// Writes a new file. Whatever is in its place is removed first: a link, a pipe, or a file with further names. The
/// contents are on the disk when this returns.
///
/// # Errors
/// It can't be made or written.
pub fn write_fresh(
    directory: &impl AsFd,
    name: &str,
    mode: u32,
    contents: &[&[u8]],
) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = mode_of(mode);
    let mut file = File::from(rustix::fs::openat(directory, name, flags, mode)?);
    for piece in contents {
        file.write_all(piece)?;
    }
    file.sync_all()
}

/// Renames a file within its directory. An existing file of the new name is replaced.
///
/// # Errors
/// Those of renameat(2).
pub fn rename_within(directory: &impl AsFd, from: &str, to: &str) -> io::Result<()> {
    Ok(rustix::fs::renameat(directory, from, directory, to)?)
}

/// Opens a directory.
///
/// # Errors
/// It isn't there, isn't one, or may not be read.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens a file for appending, and creates it with this mode if it does not exist. A pipe without a reader is refused,
/// because opening it would wait for one; writes to a pipe with a reader don't block. A link is followed only if it
/// belongs to root or to our own user (`/dev/stdout`, a log on another disk): otherwise another user could have
/// lameduck write to a file that this user may not write.
///
/// # Errors
/// Those of open(2), or [`io::ErrorKind::PermissionDenied`] with an explanation for somebody else's link.
pub fn append_to(path: &Path, mode: u32) -> io::Result<File> {
    let to_write = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
    let flags = to_write | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mode = mode_of(mode);
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match rustix::fs::open(&path, flags | OFlags::NOFOLLOW, mode) {
            Err(rustix::io::Errno::LOOP) => {}
            opened => {
                return opened
                    .map(File::from)
                    .map_err(|error| refusal(&path, error));
            }
        }
        match target_of(&path)? {
            Some(target) => path = directory_of(&path).join(target),
            // A link in `/proc` was made by the kernel, for this process alone.
            None => {
                let opened = rustix::fs::open(&path, flags, mode);
                return opened
                    .map(File::from)
                    .map_err(|error| refusal(&path, error));
            }
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// Explains why a file can't be opened for writing, if the system's message says too little.
fn refusal(path: &Path, error: rustix::io::Errno) -> io::Error {
    use std::os::unix::fs::FileTypeExt as _;
    let is_pipe = || std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    match error {
        rustix::io::Errno::NXIO if is_pipe() => io::Error::new(
            io::ErrorKind::NotConnected,
            "it is a named pipe that nobody reads: start its reader first",
        ),
        error => error.into(),
    }
}

/// Target of a link that belongs to root or to our own user; `None`: a link in `/proc` whose target has no name.
fn target_of(path: &Path) -> io::Result<Option<PathBuf>> {
    #[cfg(target_os = "linux")]
    let (owner, target) = {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = rustix::fs::open(path, flags, Mode::empty())?;
        if rustix::fs::fstatfs(&link)?.f_type == rustix::fs::PROC_SUPER_MAGIC {
            return Ok(None);
        }
        let target = rustix::fs::readlinkat(&link, "", Vec::new())?;
        (rustix::fs::fstat(&link)?.st_uid, target)
    };
    #[cfg(not(target_os = "linux"))]
    let (owner, target) = {
        let target = rustix::fs::readlink(path, Vec::new())?;
        (rustix::fs::lstat(path)?.st_uid, target)
    };
    if owner != 0 && owner != own_user() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} is a symbolic link of user {owner}, and only root's and lameduck's own are followed: name what it \
                 leads to, or have root make it",
                path.display()
            ),
        ));
    }
    use std::os::unix::ffi::OsStrExt as _;
    Ok(Some(PathBuf::from(OsStr::from_bytes(target.as_bytes()))))
}

/// The user whose rights this process has.
fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The directory of a path; the current one of a bare name.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// What every user of this machine may do in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenDirectory {
    /// Create files, and remove or replace those of others.
    Replace,
    /// Create files before lameduck does, but not replace others (sticky bit, as on `/tmp`).
    Make,
}

impl OpenDirectory {
    /// What every user may do in this directory; `None`: nothing, or it doesn't exist.
    pub fn at(directory: &Path) -> Option<Self> {
        let mode = std::fs::metadata(directory).ok()?.permissions().mode();
        match (mode & 0o002 != 0, mode & 0o1000 != 0) {
            (false, _) => None,
            (true, false) => Some(Self::Replace),
            (true, true) => Some(Self::Make),
        }
    }
}

#[allow(
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "their types differ between systems"
)]
fn identity(found: &rustix::fs::Stat) -> FileIdentity {
    (found.st_dev as u64, u64::from(found.st_ino))
}

#[allow(clippy::unnecessary_cast, reason = "its type differs between systems")]
fn mode_of(mode: u32) -> Mode {
    Mode::from_raw_mode(mode as rustix::fs::RawMode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::os::unix::net::UnixListener;

    fn read(path: &Path) -> String {
        let mut text = String::new();
        File::open(path).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Gives a link to another user; `false`: only root can do that.
    fn disown(link: &Path) -> bool {
        let done = std::os::unix::fs::lchown(link, Some(65_534), None).is_ok();
        if !done {
            let _ = writeln!(io::stderr(), "somebody else's link: skipped: needs root");
        }
        done
    }

    /// Opening a pipe without a reader would block for ever.
    #[test]
    fn log_to_a_pipe_is_written_if_somebody_reads_it_and_refused_at_once_if_not() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, link) = (dir.path().join("pipe"), dir.path().join("link"));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        symlink(&pipe, &link).unwrap();
        for path in [&pipe, &link] {
            let error = append_to(path, 0o640).unwrap_err().to_string();
            assert!(error.contains("pipe that nobody reads"), "{error}");
        }
        let mut reader = File::options().read(true).write(true).open(&pipe).unwrap();
        append_to(&link, 0o640).unwrap().write_all(b"line").unwrap();
        let mut line = [0; 4];
        reader.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"line");
    }

    #[test]
    fn log_through_a_link_of_our_own_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (real, near, far) = (
            dir.path().join("real"),
            dir.path().join("near"),
            dir.path().join("far"),
        );
        symlink("real", &near).unwrap();
        symlink(&near, &far).unwrap();
        append_to(&far, 0o640).unwrap().write_all(b"line").unwrap();
        assert_eq!(read(&real), "line");
        assert_eq!(std::fs::metadata(&real).unwrap().mode() & 0o777 & !0o640, 0);
    }

    #[test]
    fn log_through_a_link_of_somebody_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (precious, link) = (dir.path().join("precious"), dir.path().join("log"));
        std::fs::write(&precious, "data").unwrap();
        symlink(&precious, &link).unwrap();
        if !disown(&link) {
            return;
        }
        let error = append_to(&link, 0o640).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("link of user 65534"), "{error}");
        assert_eq!(read(&precious), "data");
    }

    #[test]
    fn links_without_an_end_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("log");
        symlink(&link, &link).unwrap();
        assert!(append_to(&link, 0o640).is_err());
    }

    #[test]
    fn standard_output_by_its_path_is_written() {
        // What standard output is depends on how the tests are run; only a socket can't be opened.
        if let Err(error) = append_to(Path::new("/dev/stdout"), 0o640) {
            assert_eq!(error.raw_os_error(), Some(libc::ENXIO), "{error}");
        }
    }

    #[test]
    fn fresh_file_takes_the_place_of_a_link_and_of_a_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "data").unwrap();
        let directory = open_directory(dir.path()).unwrap();
        let new = dir.path().join("new");
        symlink(&precious, &new).unwrap();
        write_fresh(&directory, "new", 0o640, &[b"state"]).unwrap();
        assert_eq!(
            (read(&precious), read(&new)),
            ("data".into(), "state".into())
        );
        assert!(!std::fs::symlink_metadata(&new).unwrap().is_symlink());
        // A file with a second name (hard link) keeps its contents under that name.
        std::fs::remove_file(&new).unwrap();
        std::fs::hard_link(&precious, &new).unwrap();
        write_fresh(&directory, "new", 0o640, &[b"state"]).unwrap();
        assert_eq!(read(&precious), "data");
        std::fs::remove_file(&new).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&new).status();
        assert!(made.unwrap().success());
        write_fresh(&directory, "new", 0o640, &[b"state"]).unwrap();
        assert_eq!(read(&new), "state");
    }

    #[test]
    fn access_is_given_to_the_socket_and_to_nothing_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (path, precious) = (dir.path().join("sock"), dir.path().join("precious"));
        std::fs::write(&precious, "data").unwrap();
        std::fs::set_permissions(&precious, PermissionsExt::from_mode(0o600)).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
        let place = FilePlace::of(&path).unwrap();
        let socket = place.socket().unwrap().unwrap();
        place.set_access(socket, None, 0o640).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        // The race: a link, and then another socket, in its place.
        std::fs::remove_file(&path).unwrap();
        symlink(&precious, &path).unwrap();
        let replaced = place.set_access(socket, None, 0o666).unwrap_err();
        assert!(
            matches!(replaced, SocketAccessError::Replaced(_)),
            "{replaced:?}"
        );
        assert_eq!(std::fs::metadata(&precious).unwrap().mode() & 0o777, 0o600);
        assert_eq!(place.socket().unwrap(), None);
    }

    #[test]
    fn directory_that_everybody_may_write_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        for mode in [0o700, 0o755, 0o775, 0o1777, 0o777] {
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
            seen.push(OpenDirectory::at(dir.path()));
        }
        let (make, replace) = (Some(OpenDirectory::Make), Some(OpenDirectory::Replace));
        assert_eq!(seen, [None, None, None, make, replace]);
        assert_eq!(OpenDirectory::at(&dir.path().join("missing")), None);
    }
}
