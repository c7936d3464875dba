//! The new process of an upgrade: starts in the place of another process.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};
use tracing::{debug, info, warn};

use super::super::lifecycle::ProcessLifecycle;
use super::super::service::ServiceNotifier;
use super::super::wiring;
use super::moving::{MoveArrivals, take_rates};
use crate::admin::ProxyProcess as _;
use crate::admin::upgrade::PredecessorView;
use crate::config::Config;
use crate::net::activation::{ADMIN, APPS, HandedListener, InheritedSockets};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::guard_state::CountingSecret;
use crate::registry::RegistryHandle;
use crate::registry::hand_over::PredecessorWord;
use crate::registry::handed::{HandedRegistry, from_hex};
use crate::registry::persist::{self, OwnKeySource};
use crate::registry::sticky::OwnKey;
use crate::rt::clock;
use crate::server::listeners::LISTENER;
use crate::server::workers::DataThreads;
use crate::telemetry::prometheus::Metrics;
use crate::tls::tickets::HandedTickets;
use crate::upgrade::channel::{ChannelReceiver, ChannelSender, open_channel};
use crate::upgrade::giving::CLOCK_ORIGIN;
use crate::upgrade::protocol::{HandedParent, HandedState, SocketUse, UpgradeFrame};
use crate::upgrade::taking::{Predecessor, TakeOverError};

/// The state with which this process starts: everything from another process, or nothing.
#[derive(Default)]
pub struct TakenOver {
    predecessor: Option<Predecessor>,
    state: HandedState,
    sockets: Vec<OwnedFd>,
    words: Option<mpsc::UnboundedReceiver<PredecessorWord>>,
}

/// The channel over which a failed start is reported to the old process.
pub type RefusalChannel = Mutex<Option<ChannelSender>>;

/// Continues the clock of the process that is taken over. Must be called before the clock is first read.
pub fn take_clock(is_asked: bool) {
    let origin = std::env::var(CLOCK_ORIGIN).ok().filter(|_| is_asked);
    if let Some(ns) = origin.and_then(|origin| origin.parse().ok())
        && !clock::begin_as(ns)
    {
        debug!("the clock of the process before this one came too late");
    }
}

/// Receives the state of the old process, if this one was started to take over.
///
/// # Errors
/// If taking over is impossible.
pub async fn take_over(
    is_asked: bool,
    refusal: &RefusalChannel,
) -> Result<TakenOver, TakeOverError> {
    if !is_asked {
        return Ok(TakenOver::default());
    }
    let mut predecessor = Predecessor::greet().await?;
    *refusal.lock().await = Some(predecessor.outgoing());
    let Some((state, sockets)) = predecessor.receive_state().await? else {
        return Ok(TakenOver::default());
    };
    Ok(TakenOver {
        predecessor: Some(predecessor),
        state,
        sockets,
        words: None,
    })
}

/// Tells the old process why this one can't take over, if there is an old process.
pub async fn refuse(refusal: &RefusalChannel, why: &str) {
    if let Some(outgoing) = &*refusal.lock().await {
        let why = why.to_owned();
        let _ = outgoing.send(&UpgradeFrame::Refused { why }).await;
    }
}

impl TakenOver {
    /// Returns the sockets of the old process, in addition to those that a supervisor has passed.
    pub fn sockets(&mut self, own: InheritedSockets) -> InheritedSockets {
        let (mut supervised, mut handed) = (Vec::new(), Vec::new());
        let sockets = std::mem::take(&mut self.sockets).into_iter();
        let sockets = sockets.zip(std::mem::take(&mut self.state.sockets));
        for (place, (descriptor, socket)) in sockets.enumerate() {
            let role = match socket.role {
                SocketUse::Listener => LISTENER,
                SocketUse::Admin => ADMIN,
                SocketUse::Apps => APPS,
                SocketUse::Http => crate::admin::listen::HTTP,
                SocketUse::Probes => crate::admin::listen::PROBES,
                SocketUse::Supervisor => {
                    supervised.push((descriptor, socket.name));
                    continue;
                }
                SocketUse::Unknown => continue,
            };
            handed.push(HandedListener {
                descriptor,
                purpose: (role, socket.name),
                place,
            });
        }
        own.and_supervised(supervised).and_handed(handed)
    }

