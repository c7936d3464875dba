//! Binds the listeners of the admin API ("doors") before traffic arrives, with error messages that say what to do.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, Socket, Type};
use thiserror::Error;

use super::reserve::DescriptorReserve;
use crate::config::{self, Config};
use crate::net::activation::{ADMIN, APPS, InheritedSockets};
use crate::net::keepalive::{Keepalive, set_keepalive};
use crate::net::kept_socket::{KeptSocket, KeptSocketUse, SocketStore};
use crate::net::socket::bound_unsent;
use crate::net::unix_socket::{BACKLOG, SocketAccess, SocketFile, SocketRole, bind_socket};

/// Why a listener can't be bound. The text says what to do.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct DoorError(pub(super) String);

/// All listeners of the admin API, bound but not yet served.
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
    /// Reserved before traffic arrives, so that a flood at the start doesn't use up the descriptors of the admin API.
    pub(super) reserve: Arc<DescriptorReserve>,
    /// The TCP sockets that don't come from the supervisor, as they are stored beyond the life of this process.
    pub(super) kept: Vec<KeptSocket>,
    /// Warnings for the log: what works, but not as expected.
    pub warnings: Vec<String>,
    /// A note for the log about what is usual next to another lameduck on the same host.
    pub note: Option<String>,
}

impl BoundDoors {
    /// Returns the unix socket's path, if there is one.
    pub fn socket(&self) -> Option<&Path> {
        self.unix.as_ref().map(|(_, file)| file.path())
    }

    /// Returns the path of the socket for apps, if there is one.
    pub fn apps(&self) -> Option<&Path> {
        self.apps.as_ref().map(|(_, file)| file.path())
    }

    /// Stores the sockets, so that the next process gets them if this one is killed.
    pub fn keep_in(&mut self, store: &SocketStore) {
        let doors = [
            (KeptSocketUse::Admin, &mut self.unix),
            (KeptSocketUse::Apps, &mut self.apps),
        ];
        for (usage, door) in doors {
            let Some((listener, file)) = door else {
                continue;
            };
            if let Some(identity) = file.identity() {
                store.keep(&KeptSocket::unix(usage, file.path(), identity), listener);
                if store.outlives_stop() {
                    file.leave();
                }
            }
        }
        for kept in &self.kept {
            let door = match kept.usage {
                KeptSocketUse::Http => &self.http,
                _ => &self.probes,
            };
            if let Some(listener) = door {
                store.keep(kept, listener);
            }
        }
    }

    /// Returns the address of `admin.http`, with its real port.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http.as_ref()?.local_addr().ok()
    }

    /// Returns the address of `admin.probes`, with its real port.
    pub fn probes(&self) -> Option<SocketAddr> {
        self.probes.as_ref()?.local_addr().ok()
    }
}

/// A copy of a listening socket: descriptor, usage, and configured address.
pub type DoorCopy = (OwnedFd, &'static str, String);

impl BoundDoors {
    /// Returns copies of the sockets that don't come from a supervisor, for the process that takes over.
    ///
    /// # Errors
    /// If the process has no free descriptors.
    pub fn duplicate(
        &self,
        config: &Config,
        inherited: &InheritedSockets,
    ) -> io::Result<Vec<DoorCopy>> {
        let mut copies = Vec::new();
        for (unix, role) in [(&self.unix, ADMIN), (&self.apps, APPS)] {
            if let Some((listener, file)) = unix
                && file.is_own()
            {
                let path = file.path().display().to_string();
                copies.push((listener.try_clone()?.into(), role, path));
            }
        }
        let addresses = [
            (&self.http, HTTP, config.admin.http),
            (&self.probes, PROBES, config.admin.probes),
        ];
        for (listener, role, at) in addresses {
            if let (Some(listener), Some(at)) = (listener, at)
                && !inherited.has_tcp(at)
            {
                copies.push((listener.try_clone()?.into(), role, at.to_string()));
            }
        }
        Ok(copies)
    }
}

/// Returns the default paths of the socket, in the order in which they are tried.
pub fn default_sockets() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let mut paths = vec![PathBuf::from("/run/lameduck/lameduck.sock")];
    // The specification says that relative paths must be ignored.
    paths.extend(
        runtime
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join("lameduck.sock")),
    );
    paths
}

