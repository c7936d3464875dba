//! The old process of an upgrade: hands over to a new process, and ends.

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tracing::{info, warn};

use super::super::lifecycle::ProcessLifecycle;
use super::super::service::ServiceNotifier;
use super::super::state_saver::StateSaver;
use super::moving::{MoveOffers, give_rates, move_connections};
use crate::admin::listen::DoorCopy;
use crate::admin::upgrade::{UpgradeReport, UpgradeRequest};
use crate::admin::{DoorPhase, ProxyProcess as _};
use crate::core::Time;
use crate::net::activation::{ADMIN, APPS, InheritedSockets};
use crate::net::kept_socket;
use crate::proxy::data_plane::DataPlane;
use crate::registry::RegistryHandle;
use crate::registry::hand_over::OpenedBackend;
use crate::registry::restart_view::ProxyIdentity;
use crate::rt::clock;
use crate::rt::syscall;
use crate::server::listeners::PublicListeners;
use crate::server::shutdown::{self, ShutdownReport};
use crate::server::workers::DataThreads;
use crate::telemetry::prometheus::Metrics;
use crate::upgrade::channel::{ChannelReceiver, ChannelSender};
use crate::upgrade::giving::{self, OldProcess, Successor};
use crate::upgrade::protocol::{
    Finishing, HandedLameDuck, HandedParent, HandedSocket, HandedState, SocketUse, UpgradeFrame,
};

/// Interval of the progress reports.
const TELL: Duration = Duration::from_secs(1);
/// Maximum share of the time that is used for reporting the counters: one part in this many.
const SPARE: u32 = 20;

/// The parts of a process that are handed over.
pub struct OldProxy<'a> {
    /// The life cycle of the process.
    pub lifecycle: &'a Arc<ProcessLifecycle>,
    /// Its registry.
    pub registry: &'a RegistryHandle,
    /// Its data plane.
    pub plane: &'a Arc<DataPlane>,
    /// Its counters.
    pub metrics: &'a Metrics,
    /// Its public listeners.
    pub listeners: &'a mut PublicListeners,
    /// Sockets that a supervisor has bound for it.
    pub inherited: &'a InheritedSockets,
    /// The admin API's sockets.
    pub doors: &'a mut Vec<DoorCopy>,
    /// Whether the admin API's sockets accept connections.
    pub phase: &'a watch::Sender<DoorPhase>,
    /// Saves the state.
    pub keeper: Option<&'a Arc<StateSaver>>,
    /// Notifies the supervisor.
    pub service: &'a ServiceNotifier,
    /// The sockets that were handed over, in order.
    pub given: Vec<HandedSocket>,
}

/// The rest of the work after another process has begun to serve.
pub struct HandedOver {
    /// The report for the caller who requested the upgrade.
    pub report: UpgradeReport,
    /// Time of the hand-over.
    pub since: Time,
    outgoing: ChannelSender,
    ended: watch::Receiver<Option<i32>>,
}

#[async_trait]
impl OldProcess for OldProxy<'_> {
    async fn give_state(&mut self) -> Result<(HandedState, Vec<OwnedFd>), String> {
        self.phase.send_replace(DoorPhase::Held);
        let registry = self.registry.give().await;
        let mut registry = registry.map_err(|error| error.to_string())?;
        let own = ProxyIdentity::own(&self.lifecycle.config_json());
        registry.processes.push(own);
        if let Some(keeper) = self.keeper {
            keeper.stop_saving().await;
        }
        let sockets = self.copy_sockets().map_err(|error| {
            format!("its sockets can't be copied: {error}; raise the limit of open files")
        })?;
        let lame = self.lifecycle.lame_reason();
        let (sockets, descriptors): (Vec<_>, Vec<_>) = sockets.into_iter().unzip();
        self.given.clone_from(&sockets);
        let state = HandedState {
            sockets,
            registry,
            counters: self.metrics.carry(),
            tickets: self.listeners.hand_tickets(),
            lame_duck: lame.map(|(reason, lease)| HandedLameDuck { reason, lease }),
            counting_secret: Some(self.plane.guards.secret().0),
            parent: self.lifecycle.upgrades().parent(),
        };
        Ok((state, descriptors))
    }

    fn is_supervised(&self) -> bool {
        self.lifecycle.upgrades().parent() == HandedParent::Systemd
    }

    async fn take_back(&mut self) {
        self.registry.take_back();
        if let Some(keeper) = self.keeper {
            keeper.go_on();
        }
        self.phase.send_replace(DoorPhase::Open);
    }
}

