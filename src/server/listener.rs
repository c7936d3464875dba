//! One public address: bound by us, served by Pingora's accept loop, emptied before it closes.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{IntoRawFd, OwnedFd};
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
use super::workers::Threads;
use crate::config;
use crate::proxy::accept::{ListenerContext, ListenerSettings};
use crate::proxy::data_plane::DataPlane;
use crate::rt::clock;
use crate::tls::server::ServerTls;
use crate::tls::server_files::ServerFiles;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// After new connections are refused, for handshakes under way to end up in the accept queue.
const SETTLE: Duration = Duration::from_millis(5);

/// A public address that can't be listened on.
#[derive(Debug, Error)]
#[error("can't listen on {address}: {why}; {remedy}")]
pub struct ListenerError {
    address: SocketAddr,
    why: std::io::Error,
    remedy: &'static str,
}

/// A bound address that nobody serves yet.
#[derive(Debug)]
pub struct BoundAddress {
    config: config::ListenerConfig,
    socket: TcpListener,
    address: SocketAddr,
    /// The supervisor's: it stays open when we close ours.
    inherited: bool,
    /// It does not listen yet.
    waits: bool,
    /// `[::]` without IPv4.
    takes_ipv6_alone: bool,
}

impl BoundAddress {
    /// Binds and listens. Connections queue from here on.
    ///
    /// # Errors
    /// When the address can't be had: which, why, and what to do.
    pub fn bind(config: &config::ListenerConfig) -> Result<Self, ListenerError> {
        Self::bind_in_place_of(config, false, &[], &mut SharedPort::default())
    }

    /// The same, where addresses of ours overlap that are to be closed then. In that case it listens only when it is
    /// started: connections that came to it before would be lost with it if it is not. Until then `shared` is kept.
    pub(super) fn bind_in_place_of(
        config: &config::ListenerConfig,
        takes_ipv6_alone: bool,
        leaving: &[&PublicListener],
        shared: &mut SharedPort,
    ) -> Result<Self, ListenerError> {
        let error = |why: std::io::Error| ListenerError {
            address: config.address,
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
            shared.add(&old.socket).map_err(error)?;
        }
        let waits = !leaving.is_empty();
        let socket = bind(config, takes_ipv6_alone, waits).map_err(error)?;
        if !waits {
            socket.listen(BACKLOG).map_err(error)?;
        }
        let socket = TcpListener::from(socket);
        // Not to share its port any longer than the others, where it isn't to share it for good.
        if waits && !config.reuse_port {
            shared.adopt(&socket).map_err(error)?;
        }
        let address = socket.local_addr().map_err(error)?;
        Ok(Self {
            config: config.clone(),
            socket,
            address,
            inherited: false,
            waits,
            takes_ipv6_alone,
        })
    }

    /// Takes a socket that the supervisor has bound.
    pub fn inherit(config: &config::ListenerConfig, socket: TcpListener) -> Self {
        Self {
            address: socket.local_addr().unwrap_or(config.address),
            config: config.clone(),
            socket,
            inherited: true,
            waits: false,
            takes_ipv6_alone: false,
        }
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The listening socket.
    pub fn socket(&self) -> &TcpListener {
        &self.socket
    }

    /// Serves it on these threads.
    ///
    /// # Errors
    /// When the system is out of descriptors, or a socket that had to wait can't listen now.
    pub fn start(
        self,
        threads: &Arc<Threads>,
        plane: &Arc<DataPlane>,
        tls: Option<ServerFiles>,
    ) -> std::io::Result<PublicListener> {
        let front = Arc::new(ListenerContext {
            plane: plane.clone(),
            settings: ArcSwap::from_pointee(settings(self.config, tls, None)),
        });
        let door = AcceptTarget {
            front: front.clone(),
            threads: threads.clone(),
        };
        bound_unsent(&self.socket);
        if self.waits {
            SockRef::from(&self.socket).listen(BACKLOG)?;
        }
        let key = self.address.to_string();
        let mut fds = Fds::new();
        // Pingora takes this descriptor over and closes it; ours stays open until the queue is empty.
        fds.add(
            key.clone(),
            OwnedFd::from(self.socket.try_clone()?).into_raw_fd(),
        );
        let fds = Arc::new(Mutex::new(fds));
        let mut service = Service::new(key.clone(), door);
        service.add_listener(ListenerConfig::tcp(key).l4_buffer(L4BufferSettings::unbuffered()));
        let (stop, stopped) = watch::channel(false);
        let accepting = threads.accept().spawn(async move {
            service.start_service(Some(fds), stopped, 1).await;
        });
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

/// A listener's settings; where it had TLS before, that takes the new material.
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
    ListenerSettings { listener, tls }
}

fn bind(
    config: &config::ListenerConfig,
    takes_ipv6_alone: bool,
    shares_port: bool,
) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(config.address), Type::STREAM, None)?;
    if config.address.is_ipv6() {
        // Not what the system's `bindv6only` says.
        socket.set_only_v6(takes_ipv6_alone)?;
    }
    socket.set_reuse_address(true)?;
    if config.reuse_port || shares_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&config.address.into())?;
    Ok(socket)
}