/// Binds the configured listeners.
///
/// All configured addresses must be bound. If no socket is configured, the first default path that can be bound is
/// used; if none can, the proxy works nevertheless, and a warning says so.
///
/// # Errors
/// What can't be bound, why, and what to do.
pub fn bind(config: &Config) -> Result<BoundDoors, DoorError> {
    bind_or_inherit(config, false, &InheritedSockets::default())
}

/// The same, with sockets that the supervisor has bound: they are used if they match. `is_http_default`: the `http`
/// address is the default one, and need not be bound.
///
/// # Errors
/// The same as for [`bind`].
pub fn bind_or_inherit(
    config: &Config,
    is_http_default: bool,
    inherited: &InheritedSockets,
) -> Result<BoundDoors, DoorError> {
    let admin = &config.admin;
    let mut warnings = Vec::new();
    let paths = match &admin.socket {
        Some(path) => vec![path.clone()],
        None => default_sockets(),
    };
    let mut given = paths.iter();
    let given = given.find_map(|path| inherit_unix(path, inherited, ADMIN, admin));
    let mut left = paths.iter();
    let left = left.find_map(|path| take_kept(KeptSocketUse::Admin, path, admin, inherited));
    let given = given.map(Ok).or(left).transpose()?;
    let unix = match (given, &admin.socket) {
        (Some(given), _) => Some(given),
        (None, Some(path)) => Some(bind_unix(path, admin)?),
        (None, None) => bind_default(&paths, admin, &mut warnings),
    };
    let apps = match &admin.apps_socket {
        None => None,
        Some(path) => match inherit_unix(path, inherited, APPS, &of_apps(admin)) {
            Some(given) => Some(given),
            None => Some(bind_apps(path, admin, inherited)?),
        },
    };
    let own = |usage, at| KeptSocket::tcp(usage, at, config.takes_ipv6_alone(at));
    let mut kept = Vec::new();
    let mut inherit = |usage, at: Option<SocketAddr>| {
        let role = match usage {
            KeptSocketUse::Http => HTTP,
            _ => PROBES,
        };
        let given = at.and_then(|at| inherit_tcp(role, at, inherited));
        if let (Some(at), None) = (at, &given) {
            kept.push(own(usage, at));
            return inherited.kept_tcp(usage, at, config.takes_ipv6_alone(at));
        }
        given
    };
    let (http, probes) = (
        inherit(KeptSocketUse::Http, admin.http),
        inherit(KeptSocketUse::Probes, admin.probes),
    );
    let (http, note) = match http {
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
    let probes = match probes {
        Some(given) => Some(given),
        None => {
            let bound = admin.probes.map(|at| bind_tcp("probes", at, config));
            bound.transpose()?
        }
    };
    for listener in http.iter().chain(&probes) {
        // A client that watches events and vanishes must not keep its place.
        set_keepalive(listener, Some(Keepalive::standard()));
        // A client that sends requests and reads nothing must not make the kernel buffer megabytes of responses.
        bound_unsent(listener);
    }
    if let Some(at) = admin.http
        && admin.token_file.is_none()
        && admin.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none())
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
        reserve: DescriptorReserve::new(),
        kept,
        warnings,
        note,
    })
}

/// Name of the TCP socket of `admin.http` when it is handed to another process.
pub const HTTP: &str = "http";
/// Name of the TCP socket of `admin.probes`, see [`HTTP`].
pub const PROBES: &str = "probes";

