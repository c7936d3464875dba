//! The life cycle of the process: started, ready, lame duck, reload, stop.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{info, warn};

use super::RunOptions;
use super::upgrade::UpgradeState;
use crate::admin::upgrade::{UpgradeReport, UpgradeRequest, UpgradeView};
use crate::admin::{ProxyProcess, QuietView};
use crate::config::{Config, ListenAddress};
use crate::core::Time;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::memory;
use crate::registry::RegistryHandle;
use crate::registry::view::DrainResponse;
use crate::rt::clock;
use crate::rt::output;
use crate::rt::syscall;
use crate::rt::vitals::ProcessVitals;
use crate::server::capacity;
use crate::server::listeners::PublicListeners;
use crate::server::quiet::QuietPeriod;
use crate::telemetry::prometheus::Metrics;
use crate::tls::managed::ManagedStatus;
use crate::tls::server::ServedCertificate;

/// A second signal within this time counts as the same one, sent twice (for example to the process and to its group).
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// Longest time that a reload which waits for something (a hung disk) can delay a stop.
const RELOAD_PATIENCE: Duration = Duration::from_secs(1);

/// An order for the main loop.
pub enum MainOrder {
    /// Stop gracefully.
    Stop,
    /// Reopen the log files, which were rotated.
    ReopenLogs,
    /// Read the configuration again.
    Reload(oneshot::Sender<Result<Vec<String>, String>>),
    /// Have another process take over.
    Upgrade(
        UpgradeRequest,
        oneshot::Sender<Result<UpgradeReport, String>>,
    ),
}

/// The state of the process.
pub struct ProcessLifecycle {
    options: RunOptions,
    config: ArcSwap<Config>,
    orders: mpsc::UnboundedSender<MainOrder>,
    serving: OnceLock<(Arc<DataPlane>, Metrics)>,
    quiet: OnceLock<Arc<QuietPeriod>>,
    addresses: Mutex<Vec<ListenAddress>>,
    first_round: OnceLock<()>,
    /// Start of the lame-duck phase, and its reason.
    lame: Mutex<Option<(Time, String)>>,
    /// The lease that requested the lame-duck phase, if one did.
    lame_lease: Mutex<Option<String>>,
    stopping: OnceLock<Time>,
    stop_told: Notify,
    ending: OnceLock<()>,
    vitals: Arc<ProcessVitals>,
    upgrades: UpgradeState,
}

impl ProcessLifecycle {
    /// Creates the state of a process that is about to start.
    pub fn new(
        options: RunOptions,
        config: Arc<Config>,
        orders: mpsc::UnboundedSender<MainOrder>,
    ) -> Self {
        Self {
            options,
            config: ArcSwap::from(config),
            orders,
            serving: OnceLock::new(),
            quiet: OnceLock::new(),
            addresses: Mutex::new(Vec::new()),
            first_round: OnceLock::new(),
            lame: Mutex::new(None),
            lame_lease: Mutex::new(None),
            stopping: OnceLock::new(),
            stop_told: Notify::new(),
            ending: OnceLock::new(),
            vitals: Arc::default(),
            upgrades: UpgradeState::default(),
        }
    }

    /// Returns the options with which the process was started.
    pub fn options(&self) -> &RunOptions {
        &self.options
    }

    /// Returns the state of upgrades.
    pub fn upgrades(&self) -> &UpgradeState {
        &self.upgrades
    }

    /// Returns the reason of the lame-duck phase, and the lease that requested it; `None`: the process is not lame
    /// duck.
    pub fn lame_reason(&self) -> Option<(String, Option<String>)> {
        let lame = self.lame.lock();
        let (_, reason) = lame.as_ref()?;
        Some((reason.clone(), self.lame_lease.lock().clone()))
    }

    /// Orders an upgrade, unless one is in progress.
    pub fn order_upgrade(
        &self,
        request: UpgradeRequest,
        reply: oneshot::Sender<Result<UpgradeReport, String>>,
    ) {
        match self.upgrades.begin() {
            Ok(()) => self.order(MainOrder::Upgrade(request, reply)),
            Err(why) => {
                warn!("upgrade: {why}");
                let _ = reply.send(Err(why));
            }
        }
    }

    /// Waits until the process is told to stop.
    pub async fn is_told_to_stop(&self) {
        if self.told_to_stop().is_none() {
            self.stop_told.notified().await;
        }
    }

    /// Returns the liveness of the process.
    pub fn vitals(&self) -> &Arc<ProcessVitals> {
        &self.vitals
    }

