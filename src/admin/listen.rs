//! Binds the admin API's doors, before traffic flows, with errors that say what to do.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

use super::groups::group_id;
use crate::config::{self, Config};
use crate::net::activation::{ADMIN, APPS, Inherited};
use crate::net::keepalive::{Keepalive, set_keepalive};
use crate::rt::files::{AccessError, FileIdentity, FilePlace};

/// Connections that may wait to be accepted (as far as `somaxconn` lets): a burst of thousands, or of launchers that
/// come back after a restart of the proxy, must not keep a probe's from being made.
const BACKLOG: i32 = 4096;

/// Why a door can't be opened. The text says what to do.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct DoorError(pub(super) String);

/// Every door of the admin API, bound but not yet served.
#[derive(Debug)]
pub struct BoundDoors {
    /// The unix socket.
    pub(super) unix: Option<(UnixListener, SocketFile)>,
    /// The unix socket for apps.
    pub(super) apps: Option<(UnixListener, SocketFile)>,
    /// `admin.http`.
    pub(super) http: Option<TcpListener>,
    /// `admin.probes`.
    pub(super) probes: Option<TcpListener>,
    /// What works, but not as one would expect; for the log.
    pub warnings: Vec<String>,
    /// What is usual beside another lameduck on the same host; for the log.
    pub note: Option<String>,
}

impl BoundDoors {
    /// The unix socket's path, if there is one.
    pub fn socket(&self) -> Option<&Path> {
        self.unix.as_ref().map(|(_, file)| file.path.as_path())
    }

    /// The path of the socket for apps, if there is one.
    pub fn apps(&self) -> Option<&Path> {
        self.apps.as_ref().map(|(_, file)| file.path.as_path())
    }

    /// Where `admin.http` listens, with its real port.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http.as_ref()?.local_addr().ok()
    }

    /// Where `admin.probes` listens, with its real port.
    pub fn probes(&self) -> Option<SocketAddr> {
        self.probes.as_ref()?.local_addr().ok()
    }
}

/// A socket's file; removed on drop, if it is still ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// `None`: the supervisor's.
    made: Option<(FilePlace, FileIdentity)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Some((place, identity)) = &self.made
            && place.socket().is_ok_and(|found| found == Some(*identity))
        {
            let _ = place.remove();
        }
    }
}

/// Where the socket is looked for and bound when nobody names a path, in this order.
pub fn default_sockets() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let mut paths = vec![PathBuf::from("/run/lameduck/lameduck.sock")];
    // The specification tells to ignore relative paths.
    paths.extend(
        runtime
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join("lameduck.sock")),
    );
    paths
}

/// Binds what the configuration asks for.
///
/// What the configuration names must be bound. Without a named socket, the first default that can be bound is taken; if
/// none can, the proxy works all the same, and a warning says so.
///
/// # Errors
/// What can't be bound, why, and what to do.
pub fn bind(config: &Config) -> Result<BoundDoors, DoorError> {
    bind_or_inherit(config, false, &Inherited::default())
}

/// The same, with sockets that the supervisor has bound: they are used where they fit. `is_http_default`: nobody wrote
/// the `http` address, and it need not be bound.
///
/// # Errors
/// As [`bind`].
pub fn bind_or_inherit(
    config: &Config,
    is_http_default: bool,
    inherited: &Inherited,
) -> Result<BoundDoors, DoorError> {
    let admin = &config.admin;
    let mut warnings = Vec::new();
    let paths = match &admin.socket {
        Some(path) => vec![path.clone()],
        None => default_sockets(),
    };
    let mut given = paths.iter();
    let given = given.find_map(|path| inherit_unix(path, inherited, ADMIN));
    let unix = match (given, &admin.socket) {
        (Some(given), _) => Some(given),
        (None, Some(path)) => Some(bind_unix(path, admin)?),
        (None, None) => bind_default(&paths, admin, &mut warnings),
    };
    let apps = match &admin.apps_socket {
        None => None,
        Some(path) => match inherit_unix(path, inherited, APPS) {
            Some(given) => Some(given),
            None => Some(bind_apps(path, admin)?),
        },
    };
    let (http, note) = match admin.http.and_then(|at| inherited.tcp(at)) {
        Some(given) => (Some(given), None),
        None if is_http_default => bind_default_http(config, &mut warnings),
        None => (
            admin
                .http
                .map(|at| bind_tcp("http", at, config))
                .transpose()?,
            None,
        ),
    };
    let probes = match admin.probes.and_then(|at| inherited.tcp(at)) {
        Some(given) => Some(given),
        None => {
            let bound = admin.probes.map(|at| bind_tcp("probes", at, config));
            bound.transpose()?
        }
    };
    for listener in http.iter().chain(&probes) {
        // A watcher of events that vanishes must not keep its place.
        set_keepalive(listener, Some(Keepalive::standard()));
    }
    if let Some(at) = admin.http
        && admin.token_file.is_none()
        && !at.ip().is_loopback()
    {
        warnings.push(format!(
            "[admin] http {at} is off loopback and has no token_file: it serves /-/* only"
        ));
    }
    Ok(BoundDoors {
        unix,
        apps,
        http,
        probes,
        warnings,
        note,
    })
}

