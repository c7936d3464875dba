//! The composition root: all parts of the program are connected here.
//!
//! The data plane has its own threads; registry, probes and admin API share another one, so that a flood of requests
//! can't delay a drain, and a slow admin client can't delay a request. Signals have a thread of their own.
//!
//! Where to make a change: `wiring` connects parts that don't know each other; [`check`] and the files named after it
//! check what a configuration needs on the machine; `lifecycle`, `signals` and `reload` handle the life cycle of the
//! process; [`service`] notifies the supervisor; `state_saver` and `kept_sockets` handle what outlives the process.

pub mod check;
mod check_acme;
mod check_files;
mod check_tracing;
mod keeper_watch;
mod kept_sockets;
mod lifecycle;
pub mod reap;
mod reload;
mod renewal;
pub mod service;
pub mod signals;
mod state_saver;
pub mod upgrade;
mod wiring;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::admin::{self, DoorPhase};
use crate::app::service::ServiceNotifier;
use crate::config::{CommandLineFlags, DEFAULT_PATHS, LoadedConfig};
use crate::net::activation::InheritedSockets;
use crate::net::kept_socket::SocketStore;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::memory;
use crate::registry;
use crate::rt::clock;
use crate::rt::panics;
use crate::server::listeners::PublicListeners;
use crate::server::workers::DataThreads;
use crate::server::{capacity, collector, rlimit, shutdown};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::prometheus::Metrics;
use crate::telemetry::spans::Tracer;
use lifecycle::{MainOrder, ProcessLifecycle};
use reload::ReloadScope;
use signals::SignalThread;
use state_saver::StateSaver;
use upgrade::handing_over::{OldProxy, ProxyEnd};
use upgrade::taking_over::{RefusalChannel, TakenOver, refuse, take_clock, take_over};

/// Longest time for writing the last access-log lines at exit.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Longest time for sending the last traces: an unreachable collector doesn't delay the exit for longer.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Longest time for the admin API to end.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Number of threads of the control runtime: registry, probes and admin API share one. With two, each probe would
/// wake one thread from the other. So nothing there may wait for a disk or compute for long: such work goes to the
/// threads for blocking work.
const CONTROL_THREADS: usize = 1;

