//! The set of public addresses, changed as the configuration demands.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use thiserror::Error;

use super::listener::{BoundAddress, ListenerError, PublicListener};
use super::overlap::SharedPort;
use super::workers::DataThreads;
use crate::config::{self, ListenAddress};
use crate::net::activation::InheritedSockets;
use crate::net::keepalive::{Keepalive, set_keepalive};
use crate::net::kept_socket::{KeptSocketUse, SocketStore};
use crate::net::unix_socket::UnixSocketError;
use crate::proxy::data_plane::DataPlane;
use crate::tls::server::join_problems;
use crate::tls::server_files::ServerFiles;
use crate::tls::tickets::HandedTickets;

/// Purpose of a public address's socket during a hand-over.
pub const LISTENER: &str = "listener";

/// All public addresses that are served.
pub struct PublicListeners {
    threads: Arc<DataThreads>,
    plane: Arc<DataPlane>,
    open: Vec<PublicListener>,
    inherited: Arc<InheritedSockets>,
    store: Arc<SocketStore>,
    /// Session tickets of the process before this one.
    tickets: Vec<HandedTickets>,
}

/// Addresses that a configuration adds, bound already, and those that it keeps; the others are dropped.
pub struct ListenerChange {
    add: Vec<(BoundAddress, Option<ServerFiles>)>,
    /// Addresses that are served already, with files that were read again.
    keep: Vec<(config::ListenerConfig, Option<ServerFiles>)>,
    /// Keeps ports shared while old and new sockets overlap.
    shared: SharedPort,
}