/// A socket that the supervisor has bound: its file, mode and group are the supervisor's.
fn inherit_unix(
    path: &Path,
    inherited: &Inherited,
    name: &str,
) -> Option<(UnixListener, SocketFile)> {
    let listener = inherited.unix(path, name)?;
    let bound = listener.local_addr().ok();
    let bound = bound.and_then(|address| Some(address.as_pathname()?.to_owned()));
    let path = bound.unwrap_or_else(|| path.to_owned());
    // Its file, mode and group are the supervisor's.
    Some((listener, SocketFile { path, made: None }))
}

/// The second socket: bound like the first, with its own mode and group.
fn bind_apps(
    path: &Path,
    admin: &config::AdminConfig,
) -> Result<(UnixListener, SocketFile), DoorError> {
    let own = config::AdminConfig {
        mode: admin.apps_mode,
        group: admin.apps_group.clone(),
        ..admin.clone()
    };
    bind_unix(path, &own).map_err(|error| DoorError(format!("[admin] apps_socket: {error}")))
}

fn bind_default(
    paths: &[PathBuf],
    admin: &config::AdminConfig,
    warnings: &mut Vec<String>,
) -> Option<(UnixListener, SocketFile)> {
    let mut failures = Vec::new();
    for path in paths {
        // Owned by root, /run is where only root may make the directory; others just fail below.
        if let Some(dir) = path.parent() {
            let _ = fs::create_dir(dir);
        }
        match bind_unix(path, admin) {
            Ok(bound) => return Some(bound),
            Err(error) => failures.push(error.to_string()),
        }
    }
    warnings.push(format!(
        "no admin socket: {}. The proxy works, but `lameduck status` and the like can't reach it: set [admin] \
         socket (or --admin) to a path that this user may write",
        failures.join("; ")
    ));
    None
}

/// The default address may be another lameduck's on the same host. Nobody asked for it, and the socket does all that it
/// does: that is a note, no warning at each start.
fn bind_default_http(
    config: &Config,
    warnings: &mut Vec<String>,
) -> (Option<TcpListener>, Option<String>) {
    let Some(at) = config.admin.http else {
        return (None, None);
    };
    match listen_tcp(at, config) {
        Ok(listener) => (Some(listener), None),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => (None, Some(beside_another(at))),
        Err(error) => {
            let error = not_bound("http", at, &error);
            warnings.push(format!("{error} ([admin] http = \"\" turns it off)"));
            (None, None)
        }
    }
}

fn beside_another(at: SocketAddr) -> String {
    format!(
        "no admin API over TCP: another process (another lameduck?) has its default address {at}. The admin socket does \
         the same; [admin] http names another address, or \"\" for none"
    )
}

fn bind_tcp(key: &str, at: SocketAddr, config: &Config) -> Result<TcpListener, DoorError> {
    listen_tcp(at, config).map_err(|error| not_bound(key, at, &error))
}