impl OldProxy<'_> {
    fn copy_sockets(&self) -> std::io::Result<Vec<(HandedSocket, OwnedFd)>> {
        let named = |role, (socket, name)| (HandedSocket { role, name }, socket);
        let listeners = self.listeners.duplicate()?.into_iter();
        let mut all: Vec<_> = listeners
            .map(|copy| named(SocketUse::Listener, copy))
            .collect();
        for (socket, role, name) in self.doors.iter() {
            let role = match *role {
                ADMIN => SocketUse::Admin,
                APPS => SocketUse::Apps,
                crate::admin::listen::HTTP => SocketUse::Http,
                _ => SocketUse::Probes,
            };
            let copy = (socket.as_fd().try_clone_to_owned()?, name.clone());
            all.push(named(role, copy));
        }
        let supervised = self.inherited.duplicate()?.into_iter();
        all.extend(supervised.map(|copy| named(SocketUse::Supervisor, copy)));
        Ok(all)
    }

    /// Returns how many public addresses and how many sockets of the admin API were handed over, including those from
    /// a supervisor.
    fn count_given(&self) -> (usize, usize) {
        let of = |is_it: fn(SocketUse) -> bool| {
            let given = self.given.iter().filter(|socket| is_it(socket.role));
            given.count()
        };
        let own = of(|role| role == SocketUse::Listener);
        let listeners = self.listeners.addresses().len();
        // The other sockets that a supervisor has bound belong to the admin API.
        let supervised = self.inherited.count_used();
        let supervised_admin = supervised.saturating_sub(listeners.saturating_sub(own));
        let admin = of(|role| {
            use SocketUse::{Admin, Apps, Http, Probes};
            matches!(role, Admin | Apps | Http | Probes)
        });
        (listeners, admin + supervised_admin)
    }

    /// Lets another process take over.
    ///
    /// # Errors
    /// Why no process took over: this one continues.
    pub async fn hand_over(mut self, request: &UpgradeRequest) -> Result<HandedOver, String> {
        let lifecycle = self.lifecycle.clone();
        let command = lifecycle.upgrades().command(request, lifecycle.options());
        info!(program = ?command.get_program(), "upgrade: starting the process that is to take over");
        let told = lifecycle.is_told_to_stop();
        let successor = {
            let patience = request.timeout_ms.map(Duration::from_millis);
            giving::hand_over(command, &mut self, patience, told).await?
        };
        Ok(self.let_go(successor).await)
    }

    async fn let_go(self, successor: Successor) -> HandedOver {
        let Successor {
            greeting,
            unused,
            outgoing,
            incoming,
            mut child,
        } = successor;
        let since = clock::now();
        let upgrades = self.lifecycle.upgrades();
        let parent = upgrades.parent();
        upgrades.handed_to(greeting.pid);
        let unused: Vec<_> = unused
            .into_iter()
            .filter_map(|place| self.given.get(place))
            .filter(|socket| socket.role == SocketUse::Listener)
            .map(|socket| socket.name.clone())
            .collect();
        let (listeners, admin_sockets) = self.count_given();
        let listeners = listeners.saturating_sub(unused.len());
        self.listeners.leave(&unused).await;
        self.doors.clear();
        self.registry.handed_over();
        match parent {
            HandedParent::Systemd => self.service.hand_over_to(greeting.pid),
            // A process that takes over later is a descendant of this process's child, and has to be adopted when
            // that ends.
            HandedParent::StandIn => {
                if let Err(error) = syscall::adopt_orphans() {
                    warn!(%error, "a process that takes over later won't be followed");
                }
            }
        }
        self.service.be_silent();
        let _ = outgoing.send(&UpgradeFrame::HandedOver {}).await;
        let counted = self.registry.requests_sent().await;
        let _ = outgoing.send(&UpgradeFrame::Requests { counted }).await;
        // Sent before the clients that these counts are about.
        give_rates(self.plane, &outgoing).await;
        for sessions in self.registry.sessions().await {
            let _ = outgoing.send(&UpgradeFrame::Sessions(sessions)).await;
        }
        let server = self.lifecycle.config().server.clone();
        let until = since + server.deadline;
        let (end, ended) = watch::channel(None);
        tokio::spawn(async move {
            let code = exit_code(child.wait().await);
            end.send_replace(Some(code));
        });
        let link = SuccessorLink {
            lifecycle: self.lifecycle.clone(),
            registry: self.registry.clone(),
            outgoing: outgoing.clone(),
            offers: MoveOffers::default(),
        };
        tokio::spawn(link.clone().receive_frames(incoming));
        let (plane, offers) = (self.plane.clone(), link.offers.clone());
        let moved = move_connections(plane, outgoing.clone(), offers).await;
        let moved = moved.map_or(0, |count| u32::try_from(count.given).unwrap_or(u32::MAX));
        let left = self.lifecycle.open_connections();
        info!(
            pid = greeting.pid,
            version = greeting.version,
            moved,
            connections = left,
            "upgrade: another process has taken over; finishing what is left here"
        );
        let report = UpgradeReport {
            outcome: "upgraded".to_owned(),
            changes: Vec::new(),
            version: greeting.version,
            pid: greeting.pid,
            old_pid: std::process::id(),
            listeners,
            admin_sockets,
            moved,
            left,
            until: clock::rfc3339(clock::wall(until)),
            parent: match parent {
                HandedParent::Systemd => "systemd",
                HandedParent::StandIn => "stand_in",
            }
            .to_owned(),
        };
        tokio::spawn(link.report_progress(self.metrics.clone(), report.until.clone()));
        HandedOver {
            report,
            since,
            outgoing,
            ended,
        }
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// The connection of this process to its successor.
#[derive(Clone)]
struct SuccessorLink {
    lifecycle: Arc<ProcessLifecycle>,
    registry: RegistryHandle,
    outgoing: ChannelSender,
    offers: MoveOffers,
}

impl SuccessorLink {
    async fn receive_frames(self, mut incoming: ChannelReceiver) {
        loop {
            let received = match incoming.receive().await {
                Ok(received) => received,
                Err(error) => {
                    warn!(%error, "the process that has taken over is gone");
                    self.offers.all_declined();
                    return;
                }
            };
            match received.frame {
                UpgradeFrame::Drain {
                    number,
                    pool,
                    backend,
                    address,
                    deadline_ms,
                } => {
                    let (registry, outgoing) = (self.registry.clone(), self.outgoing.clone());
                    let deadline = deadline_ms.map(Duration::from_millis);
                    // Requested at once: messages are processed in the order in which they arrive.
                    let followed = registry.follow_drain(pool, backend, address, deadline);
                    tokio::spawn(async move {
                        followed.await;
                        let _ = outgoing.send(&UpgradeFrame::Quiet { number }).await;
                    });
                }
                UpgradeFrame::Opened {
                    pool,
                    backend,
                    address,
                    weight,
                    backup,
                } => self.registry.successor_opened(OpenedBackend {
                    pool,
                    backend,
                    address,
                    weight,
                    backup,
                }),
                UpgradeFrame::Paused { pool, pause } => self.registry.successor_paused(pool, pause),
                UpgradeFrame::Adopted { number } => {
                    self.offers.adopted(number, &self.outgoing).await
                }
                UpgradeFrame::Declined { number, why } => self.offers.declined(number, &why),
                UpgradeFrame::Successor { pid } => self.lifecycle.upgrades().handed_to(pid),
                _ => {}
            }
        }
    }

    /// Reports the progress, as long as there is something to report.
    async fn report_progress(self, metrics: Metrics, until: String) {
        let mut told_restarts = Vec::new();
        let mut counters_due = clock::now();
        loop {
            let progress = Finishing {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                connections: self.lifecycle.open_connections(),
                until: until.clone(),
            };
            let told = self.outgoing.send(&UpgradeFrame::Progress(progress)).await;
            let begun = clock::now();
            if begun >= counters_due {
                let of = metrics.clone();
                // With a hundred thousand backends this takes a while, and drains and the last requests must not wait
                // for it.
                let counters = tokio::task::spawn_blocking(move || of.carry()).await;
                let Ok(counters) = counters else { return };
                if self
                    .outgoing
                    .send(&UpgradeFrame::Counters(counters))
                    .await
                    .is_err()
                {
                    return;
                }
                let took = clock::now().saturating_sub(begun);
                counters_due = clock::now() + took * SPARE;
            }
            let counted = self.registry.requests_sent().await;
            let sent = UpgradeFrame::Requests { counted };
            let sent = self.outgoing.send(&sent).await;
            let restarts = self.registry.restarts().hand_counted();
            if restarts != told_restarts {
                told_restarts.clone_from(&restarts);
                let _ = self
                    .outgoing
                    .send(&UpgradeFrame::Restarts { restarts })
                    .await;
            }
            if told.is_err() || sent.is_err() {
                return;
            }
            tokio::time::sleep(TELL).await;
        }
    }
}

/// How the process ends.
#[derive(Debug)]
pub enum ProxyEnd {
    /// It was told to stop, and has stopped.
    Stopped,
    /// Another process serves, and the supervisor knows its process id.
    HandedOver,
    /// Another process serves, and a supervisor waits for this one's process id: a small stand-in process has to keep
    /// it.
    StandIn {
        /// The process id of the process that serves.
        pid: u32,
        /// The channel to that process.
        channel: OwnedFd,
    },
    /// Another process had taken over, and has ended with this exit code.
    SuccessorEnded(i32),
}

impl HandedOver {
    /// Finishes the remaining work of this process. If the process that serves dies meanwhile, this one exits at
    /// once: a supervisor may be waiting for its end before it starts another.
    pub async fn finish(
        &self,
        lifecycle: &ProcessLifecycle,
        plane: &DataPlane,
        listeners: &mut PublicListeners,
        threads: &DataThreads,
    ) -> ShutdownReport {
        let server = lifecycle.config().server.clone();
        let waits = || lifecycle.upgrades().has_predecessor();
        tokio::select! {
            biased;
            farewell = shutdown::finish_handed_over(plane, listeners, &server, self.since, waits) => farewell,
            () = self.is_left_alone() => {
                warn!("the process that has taken over was killed: ending at once, so that another one can be started");
                shutdown::end_at_once(plane, threads).await
            }
        }
    }

    /// Waits until the process that serves has died. A keeper notices that by itself.
    async fn is_left_alone(&self) {
        let mut ended = self.ended.clone();
        let died = ended
            .wait_for(|code| code.is_some_and(|code| code != 0))
            .await;
        if died.is_err() || kept_socket::keeper_pid().is_some() {
            std::future::pending::<()>().await;
        }
    }

    /// Sends the last messages after all work is finished.
    pub async fn end(
        self,
        lifecycle: &ProcessLifecycle,
        metrics: &Metrics,
        registry: &RegistryHandle,
    ) -> ProxyEnd {
        let upgrades = lifecycle.upgrades();
        // The process that serves is dead: the supervisor need not be told to follow it.
        if let Some(code) = *self.ended.borrow() {
            return ProxyEnd::SuccessorEnded(code);
        }
        let counters = UpgradeFrame::Counters(metrics.carry());
        let _ = self.outgoing.send(&counters).await;
        let counted = registry.requests_sent().await;
        let sent = UpgradeFrame::Requests { counted };
        let _ = self.outgoing.send(&sent).await;
        let restarts = registry.restarts().hand_counted();
        let _ = self
            .outgoing
            .send(&UpgradeFrame::Restarts { restarts })
            .await;
        let above = upgrades.stand_in();
        if let Some(stand_in) = &above {
            // The stand-in is told which process to follow from now on.
            let pid = upgrades.successor();
            let _ = stand_in.send(&UpgradeFrame::Successor { pid }).await;
            if let Ok(socket) = stand_in.duplicate() {
                let beside = [socket.as_fd()];
                let _ = self
                    .outgoing
                    .send_with(&UpgradeFrame::StandIn {}, &beside)
                    .await;
            }
        }
        let stands_in = above.is_none() && upgrades.parent() == HandedParent::StandIn;
        // A stand-in reports it itself, once it receives the signals that it has to pass on.
        if !stands_in {
            let farewell = UpgradeFrame::Farewell { stand_in: false };
            let _ = self.outgoing.send(&farewell).await;
        }
        match self.outgoing.duplicate() {
            Ok(channel) if stands_in => ProxyEnd::StandIn {
                pid: upgrades.successor(),
                channel,
            },
            _ => ProxyEnd::HandedOver,
        }
    }
}