/// The options of `lameduck run`.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// `-c`.
    pub config: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--backend`.
    pub backends: Vec<String>,
    /// `--health-path`.
    pub health_path: Option<String>,
    /// `--admin`: the admin socket, whatever the file says.
    pub admin: Option<PathBuf>,
    /// `--take-over`: replace the process at the other end of standard input.
    pub take_over: bool,
    /// The options above that came from environment variables, by the variables' names.
    pub variables: Vec<&'static str>,
}

impl RunOptions {
    /// Reads the configuration (again).
    ///
    /// # Errors
    /// If the file can't be read, or the configuration is invalid: with all of its errors at once.
    pub fn load(&self) -> Result<LoadedConfig, crate::config::ConfigError> {
        let flags = CommandLineFlags {
            listen: self.listen.as_deref(),
            backends: &self.backends,
            health_path: self.health_path.as_deref(),
        };
        let mut loaded = check::resolve(self.config.as_deref(), flags)?;
        loaded.notes = self.notes(&loaded);
        if let Some(socket) = &self.admin {
            loaded.config.admin.socket = Some(socket.clone());
        }
        Ok(loaded)
    }

    /// Returns notes about environment variables that override values of the file: a reader of that file would not
    /// expect them. A flag was typed for this start, and needs no note.
    fn notes(&self, loaded: &LoadedConfig) -> Vec<String> {
        let set = |name| self.variables.contains(&name);
        let mut notes = Vec::new();
        let file = loaded.path.as_deref().map(|path| path.display());
        if let (Some(file), Some(written), Some(socket)) =
            (&file, &loaded.config.admin.socket, &self.admin)
            && set("LAMEDUCK_ADMIN")
            && written != socket
        {
            notes.push(format!(
                "LAMEDUCK_ADMIN is set: the admin socket is {}, and not {} as {file} says",
                socket.display(),
                written.display()
            ));
        }
        let unused = &loaded.unused_listeners;
        let listeners = loaded.config.listeners.iter();
        let listeners: Vec<_> = listeners.map(|listener| listener.address.clone()).collect();
        if let (Some(file), Some(listen)) = (&file, &self.listen)
            && set("LAMEDUCK_LISTEN")
            && *unused != listeners
            && !unused.is_empty()
        {
            let written: Vec<_> = unused.iter().map(ToString::to_string).collect();
            notes.push(format!(
                "LAMEDUCK_LISTEN is set: the only listener is {listen}, and not {} as {file} says",
                written.join(", ")
            ));
        }
        let passed_over = DEFAULT_PATHS.iter().find(|path| Path::new(path).exists());
        if let Some(passed_over) = passed_over
            && file.is_none()
            && set("LAMEDUCK_BACKEND")
        {
            notes.push(format!(
                "LAMEDUCK_BACKEND is set: {passed_over} is not read"
            ));
        }
        notes
    }
}

/// Runs the proxy until it is told to stop.
///
/// # Errors
/// If the proxy can't start. Once it serves, only a signal ends it.
pub fn run_proxy(
    options: RunOptions,
    loaded: LoadedConfig,
    signals: &SignalThread,
) -> anyhow::Result<ProxyEnd> {
    take_clock(options.take_over);
    clock::now();
    panics::install_hook().context("can't start the thread that logs panics")?;
    for note in &loaded.notes {
        info!("{note}");
    }
    rlimit::raise_limit();
    let is_http_default = loaded.is_http_default;
    let config = Arc::new(loaded.config);
    memory::set_limit(capacity::client_memory(&config.server));
    let control = Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .context("can't start the control thread")?;
    let threads = DataThreads::start(config.server.threads)
        .context("can't start the data plane's threads")?;
    let threads = Arc::new(threads);
    let access_log = AccessLog::open(&config.access_log)?;
    let tracer = Tracer::start(config.tracing.as_ref())?;

    let refusal = RefusalChannel::default();
    let ended = control.block_on(async {
        let mut taken = take_over(options.take_over, &refusal).await?;
        let inherited = Arc::new(taken.sockets(InheritedSockets::take()));
        let store = SocketStore::of_environment().in_waiting(options.take_over);
        let store = Arc::new(store);
        kept_sockets::close_unwanted(&config, &inherited, &store);
        let mut bound = admin::listen::bind_or_inherit(&config, is_http_default, &inherited)?;
        bound.keep_in(&store);
        for warning in &bound.warnings {
            warn!("{warning}");
        }
        if let Some(note) = &bound.note {
            info!("{note}");
        }
        let token = config
            .admin
            .token_file
            .as_deref()
            .map(admin::auth::AdminToken::load)
            .transpose();
        let token = token.map_err(anyhow::Error::msg)?;
        let tls = admin::load_tls(&config.admin).map_err(anyhow::Error::msg)?;
        let handed = taken.registry(&config)?;
        let config = wiring::keep_backend_names(config.clone(), &handed.kept);
        let mut doors = bound.duplicate(&config, &inherited)?;

        let (orders, mut order_queue) = tokio::sync::mpsc::unbounded_channel();
        let lifecycle = Arc::new(ProcessLifecycle::new(options, config.clone(), orders));
        let saver = config.server.state_dir.clone().map(StateSaver::start);
        let observer = wiring::RegistryWatcher::new(lifecycle.clone(), saver.clone());
        let own_key = TakenOver::own_key(&handed, &config)?;
        let handle = registry::take_over(
            config.clone(),
            handed,
            taken.words(),
            own_key,
            wiring::probing,
            Box::new(observer),
        );
        if let Some(saver) = &saver {
            saver.set_registry(handle.clone());
        }
        let metrics = Metrics::new(handle.clone());
        let plane = DataPlane::new(handle.clone(), access_log.clone(), metrics.plane());
        let plane = plane.context(
            "there is neither /dev/null nor /proc, and the library that connects to backends has to read an empty file: \
             mount one of them (for a chroot in DIR: `mount --rbind /dev DIR/dev`)",
        )?;
        let plane = plane.serving_at_most(capacity::default_connections());
        let plane = plane.counting_by(taken.counting_secret());
        let plane = plane.traced_by(tracer.clone());
        let plane = Arc::new(plane.with_certificates(metrics.certificates()));

        let clients = plane.clone();
        metrics.attach(access_log.clone(), move || clients.clients.open());
        metrics.trace(tracer.clone());

        let vitals = lifecycle.vitals().clone();
        // Before traffic can arrive, which may use up all descriptors: without one for signals, the start would fail.
        signals.watch(lifecycle.clone(), vitals.clone())?;
        reap::reap_orphans();
        keeper_watch::follow_keeper(lifecycle.clone());

        let mut listeners =
            PublicListeners::new(threads.clone(), plane.clone()).inheriting(inherited.clone());
        listeners = listeners.kept_in(store.clone());
        listeners = listeners.resuming(taken.tickets());
        let change = listeners.prepare(&config)?;
        taken.may_accept().await?;
        listeners.apply(change, &config.server).await?;
        handle.own_listeners().bound(listeners.addresses());
        handle
            .own_listeners()
            .admin(bound.socket().map(Path::to_owned));
        for warning in inherited.warnings() {
            warn!("{warning}");
        }
        // Not on the data plane's threads: these run connections, which the shutdown counts.
        wiring::keep_tasks(&vitals, &lifecycle, &handle, &plane);
        let of = threads.clone();
        let collect = move || collector::collect_memory(of.clone());
        tokio::spawn(panics::restart("the collector of memory", collect));
        metrics.watch(vitals.clone());
        lifecycle.serving(plane.clone(), metrics.clone(), listeners.addresses());
        let quiet = wiring::listen_for_silence(&lifecycle, &plane);

        let (stop_admin, admin_stopped) = watch::channel(false);
        let (phase, admin_phase) = watch::channel(DoorPhase::Open);
        announce(&listeners, &bound);
        let serving = admin::serve(
            bound,
            handle.clone(),
            lifecycle.clone(),
            admin::DoorSettings {
                token,
                hosts: config.admin.hosts.clone(),
                tls,
                apps_pools: config.admin.apps_pools.clone(),
                phase: Some(admin_phase),
            },
            admin_stopped,
        );
        let admin = vitals.watch("the admin API", serving);

        let service = ServiceNotifier::default();
        taken
            .accepts(
                &inherited,
                &lifecycle,
                &handle,
                &metrics,
                &service,
                (&plane, &threads),
            )
            .await;
        store.send_waiting_sockets();
        service.ready(&handle, threads.data(), vitals);
        let mut handed_over = None;
        while let Some(order) = order_queue.recv().await {
            let scope = ReloadScope {
                registry: &handle,
                listeners: &mut listeners,
                access_log: &access_log,
                service: &service,
            };
            match order {
                MainOrder::Upgrade(request, reply) => {
                    if lifecycle
                        .upgrades()
                        .reload_is_enough(&request, lifecycle.options())
                    {
                        let outcome = scope.reload(&lifecycle).await;
                        lifecycle.upgrades().ended();
                        let _ = reply.send(outcome.map(upgrade::reloaded));
                        continue;
                    }
                    let old = OldProxy {
                        lifecycle: &lifecycle,
                        registry: &handle,
                        plane: &plane,
                        metrics: &metrics,
                        listeners: &mut listeners,
                        inherited: &inherited,
                        doors: &mut doors,
                        phase: &phase,
                        keeper: saver.as_ref(),
                        service: &service,
                        given: Vec::new(),
                    };
                    match old.hand_over(&request).await {
                        Ok(handed) => {
                            let _ = reply.send(Ok(handed.report.clone()));
                            handed_over = Some(handed);
                            break;
                        }
                        Err(why) => {
                            warn!("the upgrade failed, and this process goes on: {why}");
                            lifecycle.upgrades().failed(&why);
                            let _ = reply.send(Err(why));
                        }
                    }
                }
                MainOrder::Stop => break,
                MainOrder::ReopenLogs => access_log.reopen(),
                MainOrder::Reload(reply) => drop(reply.send(scope.reload(&lifecycle).await)),
            }
        }

        lifecycle.begin_end();
        let server = lifecycle.config().server.clone();
        let told = lifecycle.told_to_stop().unwrap_or_else(clock::now);
        let lame_since = lifecycle.lame_since();
        let farewell = match &handed_over {
            None => {
                service.stopping(server.deadline);
                shutdown::shut_down(&plane, &mut listeners, &server, &quiet, told, lame_since).await
            }
            Some(handed) => {
                phase.send_replace(DoorPhase::Left);
                handed
                    .finish(&lifecycle, &plane, &mut listeners, &threads)
                    .await
            }
        };
        info!(
            cut = farewell.cut,
            took_ms = farewell.took.as_millis() as u64,
            "bye"
        );
        let _ = stop_admin.send(true);
        // Removes the socket's file as well, so that clients don't connect to a socket without a process.
        let _ = clock::timeout(LAST_ANSWERS, admin).await;
        if let Some(saver) = saver {
            saver.finish().await;
        }
        if !access_log.flush(LAST_LINES) {
            warn!("the last lines of the access log could not be written");
        }
        if !tracer.flush(LAST_SPANS) {
            warn!("the last traces could not be sent");
        }
        anyhow::Ok(match handed_over {
            Some(handed) => handed.end(&lifecycle, &metrics, &handle).await,
            None => ProxyEnd::Stopped,
        })
    });
    if let Err(error) = &ended {
        control.block_on(refuse(&refusal, &format!("{error:#}")));
    }
    // Tasks that are stuck there don't delay the exit.
    control.shutdown_background();
    ended
}

fn announce(listeners: &PublicListeners, bound: &admin::listen::BoundDoors) {
    for address in listeners.addresses() {
        info!(%address, "listening");
    }
    if let Some(path) = bound.socket() {
        info!(socket = %path.display(), "admin API");
    }
    if let Some(path) = bound.apps() {
        info!(socket = %path.display(), "admin API for apps");
    }
    if let Some(address) = bound.http() {
        info!(%address, "admin API");
    }
    if let Some(address) = bound.probes() {
        info!(%address, "probes and metrics");
    }
}