fn listen_tcp(at: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if at.is_ipv6() {
        socket.set_only_v6(config.takes_ipv6_alone(at))?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn not_bound(key: &str, at: SocketAddr, error: &io::Error) -> DoorError {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process (another lameduck?) listens there: stop it, or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => "this host has no such address: choose one that it has",
        io::ErrorKind::PermissionDenied => "choose a port of 1024 or more",
        _ => "choose another address",
    };
    DoorError(format!("can't bind [admin] {key} {at}: {error}; {remedy}"))
}

fn bind_unix(
    path: &Path,
    admin: &config::AdminConfig,
) -> Result<(UnixListener, SocketFile), DoorError> {
    let shown = path.display();
    let group = admin.group.as_deref().map(group_id).transpose()?;
    make_room(path)?;
    let (listener, file) = listen_unix(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "make its directory first, or choose another [admin] socket",
            io::ErrorKind::PermissionDenied => {
                "let this user write to its directory, or choose another [admin] socket"
            }
            io::ErrorKind::InvalidInput => {
                "a socket's path has at most 107 bytes: choose a shorter [admin] socket"
            }
            io::ErrorKind::AddrInUse => "another lameduck took it this instant: stop one of them",
            _ => "choose another [admin] socket",
        };
        DoorError(format!(
            "can't bind the admin socket {shown}: {error}; {remedy}"
        ))
    })?;
    if let Some((place, identity)) = &file.made {
        // Whom it belongs to first: until then only its owner may connect.
        place
            .set_access(*identity, group, admin.mode)
            .map_err(|error| access_error(path, group, admin.mode, error))?;
    }
    Ok((listener, file))
}

fn access_error(path: &Path, group: Option<u32>, mode: u32, error: AccessError) -> DoorError {
    let shown = path.display();
    DoorError(match error {
        AccessError::Group(error) => format!(
            "can't give the admin socket {shown} to group {}: {error}; only root and the group's members can: add \
             this user to the group, or drop [admin] group",
            group.unwrap_or_default()
        ),
        AccessError::Mode(error) => format!(
            "can't set the mode of the admin socket {shown} to {mode:04o}: {error}; choose another [admin] socket"
        ),
        AccessError::Replaced(error) => format!(
            "somebody has put something else in the place of the admin socket {shown} just now ({error}); choose an \
             [admin] socket in a directory that only this user and root may write"
        ),
    })
}

/// Removes the socket file of a dead process; refuses to take anything else's place.
fn make_room(path: &Path) -> Result<(), DoorError> {
    let shown = path.display();
    // Without its directory there is nothing to remove: the bind says what is missing.
    let Ok(place) = FilePlace::of(path) else {
        return Ok(());
    };
    let Ok(found) = place.socket() else {
        return Ok(());
    };
    if found.is_none() {
        return Err(DoorError(format!(
            "{shown} exists and is not a socket; lameduck won't delete it: remove it, or choose another \
             [admin] socket"
        )));
    }
    if !is_dead(path) {
        return Err(DoorError(format!(
            "a running process listens on the admin socket {shown} (another lameduck?): stop it (`lameduck \
             status --admin {shown}` shows it), or choose another [admin] socket"
        )));
    }
    place.remove().map_err(|error| {
        DoorError(format!(
            "can't remove the stale admin socket {shown}: {error}; remove it, or choose another [admin] socket"
        ))
    })
}

/// Whether nobody listens: only a refused connect proves it.
fn is_dead(path: &Path) -> bool {
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // A full backlog must not block us.
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    connect().is_err_and(|error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn listen_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // On Linux the file inherits the descriptor's mode, so it is never open to others, not even for an
    // instant. Elsewhere this fails, and the umask decides until the mode is set.
    let descriptor = File::from(OwnedFd::from(socket));
    let _ = descriptor.set_permissions(Permissions::from_mode(0o600));
    let socket = Socket::from(OwnedFd::from(descriptor));
    socket.bind(&address)?;
    let place = FilePlace::of(path)?;
    let identity = place.socket()?.ok_or(io::ErrorKind::AlreadyExists)?;
    let file = SocketFile {
        path: path.to_owned(),
        made: Some((place, identity)),
    };
    socket.listen(BACKLOG)?;
    Ok((UnixListener::from(OwnedFd::from(socket)), file))
}

#[cfg(test)]
mod tests;
