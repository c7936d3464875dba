//! Unix sockets that lameduck listens on. They replace the socket of a dead process but never anything else, have their
//! final permissions from the first moment on, and are removed at the end.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

use crate::rt::files::{
    FileIdentity, FilePlace, SocketAccessError, directory_of, open_directory, rename_within,
};
use crate::rt::groups::group_id;

/// Length of the accept queue (limited by `somaxconn`): a burst of thousands of clients, or their return after a
/// restart of the proxy, must not be refused.
pub const BACKLOG: i32 = 4096;

/// Purpose of a socket, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketRole {
    /// Name, such as `admin socket`.
    pub name: &'static str,
    /// Key of its path: `[admin] socket`.
    pub key: &'static str,
    /// Key of its group: `[admin] group`.
    pub group_key: &'static str,
    /// Command that shows which process listens there, without the path; empty if there is none.
    pub shown_by: &'static str,
}

/// Permissions of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketAccess {
    /// Mode of its file.
    pub mode: u32,
    /// Group that the file is given to; `None`: the group of the process.
    pub group: Option<String>,
}

/// A socket can't be created. The text says why, and what to do.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct UnixSocketError(String);

/// File of a unix socket; removed on drop, if this process is its owner.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// `None`: another process made the file, and will remove it.
    made: Option<(FilePlace, FileIdentity)>,
    /// Whether the file stays when this process ends.
    stays: bool,
    /// Whether the process before this one still serves clients at this file.
    waits: bool,
}

impl SocketFile {
    /// File of a socket that another process has made, and will remove.
    pub fn foreign(path: PathBuf) -> Self {
        Self {
            path,
            made: None,
            stays: true,
            waits: false,
        }
    }

    /// File that an earlier lameduck process made for a socket that the supervisor has kept.
    ///
    /// # Errors
    /// The directory can't be opened.
    fn kept(path: PathBuf, file: FileIdentity) -> io::Result<Self> {
        let place = FilePlace::of(&path)?;
        Ok(Self {
            path,
            made: Some((place, file)),
            stays: false,
            waits: false,
        })
    }

    /// File of a kept socket, with its permissions set as configured now.
    ///
    /// # Errors
    /// As for [`bind_socket`].
    pub fn taken_over(
        path: &Path,
        file: FileIdentity,
        access: &SocketAccess,
        role: &SocketRole,
    ) -> Result<Self, UnixSocketError> {
        let file = Self::kept(path.to_owned(), file);
        let file = file.map_err(|error| bind_error(path, &error, role))?;
        file.set_access(access, role)?;
        Ok(file)
    }

    /// Identity of the file, if lameduck has made it.
    pub fn identity(&self) -> Option<FileIdentity> {
        self.made.as_ref().map(|(_, file)| *file)
    }

    /// Leaves the file in place for the next process, which gets the socket itself.
    pub fn leave(&mut self) {
        self.stays = true;
    }

    /// File of a socket that the process before this one has made. This process removes it once it is
    /// [served](Self::serve).
    pub fn adopted(path: PathBuf) -> Self {
        let place = FilePlace::of(&path).ok();
        let made = place.and_then(|place| {
            let identity = place.socket().ok()??;
            Some((place, identity))
        });
        Self {
            path,
            made,
            stays: false,
            waits: true,
        }
    }

    /// Records that clients are served here from now on.
    pub fn serve(&mut self) {
        self.waits = false;
    }

    /// Whether this process will remove the file.
    pub fn is_own(&self) -> bool {
        self.made.is_some()
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the permissions. Another process's file is left unchanged.
    ///
    /// # Errors
    /// This user may not change them, or something else is in the file's place.
    pub fn set_access(
        &self,
        access: &SocketAccess,
        role: &SocketRole,
    ) -> Result<(), UnixSocketError> {
        let group = find_group(access, role)?;
        let Some((place, identity)) = &self.made else {
            return Ok(());
        };
        // The group is set first: until the mode is set, only the owner may connect.
        place
            .set_access(*identity, group, access.mode)
            .map_err(|error| access_error(&self.path, group, access.mode, error, role))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Some((place, identity)) = &self.made
            && !self.stays
            && !self.waits
            && place.socket().is_ok_and(|found| found == Some(*identity))
        {
            let _ = place.remove();
        }
    }
}

/// Binds a socket and listens on it.
///
/// # Errors
/// Something else is in its place, or it can't be bound. The text says why, and what to do.
pub fn bind_socket(
    path: &Path,
    access: &SocketAccess,
    role: &SocketRole,
) -> Result<(UnixListener, SocketFile), UnixSocketError> {
    find_group(access, role)?;
    make_room(path, role)?;
    let (listener, file) =
        listen_at(path.to_owned()).map_err(|error| bind_error(path, &error, role))?;
    file.set_access(access, role)?;
    Ok((listener, file))
}

/// Binds a socket in the place of one that a running process listens on. From then on new connections come to this
/// process, and the other one goes on with its own. There is no moment without a socket.
///
/// # Errors
/// As for [`bind_socket`].
pub fn take_over_socket(
    path: &Path,
    access: &SocketAccess,
    role: &SocketRole,
) -> Result<(UnixListener, SocketFile), UnixSocketError> {
    let is_socket = FilePlace::of(path).and_then(|place| place.socket());
    if !matches!(is_socket, Ok(Some(_))) {
        return bind_socket(path, access, role);
    }
    let failed = |error: io::Error| bind_error(path, &error, role);
    // This temporary name is shorter than most, because the path of a socket can't be long.
    let beside = format!(".{}", std::process::id());
    let directory = directory_of(path);
    let (listener, mut file) = listen_at(directory.join(&beside)).map_err(failed)?;
    file.set_access(access, role)?;
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let place = FilePlace::of(path).map_err(failed)?;
    let opened = open_directory(directory).map_err(failed)?;
    rename_within(&opened, &beside, name).map_err(failed)?;
    file.path = path.to_owned();
    if let Some((old, _)) = &mut file.made {
        *old = place;
    }
    Ok((listener, file))
}

fn find_group(access: &SocketAccess, role: &SocketRole) -> Result<Option<u32>, UnixSocketError> {
    let Some(name) = &access.group else {
        return Ok(None);
    };
    match group_id(name) {
        Some(group) => Ok(Some(group)),
        None => Err(UnixSocketError(format!(
            "{} `{name}` is not in /etc/group; create it (`groupadd {name}`), or give the group's number",
            role.group_key
        ))),
    }
}

fn bind_error(path: &Path, error: &io::Error, role: &SocketRole) -> UnixSocketError {
    let (shown, key) = (path.display(), role.key);
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => format!("make its directory first, or choose another {key}"),
        io::ErrorKind::PermissionDenied => {
            format!("let this user write to its directory, or choose another {key}")
        }
        io::ErrorKind::InvalidInput => {
            format!("a socket's path has at most 107 bytes: choose a shorter {key}")
        }
        io::ErrorKind::AddrInUse => {
            "another lameduck took it this instant: stop one of them".to_owned()
        }
        _ => format!("choose another {key}"),
    };
    UnixSocketError(format!(
        "can't bind the {} {shown}: {error}; {remedy}",
        role.name
    ))
}