    /// Returns the initial state of the registry: handed over, or saved earlier.
    ///
    /// # Errors
    /// If the state can't be read or, when replacing another process, can't be written: that process then continues.
    pub fn registry(&mut self, config: &Config) -> anyhow::Result<HandedRegistry> {
        if self.predecessor.is_none() {
            return Ok(HandedRegistry {
                kept: wiring::restore(config)?,
                ..HandedRegistry::default()
            });
        }
        if let Some(dir) = &config.server.state_dir {
            persist::save(dir, &self.state.registry.kept)?;
        }
        Ok(std::mem::take(&mut self.state.registry))
    }

    /// Returns the source of the key that signs session tokens, for pools without a key of their own.
    ///
    /// # Errors
    /// The same as for `wiring::own_key`.
    pub fn own_key(registry: &HandedRegistry, config: &Config) -> anyhow::Result<OwnKeySource> {
        let handed = registry.sticky_key.as_deref().and_then(from_hex);
        match handed {
            Some(bytes) => {
                let dir = config.server.state_dir.as_deref();
                Ok(OwnKeySource::known(OwnKey::new(bytes), dir))
            }
            None => wiring::own_key(config),
        }
    }

    /// Returns the channel on which the predecessor learns what happens to backends and pools.
    pub fn words(&mut self) -> Option<mpsc::UnboundedSender<PredecessorWord>> {
        self.predecessor.as_ref()?;
        let (sender, receiver) = mpsc::unbounded_channel();
        self.words = Some(receiver);
        Some(sender)
    }

    /// Returns the secret with which clients are hashed.
    pub fn counting_secret(&self) -> Option<CountingSecret> {
        self.state.counting_secret.map(CountingSecret)
    }

    /// Returns the keys of TLS session tickets, with which clients resume sessions.
    pub fn tickets(&mut self) -> Vec<HandedTickets> {
        std::mem::take(&mut self.state.tickets)
    }

    /// Waits, after everything is set up, until this process may accept connections.
    ///
    /// # Errors
    /// If the old process takes the sockets back.
    pub async fn may_accept(&mut self) -> Result<(), TakeOverError> {
        match &mut self.predecessor {
            Some(predecessor) => predecessor.may_accept().await,
            None => Ok(()),
        }
    }

    /// Waits, once this process accepts connections, until the old one has stopped, and continues from there.
    pub async fn accepts(
        self,
        inherited: &InheritedSockets,
        lifecycle: &Arc<ProcessLifecycle>,
        registry: &RegistryHandle,
        metrics: &Metrics,
        service: &ServiceNotifier,
        (plane, threads): (&Arc<DataPlane>, &Arc<DataThreads>),
    ) {
        let unused = inherited.close_unused();
        let Some(mut predecessor) = self.predecessor else {
            return;
        };
        metrics.go_on_from(self.state.counters);
        if let Some(lame) = &self.state.lame_duck {
            match &lame.lease {
                Some(lease) => lifecycle.lame_duck_of_lease(lease, &lame.reason),
                None => lifecycle.lame_duck(true, &lame.reason),
            }
        }
        let upgrades = lifecycle.upgrades();
        upgrades.took_over(self.state.parent);
        let greeting = predecessor.greeting();
        upgrades.set_predecessor(Some(PredecessorView {
            pid: greeting.pid,
            version: greeting.version.clone(),
            ..PredecessorView::default()
        }));
        predecessor.accepts(unused).await;
        if predecessor.is_alone() && self.state.parent == HandedParent::Systemd {
            // The old process may not have got to reporting this.
            service.is_main();
        }
        let Some((outgoing, incoming)) = predecessor.into_channel() else {
            upgrades.set_predecessor(None);
            registry.predecessor_is_gone();
            return;
        };
        if let Some(mut words) = self.words {
            let outgoing = outgoing.clone();
            tokio::spawn(async move {
                while let Some(word) = words.recv().await {
                    if outgoing.send(&frame_of(word)).await.is_err() {
                        return;
                    }
                }
            });
        }
        let link = PredecessorLink {
            lifecycle: lifecycle.clone(),
            registry: registry.clone(),
            metrics: metrics.clone(),
            arrivals: MoveArrivals::new(plane.clone(), threads.clone()),
            plane: plane.clone(),
            outgoing,
            incoming,
        };
        tokio::spawn(link.follow());
    }
}