    /// Returns the configuration in effect.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Notes that the listeners are bound.
    pub fn serving(&self, plane: Arc<DataPlane>, metrics: Metrics, addresses: Vec<ListenAddress>) {
        *self.addresses.lock() = addresses;
        let _ = self.serving.set((plane, metrics));
    }

    /// Sets the detector of quiet periods.
    pub fn listens(&self, quiet: Arc<QuietPeriod>) {
        let _ = self.quiet.set(quiet);
    }

    /// Notes that each backend has been probed once, and that `ready` of `all` take requests.
    pub fn first_round_finished(&self, ready: usize, all: usize) {
        if self.first_round.set(()).is_err() {
            return;
        }
        let backends = output::count(all as u64, "backend");
        info!("the first round of probes is over: {ready} of {backends} ready so far");
    }

    /// Notes that an instance registered, which ends the lame-duck phase: an app that restarted alone must not leave
    /// the proxy lame duck.
    pub fn registered(&self) {
        if self.stopping.get().is_none() && self.lame.lock().is_some() {
            self.set_lame(false, "an instance registered");
        }
    }

    /// Notes that a lease ended. The lame-duck phase that it requested ends too, so that an instance that goes for
    /// good does not leave the proxy lame duck for the others; if it was the last instance, the phase lasts until
    /// another one registers.
    pub fn lease_ended(&self, lease: &str, eligible: usize) {
        let asked = self.lame_lease.lock().as_deref() == Some(lease);
        if asked && eligible > 0 && self.stopping.get().is_none() {
            self.set_lame(false, "the lease that asked for it has ended");
        }
    }

    /// Notes that a drain ended.
    pub fn drain_ended(&self, pool: &str, response: &DrainResponse) {
        if let Some((_, metrics)) = self.serving.get() {
            metrics.drain_ended(pool, response);
        }
    }

    /// Notes that a plan that moved a split has ended.
    pub fn plan_ended(&self, outcome: &'static str) {
        if let Some((_, metrics)) = self.serving.get() {
            metrics.plan_ended(outcome);
        }
    }

    /// Returns the start of the lame-duck phase.
    pub fn lame_since(&self) -> Option<Time> {
        self.lame.lock().as_ref().map(|(since, _)| *since)
    }

    fn set_lame(&self, on: bool, reason: &str) {
        let mut lame = self.lame.lock();
        if on == lame.is_some() {
            return;
        }
        info!(on, reason, "lame duck");
        *self.lame_lease.lock() = None;
        *lame = on.then(|| (clock::now(), reason.to_owned()));
        if let Some((plane, _)) = self.serving.get() {
            plane.set_lame(on);
        }
        match (self.quiet.get(), on) {
            (Some(quiet), true) => quiet.begin(clock::now()),
            (Some(quiet), false) => quiet.end(),
            (None, _) => {}
        }
    }

    /// Reads the configuration again and applies it; an invalid one changes nothing.
    pub async fn reload(
        &self,
        registry: &RegistryHandle,
        listeners: &mut PublicListeners,
    ) -> Result<Vec<String>, String> {
        let outcome = self.try_reload(registry, listeners).await;
        if let Some((_, metrics)) = self.serving.get() {
            metrics.reloaded(outcome.is_ok());
        }
        match &outcome {
            Ok(changes) => info!(changes = changes.len(), "configuration reloaded"),
            Err(error) => {
                warn!("the configuration was refused, the old one stays in force\n{error}")
            }
        }
        outcome
    }