fn access_error(
    path: &Path,
    group: Option<u32>,
    mode: u32,
    error: SocketAccessError,
    role: &SocketRole,
) -> UnixSocketError {
    let (shown, name, key) = (path.display(), role.name, role.key);
    UnixSocketError(match error {
        SocketAccessError::Group(error) => format!(
            "can't give the {name} {shown} to group {}: {error}; only root and the group's members can: add \
             this user to the group, or drop {}",
            group.unwrap_or_default(),
            role.group_key
        ),
        SocketAccessError::Mode(error) => format!(
            "can't set the mode of the {name} {shown} to {mode:04o}: {error}; choose another {key}"
        ),
        SocketAccessError::Replaced(error) => format!(
            "somebody has put something else in the place of the {name} {shown} just now ({error}); choose another \
             {key} in a directory that only this user and root may write"
        ),
    })
}

/// Removes the socket file of a dead process. Anything else in its place is an error.
fn make_room(path: &Path, role: &SocketRole) -> Result<(), UnixSocketError> {
    let (shown, name, key) = (path.display(), role.name, role.key);
    // If the directory does not exist there is nothing to remove; the bind will report it.
    let Ok(place) = FilePlace::of(path) else {
        return Ok(());
    };
    let Ok(found) = place.socket() else {
        return Ok(());
    };
    if found.is_none() {
        return Err(UnixSocketError(format!(
            "{shown} exists and is not a socket; lameduck won't delete it: remove it, or choose another {key}"
        )));
    }
    if !is_dead(path) {
        let shows = match role.shown_by {
            "" => String::new(),
            command => format!(" (`{command} {shown}` shows it)"),
        };
        return Err(UnixSocketError(format!(
            "a running process listens on the {name} {shown} (another lameduck?): stop it{shows}, or choose another \
             {key}"
        )));
    }
    place.remove().map_err(|error| {
        UnixSocketError(format!(
            "can't remove the stale {name} {shown}: {error}; remove it, or choose another {key}"
        ))
    })
}

/// Whether no process listens: only a refused connect proves that.
fn is_dead(path: &Path) -> bool {
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Non-blocking, because a full accept queue would block the connect.
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    connect().is_err_and(|error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn listen_at(path: PathBuf) -> io::Result<(UnixListener, SocketFile)> {
    let address = SockAddr::unix(&path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // On Linux the file inherits the mode of the descriptor, so it is never open to others, not even for a moment.
    // Elsewhere this fails, and the umask applies until the mode is set.
    let descriptor = File::from(OwnedFd::from(socket));
    let _ = descriptor.set_permissions(Permissions::from_mode(0o600));
    let socket = Socket::from(OwnedFd::from(descriptor));
    socket.bind(&address)?;
    let place = FilePlace::of(&path)?;
    let identity = place.socket()?.ok_or(io::ErrorKind::AlreadyExists)?;
    let file = SocketFile {
        path,
        made: Some((place, identity)),
        stays: false,
        waits: false,
    };
    socket.listen(BACKLOG)?;
    Ok((UnixListener::from(OwnedFd::from(socket)), file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    const ROLE: SocketRole = SocketRole {
        name: "socket",
        key: "[[listener]] address",
        group_key: "[[listener]] group",
        shown_by: "",
    };

    fn access() -> SocketAccess {
        SocketAccess {
            mode: 0o660,
            group: None,
        }
    }

    #[test]
    fn successor_takes_a_live_socket_over_and_its_predecessor_leaves_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (old, old_file) = take_over_socket(&path, &access(), &ROLE).unwrap();
        let _early = UnixStream::connect(&path).unwrap();
        let (new, new_file) = take_over_socket(&path, &access(), &ROLE).unwrap();
        let _late = UnixStream::connect(&path).unwrap();
        // Each client is served by its own process, whichever of them accepts first.
        assert!(old.accept().is_ok() && new.accept().is_ok());
        assert!(old.accept().is_err() && new.accept().is_err());
        drop((old, old_file));
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(new_file.path(), path);
        drop((new, new_file));
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn other_file_is_never_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        let error = take_over_socket(&path, &access(), &ROLE).unwrap_err();
        assert!(error.to_string().contains("is not a socket"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
    }
}