/// Reason why the listeners of a configuration can't be prepared.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// An address can't be used.
    #[error(transparent)]
    Bind(#[from] ListenerError),
    /// A unix socket can't be used.
    #[error(transparent)]
    UnixSocket(#[from] UnixSocketError),
    /// The files of a `[listener.tls]` can't be used.
    #[error("TLS on {0}: {1}")]
    Tls(ListenAddress, String),
}

impl PublicListeners {
    /// An empty set; its listeners will run on these threads.
    pub fn new(threads: Arc<DataThreads>, plane: Arc<DataPlane>) -> Self {
        Self {
            threads,
            plane,
            open: Vec::new(),
            inherited: Arc::default(),
            store: Arc::default(),
            tickets: Vec::new(),
        }
    }

    /// Adds session tickets of the process before this one, so that its clients can resume.
    pub fn resuming(mut self, tickets: Vec<HandedTickets>) -> Self {
        self.tickets = tickets;
        self
    }

    /// Adds sockets that the supervisor has bound, to be used where they fit.
    pub fn inheriting(mut self, inherited: Arc<InheritedSockets>) -> Self {
        self.inherited = inherited;
        self
    }

    /// Adds a store that keeps the sockets after the end of the process.
    pub fn kept_in(mut self, store: Arc<SocketStore>) -> Self {
        self.store = store;
        self
    }

    /// Binds new addresses without changing anything, so that a bad configuration has no effect.
    ///
    /// # Errors
    /// An address can't be used, or the files of a `[listener.tls]` can't be.
    pub fn prepare(&self, config: &config::Config) -> Result<ListenerChange, PrepareError> {
        let mut change = ListenerChange {
            add: Vec::new(),
            keep: Vec::new(),
            shared: SharedPort::default(),
        };
        for listener in &config.listeners {
            let tcp = listener.address.tcp();
            let takes_ipv6_alone = tcp.is_some_and(|address| config.takes_ipv6_alone(address));
            let mut open = self.open.iter();
            let open = open.find(|open| open.configured() == listener.address);
            let before = open
                .and_then(PublicListener::tls)
                .map(|server| server.current());
            let material = listener.tls.as_ref().map(|settings| {
                ServerFiles::load(settings, listener.http2, before.as_deref()).map_err(|problems| {
                    let all = join_problems(problems.into_iter().map(|(_, problem)| problem));
                    PrepareError::Tls(listener.address.clone(), all)
                })
            });
            let material = material.transpose()?;
            if let (Some(material), None) = (&material, &before) {
                material.adopt_tickets(&self.tickets);
            }
            if open.is_some_and(|open| open.serves(&listener.address, takes_ipv6_alone)) {
                change.keep.push((listener.clone(), material));
                continue;
            }
            let written = listener.address.to_string();
            if let Some(socket) = self.inherited.handed(LISTENER, &written) {
                change
                    .add
                    .push((BoundAddress::adopt(listener, socket), material));
                continue;
            }
            let bound = match self.take_inherited(listener, takes_ipv6_alone)? {
                Some(bound) => bound,
                None => match &listener.address {
                    ListenAddress::Tcp(address) => BoundAddress::bind_in_place_of(
                        listener,
                        *address,
                        takes_ipv6_alone,
                        &self.leaving(config, *address),
                        &mut change.shared,
                    )?,
                    ListenAddress::Unix(path) => BoundAddress::bind_unix(listener, path)?,
                },
            };
            change.add.push((bound, material));
        }
        Ok(change)
    }

    /// A socket for this listener that was passed at the start of the process: bound by the supervisor, or left by an
    /// earlier process.
    fn take_inherited(
        &self,
        listener: &config::ListenerConfig,
        takes_ipv6_alone: bool,
    ) -> Result<Option<BoundAddress>, PrepareError> {
        let usage = KeptSocketUse::Listener;
        Ok(match &listener.address {
            ListenAddress::Tcp(address) => {
                if let Some(socket) = self.inherited.tcp(*address) {
                    return Ok(Some(BoundAddress::inherit(listener, socket)));
                }
                let kept = self.inherited.kept_tcp(usage, *address, takes_ipv6_alone);
                kept.map(|socket| BoundAddress::take_kept(listener, socket, takes_ipv6_alone))
            }
            ListenAddress::Unix(path) => {
                let name = path.file_name().and_then(|name| name.to_str());
                if let Some(socket) = self.inherited.unix(path, name.unwrap_or_default()) {
                    return Ok(Some(BoundAddress::inherit_unix(listener, path, socket)));
                }
                let kept = self.inherited.kept_unix(usage, path);
                let kept = kept.map(|kept| BoundAddress::take_kept_unix(listener, path, kept));
                kept.transpose()?
            }
        })
    }

    /// Listeners that overlap with a new address, and are not in the new configuration.
    fn leaving(&self, config: &config::Config, address: SocketAddr) -> Vec<&PublicListener> {
        let is_wanted = |open: &&PublicListener| {
            let mut wanted = config.tcp_listeners();
            wanted.any(|address| open.serves(&address.into(), config.takes_ipv6_alone(address)))
        };
        let in_the_way = self.open.iter().filter(|open| open.makes_way_for(address));
        in_the_way.filter(|open| !is_wanted(open)).collect()
    }

    /// Serves new addresses, and stops those that are not configured any more.
    ///
    /// # Errors
    /// As for [`BoundAddress::start`]; listeners after the failed one are not served then.
    pub async fn apply(
        &mut self,
        change: ListenerChange,
        server: &config::ServerConfig,
    ) -> std::io::Result<()> {
        let mut change = change;
        let mut drop = Vec::new();
        let keepalive = Keepalive::after(server.tcp_keepalive, server.body_timeout);
        for open in std::mem::take(&mut self.open) {
            let mut keep = change.keep.iter();
            match keep.position(|(listener, _)| listener.address == open.configured()) {
                Some(place) => {
                    let (listener, material) = change.keep.swap_remove(place);
                    open.reconfigure(listener, material);
                    if let Some(socket) = open.socket() {
                        set_keepalive(socket, keepalive);
                    }
                    self.open.push(open);
                }
                None => drop.push(open),
            }
        }
        for (bound, material) in change.add {
            if let Some(socket) = bound.socket() {
                set_keepalive(socket, keepalive);
            }
            let listener = bound.start(&self.threads, &self.plane, material)?;
            listener.keep_in(&self.store);
            self.open.push(listener);
        }
        std::mem::drop(change.shared);
        let with_tls = |open: &PublicListener| Some((open.address(), open.tls()?));
        let certificates = self.open.iter().filter_map(with_tls).collect();
        self.plane.certificates.set(certificates);
        let any_dropped = !drop.is_empty();
        for listener in drop {
            listener.stop(&self.store).await;
        }
        // The next reload may use the same address again.
        if any_dropped && self.store.is_there() {
            let store = self.store.clone();
            let _ = tokio::task::spawn_blocking(move || store.wait()).await;
        }
        Ok(())
    }

    /// Addresses that are listened on, with the real ports.
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.open.iter().map(PublicListener::address).collect()
    }

    /// Threads that serve the connections.
    pub fn threads(&self) -> &DataThreads {
        &self.threads
    }

    /// Copies of the sockets that are not the supervisor's, with their configured addresses, for the process that takes
    /// over.
    ///
    /// # Errors
    /// The process can't open any more descriptors.
    pub fn duplicate(&self) -> std::io::Result<Vec<(OwnedFd, String)>> {
        let copies = self.open.iter().filter_map(|open| {
            let copy = open.duplicate().transpose()?;
            Some(copy.map(|copy| (copy, open.configured().to_string())))
        });
        copies.collect()
    }

    /// Keys of session tickets, for the process that takes over.
    pub fn hand_tickets(&self) -> Vec<HandedTickets> {
        let with_tls = self.open.iter().filter_map(PublicListener::tls);
        with_tls.map(|tls| tls.current().hand_tickets()).collect()
    }

    /// Stops accepting after the other process has taken over. Sockets that it does not use, given by their configured
    /// addresses, are closed in order.
    pub async fn leave(&mut self, unused: &[String]) {
        for listener in self.open.drain(..) {
            match unused.contains(&listener.configured().to_string()) {
                true => listener.stop(&self.store).await,
                false => listener.leave().await,
            }
        }
    }

    /// Stops accepting on all addresses.
    pub async fn stop(&mut self) {
        for listener in self.open.drain(..) {
            listener.stop_at_end(&self.store).await;
        }
    }
}