/// Returns a socket that the supervisor, or the process before this one, has bound.
fn inherit_tcp(role: &str, at: SocketAddr, inherited: &InheritedSockets) -> Option<TcpListener> {
    let handed = inherited.handed(role, &at.to_string());
    handed.map(TcpListener::from).or_else(|| inherited.tcp(at))
}

/// Returns a socket that the supervisor has bound, which then owns its file, mode and group; or one from the process
/// before this one, which then belong to this process.
fn inherit_unix(
    path: &Path,
    inherited: &InheritedSockets,
    name: &str,
    admin: &config::AdminConfig,
) -> Option<(UnixListener, SocketFile)> {
    if let Some(socket) = inherited.handed(name, &path.display().to_string()) {
        let file = SocketFile::adopted(path.to_owned());
        let access = SocketAccess {
            mode: admin.mode,
            group: admin.group.clone(),
        };
        if let Err(error) = file.set_access(&access, &ADMIN_SOCKET) {
            tracing::warn!("{error}");
        }
        return Some((UnixListener::from(socket), file));
    }
    let listener = inherited.unix(path, name)?;
    let bound = listener.local_addr().ok();
    let bound = bound.and_then(|address| Some(address.as_pathname()?.to_owned()));
    let path = bound.unwrap_or_else(|| path.to_owned());
    // Its file, mode and group belong to the supervisor.
    Some((listener, SocketFile::foreign(path)))
}

/// Returns a socket left by an earlier process of this proxy, as if it had been bound just now.
fn take_kept(
    usage: KeptSocketUse,
    path: &Path,
    admin: &config::AdminConfig,
    inherited: &InheritedSockets,
) -> Option<Result<(UnixListener, SocketFile), DoorError>> {
    let (listener, file) = inherited.kept_unix(usage, path)?;
    let file = SocketFile::taken_over(path, file, &access(admin), &ADMIN_SOCKET);
    let file = file.map_err(|error| DoorError(error.to_string()));
    Some(file.map(|file| (listener, file)))
}

fn of_apps(admin: &config::AdminConfig) -> config::AdminConfig {
    config::AdminConfig {
        mode: admin.apps_mode,
        group: admin.apps_group.clone(),
        ..admin.clone()
    }
}

/// Binds the socket for apps, like the admin socket but with its own mode and group.
fn bind_apps(
    path: &Path,
    admin: &config::AdminConfig,
    inherited: &InheritedSockets,
) -> Result<(UnixListener, SocketFile), DoorError> {
    let own = of_apps(admin);
    let bound = match take_kept(KeptSocketUse::Apps, path, &own, inherited) {
        Some(kept) => kept,
        None => bind_unix(path, &own),
    };
    bound.map_err(|error| DoorError(format!("[admin] apps_socket: {error}")))
}

fn bind_default(
    paths: &[PathBuf],
    admin: &config::AdminConfig,
    warnings: &mut Vec<String>,
) -> Option<(UnixListener, SocketFile)> {
    let mut failures = Vec::new();
    for path in paths {
        // `/run` belongs to root, so only root can create the directory there; otherwise binding fails below.
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

/// Binds the default HTTP address, which another lameduck on the same host may use already. It was not configured
/// explicitly, and the socket offers the same: so that is a note, and not a warning at each start.
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

/// Names of the admin socket in messages.
const ADMIN_SOCKET: SocketRole = SocketRole {
    name: "admin socket",
    key: "[admin] socket",
    group_key: "[admin] group",
    shown_by: "lameduck status --admin",
};

/// Returns who may connect.
fn access(admin: &config::AdminConfig) -> SocketAccess {
    SocketAccess {
        mode: admin.mode,
        group: admin.group.clone(),
    }
}

fn bind_unix(
    path: &Path,
    admin: &config::AdminConfig,
) -> Result<(UnixListener, SocketFile), DoorError> {
    bind_socket(path, &access(admin), &ADMIN_SOCKET).map_err(|error| DoorError(error.to_string()))
}

#[cfg(test)]
mod tests;
