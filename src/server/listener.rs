//! One public address: bound here, and served by Pingora's accept loop (or, on a unix socket, by our own). Its queue is
//! emptied before it is closed.

mod kept;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::Fds;
use pingora::services::Service as _;
use pingora::services::listening::Service;
use socket2::{Domain, SockRef, Socket, Type};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::accept::AcceptTarget;
use super::overlap::{SharedPort, overlap};
use super::workers::DataThreads;
use crate::config::{self, ListenAddress};
use crate::net::kept_socket::SocketStore;
use crate::net::socket::bound_unsent;
use crate::net::unix_socket::{
    BACKLOG, SocketAccess, SocketFile, SocketRole, UnixSocketError, bind_socket, take_over_socket,
};
use crate::proxy::accept::{ListenerContext, ListenerSettings};
use crate::proxy::data_plane::DataPlane;
use crate::rt::clock;
use crate::tls::server::ServerTls;
use crate::tls::server_files::ServerFiles;

/// Wait after new connections are refused, until handshakes in progress have reached the accept queue.
const HANDSHAKE_TIME: Duration = Duration::from_millis(5);

/// An address that can't be listened on.
#[derive(Debug, Error)]
#[error("can't listen on {address}: {why}; {remedy}")]
pub struct ListenerError {
    address: SocketAddr,
    why: std::io::Error,
    remedy: &'static str,
}

/// Names of the unix socket in messages.
const LISTENER_SOCKET: SocketRole = SocketRole {
    name: "listener's socket",
    key: "[[listener]] address",
    group_key: "[[listener]] group",
    shown_by: "",
};

/// A socket that clients connect to.
#[derive(Debug)]
enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// A bound address that is not served yet.
#[derive(Debug)]
pub struct BoundAddress {
    config: config::ListenerConfig,
    socket: ListeningSocket,
    address: ListenAddress,
    /// Whether the supervisor has bound the socket: it then stays open after this process closes its copy.
    inherited: bool,
    /// Whether the socket does not listen yet.
    waits: bool,
    /// Whether the address is `[::]` without IPv4.
    takes_ipv6_alone: bool,
}

impl BoundAddress {
    /// Binds a unix socket and listens on it. From now on connections queue.
    ///
    /// # Errors
    /// The path can't be used: why, and what to do.
    pub(super) fn bind_unix(
        config: &config::ListenerConfig,
        path: &Path,
    ) -> Result<Self, UnixSocketError> {
        let bind = match config.reuse_port {
            true => take_over_socket,
            false => bind_socket,
        };
        let (socket, file) = bind(path, &access(config), &LISTENER_SOCKET)?;
        Ok(Self::of_unix(config, path, socket, file, false))
    }

    /// Uses a unix socket that the supervisor has bound. The file belongs to the supervisor.
    pub(super) fn inherit_unix(
        config: &config::ListenerConfig,
        path: &Path,
        socket: UnixListener,
    ) -> Self {
        let file = SocketFile::foreign(path.to_owned());
        Self::of_unix(config, path, socket, file, true)
    }

    /// Uses a socket that the process before this one has bound; from now on it belongs to this process.
    pub(super) fn adopt(config: &config::ListenerConfig, socket: OwnedFd) -> Self {
        match config.address.clone() {
            ListenAddress::Tcp(_) => Self {
                inherited: false,
                ..Self::inherit(config, TcpListener::from(socket))
            },
            ListenAddress::Unix(path) => {
                let file = SocketFile::adopted(path.clone());
                if let Err(error) = file.set_access(&access(config), &LISTENER_SOCKET) {
                    warn!("{error}");
                }
                Self::of_unix(config, &path, UnixListener::from(socket), file, false)
            }
        }
    }

    fn of_unix(
        config: &config::ListenerConfig,
        path: &Path,
        socket: UnixListener,
        file: SocketFile,
        inherited: bool,
    ) -> Self {
        Self {
            config: config.clone(),
            socket: ListeningSocket::Unix(socket, file),
            address: ListenAddress::Unix(path.to_owned()),
            inherited,
            waits: false,
            takes_ipv6_alone: false,
        }
    }