    async fn try_reload(
        &self,
        registry: &RegistryHandle,
        listeners: &mut PublicListeners,
    ) -> Result<Vec<String>, String> {
        let options = self.options.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            options.load().map_err(|error| error.render(false))
        });
        let mut config = loaded.await.map_err(|error| error.to_string())??.config;
        config.keep_backend_names(self.config().unnamed_backends());
        let config = Arc::new(config);
        let change = listeners
            .prepare(&config)
            .map_err(|error| error.to_string())?;
        let changes = registry
            .apply(config.clone())
            .await
            .map_err(|error| error.to_string())?;
        listeners
            .apply(change, &config.server)
            .await
            .map_err(|error| error.to_string())?;
        *self.addresses.lock() = listeners.addresses();
        registry.own_listeners().bound(listeners.addresses());
        memory::set_limit(capacity::client_memory(&config.server));
        if let Some(quiet) = self.quiet.get() {
            quiet.configure(&config.server);
        }
        self.config.store(config);
        Ok(changes)
    }

    /// Puts an order into the main loop's queue. Never waits.
    pub fn order(&self, order: MainOrder) {
        let _ = self.orders.send(order);
    }

    /// Handles a signal to stop; the second one that is not an echo of the first ends the process.
    pub fn stop_signal(&self) {
        let now = clock::now();
        let first = *self.stopping.get_or_init(|| {
            info!("told to stop");
            self.order(MainOrder::Stop);
            now
        });
        self.stop_told.notify_one();
        if now.saturating_sub(first) > SAME_SIGNAL {
            warn!("told to stop again: exiting now, cutting what is in flight");
            let code = output::finish(1);
            syscall::exit_now(code);
        }
    }

    /// Returns when the process was told to stop, if it was.
    pub fn told_to_stop(&self) -> Option<Time> {
        self.stopping.get().copied()
    }

    /// Notes that the main loop has begun to end the process.
    pub fn begin_end(&self) {
        let _ = self.ending.set(());
    }

    /// Returns whether the main loop has begun to end the process.
    pub fn is_ending(&self) -> bool {
        self.ending.get().is_some()
    }

    /// Waits until the process was told to stop, and a moment longer, in which a reload that has begun may end.
    pub async fn stop_is_due(&self) {
        self.stop_told.notified().await;
        clock::sleep(RELOAD_PATIENCE).await;
    }

    /// Returns the number of open client connections.
    pub fn open_connections(&self) -> u32 {
        let serving = self.serving.get();
        serving.map_or(0, |(plane, _)| plane.clients.open())
    }
}

#[async_trait]
impl ProxyProcess for ProcessLifecycle {
    fn live(&self) -> Result<(), String> {
        self.vitals.check()
    }

    fn started(&self) -> bool {
        self.serving.get().is_some()
    }

    fn ready(&self) -> Result<(), String> {
        if self.stopping.get().is_some() {
            return Err("lameduck is stopping".to_owned());
        }
        if let Some((_, reason)) = &*self.lame.lock() {
            return Err(format!("lame duck: {reason}"));
        }
        if self.first_round.get().is_none() {
            return Err("the first round of probes is not over".to_owned());
        }
        Ok(())
    }

    fn listeners(&self) -> Vec<ListenAddress> {
        self.addresses.lock().clone()
    }

    fn certificates(&self) -> Vec<ServedCertificate> {
        let serving = self.serving.get();
        serving.map_or_else(Vec::new, |(plane, _)| plane.certificates.served())
    }

    fn managed_certificates(&self, listener: &ListenAddress) -> Vec<ManagedStatus> {
        let serving = self.serving.get();
        serving.map_or_else(Vec::new, |(plane, _)| {
            plane.certificates.managed_by(listener)
        })
    }

    fn lame_duck(&self, on: bool, reason: &str) {
        if self.stopping.get().is_none() {
            self.set_lame(on, reason);
        }
    }

    fn lame_duck_of_lease(&self, lease: &str, reason: &str) {
        // A lame-duck phase that another caller has begun lasts longer.
        if self.stopping.get().is_none() && self.lame.lock().is_none() {
            self.set_lame(true, reason);
            *self.lame_lease.lock() = Some(lease.to_owned());
        }
    }

    fn is_lame_duck(&self) -> bool {
        self.stopping.get().is_some() || self.lame.lock().is_some()
    }

    fn quiet(&self) -> Option<QuietView> {
        let now = clock::now();
        let heard = self
            .quiet
            .get()
            .filter(|_| self.is_lame_duck())?
            .listen(now);
        Some(QuietView {
            is_quiet: heard.is_quiet,
            arrivals: heard.arrivals,
            silence: heard.silence,
            left: heard.until.saturating_sub(now),
        })
    }

    fn config_json(&self) -> serde_json::Value {
        // The printed configuration can be parsed again, so it is the one description of the effective values.
        toml::from_str(&crate::config::print::print(&self.config())).unwrap_or_default()
    }

    async fn reload(&self) -> Result<Vec<String>, String> {
        let (reply, answer) = oneshot::channel();
        let gone = || "lameduck is stopping".to_owned();
        self.orders
            .send(MainOrder::Reload(reply))
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    async fn upgrade(&self, request: UpgradeRequest) -> Result<UpgradeReport, String> {
        let (reply, answer) = oneshot::channel();
        self.order_upgrade(request, reply);
        let gone = || "lameduck is stopping".to_owned();
        answer.await.map_err(|_| gone())?
    }

    fn upgrade_view(&self) -> UpgradeView {
        self.upgrades.view()
    }

    fn metrics(&self) -> String {
        self.serving
            .get()
            .map(|(_, metrics)| metrics.encode())
            .unwrap_or_default()
    }
}