/// What the kernel takes for a client beyond what is on its way, in bytes.
///
/// Its own bound is 4 MiB a connection. A few hundred clients that read nothing come to the limit of what all
/// connections of the machine may hold (`tcp_mem`), and from there on the kernel is slow with everybody.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 * 1024;

/// Connections have it from the socket that they were accepted on (`TCP_NOTSENT_LOWAT`, tcp(7)).
#[cfg(target_os = "linux")]
fn bound_unsent(socket: &TcpListener) {
    if let Err(error) = socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT) {
        debug!(%error, "clients that read slowly can't be bounded in what the kernel keeps for them");
    }
}

/// Not to be had here.
#[cfg(not(target_os = "linux"))]
fn bound_unsent(_: &TcpListener) {}

/// A public address that is being served.
pub struct PublicListener {
    front: Arc<ListenerContext>,
    threads: Arc<Threads>,
    socket: TcpListener,
    address: SocketAddr,
    inherited: bool,
    takes_ipv6_alone: bool,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl PublicListener {
    /// The address as configured.
    pub fn configured(&self) -> SocketAddr {
        self.front.settings.load().listener.address
    }

    /// Whether it is what this address needs: bound to it, and with or without IPv4 as it is wanted now.
    pub(super) fn serves(&self, address: SocketAddr, takes_ipv6_alone: bool) -> bool {
        let is_as_wanted = self.inherited || self.takes_ipv6_alone == takes_ipv6_alone;
        self.configured() == address && is_as_wanted
    }

    /// Its TLS now, if it has any.
    pub fn tls(&self) -> Option<Arc<ServerTls>> {
        self.front.settings.load().tls.clone()
    }

    /// Whether a listener on this address would be in its way, and can take its place.
    pub(super) fn makes_way_for(&self, address: SocketAddr) -> bool {
        !self.inherited && overlap(self.address, address)
    }

    /// Takes other options of the same address. Connections that are there keep theirs.
    pub fn reconfigure(&self, config: config::ListenerConfig, tls: Option<ServerFiles>) {
        let new = settings(config, tls, self.tls());
        self.front.settings.store(Arc::new(new));
    }

    /// The listening socket: what is set on it holds for connections that are accepted from now on.
    pub fn socket(&self) -> &TcpListener {
        &self.socket
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting. Whoever is connected already, accepted or not, is still served.
    pub async fn stop(self) {
        if self.inherited {
            // The queue is the next process's: nothing is reset, as the supervisor keeps the socket. A filter, on
            // the other hand, would stay on it.
            let _ = self.stop.send(true);
            ended(self.accepting.await, self.address);
            return;
        }
        // A connection that the kernel has established but nobody accepted would be reset by the close. So new
        // ones are turned away first (their SYN is dropped: the client's kernel asks again, and finds whoever
        // listens then), those in the queue are accepted, and only then is the socket closed.
        if let Err(error) = drop_syns(&self.socket) {
            debug!(%error, "can't turn new connections away before closing");
        }
        clock::sleep(SETTLE).await;
        let _ = self.stop.send(true);
        ended(self.accepting.await, self.address);
        let door = AcceptTarget {
            front: self.front,
            threads: self.threads,
        };
        door.empty(&self.socket);
    }
}

fn ended(accepting: Result<(), tokio::task::JoinError>, address: SocketAddr) {
    if let Err(error) = accepting {
        warn!(%error, %address, "the accept loop ended abnormally");
    }
}

/// Drops TCP segments that open a connection (Linux: a classic BPF filter on the listening socket).
#[cfg(target_os = "linux")]
fn drop_syns(socket: &TcpListener) -> std::io::Result<()> {
    use socket2::SockFilter;
    // ld [13] (the flags of the TCP header); jset 0x02 (SYN): drop, else accept.
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