    /// Binds a TCP address, and listens so that connections queue from now on. If listeners on overlapping addresses
    /// are to be closed later, the new one only listens once it is started: should it never be started, connections
    /// that it had received would be lost with it. `shared` is kept until then.
    ///
    /// # Errors
    /// The address can't be used: which, why, and what to do.
    pub(super) fn bind_in_place_of(
        config: &config::ListenerConfig,
        wanted: SocketAddr,
        takes_ipv6_alone: bool,
        leaving: &[&PublicListener],
        shared: &mut SharedPort,
    ) -> Result<Self, ListenerError> {
        let error = |why: std::io::Error| ListenerError {
            address: wanted,
            remedy: match why.kind() {
                std::io::ErrorKind::AddrInUse => "stop what listens there, or choose another port",
                std::io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=)"
                }
                std::io::ErrorKind::AddrNotAvailable => {
                    "choose an address of this machine, or 0.0.0.0"
                }
                _ => "see the reason",
            },
            why,
        };
        for old in leaving {
            if let Some(socket) = old.socket() {
                shared.add(socket).map_err(error)?;
            }
        }
        let waits = !leaving.is_empty();
        let socket = bind(wanted, config.reuse_port || waits, takes_ipv6_alone).map_err(error)?;
        if !waits {
            socket.listen(BACKLOG).map_err(error)?;
        }
        let socket = TcpListener::from(socket);
        // The new socket shares its port only as long as the others, unless the configuration wants that permanently.
        if waits && !config.reuse_port {
            shared.adopt(&socket).map_err(error)?;
        }
        let address = socket.local_addr().map_err(error)?;
        Ok(Self {
            config: config.clone(),
            socket: ListeningSocket::Tcp(socket),
            address: address.into(),
            inherited: false,
            waits,
            takes_ipv6_alone,
        })
    }

    /// Uses a TCP socket that the supervisor has bound.
    pub fn inherit(config: &config::ListenerConfig, socket: TcpListener) -> Self {
        let address = socket.local_addr().map(ListenAddress::from);
        Self {
            address: address.unwrap_or_else(|_| config.address.clone()),
            config: config.clone(),
            socket: ListeningSocket::Tcp(socket),
            inherited: true,
            waits: false,
            takes_ipv6_alone: false,
        }
    }

    /// The listening socket, if it is TCP.
    pub fn socket(&self) -> Option<&TcpListener> {
        self.socket.tcp()
    }

    /// Serves the address on these threads.
    ///
    /// # Errors
    /// No descriptor is left, or a socket that had to wait can't listen now.
    pub fn start(
        mut self,
        threads: &Arc<DataThreads>,
        plane: &Arc<DataPlane>,
        tls: Option<ServerFiles>,
    ) -> std::io::Result<PublicListener> {
        if let ListeningSocket::Unix(_, file) = &mut self.socket {
            file.serve();
        }
        let front = Arc::new(ListenerContext {
            plane: plane.clone(),
            settings: ArcSwap::from_pointee(settings(self.config, tls, None)),
        });
        let door = AcceptTarget {
            front: front.clone(),
            threads: threads.clone(),
        };
        let (stop, stopped) = watch::channel(false);
        let accepting = match &self.socket {
            ListeningSocket::Tcp(socket) => {
                bound_unsent(socket);
                if self.waits {
                    SockRef::from(socket).listen(BACKLOG)?;
                }
                let key = self.address.to_string();
                let mut fds = Fds::new();
                // Pingora takes over this descriptor and closes it; ours stays open until the queue is empty.
                fds.add(
                    key.clone(),
                    OwnedFd::from(socket.try_clone()?).into_raw_fd(),
                );
                let fds = Arc::new(Mutex::new(fds));
                let mut service = Service::new(key.clone(), door);
                let buffer = L4BufferSettings::unbuffered();
                service.add_listener(ListenerConfig::tcp(key).l4_buffer(buffer));
                threads.accept().spawn(async move {
                    service.start_service(Some(fds), stopped, 1).await;
                })
            }
            // Pingora would set the mode of the file at this path, whatever it is by then.
            ListeningSocket::Unix(socket, _) => {
                let socket = socket.try_clone()?;
                threads
                    .accept()
                    .spawn(async move { door.accept_unix(&socket, stopped).await })
            }
        };
        Ok(PublicListener {
            front,
            threads: threads.clone(),
            socket: self.socket,
            address: self.address,
            inherited: self.inherited,
            takes_ipv6_alone: self.takes_ipv6_alone,
            stop,
            accepting,
        })
    }
}

/// Settings of a listener; one that had TLS before keeps its TLS state, with new files.
fn settings(
    listener: config::ListenerConfig,
    material: Option<ServerFiles>,
    before: Option<Arc<ServerTls>>,
) -> ListenerSettings {
    let tls = match (&listener.tls, material, before) {
        (Some(tls), Some(material), Some(server)) => {
            server.apply(tls.clone(), listener.http2, material);
            Some(server)
        }
        (Some(tls), Some(material), None) => {
            let server = ServerTls::new(tls.clone(), listener.http2, material);
            Some(Arc::new(server))
        }
        _ => None,
    };
    ListenerSettings {
        address: Arc::new(listener.address.clone()),
        listener,
        tls,
    }
}

/// Permissions of a unix socket.
fn access(config: &config::ListenerConfig) -> SocketAccess {
    SocketAccess {
        mode: config.mode,
        group: config.group.clone(),
    }
}

impl ListeningSocket {
    fn tcp(&self) -> Option<&TcpListener> {
        match self {
            ListeningSocket::Tcp(socket) => Some(socket),
            ListeningSocket::Unix(..) => None,
        }
    }
}

fn bind(address: SocketAddr, shares_port: bool, takes_ipv6_alone: bool) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // Set explicitly, because the default depends on the system's `bindv6only`.
        socket.set_only_v6(takes_ipv6_alone)?;
    }
    socket.set_reuse_address(true)?;
    if shares_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A public address that is served.