/// Converts a message for the old process to its frame.
fn frame_of(word: PredecessorWord) -> UpgradeFrame {
    match word {
        PredecessorWord::Drain(drain) => UpgradeFrame::Drain {
            number: drain.number,
            pool: drain.pool,
            backend: drain.backend,
            address: drain.address,
            deadline_ms: drain.deadline.map(|left| left.as_millis() as u64),
        },
        PredecessorWord::Opened(opened) => UpgradeFrame::Opened {
            pool: opened.pool,
            backend: opened.backend,
            address: opened.address,
            weight: opened.weight,
            backup: opened.backup,
        },
        PredecessorWord::Paused { pool, pause } => UpgradeFrame::Paused { pool, pause },
    }
}

/// The connection of this process to its predecessor, until that has ended.
struct PredecessorLink {
    lifecycle: Arc<ProcessLifecycle>,
    registry: RegistryHandle,
    metrics: Metrics,
    arrivals: MoveArrivals,
    plane: Arc<DataPlane>,
    outgoing: ChannelSender,
    incoming: ChannelReceiver,
}

impl PredecessorLink {
    async fn follow(mut self) {
        let stand_in = self.until_gone().await;
        let upgrades = self.lifecycle.upgrades();
        if let Some((outgoing, _)) = &stand_in {
            upgrades.set_stand_in(outgoing.clone());
        }
        upgrades.set_predecessor(None);
        self.registry.predecessor_is_gone();
        // Either the predecessor is the stand-in itself, or the first process is.
        if let Some((_, incoming)) = stand_in {
            watch_stand_in(self.lifecycle, incoming).await;
        }
    }

    /// Follows the old process to its end; returns the channel to a stand-in, if there is one.
    async fn until_gone(&mut self) -> Option<(ChannelSender, ChannelReceiver)> {
        let mut passed_on = None;
        loop {
            let received = match self.incoming.receive().await {
                Ok(received) => received,
                Err(error) => {
                    warn!(%error, "the old process is gone before it had finished");
                    return passed_on;
                }
            };
            match received.frame {
                UpgradeFrame::Progress(finishing) => {
                    let view = PredecessorView {
                        pid: finishing.pid,
                        version: finishing.version,
                        connections: finishing.connections,
                        until: finishing.until,
                    };
                    self.lifecycle.upgrades().set_predecessor(Some(view));
                }
                UpgradeFrame::Connection { number, state } => {
                    let descriptors = received.descriptors;
                    let answer = self.arrivals.offered(number, state, descriptors);
                    let _ = self.outgoing.send(&answer).await;
                }
                UpgradeFrame::Moved { number } => self.arrivals.moved(number),
                UpgradeFrame::Counters(counters) => self.metrics.go_on_from(counters),
                UpgradeFrame::Sessions(sessions) => self.registry.take_sessions(sessions),
                UpgradeFrame::Restarts { restarts } => self.registry.restarts().recount(restarts),
                UpgradeFrame::Requests { counted } => self.registry.requests_before(counted),
                UpgradeFrame::Rates { witness, buckets } => {
                    take_rates(&self.plane, witness, &buckets)
                }
                UpgradeFrame::Quiet { number } => self.registry.predecessor_is_quiet(number),
                UpgradeFrame::StandIn {} => {
                    let socket = received.descriptors.into_iter().next();
                    passed_on = socket.and_then(|socket| open_channel(socket.into()).ok());
                }
                UpgradeFrame::Farewell { stand_in } => {
                    info!("the old process has finished");
                    if !stand_in {
                        return passed_on;
                    }
                    let (outgoing, incoming) = (self.outgoing.clone(), &mut self.incoming);
                    let incoming = std::mem::replace(incoming, ChannelReceiver::of(&outgoing));
                    return Some((outgoing, incoming));
                }
                _ => {}
            }
        }
    }
}

/// Watches the stand-in, which keeps the first process's id: a supervisor can only stop that one. When the stand-in
/// is killed, this process stops too.
async fn watch_stand_in(lifecycle: Arc<ProcessLifecycle>, mut incoming: ChannelReceiver) {
    while lifecycle.upgrades().successor() == 0 {
        tokio::select! {
            received = incoming.receive() => {
                if received.is_err() {
                    warn!("the process that a supervisor waits for was killed: stopping");
                    lifecycle.stop_signal();
                    return;
                }
            }
            // From then on, the successor watches the stand-in.
            () = lifecycle.upgrades().is_handed_over() => return,
        }
    }
}