pub struct PublicListener {
    front: Arc<ListenerContext>,
    threads: Arc<DataThreads>,
    socket: ListeningSocket,
    address: ListenAddress,
    inherited: bool,
    takes_ipv6_alone: bool,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl PublicListener {
    /// The address as configured.
    pub fn configured(&self) -> ListenAddress {
        self.front.settings.load().listener.address.clone()
    }

    /// Whether it fits this configuration: bound to this address, and with or without IPv4 as it is wanted now.
    pub(super) fn serves(&self, address: &ListenAddress, takes_ipv6_alone: bool) -> bool {
        let is_as_wanted = self.inherited || self.takes_ipv6_alone == takes_ipv6_alone;
        self.configured() == *address && is_as_wanted
    }

    /// Its current TLS, if it has any.
    pub fn tls(&self) -> Option<Arc<ServerTls>> {
        self.front.settings.load().tls.clone()
    }

    /// Whether it overlaps with this address, and could be replaced by a listener there.
    pub(super) fn makes_way_for(&self, address: SocketAddr) -> bool {
        let own = self.address.tcp().filter(|_| !self.inherited);
        own.is_some_and(|own| overlap(own, address))
    }

    /// Applies other options of the same address. Open connections keep theirs.
    pub fn reconfigure(&self, config: config::ListenerConfig, tls: Option<ServerFiles>) {
        if let ListeningSocket::Unix(_, file) = &self.socket
            && access(&config) != access(&self.front.settings.load().listener)
            && let Err(error) = file.set_access(&access(&config), &LISTENER_SOCKET)
        {
            warn!("{error}");
        }
        let new = settings(config, tls, self.tls());
        self.front.settings.store(Arc::new(new));
    }

    /// The listening socket, if it is TCP; connections that are accepted later inherit its options.
    pub fn socket(&self) -> Option<&TcpListener> {
        self.socket.tcp()
    }

    /// Address at which it listens, with the real port.
    pub fn address(&self) -> ListenAddress {
        self.address.clone()
    }

    /// A copy of the socket for the process that takes over, unless that gets the socket from the supervisor.
    ///
    /// # Errors
    /// The process can't open any more descriptors.
    pub fn duplicate(&self) -> std::io::Result<Option<OwnedFd>> {
        if self.inherited {
            return Ok(None);
        }
        Ok(Some(match &self.socket {
            ListeningSocket::Tcp(socket) => socket.try_clone()?.into(),
            ListeningSocket::Unix(socket, _) => socket.try_clone()?.into(),
        }))
    }

    /// Stops accepting without closing the queue: the process that has taken over accepts from the same socket.
    pub async fn leave(mut self) {
        if let ListeningSocket::Unix(_, file) = &mut self.socket {
            file.leave();
        }
        let _ = self.stop.send(true);
        report_end(self.accepting.await, &self.address);
    }

    /// Stops accepting. Clients that have connected are still served, even those that were not accepted yet.
    pub(super) async fn stop(self, store: &SocketStore) {
        if self.inherited {
            // The queue belongs to the next process, because the supervisor keeps the socket: nothing is reset. A
            // filter must not be set, because it would stay on the socket.
            let _ = self.stop.send(true);
            report_end(self.accepting.await, &self.address);
            return;
        }
        if let Some((kept, _)) = self.kept() {
            store.forget(&kept);
        }
        let door = AcceptTarget {
            front: self.front,
            threads: self.threads,
        };
        // Closing the socket would reset connections that the kernel has established but nobody has accepted. So new
        // connections are dropped first, the queue is emptied, and then the socket is closed.
        match self.socket {
            ListeningSocket::Tcp(socket) => {
                // New connections' SYNs are dropped: the client's kernel sends them again, and by then reaches the
                // process that listens.
                if let Err(error) = drop_syns(&socket) {
                    debug!(%error, "can't turn new connections away before closing");
                }
                clock::sleep(HANDSHAKE_TIME).await;
                let _ = self.stop.send(true);
                report_end(self.accepting.await, &self.address);
                door.empty(&socket);
            }
            ListeningSocket::Unix(socket, file) => {
                // Without the file, no client can find the socket.
                drop(file);
                clock::sleep(HANDSHAKE_TIME).await;
                let _ = self.stop.send(true);
                report_end(self.accepting.await, &self.address);
                door.empty_unix(&socket);
            }
        }
    }
}

fn report_end(accepting: Result<(), tokio::task::JoinError>, address: &ListenAddress) {
    if let Err(error) = accepting {
        warn!(%error, %address, "the accept loop ended abnormally");
    }
}

/// Drops TCP segments that open a connection (on Linux, with a classic BPF filter on the listening socket).
#[cfg(target_os = "linux")]
fn drop_syns(socket: &TcpListener) -> std::io::Result<()> {
    use socket2::SockFilter;
    // Loads byte 13 of the TCP header (its flags); if 0x02 (SYN) is set, drops the segment, or else accepts it.
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const JUMP_IF_SET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    SockRef::from(socket).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(JUMP_IF_SET, 0, 1, 0x02),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(not(target_os = "linux"))]
fn drop_syns(_: &TcpListener) -> std::io::Result<()> {
    Ok(())
}
